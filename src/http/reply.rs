//! An answer before it is bytes, and the bytes.
//!
//! The bytes are written here rather than by the server library, which drops the `Connection`
//! header: a replica that drains has to tell its clients that the connection ends.

use std::io::Write;
use std::time::SystemTime;

use serde::Serialize;

/// An answer of a handler.
#[derive(Debug)]
pub struct Reply {
    status: u16,
    content_type: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

/// What the end of the way adds to an answer.
pub(super) struct Envelope<'a> {
    pub(super) request_id: &'a str,
    pub(super) served_by: &'a str,
    pub(super) closing: bool,
    pub(super) head_only: bool,
}

impl Reply {
    /// An answer with a JSON body.
    pub fn json(status: u16, body: &impl Serialize) -> Reply {
        let body = serde_json::to_vec(body).unwrap_or_default();
        Reply { status, content_type: "application/json", headers: Vec::new(), body }
    }

    /// An answer that it is done, and nothing more.
    pub fn no_content() -> Reply {
        Reply { status: 204, content_type: "", headers: Vec::new(), body: Vec::new() }
    }

    /// The same with another media type.
    pub fn typed(self, content_type: &'static str) -> Reply {
        Reply { content_type, ..self }
    }

    /// The same with one more header.
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Reply {
        self.headers.push((name, value.into()));
        self
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The body's bytes.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The whole answer, to be written in one call.
    pub(super) fn to_bytes(&self, envelope: &Envelope<'_>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(512 + self.body.len());
        let (status, phrase) = (self.status, phrase(self.status));
        let connection = if envelope.closing { "Connection: close\r\n" } else { "" };
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

    /// The header lines but for the date and the connection, each with its line end.
    pub(super) fn fields(&self, envelope: &Envelope<'_>) -> String {
        let mut fields = match self.status {
            // Without a body, and without a word about it (RFC 9110, 8.6).
            204 => String::new(),
            _ => format!(
                "Content-Type: {}\r\nContent-Length: {}\r\n",
                self.content_type,
                self.body.len()
            ),
        };
        let Envelope { request_id, served_by, .. } = envelope;
        fields.extend(["Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"]);
        fields.extend(["X-Request-Id: ", request_id, "\r\nX-Served-By: ", served_by, "\r\n"]);
        for (name, value) in &self.headers {
            fields.extend([name, ": ", value, "\r\n"]);
        }
        fields
    }
}

/// The reason phrase of the status codes in use (RFC 9110, 15).
pub(super) fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
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
        let envelope =
            |closing, head_only| Envelope { request_id: "r", served_by: "s", closing, head_only };
        let text = |envelope| String::from_utf8(reply.to_bytes(&envelope)).unwrap();
        let whole = text(envelope(false, false));
        assert!(whole.starts_with("HTTP/1.1 201 Created\r\n"), "{whole}");
        assert!(whole.ends_with("\r\n\r\n1"), "{whole}");
        for line in
            ["Content-Length: 1", "X-Request-Id: r", "X-Served-By: s", "Location: /api/users/2"]
        {
            assert!(whole.contains(&format!("\r\n{line}\r\n")), "{line}: {whole}");
        }
        assert!(!whole.contains("Connection"), "{whole}");
        let head = text(envelope(true, true));
        assert!(head.contains("\r\nContent-Length: 1\r\n"), "{head}");
        assert!(head.ends_with("\r\nConnection: close\r\n\r\n"), "{head}");
    }

    #[test]
    fn no_content_has_no_body_and_no_length() {
        let envelope =
            Envelope { request_id: "r", served_by: "s", closing: false, head_only: false };
        let text = String::from_utf8(Reply::no_content().to_bytes(&envelope)).unwrap();
        assert!(text.starts_with("HTTP/1.1 204 No Content\r\n"), "{text}");
        assert!(text.ends_with("\r\nX-Served-By: s\r\n\r\n"), "{text}");
        assert!(!text.contains("Content-Length"), "{text}");
        assert!(!text.contains("Content-Type:"), "{text}");
    }
}
