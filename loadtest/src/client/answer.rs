//! One HTTP answer out of bytes, read strictly: one without a clear end is malformed.

use std::str;

use httparse::{EMPTY_HEADER, Header, Response, Status};

use crate::outcome::Failure;

/// Beyond these an answer is malformed.
const HEADERS_MAX: usize = 64;
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The status of ten thousand jobs is some megabytes.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A whole answer, borrowed from the bytes it came in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    /// The status code.
    pub(crate) status: u16,
    /// The `X-Served-By` header; empty where there is none.
    pub(crate) served_by: &'a str,
    /// Whether the server ends the connection after this answer.
    pub(crate) closes: bool,
    /// Whether there is a `Retry-After` header.
    pub(crate) retry_after: bool,
    /// As many bytes as `Content-Length` says.
    pub(crate) body: &'a [u8],
}

impl<'a> Answer<'a> {
    /// Reads one answer; `None` while bytes are missing.
    ///
    /// # Errors
    /// The bytes are no answer, or none with a clear end: exactly one `Content-Length`, no
    /// `Transfer-Encoding`, nothing behind the body.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Option<Answer<'a>>, Failure> {
        let malformed = |reason: &str| Failure::malformed(reason, bytes);
        let mut headers = [EMPTY_HEADER; HEADERS_MAX];
        let mut response = Response::new(&mut headers);
        let head_bytes = match response.parse(bytes) {
            Ok(Status::Complete(count)) => count,
            Ok(Status::Partial) if bytes.len() > HEAD_BYTES_MAX => {
                return Err(malformed("the head has no end"));
            }
            Ok(Status::Partial) => return Ok(None),
            Err(error) => return Err(malformed(&error.to_string())),
        };
        let status = response.code.unwrap_or_default();
        if status < 200 {
            return Err(malformed("an interim answer nobody asked for"));
        }
        let mut closes = response.version == Some(0);
        let mut retry_after = false;
        let mut length = None;
        let mut served_by = "";
        for Header { name, value } in response.headers.iter() {
            if name.eq_ignore_ascii_case("content-length") {
                if length.is_some() {
                    return Err(malformed("two lengths"));
                }
                length = Some(body_length(value).ok_or_else(|| malformed("a bad length"))?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(malformed("a transfer encoding"));
            } else if name.eq_ignore_ascii_case("x-served-by") {
                served_by = str::from_utf8(value).unwrap_or_default();
            } else if name.eq_ignore_ascii_case("retry-after") {
                retry_after = true;
            } else if name.eq_ignore_ascii_case("connection") {
                closes |= value.eq_ignore_ascii_case(b"close");
            }
        }
        let Some(length) = length else {
            return Err(malformed("no length"));
        };
        let body = &bytes[head_bytes..];
        match body.len() {
            have if have < length => Ok(None),
            have if have > length => Err(malformed("more bytes than its length")),
            _ => Ok(Some(Answer { status, served_by, closes, retry_after, body })),
        }
    }
}

/// Digits only, within the limit.
fn body_length(value: &[u8]) -> Option<usize> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = str::from_utf8(value).ok().filter(|_| digits)?;
    text.parse().ok().filter(|length| *length <= BODY_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Served-By: r-1\r\nretry-after: 1\r\n\r\nbody";

    #[test]
    fn an_answer_is_complete_at_its_last_byte_and_not_before() {
        for end in 0..WHOLE.len() {
            assert!(matches!(Answer::parse(&WHOLE[..end]), Ok(None)), "after {end} bytes");
        }
        let (status, served_by, body) = (200, "r-1", &b"body"[..]);
        let answer = Answer { status, served_by, closes: false, retry_after: true, body };
        assert_eq!(Answer::parse(WHOLE).unwrap(), Some(answer));
    }

    #[test]
    fn the_end_of_a_connection_is_announced() {
        for (bytes, closes) in [
            ("HTTP/1.1 200 OK\r\nconnection: Close\r\ncontent-length: 0\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", true),
        ] {
            let answer = Answer::parse(bytes.as_bytes()).unwrap().unwrap();
            assert_eq!((answer.closes, answer.body), (closes, &b""[..]), "{bytes}");
        }
    }

    #[test]
    fn what_has_no_clear_end_is_malformed() {
        for (bytes, reason) in [
            ("HTTP/1.1 200 OK\r\n\r\n", "no length"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", "two lengths"),
            ("HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx", "a bad length"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 67108865\r\n\r\n", "a bad length"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "a transfer encoding"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxy", "more bytes than its length"),
            ("HTTP/1.1 100 Continue\r\n\r\n", "an interim answer nobody asked for"),
            ("SSH-2.0-OpenSSH_9.2\r\n", "invalid HTTP version"),
        ] {
            let failure = Answer::parse(bytes.as_bytes()).unwrap_err();
            assert_eq!(failure.kind, "malformed answer", "{bytes}");
            assert!(failure.example.starts_with(reason), "{bytes}: {}", failure.example);
        }
        let endless = format!("HTTP/1.1 200 OK\r\nX-Long: {}", "x".repeat(HEAD_BYTES_MAX));
        assert!(Answer::parse(endless.as_bytes()).is_err());
    }
}
