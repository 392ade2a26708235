//! The accept loop. Only this module uses the server library, `tiny_http`, and knows its gaps:
//!
//! - Its accept loop ends for good on the first error, and without a report if it cannot duplicate
//!   a socket. An [`AcceptLoop`] is one such loop; another can be built on the same listener.
//! - It reads bodies of up to 1,024 bytes itself. The unread rest of a longer body is read when the
//!   request is dropped, into a buffer of the announced length: see [`Client::discard`].
//! - It treats an unreadable `Content-Length` as no body, uses the first of two lengths, and then
//!   reads the next request at once: see [`NotReady::Refused`].
//! - It drops the `Connection` header of an answer, so we write the answers as bytes.
//! - A request line with `HTTP/2.0` blocks its connection's thread for ever, without an error.

mod client;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
#[cfg(target_os = "linux")]
use socket2::SockFilter;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tiny_http::Server;

pub(super) use client::{Client, NotReady};

/// The listen backlog: how many connections the kernel queues until they are accepted. A client
/// beyond it tries again by itself after a second.
pub(super) const BACKLOG: u16 = 1_024;
/// A write fails if the client reads nothing for this long. The connection itself ends by
/// `TCP_USER_TIMEOUT`.
const SEND_PATIENCE: Duration = Duration::from_secs(5);

/// Binds a socket and listens. Accepted connections inherit the options that are set here.
///
/// # Errors
/// The system's error, such as "address in use".
pub(super) fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    // No read time-out is set: it would apply to accept() as well, and end the accept loop.
    socket.set_write_timeout(Some(SEND_PATIENCE))?;
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60));
    socket.set_tcp_keepalive(&keepalive.with_interval(Duration::from_secs(10)))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(Duration::from_secs(30)))?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG.into())?;
    Ok(socket.into())
}

/// Stops listening: the accept loops end, connections that were not accepted yet are reset, and
/// accepted ones stay open.
pub(super) fn stop_listening(listener: &TcpListener) {
    // It fails only if it was done before.
    let _ = socket2::SockRef::from(listener).shutdown(std::net::Shutdown::Both);
}

/// Drops all attempts to open a connection, or lets them through again. Connections in the backlog
/// stay. The other clients get no reply, so they try again by themselves.
///
/// A socket filter drops the packets that open a connection: SYN without ACK, in tcpdump's words
/// `tcp[13] & 0x12 = 2`. An accepted socket may inherit it, but never gets such a packet.
#[cfg(target_os = "linux")]
pub(super) fn hold_back(listener: &TcpListener, hold: bool) -> io::Result<()> {
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let socket = socket2::SockRef::from(listener);
    match hold {
        true => socket.attach_filter(&[
            SockFilter::new(LOAD_BYTE, 0, 0, 13),
            SockFilter::new(AND, 0, 0, 0x12),
            SockFilter::new(JUMP_IF_EQUAL, 0, 1, 0x02),
            SockFilter::new(RETURN, 0, 0, 0),
            SockFilter::new(RETURN, 0, 0, u32::MAX),
        ]),
        false => socket.detach_filter(),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn hold_back(_listener: &TcpListener, _hold: bool) -> io::Result<()> {
    Ok(())
}

/// One accept loop of the library, with the connections that it has accepted.
pub(super) struct AcceptLoop {
    server: Server,
    /// Held while a request is taken and noted at its connection, so that they stay in order.
    turn: Mutex<()>,
    has_ended: AtomicBool,
}

/// Why [`AcceptLoop::next`] returned no request.
pub(super) enum NoClient {
    /// [`AcceptLoop::wake`] was called, or `is_over` was true.
    Woken,
    /// The accept loop has ended with this error.
    Dead(io::Error),
}

impl AcceptLoop {
    pub(super) fn build(listener: TcpListener) -> io::Result<AcceptLoop> {
        let server = Server::from_listener(listener, None).map_err(io::Error::other)?;
        Ok(AcceptLoop { server, turn: Mutex::new(()), has_ended: AtomicBool::new(false) })
    }

    /// Waits for a request of which `take` makes something to do, unless `is_over` returns true
    /// once it is this thread's turn. `take` gets the requests of a connection in the order in
    /// which they were sent. As long as they only have to wait for others, no other thread is
    /// woken. `take` must not wait for anything: the other threads wait for it.
    pub(super) fn next<T>(
        &self,
        is_over: impl Fn() -> bool,
        take: impl Fn(Client) -> Option<T>,
    ) -> Result<T, NoClient> {
        let _turn = self.turn.lock();
        while !is_over() {
            match self.server.recv() {
                Ok(request) => {
                    if let Some(taken) = take(Client::new(request)) {
                        return Ok(taken);
                    }
                }
                Err(error) if error.raw_os_error().is_some() => {
                    return Err(NoClient::Dead(self.end(error)));
                }
                Err(_) => break,
            }
        }
        Err(NoClient::Woken)
    }

    /// Takes a request that has arrived already; `None` if there is none, or if another thread
    /// takes one just now. An error if the accept loop has ended.
    pub(super) fn next_now<T>(&self, take: impl FnOnce(Client) -> T) -> io::Result<Option<T>> {
        match self.turn.try_lock() {
            Some(_turn) => self.poll(take),
            None => Ok(None),
        }
    }

    /// Like [`AcceptLoop::next_now`], but waits for a thread that takes a request just now.
    pub(super) fn next_of_all<T>(&self, take: impl FnOnce(Client) -> T) -> io::Result<Option<T>> {
        let _turn = self.turn.lock();
        self.poll(take)
    }

    fn poll<T>(&self, take: impl FnOnce(Client) -> T) -> io::Result<Option<T>> {
        let request = self.server.try_recv().map_err(|error| self.end(error))?;
        Ok(request.map(|request| take(Client::new(request))))
    }

    fn end(&self, error: io::Error) -> io::Error {
        self.has_ended.store(true, Ordering::Relaxed);
        error
    }

    /// Whether the accept loop has reported its end. One that ends by a panic reports nothing.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }

    /// Makes one call of [`AcceptLoop::next`] return [`NoClient::Woken`].
    pub(super) fn wake(&self) {
        self.server.unblock();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn who_is_held_back_comes_in_later_and_who_is_in_notices_nothing() {
        let limit = Duration::from_millis(100);
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = listener.local_addr().unwrap();
        let mut inside = TcpStream::connect(addr).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        hold_back(&listener, true).unwrap();
        assert!(TcpStream::connect_timeout(&addr, limit).is_err());
        let patient = std::thread::spawn(move || TcpStream::connect(addr).map(drop));
        inside.write_all(b"?").unwrap();
        accepted.read_exact(&mut [0]).unwrap();
        accepted.write_all(b"!").unwrap();
        inside.read_exact(&mut [0]).unwrap();
        hold_back(&listener, false).unwrap();
        TcpStream::connect_timeout(&addr, limit).unwrap();
        patient.join().unwrap().unwrap();
    }
}
