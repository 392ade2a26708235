//! One connection's socket, identified by the numbers of the library's descriptors.

use std::fs;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use nix::Error;
use nix::sys::socket::{
    MsgFlags, Shutdown, SockaddrLike, SockaddrStorage, getpeername, getsockname, recv, send,
};

use super::DESCRIPTORS;
use super::pins::{Pinned, Pins, shut};

/// The state of an open connection in the kernel's table (`/proc/net/tcp`).
const ESTABLISHED: &str = "01";

/// The library's two descriptors of one socket: it reads from one and writes to the other. A
/// request that was not taken from the library yet keeps the second open.
pub(in super::super) type Pair = [Option<RawFd>; 2];

#[derive(Clone)]
pub(in super::super) struct Socket {
    pub(super) pair: Pair,
    /// The socket's number in the kernel, which no other gets while this one is open.
    inode: u64,
    pub(in super::super) peer: SocketAddr,
    port: u16,
    pins: Arc<Pins>,
}

impl PartialEq for Socket {
    fn eq(&self, other: &Socket) -> bool {
        (self.inode, self.peer) == (other.inode, other.peer)
    }
}

impl Socket {
    /// `None` if the connection has ended since the pair was found.
    pub(super) fn of(pair: Pair, peer: SocketAddr, port: u16, pins: &Arc<Pins>) -> Option<Socket> {
        let inode = inode(holder(&pair, peer)?)?;
        Some(Socket { pair, inode, peer, port, pins: Arc::clone(pins) })
    }

    pub(super) fn is_whole(&self) -> bool {
        let ours = |descriptor: RawFd| peer(descriptor) == Some(self.peer);
        self.pair.iter().all(|descriptor| descriptor.is_some_and(ours))
    }

    /// A descriptor that was this connection's a moment ago; `None` if the connection has ended.
    fn descriptor(&self) -> Option<RawFd> {
        holder(&self.pair, self.peer).filter(|descriptor| inode(*descriptor) == Some(self.inode))
    }

    /// A descriptor of our own; `None` if the connection has ended or the system has none left.
    pub(in super::super) fn pin(&self) -> Option<Pinned> {
        let pin = || self.pins.pin(self.descriptor()?);
        // The library may just have closed the first of its two descriptors.
        let pinned = pin().or_else(pin)?;
        // The number may have passed to another socket before it was duplicated.
        (inode(pinned.descriptor) == Some(self.inode)).then_some(pinned)
    }

    /// Whether the connection is open. Until it ends, no other can have the client's address.
    pub(in super::super) fn is_open(&self) -> bool {
        self.descriptor().is_some()
    }

    /// Whether the look found both descriptors.
    pub(in super::super) fn was_whole(&self) -> bool {
        self.pair.iter().all(Option::is_some)
    }

    /// Whether the library no longer holds the socket, even if the connection is still open.
    pub(in super::super) fn is_closed(&self) -> bool {
        let mut descriptors = self.pair.iter().copied().flatten();
        descriptors.all(|descriptor| inode(descriptor) != Some(self.inode))
    }

    /// Whether the client has ended its sending side. It is not enough that reading finds the end,
    /// because the library itself shuts down reading after a connection's last request.
    pub(in super::super) fn is_at_its_end(&self) -> bool {
        self.descriptor().is_none_or(is_at_its_end) && !self.is_established()
    }

    /// Looks the connection up in the kernel's table, by its two ports.
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

    /// Whether the sending side is still open.
    pub(in super::super) fn can_send(&self) -> bool {
        let nothing = |descriptor| send(descriptor, &[], MsgFlags::MSG_NOSIGNAL).is_ok();
        self.descriptor().is_some_and(nothing)
    }

    /// Shuts down the sending side, which tells the client that nothing follows.
    pub(in super::super) fn end_sending(&self) {
        self.shut(Shutdown::Write);
    }

    /// Shuts down the reading side, so that a thread which reads from it finds the end.
    pub(in super::super) fn end_reading(&self) {
        self.shut(Shutdown::Read);
    }

    pub(in super::super) fn end(&self) {
        self.shut(Shutdown::Both);
    }

    fn shut(&self, how: Shutdown) {
        match (self.pin(), self.descriptor()) {
            (Some(pinned), _) => pinned.shut(how),
            // It must end although no descriptor is left; at worst another connection ends early.
            (None, Some(descriptor)) => shut(descriptor, how),
            (None, None) => {}
        }
    }
}

fn holder(pair: &Pair, of: SocketAddr) -> Option<RawFd> {
    pair.iter().copied().flatten().find(|descriptor| peer(*descriptor) == Some(of))
}

fn inode(descriptor: RawFd) -> Option<u64> {
    let entry = fs::metadata(format!("{DESCRIPTORS}/{descriptor}"));
    entry.ok().map(|entry| entry.ino())
}

pub(super) fn is_at_its_end(descriptor: RawFd) -> bool {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    matches!(recv(descriptor, &mut [0], flags), Ok(0) | Err(Error::ECONNRESET | Error::ETIMEDOUT))
}

pub(super) fn local_port(descriptor: RawFd) -> Option<u16> {
    address(getsockname(descriptor).ok()?).map(|address| address.port())
}

pub(super) fn peer(descriptor: RawFd) -> Option<SocketAddr> {
    address(getpeername(descriptor).ok()?)
}

fn address(storage: SockaddrStorage) -> Option<SocketAddr> {
    storage.family()?;
    let v4 = storage.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
}
