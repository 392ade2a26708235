//! One request, from when the server library hands it over until it is answered.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::LazyLock;

use log::warn;
use tiny_http::Request;

use super::super::call::{BODY_BYTES_MAX, Call, request_id};
use super::super::problem::Problem;
use super::super::reply::{Envelope, Reply};
use super::super::route::Route;
use super::super::sockets::Socket;

/// The longest unread body, in bytes, that we let the library drop. It drops a body through a
/// buffer of its length, which costs nothing while untouched. But if Linux refuses the buffer, as
/// it does beyond the size of its memory, the process aborts.
static DROPPED_BYTES_MAX: LazyLock<usize> = LazyLock::new(|| {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let memory = read("/proc/meminfo");
    let kilobytes = memory.split_whitespace().nth(1).and_then(|number| number.parse().ok());
    match read("/proc/sys/vm/overcommit_memory").trim() {
        "0" | "1" => kilobytes.unwrap_or(0usize) * 512,
        _ => 16 << 20,
    }
});

/// A request that was taken from the library and is not answered yet, and its id.
pub(in super::super) struct Client(Request, String);

/// Why a request cannot be worked on yet, or at all.
pub(in super::super) enum NotReady {
    /// The body is not here yet: it is chunked or long, the client expects `100 Continue` first, or
    /// the library does not read it. [`Client::read_slowly`] waits for it.
    Slow,
    /// The connection must end after this answer, because we do not know where the next request
    /// begins, or do not read the body.
    Refused(Problem),
}

impl Client {
    pub(super) fn new(request: Request) -> Client {
        let id = request_id(headers(&request, "X-Request-Id").next());
        Client(request, id)
    }

    /// The client's address and port, which identify its connection.
    pub(in super::super) fn peer(&self) -> SocketAddr {
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        self.0.remote_addr().copied().unwrap_or(nowhere)
    }

    /// Reads the request if all of it has arrived. Never waits.
    pub(in super::super) fn read(&mut self) -> Result<Call, NotReady> {
        match self.has_whole_body().map_err(NotReady::Refused)? {
            true => self.read_slowly(|| None).map_err(NotReady::Refused),
            false => Err(NotReady::Slow),
        }
    }

    /// Whether the body has arrived, or there is none.
    fn has_whole_body(&self) -> Result<bool, Problem> {
        self.check_head()?;
        let lengths: Vec<&str> = headers(&self.0, "Content-Length").collect();
        if headers(&self.0, "Transfer-Encoding").next().is_some() {
            return self.check_chunked(&lengths).map(|()| false);
        }
        let plain = |length: &&str| length.bytes().all(|byte| byte.is_ascii_digit());
        let one = lengths.iter().all(|length| plain(length) && *length == lengths[0]);
        match self.0.body_length() {
            None if lengths.is_empty() => Ok(true),
            None => Err(Problem::malformed_length()),
            Some(_) if !one => Err(Problem::malformed_length()),
            Some(0) => Ok(true),
            Some(length) if length > BODY_BYTES_MAX => {
                let bytes_max = Route::body_bytes_max(&self.head());
                // The library has not read so long a body itself.
                if length > bytes_max { Err(Problem::body_too_large(bytes_max)) } else { Ok(false) }
            }
            Some(_) => Ok(self.header("Expect").is_none() && !self.upgrades()),
        }
    }

    /// Refuses what a proxy may have read differently than the library (RFC 9110, 5.6.2; RFC 9112,
    /// 2.2, 3 and 3.2).
    fn check_head(&self) -> Result<(), Problem> {
        let is_token = |text: &str| !text.is_empty() && text.bytes().all(is_token_byte);
        let is_control = |text: &str| text.bytes().any(|byte| byte.is_ascii_control() && byte != 9);
        let fields = self.0.headers();
        if *self.0.http_version() < tiny_http::HTTPVersion(1, 0) {
            return Err(Problem::malformed("this version of HTTP is not spoken here"));
        }
        let named = fields.iter().all(|header| is_token(header.field.as_str().as_str()));
        if !named || !is_token(self.0.method().as_str()) {
            return Err(Problem::malformed("a method or the name of a field is no token"));
        }
        let mut values = fields.iter().map(|header| header.value.as_str());
        if self.0.url().is_empty() || is_control(self.0.url()) || values.any(is_control) {
            return Err(Problem::malformed("a header may hold no control character"));
        }
        match headers(&self.0, "Host").count() {
            1 => Ok(()),
            0 if self.is_old() => Ok(()),
            _ => Err(Problem::invalid_request("Host", "give the field `Host` once")),
        }
    }

    /// A body may be chunked only if nothing else gives its length (RFC 9112, 6.1 and 6.3).
    fn check_chunked(&self, lengths: &[&str]) -> Result<(), Problem> {
        let mut encodings = headers(&self.0, "Transfer-Encoding");
        let chunked = encodings.next().is_some_and(|first| first.eq_ignore_ascii_case("chunked"));
        let alone = encodings.next().is_none() && lengths.is_empty();
        match chunked && alone && !self.is_old() && !self.upgrades() {
            true => Ok(()),
            false => {
                let rule = "a body comes with one `Content-Length`, or as `Transfer-Encoding: \
                            chunked`";
                Err(Problem::invalid_request("Transfer-Encoding", rule))
            }
        }
    }

