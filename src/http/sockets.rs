//! The sockets of the open connections, found among the descriptors of this process, since the
//! server library keeps them to itself: to end one, and to see which have gone.
//!
//! A descriptor's number is of use only as long as nobody closes it. So each use first asks whose
//! it is. In the instant between the two another connection could get the number, if this one ended
//! just then; what could happen to that one is that it ends early. What reads or writes bytes does
//! so on a descriptor of its own, which nobody else closes: [`Pinned`].

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::time::Instant;

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, Shutdown, SockaddrLike, SockaddrStorage,
    getpeername, getsockname, recv, recvmsg, send, sendmsg, shutdown,
};
use nix::unistd::close;
use nix::{Error, cmsg_space};
use parking_lot::Mutex;

/// Where the system shows a process its own descriptors, by number.
const DESCRIPTORS: &str = "/dev/fd";
const NOTHING: &str = "/dev/null";
const BUFFER_BYTES: usize = 16 * 1024;
/// In the kernel's table of connections.
const ESTABLISHED: &str = "01";

/// The connections that clients have opened to one port of this process.
pub(super) struct Sockets {
    port: u16,
    /// By the client's address, at the last look.
    seen: Mutex<Seen>,
    /// Held by whoever looks: those who wait for it may find what they want in that look.
    looks: Mutex<()>,
    /// A descriptor kept for a look where clients hold all others.
    spare: Mutex<Option<File>>,
    /// Those that are pinned, which no look counts. Changed by whoever holds `looks`.
    pinned: Mutex<HashSet<RawFd>>,
}

/// A descriptor of our own of one connection's socket: its number is nobody else's until it is
/// dropped.
pub(super) struct Pinned<'a> {
    descriptor: RawFd,
    sockets: &'a Sockets,
}

#[derive(Default)]
struct Seen {
    begun: Option<Instant>,
    open: HashMap<SocketAddr, Pair>,
}

/// The library reads from one descriptor and writes to the other; both are the same socket's. A
/// request that nobody has taken from it yet keeps the second.
pub(super) type Pair = [Option<RawFd>; 2];

/// The socket of one connection.
#[derive(Clone)]
pub(super) struct Socket {
    pair: Pair,
    /// Its number in the kernel, which no other gets while this one is open.
    inode: u64,
    pub(super) peer: SocketAddr,
    port: u16,
}

/// What a look at all descriptors found.
pub(super) struct Look {
    /// By the client's address.
    pub(super) open: HashMap<SocketAddr, Pair>,
    /// Descriptors whose connection has ended and that somebody keeps all the same.
    pub(super) kept: usize,
    /// Descriptors of everything else.
    pub(super) beside: usize,
}

impl Sockets {
    pub(super) fn of_port(port: u16) -> Sockets {
        let spare = Mutex::new(File::open(NOTHING).ok());
        let (seen, looks, pinned) = (Mutex::default(), Mutex::default(), Mutex::default());
        Sockets { port, seen, looks, spare, pinned }
    }

    /// Looks at every descriptor: some milliseconds where there are thousands. None where the
    /// system does not let it.
    pub(super) fn look(&self) -> Option<Look> {
        let _looks = self.looks.lock();
        self.look_alone()
    }

    fn look_alone(&self) -> Option<Look> {
        let begun = Instant::now();
        let mut look = Look { open: HashMap::new(), kept: 0, beside: 0 };
        drop(self.spare.lock().take());
        let entries = fs::read_dir(DESCRIPTORS);
        for entry in entries.ok()?.flatten() {
            let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let number = number.filter(|number| !self.pinned.lock().contains(number));
            let ours = number.filter(|number| local_port(*number) == Some(self.port));
            match ours.map(|descriptor| (descriptor, peer(descriptor))) {
                Some((descriptor, Some(peer))) => {
                    let pair = look.open.entry(peer).or_default();
                    *pair = [Some(descriptor), pair[0]];
                }
                // A listening socket has no end to read to.
                Some((descriptor, None)) if is_at_its_end(descriptor) => look.kept += 1,
                _ => look.beside += 1,
            }
        }
        *self.spare.lock() = File::open(NOTHING).ok();
        *self.seen.lock() = Seen { begun: Some(begun), open: look.open.clone() };
        Some(look)
    }

