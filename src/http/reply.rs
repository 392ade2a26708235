//! An answer, and how it becomes bytes.
//!
//! We write the bytes ourselves, because the server library drops the `Connection` header: a
//! replica that drains must tell its clients that the connection ends.

use std::borrow::Cow;
use std::io::Write;
use std::time::SystemTime;

use serde::Serialize;

/// An answer of a handler. Fields such as `Date` and `X-Request-Id` are added when it is sent.
#[derive(Debug)]
pub struct Reply {
    status: u16,
    content_type: &'static str,
    policy: &'static str,
    cache: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Cow<'static, [u8]>,
    outcome: &'static str,
}

/// The policy of an answer that is not a page: a browser loads nothing for it, and shows it in no
/// frame. OWASP's REST Security Cheat Sheet asks for it and for the fields below.
const POLICY: &str = "default-src 'none'; frame-ancestors 'none'";
const PROTECTION: &str = "\
X-Content-Type-Options: nosniff\r\n\
X-Frame-Options: DENY\r\n\
Referrer-Policy: no-referrer\r\n\
Cross-Origin-Resource-Policy: same-origin\r\n";

/// What is added to a [`Reply`] when it is sent.
pub(super) struct Envelope<'a> {
    pub(super) request_id: &'a str,
    pub(super) served_by: &'a str,
    /// The line of the `Connection` field with its line end, or an empty string.
    pub(super) connection: &'static str,
    pub(super) head_only: bool,
}

impl Reply {
    /// Makes an answer with `body` as JSON; its body is empty if that cannot be serialized.
    pub fn json(status: u16, body: &impl Serialize) -> Reply {
        let body = serde_json::to_vec(body).unwrap_or_default();
        Reply::new(status, "application/json", body.into())
    }

    /// Makes an answer of status 200 whose body never changes.
    pub fn constant(content_type: &'static str, body: &'static [u8]) -> Reply {
        Reply::new(200, content_type, body.into())
    }

    /// Makes an answer of status 200 whose body was made for this request.
    pub fn text(content_type: &'static str, body: String) -> Reply {
        Reply::new(200, content_type, body.into_bytes().into())
    }

    /// Makes an answer of status 204: the request was carried out, and there is no body.
    pub fn no_content() -> Reply {
        Reply::new(204, "", Cow::default())
    }

    /// Makes an answer of status 304: the client has what it asks for.
    pub fn not_modified() -> Reply {
        Reply::new(304, "", Cow::default())
    }

    fn new(status: u16, content_type: &'static str, body: Cow<'static, [u8]>) -> Reply {
        let (headers, outcome) = (Vec::new(), "");
        Reply { status, content_type, policy: POLICY, cache: "no-store", headers, body, outcome }
    }

    /// Replaces the media type.
    pub fn typed(self, content_type: &'static str) -> Reply {
        Reply { content_type, ..self }
    }

    /// Replaces the `Content-Security-Policy`; a page needs one of its own.
    pub fn with_policy(self, policy: &'static str) -> Reply {
        Reply { policy, ..self }
    }

    /// Replaces the `Cache-Control`, which lets nobody keep the answer.
    pub fn cached(self, cache: &'static str) -> Reply {
        Reply { cache, ..self }
    }

    /// Adds one more header field, even if there is one of this name already.
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Reply {
        self.headers.push((name, value.into()));
        self
    }

    /// Notes the result of a change of a balance, for the metrics.
    pub(super) fn with_outcome(self, outcome: &'static str) -> Reply {
        Reply { outcome, ..self }
    }

