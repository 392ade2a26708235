//! A request as the handlers see it: read to its end, without a connection.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::random;

/// What a client asks for.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// `GET`, `POST`, …
    pub method: String,
    /// The path and the query, as sent.
    pub target: String,
    /// The value of `Authorization`.
    pub authorization: Option<String>,
    /// The value of `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// The value of `Host`.
    pub host: Option<String>,
    /// The value of `Origin`.
    pub origin: Option<String>,
    /// The value of `Sec-Fetch-Site`.
    pub sec_fetch_site: Option<String>,
    /// The list of `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// The list of `If-Match`.
    pub if_match: Option<String>,
    /// The list of `If-None-Match`.
    pub if_none_match: Option<String>,
    /// A field of one value only that came with two.
    pub contradiction: Option<&'static str>,
    /// The client's name for this request, or ours.
    pub request_id: String,
    /// At most [`BODY_BYTES_MAX`].
    pub body: Vec<u8>,
}

/// The longest body that is read, in bytes.
pub const BODY_BYTES_MAX: usize = 1_024;
const REQUEST_ID_LENGTH_MAX: usize = 128;
/// Fields that decide what a request may do, or does. Given twice with one value, such a field
/// counts once; with two, a proxy may have read one and we the other: so neither counts.
const SINGLE: [&str; 5] = ["Host", "Authorization", "Origin", "Sec-Fetch-Site", "Idempotency-Key"];

impl Call {
    /// A request without its body; `values` gives what each field came with.
    pub(super) fn new<'a, Values: Iterator<Item = &'a str>>(
        method: &str,
        target: &str,
        values: impl Fn(&'static str) -> Values,
    ) -> Call {
        let first = |name| values(name).next().map(str::to_owned);
        // The lines of a list are one list (RFC 9110, 5.3).
        let list =
            |name| values(name).map(str::to_owned).reduce(|list, value| format!("{list}, {value}"));
        let differ = |name: &&'static str| {
            let mut values = values(name);
            values.next().is_some_and(|first| values.any(|value| value != first))
        };
        Call {
            method: method.to_owned(),
            target: target.to_owned(),
            authorization: first("Authorization"),
            idempotency_key: first("Idempotency-Key"),
            host: first("Host"),
            origin: first("Origin"),
            sec_fetch_site: first("Sec-Fetch-Site"),
            content_encoding: list("Content-Encoding"),
            if_match: list("If-Match"),
            if_none_match: list("If-None-Match"),
            contradiction: SINGLE.into_iter().find(differ),
            request_id: request_id(values("X-Request-Id").next()),
            body: Vec::new(),
        }
    }

    /// The target up to the question mark, without the server that it may name (RFC 9112, 3.2.2).
    pub fn path(&self) -> &str {
        let target = self.target.split('?').next().unwrap_or_default();
        let named = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"));
        named.map_or(target, |rest| rest.find('/').map_or("/", |start| &rest[start..]))
    }

    /// The target behind the question mark.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// Whether it is to be carried out only if something is as the client has last seen it.
    pub fn has_precondition(&self) -> bool {
        self.if_match.is_some() || self.if_none_match.is_some()
    }

    /// Whether a browser sends this for a page of another site. A body is taken as JSON whatever
    /// its type, so any page could make its visitors' browsers send one here.
    ///
    /// The rule is that of `http.CrossOriginProtection` in Go 1.25: browsers since 2023 say where a
    /// request comes from, older ones at least name its origin, and what says neither is no
    /// browser. The scheme is not compared: behind a door that ends TLS it is not known here.
    pub fn is_cross_site(&self) -> bool {
        match (self.sec_fetch_site.as_deref(), self.origin.as_deref()) {
            (Some("same-origin" | "none"), _) | (None | Some(""), None | Some("")) => false,
            (None | Some(""), Some(origin)) => {
                let authority = origin.split_once("://").map(|(_, authority)| authority);
                authority.is_none_or(|authority| Some(authority) != self.host.as_deref())
            }
            (Some(_), _) => true,
        }
    }
}

