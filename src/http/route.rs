//! Which handler a method and a path mean. Pure: text in, value out.

/// Everything this server can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `GET /health/live`
    Live,
    /// `GET /health`, `GET /health/ready`
    Ready,
    /// `POST /api/balance`
    ChangeBalance,
    /// `POST /api/users`
    CreateUser,
    /// `GET /api/users`
    ListUsers,
    /// `GET /api/users/{id}`
    ReadUser(i64),
    /// `GET /api/users/{id}/changes`
    ListChanges(i64),
    /// `GET /api/cron/jobs`, `GET /api/cron/status`
    CronStatus,
    /// `GET /api/cron/history`
    CronHistory,
    /// `GET /api/cron/jobs/{name}`
    ReadJob(String),
    /// `PUT /api/cron/jobs/{name}`
    PutJob(String),
    /// `PATCH /api/cron/jobs/{name}`
    PatchJob(String),
    /// `DELETE /api/cron/jobs/{name}`
    DeleteJob(String),
    /// `POST /api/cron/jobs/{name}/run`
    RunJob(String),
    /// `GET /`
    Dashboard,
    /// `GET /api-docs`
    Documentation,
    /// `GET /openapi.json`
    Document,
    /// `GET /metrics`
    Metrics,
}

/// Why there is no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// Nothing has this path.
    NotFound,
    /// The path exists for these methods only.
    MethodNotAllowed(&'static str),
}

/// Each route's method and the one path it is counted under, whatever stands in it.
pub(super) const TEMPLATES: [(&str, &str); 18] = [
    ("GET", "/health/live"),
    ("GET", "/health/ready"),
    ("POST", "/api/balance"),
    ("POST", "/api/users"),
    ("GET", "/api/users"),
    ("GET", "/api/users/{id}"),
    ("GET", "/api/users/{id}/changes"),
    ("GET", "/api/cron/jobs"),
    ("GET", "/api/cron/history"),
    ("GET", "/api/cron/jobs/{name}"),
    ("PUT", "/api/cron/jobs/{name}"),
    ("PATCH", "/api/cron/jobs/{name}"),
    ("DELETE", "/api/cron/jobs/{name}"),
    ("POST", "/api/cron/jobs/{name}/run"),
    ("GET", "/"),
    ("GET", "/api-docs"),
    ("GET", "/openapi.json"),
    ("GET", "/metrics"),
];
/// What requests that have no route are counted under.
const NO_TEMPLATE: &str = "none";

const READ: &str = "GET, HEAD";
const READ_OR_CREATE: &str = "GET, HEAD, POST";
const CHANGE: &str = "POST";
const STEER: &str = "GET, HEAD, PUT, PATCH, DELETE";

impl Route {
    /// The route of a request; `HEAD` is answered wherever `GET` is.
    ///
    /// # Errors
    /// [`NoRoute`].
    pub fn parse(method: &str, path: &str) -> Result<Route, NoRoute> {
        let method = if method == "HEAD" { "GET" } else { method };
        let segments: Vec<&str> = path.strip_prefix('/').unwrap_or("").split('/').collect();
        let (route, allowed) = match (segments.as_slice(), method) {
            (["health"] | ["health", "ready"], "GET") => (Some(Route::Ready), READ),
            (["health"] | ["health", "ready"], _) => (None, READ),
            (["health", "live"], "GET") => (Some(Route::Live), READ),
            (["health", "live"], _) => (None, READ),
            (["api", "balance"], "POST") => (Some(Route::ChangeBalance), CHANGE),
            (["api", "balance"], _) => (None, CHANGE),
            (["api", "users"], "POST") => (Some(Route::CreateUser), READ_OR_CREATE),
            (["api", "users"], "GET") => (Some(Route::ListUsers), READ_OR_CREATE),
            (["api", "users"], _) => (None, READ_OR_CREATE),
            (["api", "users", id], "GET") => (Some(Route::ReadUser(user_id(id)?)), READ),
            (["api", "users", id], _) => user_id(id).map(|_| (None, READ))?,
            (["api", "users", id, "changes"], "GET") => {
                (Some(Route::ListChanges(user_id(id)?)), READ)
            }
            (["api", "users", id, "changes"], _) => user_id(id).map(|_| (None, READ))?,
            ([""], "GET") if path == "/" => (Some(Route::Dashboard), READ),
            ([""], _) if path == "/" => (None, READ),
            (["api-docs"], "GET") => (Some(Route::Documentation), READ),
            (["api-docs"], _) => (None, READ),
            (["openapi.json"], "GET") => (Some(Route::Document), READ),
            (["openapi.json"], _) => (None, READ),
            (["metrics"], "GET") => (Some(Route::Metrics), READ),
            (["metrics"], _) => (None, READ),
            (["api", "cron", rest @ ..], _) => Route::cron(rest, method)?,
            _ => return Err(NoRoute::NotFound),
        };
        route.ok_or(NoRoute::MethodNotAllowed(allowed))
    }

