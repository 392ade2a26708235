//! Finds the sockets of the open connections among the descriptors of this process, because the
//! server library hides them. We need them to end a connection, and to see which have ended.
//!
//! A descriptor's number is valid only until it is closed: right after we have looked up a number,
//! its connection can end and another can get the same number. So we read, send and shut down only
//! on a duplicate, which nobody else closes: [`pins::Pinned`]. A mere question may be answered for
//! that other connection; then ours has ended, and each caller accepts either answer.

mod pins;
mod socket;

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use pins::Pins;
pub(super) use socket::{Pair, Socket};
use socket::{is_at_its_end, local_port, peer};

/// The folder in which the system lists a process's own descriptors by number.
const DESCRIPTORS: &str = "/dev/fd";

/// The connections that clients have opened to one port of this process.
pub(super) struct Sockets {
    port: u16,
    /// What the last look found.
    seen: Mutex<Seen>,
    /// Held during a look. A thread that waits for it may find what it wants in that look.
    looks: Mutex<()>,
    pins: Arc<Pins>,
}

#[derive(Default)]
struct Seen {
    begun: Option<Instant>,
    open: HashMap<SocketAddr, Pair>,
}

/// What a look at all descriptors found.
pub(super) struct Look {
    /// The open connections, by the client's address and port.
    pub(super) open: HashMap<SocketAddr, Pair>,
    /// How many descriptors the library keeps although their connections have ended.
    pub(super) kept: usize,
    /// How many other descriptors there are.
    pub(super) beside: usize,
}

enum Found {
    Open(SocketAddr),
    Kept,
}

impl Sockets {
    pub(super) fn of_port(port: u16) -> Sockets {
        let (seen, looks) = (Mutex::default(), Mutex::default());
        Sockets { port, seen, looks, pins: Pins::new() }
    }

    /// Looks at every descriptor, which takes some milliseconds if there are thousands. `None` if
    /// the system does not allow it.
    pub(super) fn look(&self) -> Option<Look> {
        let _looks = self.looks.lock();
        self.look_alone()
    }

    fn look_alone(&self) -> Option<Look> {
        let begun = Instant::now();
        let mut look = Look { open: HashMap::new(), kept: 0, beside: 0 };
        let lent = self.pins.lend();
        let names = fs::read_dir(DESCRIPTORS).ok()?.flatten().map(|entry| entry.file_name());
        for number in names.filter_map(|name| name.to_str()?.parse().ok()) {
            match self.pins.unless_pinned(number, |number| self.found(number)) {
                Some(Found::Open(peer)) => {
                    let pair = look.open.entry(peer).or_default();
                    *pair = [Some(number), pair[0]];
                }
                Some(Found::Kept) => look.kept += 1,
                None => look.beside += 1,
            }
        }
        drop(lent);
        *self.seen.lock() = Seen { begun: Some(begun), open: look.open.clone() };
        Some(look)
    }

    fn found(&self, descriptor: RawFd) -> Option<Found> {
        if local_port(descriptor) != Some(self.port) {
            return None;
        }
        // A listening socket has no peer either, but is never at its end.
        let kept = || is_at_its_end(descriptor).then_some(Found::Kept);
        peer(descriptor).map(Found::Open).or_else(kept)
    }

    /// The socket of this client's connection, of which we hold a request; `None` if not found.
    pub(super) fn of(&self, peer: SocketAddr) -> Option<Socket> {
        let asked = Instant::now();
        // The last look may have found the first descriptor before the second existed.
        if let Some(known) = self.seen_of(peer).filter(Socket::is_whole) {
            return Some(known);
        }
        let _looks = self.looks.lock();
        let is_fresh = self.seen.lock().begun.is_some_and(|begun| begun >= asked);
        if !is_fresh {
            self.look_alone()?;
        }
        // A connection that was just accepted gets its second descriptor a moment later.
        if self.seen_of(peer).is_some_and(|found| !found.is_whole()) {
            self.look_alone()?;
        }
        self.seen_of(peer)
    }

    fn seen_of(&self, peer: SocketAddr) -> Option<Socket> {
        let pair = self.seen.lock().open.get(&peer).copied();
        self.socket(peer, pair?)
    }

    /// The socket that a look found; `None` if its connection has ended since then.
    pub(super) fn socket(&self, peer: SocketAddr, pair: Pair) -> Option<Socket> {
        Socket::of(pair, peer, self.port, &self.pins)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    use super::*;

    fn connection() -> (TcpStream, TcpStream, Sockets, Socket) {
        connection_to(&TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn connection_to(listener: &TcpListener) -> (TcpStream, TcpStream, Sockets, Socket) {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, peer) = listener.accept().unwrap();
        let sockets = Sockets::of_port(listener.local_addr().unwrap().port());
        let socket = sockets.of(peer).expect("the socket");
        (client, server, sockets, socket)
    }

    #[test]
    fn a_connection_is_found_answered_and_ended_from_outside() {
        let (mut client, server, sockets, socket) = connection();
        let pinned = socket.pin().expect("a descriptor");
        let of_pair = |look: Look| look.open.into_values().next();
        assert_eq!(of_pair(sockets.look().unwrap()), Some(socket.pair), "it is in no look");
        client.write_all(b"what nobody reads").unwrap();
        assert!(!socket.is_at_its_end());
        pinned.send(b"an answer", true);
        assert!(socket.can_send());
        socket.end_sending();
        assert!(!socket.can_send());
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "an answer");
        drop(client);
        pinned.discard(1 << 20);
        assert!(socket.is_at_its_end());
        drop((server, pinned));
        assert!(socket.is_closed() && socket.pin().is_none());
    }

    #[test]
    fn what_is_ended_wakes_its_reader() {
        let (_client, mut server, _, socket) = connection();
        let reader = std::thread::spawn(move || server.read(&mut [0; 8]).unwrap());
        socket.end_reading();
        assert_eq!(reader.join().unwrap(), 0);
    }

    /// When a connection ends, another can get its descriptor's number. Code that still uses the
    /// ended connection must neither read from the new one nor end it.
    #[test]
    fn what_is_pinned_stays_its_own_when_its_number_passes_to_another() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let passed_on = || {
            let (client, server, _, socket) = connection_to(&listener);
            let pinned = socket.pin().expect("a descriptor");
            let number = server.as_raw_fd();
            drop((client, server));
            let mut others = (0..10).map(|_| connection_to(&listener)).collect::<Vec<_>>();
            let same = others.iter().position(|(_, server, ..)| server.as_raw_fd() == number)?;
            let (client, server, ..) = others.swap_remove(same);
            Some((pinned, socket, client, server))
        };
        // Another test of this process may take the number, and keep it for long.
        let (pinned, socket, mut client, mut server) =
            (0..100).find_map(|_| passed_on()).expect("a number that comes back");
        client.write_all(b"a request").unwrap();
        pinned.discard(1 << 20);
        pinned.send(b"the first one's answer", true);
        socket.end();
        drop(pinned);
        socket.end();
        let mut bytes = [0; 9];
        server.read_exact(&mut bytes).unwrap();
        server.write_all(b"an answer").unwrap();
        client.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"an answer");
    }
}
