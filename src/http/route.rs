//! The one table of what this server can be asked for, and how a method and a path find their row.
//! Pure: text in, value out.

use std::time::Duration;

use super::call::{BODY_BYTES_MAX, Call};
use super::command::Command;
use super::page;
use super::problem::Problem;
use crate::config::Scope;

/// One row of the table.
#[derive(Debug)]
pub struct Route {
    /// `GET`, `POST`, …; what `GET` answers, `HEAD` does, too.
    pub method: &'static str,
    /// The path, with `{id}` for the id of a user or a run and `{name}` for a job's name. Requests
    /// are counted under it.
    pub path: &'static str,
    /// What a request of this kind touches.
    pub reach: Reach,
    /// The longest body that is accepted, in bytes; a longer one is answered with 413.
    body_bytes_max: usize,
    /// What a token must allow where tokens are asked for; None where nobody needs one.
    pub scope: Option<Scope>,
    /// Reads what a request asks for; the text is what stands for `{id}` or `{name}`.
    read: fn(&Call, &str) -> Result<Command, Problem>,
    /// The longest that it may wait until it is sent to the database, if that is less than usual.
    pub(super) patience: Option<Duration>,
}

/// What a request touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The memory of this replica alone: such a request is answered while the database is away.
    Memory,
    /// The database.
    Database,
}

/// Why there is no route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// Nothing has this path.
    NotFound,
    /// The path exists for these methods only, separated by commas.
    MethodNotAllowed(String),
}

use Reach::{Database, Memory};

const READ: Option<Scope> = Some(Scope::Read);
const BALANCE: Option<Scope> = Some(Scope::Balance);
const JOBS: Option<Scope> = Some(Scope::Jobs);
const RUN: Option<Scope> = Some(Scope::Run);

/// All routes, the busiest first.
pub static ROUTES: [Route; 35] = [
    route("POST", "/api/balance", Database, BALANCE, Command::change_balance),
    route("POST", "/api/changes", Database, BALANCE, Command::change_all).with_body_of(8_192),
    route("GET", "/health/live", Memory, None, |_, _| Ok(Command::Live)),
    route("GET", "/health/ready", Memory, None, |_, _| Ok(Command::Ready)),
    route("GET", "/health/jobs", Database, None, |_, _| Ok(Command::JobsHealth))
        .sent_within(Duration::from_secs(2)),
    route("GET", "/metrics", Memory, READ, |_, _| Ok(Command::Metrics)),
    route("GET", "/api/cron/jobs", Database, READ, Command::cron_status),
    route("PUT", "/api/cron/jobs", Database, JOBS, Command::put_jobs).with_body_of(1 << 20),
    route("GET", "/api/cron/functions", Memory, READ, |_, _| Ok(Command::ListFunctions)),
    route("GET", "/api/users", Database, READ, Command::list_users),
    route("POST", "/api/users", Database, BALANCE, Command::create_user),
    route("GET", "/api/users/{id}", Database, READ, Command::read_user),
    route("GET", "/api/users/{id}/changes", Database, READ, Command::list_changes),
    route("GET", "/api/users/{id}/balance", Database, READ, Command::read_balance),
    route("GET", "/api/cron/history", Database, READ, Command::cron_history),
    route("GET", "/api/cron/runs/{id}", Database, READ, Command::read_run),
    route("GET", "/api/cron/runs/{id}/log", Database, READ, Command::read_log),
    route("GET", "/api/cron/jobs/{name}", Database, READ, Command::read_job),
    route("PUT", "/api/cron/jobs/{name}", Database, JOBS, Command::put_job).with_body_of(8_192),
    route("PATCH", "/api/cron/jobs/{name}", Database, JOBS, Command::patch_job).with_body_of(8_192),
    route("DELETE", "/api/cron/jobs/{name}", Database, JOBS, Command::delete_job),
    route("GET", "/api/cron/jobs/{name}/changes", Database, READ, Command::job_changes),
    route("POST", "/api/cron/jobs/{name}/run", Database, RUN, Command::run_job),
    route("POST", "/api/cron/jobs/{name}/stop", Database, RUN, Command::stop_job),
    route("POST", "/api/cron/pause", Database, JOBS, Command::pause).with_body_of(8_192),
    route("POST", "/api/cron/resume", Database, JOBS, Command::resume),
    route("GET", "/api/cron/pause", Database, READ, Command::read_pause),
    route("GET", "/api/cron/jobs/{name}/next", Database, READ, Command::read_next),
    route("POST", "/api/cron/schedules/check", Database, READ, Command::check_schedule),
    route("GET", "/", Memory, None, |_, _| Ok(Command::Page(&page::DASHBOARD))),
    route("GET", "/jobs/{name}", Memory, None, |_, _| Ok(Command::Page(&page::JOB))),
    route("GET", "/runs/{id}", Memory, None, |_, _| Ok(Command::Page(&page::RUN))),
    route("GET", "/users/{id}", Memory, None, |_, _| Ok(Command::Page(&page::USER))),
    route("GET", "/api-docs", Memory, None, |_, _| Ok(Command::Page(&page::DOCUMENTATION))),
    route("GET", "/openapi.json", Memory, None, |_, _| Ok(Command::Page(&page::OPENAPI))),
];
/// Second names.
const ALIASES: [(&str, &str); 2] =
    [("/health", "/health/ready"), ("/api/cron/status", "/api/cron/jobs")];