    /// The socket of this client's connection, which somebody holds.
    pub(super) fn of(&self, peer: SocketAddr) -> Option<Socket> {
        let asked = Instant::now();
        // An earlier look may have come between the first and the second.
        if let Some(known) = self.seen_of(peer).filter(Socket::is_whole) {
            return Some(known);
        }
        let _looks = self.looks.lock();
        let is_fresh = self.seen.lock().begun.is_some_and(|begun| begun >= asked);
        if !is_fresh {
            self.look_alone()?;
        }
        // One that has just been accepted has its second a moment later.
        if self.seen_of(peer).is_some_and(|found| !found.is_whole()) {
            self.look_alone()?;
        }
        self.seen_of(peer)
    }

    fn seen_of(&self, peer: SocketAddr) -> Option<Socket> {
        let pair = self.seen.lock().open.get(&peer).copied();
        self.socket(peer, pair?)
    }

    /// A descriptor of our own of this socket; none when its connection has ended, or where the
    /// system has none left.
    pub(super) fn pin(&self, socket: &Socket) -> Option<Pinned<'_>> {
        let looks = self.looks.lock();
        let descriptor = duplicate(socket.descriptor()?).ok()?;
        self.pinned.lock().insert(descriptor);
        drop(looks);
        let pinned = Pinned { descriptor, sockets: self };
        // What was duplicated may have been another's by then.
        (inode(descriptor) == Some(socket.inode)).then_some(pinned)
    }

    /// The socket that a look found; none when its connection has ended since then.
    pub(super) fn socket(&self, peer: SocketAddr, pair: Pair) -> Option<Socket> {
        let inode = inode(holder(&pair, peer)?)?;
        Some(Socket { pair, inode, peer, port: self.port })
    }
}