    fn cron(segments: &[&str], method: &str) -> Result<(Option<Route>, &'static str), NoRoute> {
        Ok(match (segments, method) {
            (["jobs"] | ["status"], "GET") => (Some(Route::CronStatus), READ),
            (["history"], "GET") => (Some(Route::CronHistory), READ),
            (["jobs"] | ["status"] | ["history"], _) => (None, READ),
            (["jobs", ""] | ["jobs", "", "run"], _) => return Err(NoRoute::NotFound),
            (["jobs", name], "GET") => (Some(Route::ReadJob((*name).to_owned())), STEER),
            (["jobs", name], "PUT") => (Some(Route::PutJob((*name).to_owned())), STEER),
            (["jobs", name], "PATCH") => (Some(Route::PatchJob((*name).to_owned())), STEER),
            (["jobs", name], "DELETE") => (Some(Route::DeleteJob((*name).to_owned())), STEER),
            (["jobs", _], _) => (None, STEER),
            (["jobs", name, "run"], "POST") => (Some(Route::RunJob((*name).to_owned())), CHANGE),
            (["jobs", _, "run"], _) => (None, CHANGE),
            _ => return Err(NoRoute::NotFound),
        })
    }

    /// The path that the route is counted under, one of a few.
    pub fn template(&self) -> &'static str {
        match self {
            Route::Live => "/health/live",
            Route::Ready => "/health/ready",
            Route::ChangeBalance => "/api/balance",
            Route::CreateUser | Route::ListUsers => "/api/users",
            Route::ReadUser(_) => "/api/users/{id}",
            Route::ListChanges(_) => "/api/users/{id}/changes",
            Route::CronStatus => "/api/cron/jobs",
            Route::CronHistory => "/api/cron/history",
            Route::ReadJob(_) | Route::PutJob(_) | Route::PatchJob(_) | Route::DeleteJob(_) => {
                "/api/cron/jobs/{name}"
            }
            Route::RunJob(_) => "/api/cron/jobs/{name}/run",
            Route::Dashboard => "/",
            Route::Documentation => "/api-docs",
            Route::Document => "/openapi.json",
            Route::Metrics => "/metrics",
        }
    }

    /// Whether the route is answered from memory, without the database.
    pub fn is_in_memory(&self) -> bool {
        match self {
            Route::Live
            | Route::Ready
            | Route::Dashboard
            | Route::Documentation
            | Route::Document
            | Route::Metrics => true,
            Route::ChangeBalance
            | Route::CreateUser
            | Route::ListUsers
            | Route::ReadUser(_)
            | Route::ListChanges(_)
            | Route::CronStatus
            | Route::CronHistory
            | Route::ReadJob(_)
            | Route::PutJob(_)
            | Route::PatchJob(_)
            | Route::DeleteJob(_)
            | Route::RunJob(_) => false,
        }
    }

    /// Whether the route changes something, so that a token is asked for where one is set.
    pub fn changes_something(&self) -> bool {
        match self {
            Route::Live
            | Route::Ready
            | Route::ListUsers
            | Route::ReadUser(_)
            | Route::ListChanges(_)
            | Route::CronStatus
            | Route::CronHistory
            | Route::ReadJob(_)
            | Route::Dashboard
            | Route::Documentation
            | Route::Document
            | Route::Metrics => false,
            Route::ChangeBalance
            | Route::CreateUser
            | Route::PutJob(_)
            | Route::PatchJob(_)
            | Route::DeleteJob(_)
            | Route::RunJob(_) => true,
        }
    }
}

/// What a request is counted under.
pub(super) fn label(route: &Result<Route, NoRoute>) -> &'static str {
    route.as_ref().map_or(NO_TEMPLATE, Route::template)
}

