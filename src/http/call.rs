//! A request as the handlers see it: read completely, and independent of its connection.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use crate::config::Origin;
use crate::random;

/// A complete request. A header field that the client did not send is `None`.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// The method as sent: `GET`, `POST`, …
    pub method: String,
    /// The path and the query as sent, not decoded.
    pub target: String,
    /// The first value of `Authorization`: a scheme and a token, not checked.
    pub authorization: Option<String>,
    /// The first value of `Idempotency-Key`, not checked.
    pub idempotency_key: Option<String>,
    /// The first value of `Host`: the server's name, and the port if it is given.
    pub host: Option<String>,
    /// The first value of `Origin`: scheme, host and port of the page that sent the request.
    pub origin: Option<String>,
    /// The first value of `Sec-Fetch-Site`: how the site of that page relates to ours.
    pub sec_fetch_site: Option<String>,
    /// All values of `Content-Encoding`, joined by commas.
    pub content_encoding: Option<String>,
    /// All values of `Accept`, joined by commas.
    pub accept: Option<String>,
    /// All values of `Accept-Encoding`, joined by commas.
    pub accept_encoding: Option<String>,
    /// All values of `If-Match`, joined by commas.
    pub if_match: Option<String>,
    /// All values of `If-None-Match`, joined by commas.
    pub if_none_match: Option<String>,
    /// The name of a field that may have one value only, and came with two different ones.
    pub contradiction: Option<&'static str>,
    /// The name of its token, once that was checked; `None` where none was needed.
    pub actor: Option<Arc<str>>,
    /// The client's `X-Request-Id`, or a new one: see [`request_id()`].
    pub request_id: String,
    /// The body, no longer than its route allows.
    pub body: Vec<u8>,
}

/// The longest body, in bytes, of a request whose route allows no longer one.
pub(super) const BODY_BYTES_MAX: usize = 1_024;
const REQUEST_ID_LENGTH_MAX: usize = 128;
/// Fields that decide what a request may do, or does. Such a field may come twice with the same
/// value. If its values differ, a proxy may have read one and we the other: we refuse the change.
const SINGLE: [&str; 5] = ["Host", "Authorization", "Origin", "Sec-Fetch-Site", "Idempotency-Key"];

impl Call {
    /// A request without its body. `values` returns all values of a field; [`request_id()`] has
    /// made the id.
    pub(super) fn new<'a, Values: Iterator<Item = &'a str>>(
        method: &str,
        target: &str,
        request_id: &str,
        values: impl Fn(&'static str) -> Values,
    ) -> Call {
        let first = |name| values(name).next().map(str::to_owned);
        // Several fields with the name of a list form one list (RFC 9110, 5.3).
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
            accept: list("Accept"),
            accept_encoding: list("Accept-Encoding"),
            if_match: list("If-Match"),
            if_none_match: list("If-None-Match"),
            contradiction: SINGLE.into_iter().find(differ),
            actor: None,
            request_id: request_id.to_owned(),
            body: Vec::new(),
        }
    }

    /// The target up to the question mark, without a scheme and server name (RFC 9112, 3.2.2).
    pub fn path(&self) -> &str {
        let target = self.target.split('?').next().unwrap_or_default();
        let named = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"));
        named.map_or(target, |rest| rest.find('/').map_or("/", |start| &rest[start..]))
    }

    /// The target after the question mark; empty if there is none.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// Whose token it came with, as the log has it behind the request's id; empty if not known.
    pub(super) fn by(&self) -> String {
        self.actor.as_ref().map(|actor| format!(" actor={actor}")).unwrap_or_default()
    }

    /// Whether the client wants this done only if the resource is still as it last saw it.
    pub fn has_precondition(&self) -> bool {
        self.if_match.is_some() || self.if_none_match.is_some()
    }

    /// Whether a browser sends this for a page of another site that is not trusted. We accept a
    /// body as JSON whatever its type, so any page could make its visitors' browsers send one here.
    ///
    /// The rule is that of `http.CrossOriginProtection` in Go 1.25: browsers since 2023 send
    /// `Sec-Fetch-Site` where the connection is safe, and others send at least `Origin`; what sends
    /// neither is not a browser.
    pub fn is_cross_site(&self, trusted: &[Origin]) -> bool {
        let page = given(&self.origin);
        match given(&self.sec_fetch_site) {
            Some("same-origin" | "none") => false,
            None if page.is_none() => false,
            site => page.and_then(Origin::parse).is_none_or(|page| {
                let is_ours = || self.host.as_deref().is_some_and(|host| page.is_at(host));
                !trusted.contains(&page) && (site.is_some() || !is_ours())
            }),
        }
    }
}

/// The value of a field; one that is empty says nothing.
fn given(field: &Option<String>) -> Option<&str> {
    field.as_deref().filter(|value| !value.is_empty())
}

/// The client's request id if it is at most 128 plain characters, else a new one: a counter makes
/// it unique in this process, and a random prefix among processes.
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
            Call::new("GET", "/", "id", |name| {
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
        let trusted = [Origin::parse("https://friend.example").expect("an origin")];
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
            (None, Some("http://HERE"), false),
            (None, Some("https://here"), true),
            (None, Some("http://here:81"), true),
            (None, Some("http://here:80.other"), true),
            (None, Some("null"), true),
            (None, Some("here:80"), true),
            (None, Some("https://friend.example"), false),
            (Some("cross-site"), Some("https://friend.example:443"), false),
            (Some("cross-site"), Some("http://friend.example"), true),
            (Some("same-site"), Some("https://friend.example.evil"), true),
        ] {
            let owned = |text: Option<&str>| text.map(str::to_owned);
            let call = Call {
                host: Some("here:80".to_owned()),
                origin: owned(origin),
                sec_fetch_site: owned(sec_fetch_site),
                ..Call::default()
            };
            let cross_site = call.is_cross_site(&trusted);
            assert_eq!(cross_site, cross, "{sec_fetch_site:?} {origin:?}");
        }
        let nowhere = Call { origin: Some("http://here".to_owned()), ..Call::default() };
        assert!(nowhere.is_cross_site(&trusted), "without a Host");
    }
}
