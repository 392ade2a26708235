//! The front: the only file that knows the server library, `tiny_http`, and what it does not do.
//!
//! - Its accept loop ends for good on the first error, and silently when it cannot duplicate a
//!   socket. A [`Source`] is one such loop; another can be built on the same listener.
//! - It reads bodies of up to 1,024 bytes itself and leaves longer ones to whoever drops the
//!   request, with a buffer of the announced length. [`Unwanted`] never does that.
//! - It drops the `Connection` header of an answer; so answers are written as bytes.

use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use log::warn;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tiny_http::{Request, Server};

use super::call::{BODY_BYTES_MAX, Call};
use super::reply::{Envelope, Reply};

/// As many connections as the kernel keeps for us until they are accepted.
const BACKLOG: i32 = 4_096;
/// A write to a client that takes nothing is given up after this long; the connection itself ends
/// by TCP_USER_TIMEOUT.
const SEND_PATIENCE: Duration = Duration::from_secs(5);
/// The library drops an unread body, also when reading it ends early, through a buffer of the
/// length still due. A body announced to be longer than this is therefore never read nor dropped:
/// its connection's thread and two descriptors are given up.
const UNREAD_BYTES_MAX: usize = 64 << 20;

/// A listening socket with everything set that accepted connections inherit.
///
/// # Errors
/// What the system says, such as "address in use".
pub(super) fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    // Inherited by every connection. A read time-out would be, too, but ends the accept loop.
    socket.set_write_timeout(Some(SEND_PATIENCE))?;
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60));
    socket.set_tcp_keepalive(&keepalive.with_interval(Duration::from_secs(10)))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(Duration::from_secs(30)))?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Ends listening: accept loops end, connections that wait to be accepted are reset, established
/// ones stay.
pub(super) fn stop_listening(listener: &TcpListener) {
    // Fails only when it was done before.
    let _ = socket2::SockRef::from(listener).shutdown(std::net::Shutdown::Both);
}

/// One accept loop with its connections.
pub(super) struct Source(Server);

/// Why a source gave no client.
pub(super) enum NoClient {
    /// Somebody called [`Source::wake`].
    Woken,
    /// The accept loop has ended.
    Dead(io::Error),
}

impl Source {
    pub(super) fn build(listener: TcpListener) -> io::Result<Source> {
        Server::from_listener(listener, None).map(Source).map_err(io::Error::other)
    }

    /// Waits for a client.
    pub(super) fn next(&self) -> Result<Client, NoClient> {
        self.0.recv().map(Client).map_err(|error| match error.raw_os_error() {
            Some(_) => NoClient::Dead(error),
            None => NoClient::Woken,
        })
    }

    /// A client that is waiting already; an error when the accept loop has ended.
    pub(super) fn next_now(&self) -> io::Result<Option<Client>> {
        Ok(self.0.try_recv()?.map(Client))
    }

    /// Makes one [`Source::next`] return.
    pub(super) fn wake(&self) {
        self.0.unblock();
    }
}

/// A client that waits for its answer.
pub(super) struct Client(Request);

/// How far a client's body is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Read, or there is none.
    Here,
    /// The client waits for a word before it sends it, or the library does not read it.
    ToBeRead,
    /// More than we read, by its own account.
    TooLarge,
    /// Sent in chunks.
    Chunked,
    /// Its length cannot be known.
    Malformed,
}

impl Client {
    pub(super) fn body(&self) -> Body {
        let lengths: Vec<&str> = headers(&self.0, "Content-Length").collect();
        if self.header("Transfer-Encoding").is_some() {
            return Body::Chunked;
        }
        match self.0.body_length() {
            _ if lengths.iter().any(|length| *length != lengths[0]) => Body::Malformed,
            None if !lengths.is_empty() => Body::Malformed,
            None | Some(0) => Body::Here,
            Some(length) if length > BODY_BYTES_MAX => Body::TooLarge,
            Some(_) if self.header("Expect").is_some() || self.upgrades() => Body::ToBeRead,
            Some(_) => Body::Here,
        }
    }