impl Pinned<'_> {
    /// Writes past the library, which would first read a body that nobody wants. Only where every
    /// earlier answer of the connection has been written. Waits for a client that takes nothing, if
    /// `patient`.
    pub(super) fn send(&self, mut bytes: &[u8], patient: bool) {
        let wait = if patient { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
        while !bytes.is_empty() {
            match send(self.descriptor, bytes, MsgFlags::MSG_NOSIGNAL | wait) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(Error::EINTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Takes what the client still sends, at most so many bytes, until it ends the connection or
    /// somebody calls [`Socket::end`]; true when it has ended.
    pub(super) fn discard(&self, most_bytes: usize) -> bool {
        let (mut buffer, mut taken) = (vec![0; BUFFER_BYTES], 0);
        while taken < most_bytes {
            match recv(self.descriptor, &mut buffer, MsgFlags::empty()) {
                Ok(0) => return true,
                Ok(more) => taken += more,
                Err(Error::EINTR) => {}
                Err(_) => return true,
            }
        }
        false
    }
}

impl Drop for Pinned<'_> {
    /// Its number may be the library's at once, and is then to be looked at.
    fn drop(&mut self) {
        let _looks = self.sockets.looks.lock();
        self.sockets.pinned.lock().remove(&self.descriptor);
        // Nothing could be done where it fails.
        let _ = close(self.descriptor);
    }
}

impl PartialEq for Socket {
    fn eq(&self, other: &Socket) -> bool {
        (self.inode, self.peer) == (other.inode, other.peer)
    }
}

impl Socket {
    fn is_whole(&self) -> bool {
        let ours = |descriptor: RawFd| peer(descriptor) == Some(self.peer);
        self.pair.iter().all(|descriptor| descriptor.is_some_and(ours))
    }

    /// One that is still this connection's, unless the connection has ended.
    fn descriptor(&self) -> Option<RawFd> {
        holder(&self.pair, self.peer).filter(|descriptor| inode(*descriptor) == Some(self.inode))
    }

    /// Whether its connection has not ended: nobody else can have the client's address.
    pub(super) fn is_open(&self) -> bool {
        self.descriptor().is_some()
    }

    /// Whether both its descriptors were found.
    pub(super) fn was_whole(&self) -> bool {
        self.pair.iter().all(Option::is_some)
    }

    /// Whether nobody holds it any more, be its connection open or not.
    pub(super) fn is_closed(&self) -> bool {
        let mut descriptors = self.pair.iter().copied().flatten();
        descriptors.all(|descriptor| inode(descriptor) != Some(self.inode))
    }

    /// Whether the client has said that it sends no more. A descriptor that is at its end is not
    /// enough: the library itself ends the reading of a connection behind its last request.
    pub(super) fn is_at_its_end(&self) -> bool {
        self.descriptor().is_none_or(is_at_its_end) && !self.is_established()
    }

    /// As the kernel's table of connections has it, by the ports.
    fn is_established(&self) -> bool {
        let ends_with = |text: Option<&str>, port: u16| {
            text.is_some_and(|address| address.ends_with(&format!(":{port:04X}")))
        };
        let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"].map(fs::read_to_string);
        let mut lines = tables.iter().flatten().flat_map(|table| table.lines());
        lines.any(|line| {
            let mut words = line.split_whitespace().skip(1);
            ends_with(words.next(), self.port)
                && ends_with(words.next(), self.peer.port())
                && words.next() == Some(ESTABLISHED)
        })
    }

    /// Whether nobody has told the client that nothing follows.
    pub(super) fn can_send(&self) -> bool {
        let nothing = |descriptor| send(descriptor, &[], MsgFlags::MSG_NOSIGNAL).is_ok();
        self.descriptor().is_some_and(nothing)
    }

    /// Tells the client that nothing follows.
    pub(super) fn end_sending(&self) {
        self.shut(Shutdown::Write);
    }

    /// Whoever reads from it finds its end.
    pub(super) fn end_reading(&self) {
        self.shut(Shutdown::Read);
    }

    /// Ends the connection.
    pub(super) fn end(&self) {
        self.shut(Shutdown::Both);
    }

    fn shut(&self, how: Shutdown) {
        if let Some(descriptor) = self.descriptor() {
            // Fails only when the connection has just ended by itself.
            let _ = shutdown(descriptor, how);
        }
    }
}

/// Another descriptor of the same: sent to ourselves, since only what is owned can be duplicated
/// otherwise, and the library owns these.
fn duplicate(descriptor: RawFd) -> Result<RawFd, Error> {
    let (from, to) = UnixDatagram::pair().map_err(|_| Error::EMFILE)?;
    let (mut byte, mut space) = ([0], cmsg_space!(RawFd));
    let own = [ControlMessage::ScmRights(&[descriptor])];
    sendmsg::<()>(from.as_raw_fd(), &[IoSlice::new(&byte)], &own, MsgFlags::empty(), None)?;
    let mut bytes = [IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(to.as_raw_fd(), &mut bytes, Some(&mut space), flags)?;
    let received = message.cmsgs()?.find_map(|own| match own {
        ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
        _ => None,
    });
    received.ok_or(Error::EMFILE)
}

fn holder(pair: &Pair, of: SocketAddr) -> Option<RawFd> {
    pair.iter().copied().flatten().find(|descriptor| peer(*descriptor) == Some(of))
}

fn inode(descriptor: RawFd) -> Option<u64> {
    let entry = fs::metadata(format!("{DESCRIPTORS}/{descriptor}"));
    entry.ok().map(|entry| entry.ino())
}

fn is_at_its_end(descriptor: RawFd) -> bool {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    matches!(recv(descriptor, &mut [0], flags), Ok(0) | Err(Error::ECONNRESET | Error::ETIMEDOUT))
}

fn local_port(descriptor: RawFd) -> Option<u16> {
    address(getsockname(descriptor).ok()?).map(|address| address.port())
}

fn peer(descriptor: RawFd) -> Option<SocketAddr> {
    address(getpeername(descriptor).ok()?)
}

fn address(storage: SockaddrStorage) -> Option<SocketAddr> {
    storage.family()?;
    let v4 = storage.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn connection() -> (TcpStream, TcpStream, Sockets, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, peer) = listener.accept().unwrap();
        let sockets = Sockets::of_port(listener.local_addr().unwrap().port());
        let socket = sockets.of(peer).expect("the socket");
        (client, server, sockets, socket)
    }

    #[test]
    fn a_connection_is_found_answered_and_ended_from_outside() {
        let (mut client, server, sockets, socket) = connection();
        let pinned = sockets.pin(&socket).expect("a descriptor");
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
        drop(server);
        assert!(pinned.discard(1 << 20));
        assert!(socket.is_at_its_end());
        drop(pinned);
        assert!(socket.is_closed() && sockets.pin(&socket).is_none());
    }

    #[test]
    fn what_is_ended_wakes_its_reader() {
        let (_client, mut server, _, socket) = connection();
        let reader = std::thread::spawn(move || server.read(&mut [0; 8]).unwrap());
        socket.end_reading();
        assert_eq!(reader.join().unwrap(), 0);
    }
}