    /// The result of a change of a balance: `changed`, `replayed`, or the problem's outcome or
    /// code. Of other answers it means nothing.
    pub(super) fn outcome(&self) -> &'static str {
        self.outcome
    }

    /// The HTTP status code, such as 200.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The body's bytes; none for a status of 204.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The whole answer, so that one write can send it.
    pub(super) fn to_bytes(&self, envelope: &Envelope<'_>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(768 + self.body.len());
        let (status, phrase) = (self.status, phrase(self.status));
        let connection = envelope.connection;
        let fields = self.fields(envelope);
        // Writing into memory cannot fail.
        let _ = write!(
            bytes,
            "HTTP/1.1 {status} {phrase}\r\nDate: {}\r\n{fields}{connection}\r\n",
            httpdate::HttpDate::from(SystemTime::now()),
        );
        if !envelope.head_only {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }

    /// All header lines except `Date` and `Connection`, each with its line end.
    pub(super) fn fields(&self, envelope: &Envelope<'_>) -> String {
        let mut fields = match self.status {
            // An answer without a body must not give a length either (RFC 9110, 8.6), nor one of
            // status 304 another than that of what the client has.
            204 | 304 => String::new(),
            _ => format!(
                "Content-Type: {}\r\nContent-Length: {}\r\n",
                self.content_type,
                self.body.len()
            ),
        };
        let Envelope { request_id, served_by, .. } = envelope;
        fields.extend([
            "Cache-Control: ",
            self.cache,
            "\r\n",
            PROTECTION,
            "Content-Security-Policy: ",
            self.policy,
            "\r\n",
        ]);
        fields.extend(["X-Request-Id: ", request_id, "\r\nX-Served-By: ", served_by, "\r\n"]);
        for (name, value) in &self.headers {
            fields.extend([name, ": ", value, "\r\n"]);
        }
        fields
    }
}

/// The reason phrase of each status code in use (RFC 9110, 15).
pub(super) fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        408 => "Request Timeout",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_say_length_id_server_and_whether_the_connection_ends() {
        let reply = Reply::json(201, &1).with_header("Location", "/api/users/2");
        let envelope = |connection, head_only| Envelope {
            request_id: "r",
            served_by: "s",
            connection,
            head_only,
        };
        let text = |envelope| String::from_utf8(reply.to_bytes(&envelope)).unwrap();
        let whole = text(envelope("", false));
        assert!(whole.starts_with("HTTP/1.1 201 Created\r\n"), "{whole}");
        assert!(whole.ends_with("\r\n\r\n1"), "{whole}");
        for line in
            ["Content-Length: 1", "X-Request-Id: r", "X-Served-By: s", "Location: /api/users/2"]
        {
            assert!(whole.contains(&format!("\r\n{line}\r\n")), "{line}: {whole}");
        }
        assert!(!whole.contains("Connection"), "{whole}");
        let protected = format!(
            "\r\nCache-Control: no-store\r\n{PROTECTION}Content-Security-Policy: {POLICY}\r\n"
        );
        assert!(whole.contains(&protected), "{whole}");
        let head = text(envelope("Connection: close\r\n", true));
        assert!(head.contains("\r\nContent-Length: 1\r\n"), "{head}");
        assert!(head.ends_with("\r\nConnection: close\r\n\r\n"), "{head}");
    }

    #[test]
    fn a_page_has_a_policy_of_its_own_and_every_other_protection() {
        let page = Reply::constant("text/html", b"").with_policy("default-src 'self'");
        let envelope =
            Envelope { request_id: "r", served_by: "s", connection: "", head_only: false };
        let fields = page.fields(&envelope);
        assert_eq!(fields.matches("Content-Security-Policy").count(), 1, "{fields}");
        assert!(fields.contains("\r\nContent-Security-Policy: default-src 'self'\r\n"));
        assert!(fields.contains(PROTECTION), "{fields}");
    }

    #[test]
    fn no_content_has_no_body_and_no_length() {
        let envelope =
            Envelope { request_id: "r", served_by: "s", connection: "", head_only: false };
        let text = String::from_utf8(Reply::no_content().to_bytes(&envelope)).unwrap();
        assert!(text.starts_with("HTTP/1.1 204 No Content\r\n"), "{text}");
        assert!(text.ends_with("\r\nX-Served-By: s\r\n\r\n"), "{text}");
        assert!(!text.contains("Content-Length"), "{text}");
        assert!(!text.contains("Content-Type:"), "{text}");
    }
}