/// One spelling for each id: digits, without a sign or a leading zero.
fn user_id(text: &str) -> Result<i64, NoRoute> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| plain).ok_or(NoRoute::NotFound)
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_its_path() {
        for (method, path, route) in [
            ("GET", "/health", Route::Ready),
            ("GET", "/health/ready", Route::Ready),
            ("HEAD", "/health/live", Route::Live),
            ("POST", "/api/balance", Route::ChangeBalance),
            ("POST", "/api/users", Route::CreateUser),
            ("GET", "/api/users", Route::ListUsers),
            ("HEAD", "/api/users/1", Route::ReadUser(1)),
            ("GET", "/api/users/9223372036854775807", Route::ReadUser(i64::MAX)),
            ("GET", "/api/users/12/changes", Route::ListChanges(12)),
            ("GET", "/api/cron/jobs", Route::CronStatus),
            ("HEAD", "/api/cron/status", Route::CronStatus),
            ("GET", "/api/cron/history", Route::CronHistory),
            ("GET", "/api/cron/jobs/a", Route::ReadJob("a".to_owned())),
            ("PUT", "/api/cron/jobs/a", Route::PutJob("a".to_owned())),
            ("PATCH", "/api/cron/jobs/a", Route::PatchJob("a".to_owned())),
            ("DELETE", "/api/cron/jobs/a", Route::DeleteJob("a".to_owned())),
            ("POST", "/api/cron/jobs/a/run", Route::RunJob("a".to_owned())),
            ("GET", "/", Route::Dashboard),
            ("GET", "/api-docs", Route::Documentation),
            ("GET", "/openapi.json", Route::Document),
            ("GET", "/metrics", Route::Metrics),
        ] {
            let counted = (if method == "HEAD" { "GET" } else { method }, route.template());
            assert!(TEMPLATES.contains(&counted), "{method} {path}");
            assert_eq!(Route::parse(method, path), Ok(route), "{method} {path}");
        }
    }

    #[test]
    fn every_template_is_that_of_its_route() {
        for (method, template) in TEMPLATES {
            let path = template.replace("{id}", "1").replace("{name}", "a");
            let route = Route::parse(method, &path).unwrap();
            assert_eq!(route.template(), template, "{method}");
        }
    }

    #[test]
    fn a_path_that_does_not_exist_is_not_found_by_any_method() {
        for path in [
            "",
            "//",
            "/?",
            "api/balance/",
            "/api",
            "/api/balance/",
            "//api/balance",
            "/API/balance",
            "/api/users/",
            "/api/users/x",
            "/api/users/+1",
            "/api/users/01",
            "/api/users/-1",
            "/api/users/9223372036854775808",
            "/api/users/1/",
            "/api/users/1/change",
            "/api/cron",
            "/api/cron/",
            "/api/cron/jobs/",
            "/api/cron/jobs//run",
            "/api/cron/jobs/a/runs",
            "/api/cron/jobs/a/run/",
            "/api/cron/status/a",
            "/health/x",
            "/api-docs/",
            "/openapi.json/",
            "/metrics/",
        ] {
            for method in ["GET", "POST", "BREW"] {
                assert_eq!(Route::parse(method, path), Err(NoRoute::NotFound), "{method} {path}");
            }
        }
    }

    #[test]
    fn a_wrong_method_is_told_the_right_ones() {
        for (method, path, allowed) in [
            ("GET", "/api/balance", "POST"),
            ("HEAD", "/api/balance", "POST"),
            ("DELETE", "/api/users", "GET, HEAD, POST"),
            ("PUT", "/api/users/1", "GET, HEAD"),
            ("POST", "/api/users/1/changes", "GET, HEAD"),
            ("POST", "/api/cron/jobs", "GET, HEAD"),
            ("DELETE", "/api/cron/history", "GET, HEAD"),
            ("POST", "/api/cron/jobs/a", "GET, HEAD, PUT, PATCH, DELETE"),
            ("GET", "/api/cron/jobs/a/run", "POST"),
            ("POST", "/health", "GET, HEAD"),
            ("POST", "/", "GET, HEAD"),
            ("PUT", "/api-docs", "GET, HEAD"),
            ("TRACE", "/openapi.json", "GET, HEAD"),
            ("POST", "/metrics", "GET, HEAD"),
            ("get", "/health/live", "GET, HEAD"),
        ] {
            let refused = Err(NoRoute::MethodNotAllowed(allowed));
            assert_eq!(Route::parse(method, path), refused, "{method} {path}");
        }
    }
}