    /// Reads the request with its body, and waits for the client to send it.
    ///
    /// # Errors
    /// As in [`NotReady::Refused`].
    pub(in super::super) fn read_slowly(
        &mut self,
        connection: impl Fn() -> Option<Socket>,
    ) -> Result<Call, Problem> {
        let mut call = self.head();
        let bytes_max = Route::body_bytes_max(&call);
        // When we ask for the body, the library sends "100 Continue" to a client that expects it.
        let read = match self.0.body_length() {
            None if !self.is_chunked() => return Ok(call),
            Some(0) => return Ok(call),
            None => {
                let most = bytes_max as u64 + 1;
                self.0.as_reader().take(most).read_to_end(&mut call.body).map(drop)
            }
            Some(length) => {
                call.body.resize(length.min(bytes_max), 0);
                self.0.as_reader().read_exact(&mut call.body)
            }
        };
        // The library takes the end of the connection for the end of the last chunk.
        let is_cut_off = || connection().is_none_or(|socket| socket.is_at_its_end());
        match read {
            Ok(()) if call.body.len() > bytes_max => Err(Problem::body_too_large(bytes_max)),
            Ok(()) if self.is_chunked() && is_cut_off() => Err(Problem::incomplete_body()),
            Ok(()) => Ok(call),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                Err(Problem::malformed("these are no chunks, or a trailer follows them"))
            }
            Err(_) => Err(Problem::incomplete_body()),
        }
    }

    /// The request without its body.
    pub(in super::super) fn head(&self) -> Call {
        let method = self.0.method().as_str();
        Call::new(method, self.0.url(), &self.1, |name| headers(&self.0, name))
    }

    /// Whether the client asks us to end the connection after this answer.
    pub(in super::super) fn ends(&self) -> bool {
        let asks = |word| headers(&self.0, "Connection").any(|value| has_word(value, word));
        asks("close") || asks("upgrade") || (self.is_old() && !asks("keep-alive"))
    }

    /// Whether the library ends the connection by itself. It reads only the first such header.
    pub(in super::super) fn ends_by_itself(&self) -> bool {
        let first = self.header("Connection").unwrap_or_default();
        let asks = |word| has_word(first, word);
        asks("close") || asks("upgrade") || (self.is_old() && !asks("keep-alive"))
    }

    /// Writes the answer; false if the client has disconnected or reads nothing.
    pub(in super::super) fn answer(
        self,
        reply: &Reply,
        request_id: &str,
        name: &str,
        closing: bool,
    ) -> bool {
        let envelope = Envelope {
            request_id,
            served_by: name,
            connection: match closing {
                true => "Connection: close\r\n",
                // Without this field a client of HTTP/1.0 waits for the end of the connection.
                false if self.is_old() => "Connection: keep-alive\r\n",
                false => "",
            },
            head_only: self.is_head(),
        };
        let bytes = reply.to_bytes(&envelope);
        let mut writer = self.0.into_writer();
        writer.write_all(&bytes).and_then(|()| writer.flush()).is_ok()
    }

    /// Whether the method is `HEAD`, whose answer has no body.
    pub(in super::super) fn is_head(&self) -> bool {
        *self.0.method() == tiny_http::Method::Head
    }

    /// Whether a part of the body may still be unread on the connection.
    pub(in super::super) fn has_unread_body(&self) -> bool {
        self.is_chunked() || self.0.body_length().is_some_and(|length| length > 0)
    }

    /// Drops the request without an answer. Waits for the unread rest of its body, unless nothing
    /// can be read from its connection any more.
    pub(in super::super) fn discard(self) {
        match self.0.body_length() {
            Some(length) if length > *DROPPED_BYTES_MAX => {
                let peer = self.peer();
                warn!(
                    "event=connection_lost peer={peer} announced_bytes={length} hint=\"the library \
                     keeps its thread and its descriptors\""
                );
                std::mem::forget(self);
            }
            // If the request were dropped together with its writer, the library would answer it.
            _ => drop(self.0.into_writer()),
        }
    }

    fn is_old(&self) -> bool {
        *self.0.http_version() < tiny_http::HTTPVersion(1, 1)
    }

    fn is_chunked(&self) -> bool {
        self.header("Transfer-Encoding").is_some()
    }

    fn header(&self, name: &'static str) -> Option<&str> {
        headers(&self.0, name).next()
    }

    fn upgrades(&self) -> bool {
        self.header("Connection").is_some_and(|value| has_word(value, "upgrade"))
    }
}

/// Searches exactly as the library does: for a part of the value, in any case.
fn has_word(value: &str, word: &str) -> bool {
    value.to_ascii_lowercase().contains(word)
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn headers<'a>(request: &'a Request, name: &'static str) -> impl Iterator<Item = &'a str> {
    let named = request.headers().iter().filter(move |header| header.field.equiv(name));
    named.map(|header| header.value.as_str())
}
