//! The wire: where a target is, a non-blocking connection to it, requests out, answers in.

mod answer;
mod call;
mod request;

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream as BlockingStream, ToSocketAddrs};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::SockRef;

pub(crate) use answer::Answer;
pub(crate) use call::Caller;
pub(crate) use request::{Request, quoted_key};

use crate::outcome::Failure;

/// What one read may bring; an answer of this API fits many times over.
pub(crate) const SCRATCH_BYTES: usize = 16 * 1024;
/// A target that does not take a connection for this long is called unreachable.
const REACH_LIMIT: Duration = Duration::from_secs(5);

/// `http://host:port` as it was given: checked, not yet looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BaseUrl {
    authority: String,
}

impl BaseUrl {
    /// Reads a base URL; port 80 where none is named.
    ///
    /// # Errors
    /// Another scheme, a path, or no host.
    pub(crate) fn parse(url: &str) -> Result<BaseUrl, String> {
        let Some(rest) = url.strip_prefix("http://") else {
            return Err(format!("{url}: only http:// is spoken here"));
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let forbidden = |byte: u8| !byte.is_ascii_graphic() || b"/?#@".contains(&byte);
        if authority.is_empty() || authority.starts_with(':') || authority.bytes().any(forbidden) {
            return Err(format!("{url}: a base URL is http://host:port and nothing behind it"));
        }
        // A colon within [...] belongs to the address.
        let named = authority.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
        match named.map(|(_, port)| port.parse::<u16>()) {
            None => Ok(BaseUrl { authority: format!("{authority}:80") }),
            Some(Ok(port)) if port > 0 => Ok(BaseUrl { authority: authority.to_owned() }),
            Some(_) => Err(format!("{url}: a port is a number from 1 to 65535")),
        }
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "http://{}", self.authority)
    }
}

/// A base URL and the address under which it took a connection.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    authority: String,
    address: SocketAddr,
}

impl Target {
    /// Looks the host up and keeps its first address that takes a connection.
    ///
    /// # Errors
    /// The name is unknown or no address takes a connection within five seconds.
    pub(crate) fn reach(url: &BaseUrl) -> Result<Target, String> {
        let authority = url.authority.clone();
        let unreachable = |error: io::Error| format!("http://{authority} is out of reach: {error}");
        let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for address in authority.to_socket_addrs().map_err(unreachable)? {
            match BlockingStream::connect_timeout(&address, REACH_LIMIT) {
                Ok(_) => return Ok(Target { authority, address }),
                Err(error) => last = error,
            }
        }
        Err(unreachable(last))
    }

    /// As people write it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.authority)
    }

    /// What the `Host` header says.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Where the connections go.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// One non-blocking connection; at most one request is under way on it.
pub(crate) struct Connection {
    stream: TcpStream,
    /// Bytes of the request under way that the kernel has taken.
    written: usize,
    /// The beginning of an answer that came in several pieces.
    received: Vec<u8>,
}

impl Connection {
    /// Begins to connect; both interests are registered under `token` for good.
    ///
    /// # Errors
    /// The system refuses a socket, a port or the address outright.
    pub(crate) fn open(
        address: SocketAddr,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Connection> {
        let mut stream = TcpStream::connect(address)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Connection { stream, written: 0, received: Vec::new() })
    }

    /// Whether the connection stands; false while it is still being made.
    ///
    /// # Errors
    /// It failed.
    pub(crate) fn established(&self) -> io::Result<bool> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the peer spoke or closed although nothing was asked. Takes what it said.
    pub(crate) fn spoke_early(&mut self) -> bool {
        let mut early = [0; 512];
        !matches!(self.stream.read(&mut early), Err(error) if is_for_later(&error))
    }

    /// Writes `request`, or what is left of it; true once all of it is out. The same bytes must be
    /// given until then.
    ///
    /// # Errors
    /// The connection is broken.
    pub(crate) fn send(&mut self, request: &[u8]) -> Result<bool, Failure> {
        while self.written < request.len() {
            match self.stream.write(&request[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(Failure::broken(&error, "while it was being sent")),
            }
        }
        Ok(true)
    }

    /// Reads what has come; hands the answer to `read` once it is here in full. `scratch` is
    /// overwritten.
    ///
    /// # Errors
    /// The connection ended before, or what came is no answer.
    pub(crate) fn receive<T>(
        &mut self,
        scratch: &mut [u8],
        read: impl FnOnce(&Answer<'_>) -> T,
    ) -> Result<Option<T>, Failure> {
        // Until the socket is empty: epoll is told of a change once (an end may come with data).
        loop {
            let count = match self.stream.read(scratch) {
                Ok(0) => return Err(Failure::closed(self.received.len())),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(Failure::broken(&error, "before a full answer")),
            };
            let first = self.received.is_empty();
            if !first {
                self.received.extend_from_slice(&scratch[..count]);
            }
            let bytes = if first { &scratch[..count] } else { self.received.as_slice() };
            if let Some(answer) = Answer::parse(bytes)? {
                let result = read(&answer);
                self.received.clear();
                self.written = 0;
                return Ok(Some(result));
            }
            if first {
                self.received.extend_from_slice(&scratch[..count]);
            }
        }
    }

    /// How much of an unfinished answer has come, in bytes.
    pub(crate) fn received_bytes(&self) -> usize {
        self.received.len()
    }

    /// Ends the connection with a reset: the local port is free at once. Only for a connection
    /// whose answer has been read in full.
    pub(crate) fn reset(self) {
        // A normal close would keep the port in TIME_WAIT for a minute. If this fails, it does.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_are_read_strictly() {
        let authority = |url: &str| BaseUrl::parse(url).map(|base| base.authority);
        for (url, expected) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://door:8080/", "door:8080"),
            ("http://door", "door:80"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("http://[::1]", "[::1]:80"),
        ] {
            assert_eq!(authority(url).as_deref(), Ok(expected), "{url}");
        }
        for url in [
            "https://a:1",
            "a:1",
            "http://",
            "http://:80",
            "http://a:0",
            "http://a:70000",
            "http://a:1/api",
            "http://a b:1",
            "http://user@a:1",
        ] {
            assert!(authority(url).is_err(), "{url}");
        }
    }
}