    /// The request as the handlers see it. Blocks where the body is [`Body::ToBeRead`].
    pub(super) fn read(&mut self) -> io::Result<Call> {
        let mut call = self.head();
        call.body = vec![0; self.0.body_length().unwrap_or(0).min(BODY_BYTES_MAX)];
        // Asking for a body sends "100 Continue" to a client that expects it, behind every answer
        // that is still due on its connection: never where there is no body to wait for.
        if !call.body.is_empty() {
            self.0.as_reader().read_exact(&mut call.body)?;
        }
        Ok(call)
    }

    /// The same without the body.
    pub(super) fn head(&self) -> Call {
        let method = self.0.method().as_str();
        Call::new(method, self.0.url(), |name| headers(&self.0, name))
    }

    /// Writes the answer; false when the client has gone or takes nothing.
    pub(super) fn answer(self, reply: &Reply, request_id: &str, name: &str, closing: bool) -> bool {
        let connection = self.header("Connection").map(str::to_ascii_lowercase);
        let asks = |word: &str| connection.as_ref().is_some_and(|value| value.contains(word));
        let old = *self.0.http_version() < tiny_http::HTTPVersion(1, 1);
        let envelope = Envelope {
            request_id,
            served_by: name,
            closing: closing || asks("close") || asks("upgrade") || (old && !asks("keep-alive")),
            head_only: *self.0.method() == tiny_http::Method::Head,
        };
        let bytes = reply.to_bytes(&envelope);
        let mut writer = self.0.into_writer();
        writer.write_all(&bytes).and_then(|()| writer.flush()).is_ok()
    }

    /// The same, safe from being dropped before its unread body is dealt with.
    pub(super) fn not_to_be_dropped(self) -> Unwanted {
        Unwanted(ManuallyDrop::new(self))
    }

    fn header(&self, name: &'static str) -> Option<&str> {
        headers(&self.0, name).next()
    }

    fn upgrades(&self) -> bool {
        let connection = self.header("Connection");
        connection.is_some_and(|value| value.to_ascii_lowercase().contains("upgrade"))
    }
}

fn headers<'a>(request: &'a Request, name: &'static str) -> impl Iterator<Item = &'a str> {
    let named = request.headers().iter().filter(move |header| header.field.equiv(name));
    named.map(|header| header.value.as_str())
}

/// A client whose body is not wanted. Lost rather than dropped: the library's drop asks for as
/// much memory as the client has announced.
pub(super) struct Unwanted(ManuallyDrop<Client>);

impl Unwanted {
    /// Answers, then reads the rest of the body, so that it is not taken for the next request.
    /// Blocks for as long as the client sends.
    ///
    /// The library's only way to write an answer and keep an unread body is an upgrade; the
    /// answer's own fields follow the one of the upgrade.
    pub(super) fn refuse_body(self, reply: &Reply, id: &str, replica_name: &str) {
        let Client(request) = ManuallyDrop::into_inner(self.0);
        let announced = request.body_length().unwrap_or(0);
        let envelope =
            Envelope { request_id: id, served_by: replica_name, closing: true, head_only: false };
        let fields = format!("HTTP/1.1\r\nConnection: close\r\n{}", reply.fields(&envelope));
        let answer = tiny_http::Response::empty(reply.status());
        let mut stream = request.upgrade(fields.trim_end(), answer);
        let told = stream.write_all(reply.body()).and_then(|()| stream.flush());
        if announced > UNREAD_BYTES_MAX {
            warn!("event=connection_given_up request_id={id} announced_bytes={announced}");
            std::mem::forget(stream);
        } else if told.is_ok() {
            // Ends with the body or with the connection, which is all the same here.
            let _ = io::copy(&mut stream, &mut io::sink());
        }
    }
}