/// What requests that have no route are counted under.
pub(super) const NO_PATH: &str = "none";

const fn route(
    method: &'static str,
    path: &'static str,
    reach: Reach,
    scope: Option<Scope>,
    read: fn(&Call, &str) -> Result<Command, Problem>,
) -> Route {
    Route { method, path, reach, scope, body_bytes_max: BODY_BYTES_MAX, read, patience: None }
}

impl Route {
    const fn with_body_of(self, body_bytes_max: usize) -> Route {
        Route { body_bytes_max, ..self }
    }

    const fn sent_within(self, limit: Duration) -> Route {
        Route { patience: Some(limit), ..self }
    }

    /// The row of a request, and what stands for `{id}` or `{name}` in its path.
    ///
    /// # Errors
    /// [`NoRoute`].
    pub fn find<'p>(method: &str, path: &'p str) -> Result<(&'static Route, &'p str), NoRoute> {
        let method = if method == "HEAD" { "GET" } else { method };
        let same = |(alias, known): &(&str, &'static str)| (*alias == path).then_some(*known);
        let known = ALIASES.iter().find_map(same);
        let mut others = Vec::new();
        // A second name is one to read by.
        for route in ROUTES.iter().filter(|it| known.is_none() || !it.changes_something()) {
            match argument(route.path, known.unwrap_or(path)) {
                Some(argument) if route.method == method => return Ok((route, argument)),
                Some(_) => others.push(route.method),
                None => {}
            }
        }
        match others.is_empty() {
            true => Err(NoRoute::NotFound),
            false => Err(NoRoute::MethodNotAllowed(others.join(", ").replace("GET", "GET, HEAD"))),
        }
    }

    /// The longest body, in bytes, that this request may have.
    pub(super) fn body_bytes_max(call: &Call) -> usize {
        let found = Route::find(&call.method, call.path());
        found.map_or(BODY_BYTES_MAX, |(route, _)| route.body_bytes_max)
    }

    /// Whether such a request may change something, by its method: no page of another site may ask
    /// for it.
    pub fn changes_something(&self) -> bool {
        self.method != "GET"
    }

    /// What the request asks for.
    ///
    /// # Errors
    /// A [`Problem`] of status 400, 404 or 412.
    pub fn read(&self, call: &Call, argument: &str) -> Result<Command, Problem> {
        (self.read)(call, argument)
    }
}

/// What stands for `{id}` or `{name}` if the path is one of the template's; empty where the
/// template has neither.
fn argument<'p>(template: &str, path: &'p str) -> Option<&'p str> {
    let Some((before, rest)) = template.split_once('{') else {
        return (template == path).then_some("");
    };
    let (kind, after) = rest.split_once('}')?;
    let argument = path.strip_prefix(before)?.strip_suffix(after)?;
    let is_one = match kind {
        "id" => number(argument).is_some(),
        _ => !argument.is_empty() && !argument.contains('/'),
    };
    is_one.then_some(argument)
}

/// One spelling for each id: digits, without a sign or a leading zero.
pub(super) fn number(text: &str) -> Option<i64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: &str, path: &str) -> Result<(&'static str, &'static str, String), NoRoute> {
        let (route, argument) = Route::find(method, path)?;
        Ok((route.method, route.path, argument.to_owned()))
    }

    #[test]
    fn every_route_is_found_by_its_path_and_head_is_answered_wherever_get_is() {
        for route in &ROUTES {
            let path = route.path.replace("{id}", "12").replace("{name}", "a");
            let argument = if route.path.contains("{id}") {
                "12"
            } else if route.path.contains('{') {
                "a"
            } else {
                ""
            };
            let expected = (route.method, route.path, argument.to_owned());
            assert_eq!(found(route.method, &path), Ok(expected.clone()));
            if route.method == "GET" {
                assert_eq!(found("HEAD", &path), Ok(expected));
            }
        }
        for (alias, path) in ALIASES {
            assert_eq!(found("GET", alias), found("GET", path));
        }
        let last = "/api/users/9223372036854775807";
        assert_eq!(found("GET", last).unwrap().2, i64::MAX.to_string());
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
                assert_eq!(found(method, path), Err(NoRoute::NotFound), "{method} {path}");
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
            ("PUT", "/api/users/1/balance", "GET, HEAD"),
            ("POST", "/api/cron/jobs", "GET, HEAD, PUT"),
            ("DELETE", "/api/cron/history", "GET, HEAD"),
            ("POST", "/api/cron/jobs/a", "GET, HEAD, PUT, PATCH, DELETE"),
            ("GET", "/api/cron/jobs/a/run", "POST"),
            ("DELETE", "/api/cron/pause", "POST, GET, HEAD"),
            ("POST", "/health", "GET, HEAD"),
            ("PUT", "/api/cron/status", "GET, HEAD"),
            ("POST", "/", "GET, HEAD"),
            ("PUT", "/api-docs", "GET, HEAD"),
            ("TRACE", "/openapi.json", "GET, HEAD"),
            ("POST", "/metrics", "GET, HEAD"),
            ("get", "/health/live", "GET, HEAD"),
        ] {
            let refused = Err(NoRoute::MethodNotAllowed(allowed.to_owned()));
            assert_eq!(found(method, path), refused, "{method} {path}");
        }
    }
}