/// The client's request id where it is sane, else a new one: unique in the process by a counter,
/// and among processes by a random start.
pub fn request_id(given: Option<&str>) -> String {
    static NONCE: LazyLock<u64> = LazyLock::new(random::bits);
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let sane = |id: &&str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:+/=".contains(&byte);
        !id.is_empty() && id.len() <= REQUEST_ID_LENGTH_MAX && id.bytes().all(plain)
    };
    match given.filter(sane) {
        Some(id) => id.to_owned(),
        None => format!("{:016x}-{:x}", *NONCE, COUNTER.fetch_add(1, Ordering::Relaxed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sane_request_id_is_kept_and_any_other_replaced() {
        assert_eq!(request_id(Some("7f-a.B_1")), "7f-a.B_1");
        for strange in ["", "a b", "a\"b", "é", &"x".repeat(129)] {
            assert_ne!(request_id(Some(strange)), strange);
        }
        assert_ne!(request_id(None), request_id(None));
    }

    #[test]
    fn fields_given_twice_are_one_if_they_agree_and_a_list_is_one_list() {
        fn call<'a>(fields: &'a [(&'a str, &'a str)]) -> Call {
            Call::new("GET", "/", |name| {
                fields.iter().filter(move |(field, _)| *field == name).map(|(_, value)| *value)
            })
        }
        let twice = call(&[("Idempotency-Key", "a"), ("Origin", "b"), ("Idempotency-Key", "a")]);
        assert_eq!((twice.idempotency_key.as_deref(), twice.contradiction), (Some("a"), None));
        for name in SINGLE {
            let fields = [(name, "a"), (name, "a"), (name, "b")];
            assert_eq!(call(&fields).contradiction, Some(name));
        }
        let list = call(&[("If-Match", "\"a\""), ("If-Match", "\"b\", \"c\"")]);
        assert_eq!(list.if_match.as_deref(), Some("\"a\", \"b\", \"c\""));
        assert_eq!((list.if_none_match, list.contradiction), (None, None));
    }

    #[test]
    fn a_target_may_name_the_server() {
        let path =
            |target: &str| Call { target: target.to_owned(), ..Call::default() }.path().to_owned();
        assert_eq!(path("/api/users?limit=1"), "/api/users");
        assert_eq!(path("http://a:80/api/users?next=http://b/c"), "/api/users");
        assert_eq!(path("https://a"), "/");
        assert_eq!(path("/http://a/b"), "/http://a/b");
        assert_eq!(path("*"), "*");
    }

    #[test]
    fn only_a_browser_on_another_site_is_cross_site() {
        for (sec_fetch_site, origin, cross) in [
            (None, None, false),
            (Some("same-origin"), Some("http://other"), false),
            (Some("none"), None, false),
            (Some("cross-site"), None, true),
            (Some("same-site"), None, true),
            (Some("cross-site"), Some("http://here:80"), true),
            (Some("anything"), None, true),
            (Some(""), Some("http://other"), true),
            (None, Some("http://here:80"), false),
            (None, Some("https://here:80"), false),
            (None, Some("http://here"), true),
            (None, Some("http://here:81"), true),
            (None, Some("http://here:80.other"), true),
            (None, Some("null"), true),
            (None, Some("here:80"), true),
        ] {
            let owned = |text: Option<&str>| text.map(str::to_owned);
            let call = Call {
                host: Some("here:80".to_owned()),
                origin: owned(origin),
                sec_fetch_site: owned(sec_fetch_site),
                ..Call::default()
            };
            assert_eq!(call.is_cross_site(), cross, "{sec_fetch_site:?} {origin:?}");
        }
        let nowhere = Call { origin: Some("http://here".to_owned()), ..Call::default() };
        assert!(nowhere.is_cross_site(), "without a Host");
    }
}
