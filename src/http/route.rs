//! Which handler a method and a path mean. Pure: text in, value out.

/// Everything this server can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// `GET /api/users/1`
    ReadUser(i64),
    /// `GET /api/users/1/changes`
    ListChanges(i64),
}

/// Why there is no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// Nothing has this path.
    NotFound,
    /// The path exists for these methods only.
    MethodNotAllowed(&'static str),
}

const READ: &str = "GET, HEAD";
const READ_OR_CREATE: &str = "GET, HEAD, POST";
const CHANGE: &str = "POST";

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
            _ => return Err(NoRoute::NotFound),
        };
        route.ok_or(NoRoute::MethodNotAllowed(allowed))
    }

    /// Whether the route is answered from memory, without the database.
    pub fn is_health(self) -> bool {
        matches!(self, Route::Live | Route::Ready)
    }

    /// Whether the route changes something, so that a token is asked for where one is set.
    pub fn changes_something(self) -> bool {
        matches!(self, Route::ChangeBalance | Route::CreateUser)
    }
}

/// One spelling for each id: digits, without a sign or a leading zero.
fn user_id(text: &str) -> Result<i64, NoRoute> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| plain).ok_or(NoRoute::NotFound)
}

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
        ] {
            assert_eq!(Route::parse(method, path), Ok(route), "{method} {path}");
        }
    }

    #[test]
    fn a_path_that_does_not_exist_is_not_found_by_any_method() {
        for path in [
            "",
            "/",
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
            "/health/x",
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
            ("POST", "/health", "GET, HEAD"),
            ("get", "/health/live", "GET, HEAD"),
        ] {
            let refused = Err(NoRoute::MethodNotAllowed(allowed));
            assert_eq!(Route::parse(method, path), refused, "{method} {path}");
        }
    }
}
