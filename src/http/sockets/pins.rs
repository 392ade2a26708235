//! Duplicates of the library's socket descriptors. We own them, so their numbers cannot pass to
//! another connection while we use them.

use std::collections::HashSet;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, Shutdown, recv, recvmsg, send, sendmsg, shutdown,
};
use nix::unistd::close;
use nix::{Error, cmsg_space};
use parking_lot::Mutex;

const NOTHING: &str = "/dev/null";
/// Spare descriptors for when clients hold all others.
const SPARES: usize = 8;
const BUFFER_BYTES: usize = 16 * 1024;

/// The pinned descriptors, and what is needed to pin more.
#[derive(Default)]
pub(super) struct Pins(Mutex<Stock>);

#[derive(Default)]
struct Stock {
    pinned: HashSet<RawFd>,
    spares: Vec<File>,
    /// How many of the spares are lent: see [`Pins::lend`].
    lent: usize,
    /// A pair of sockets through which we send descriptors to ourselves.
    mirror: Option<(UnixDatagram, UnixDatagram)>,
}

/// Our own descriptor of one connection's socket. Its number cannot pass to another connection
/// until this is dropped.
pub(in super::super) struct Pinned {
    pub(super) descriptor: RawFd,
    pins: Arc<Pins>,
}

/// Until this is dropped, one spare descriptor is closed, so that the process can open another.
pub(super) struct Lent<'a>(&'a Pins);

impl Pins {
    /// Spares that the system does not give now are asked for again after each use.
    pub(super) fn new() -> Arc<Pins> {
        let pins = Pins::default();
        pins.0.lock().replenish();
        Arc::new(pins)
    }

    /// Duplicates the descriptor; `None` if it was closed, or if the system has none left.
    pub(super) fn pin(self: &Arc<Pins>, descriptor: RawFd) -> Option<Pinned> {
        let state = &mut *self.0.lock();
        let mut own = state.duplicate(descriptor);
        if own == Err(Error::EMFILE) && state.spares.pop().is_some() {
            own = state.duplicate(descriptor);
        }
        if own.is_err() {
            state.replenish();
        }
        let descriptor = own.ok()?;
        state.pinned.insert(descriptor);
        Some(Pinned { descriptor, pins: Arc::clone(self) })
    }

    pub(super) fn lend(&self) -> Lent<'_> {
        let mut state = self.0.lock();
        state.lent += usize::from(state.spares.pop().is_some());
        Lent(self)
    }

    /// Calls `look` on this number unless it is pinned; the lock keeps it so during the call.
    pub(super) fn unless_pinned<T>(
        &self,
        number: RawFd,
        look: impl FnOnce(RawFd) -> Option<T>,
    ) -> Option<T> {
        let state = self.0.lock();
        let found = (!state.pinned.contains(&number)).then(|| look(number));
        drop(state);
        found.flatten()
    }
}

impl Stock {
    fn replenish(&mut self) {
        if self.mirror.is_none() {
            self.mirror = UnixDatagram::pair().ok();
        }
        let missing = SPARES - self.spares.len() - self.lent;
        self.spares.extend((0..missing).map_while(|_| File::open(NOTHING).ok()));
    }

    /// Sends the descriptor to ourselves: everything else in safe Rust duplicates only what we own,
    /// and the library owns this one.
    fn duplicate(&mut self, descriptor: RawFd) -> Result<RawFd, Error> {
        let (from, to) = self.mirror.as_ref().ok_or(Error::EMFILE)?;
        let (mut byte, mut space) = ([0], cmsg_space!(RawFd));
        let own = [ControlMessage::ScmRights(&[descriptor])];
        let wait = MsgFlags::MSG_DONTWAIT;
        sendmsg::<()>(from.as_raw_fd(), &[IoSlice::new(&byte)], &own, wait, None)?;
        let mut bytes = [IoSliceMut::new(&mut byte)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | wait;
        let message = recvmsg::<()>(to.as_raw_fd(), &mut bytes, Some(&mut space), flags);
        let Ok(message) = message else {
            // Otherwise the next call would receive the message that is left in it.
            self.mirror = None;
            return Err(Error::EMFILE);
        };
        // If no descriptor is free, the message comes without one.
        let mut received = message.cmsgs().map_err(|_| Error::EMFILE)?;
        let received = received.find_map(|own| match own {
            ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
            _ => None,
        });
        received.ok_or(Error::EMFILE)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        state.lent = state.lent.saturating_sub(1);
        state.replenish();
    }
}

impl Pinned {
    /// Writes to the socket directly, because the library would first read a body that nobody
    /// wants. Every earlier answer of the connection must have been written. If `patient`, it waits
    /// for a client that reads nothing.
    pub(in super::super) fn send(&self, mut bytes: &[u8], patient: bool) {
        let wait = if patient { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
        while !bytes.is_empty() {
            match send(self.descriptor, bytes, MsgFlags::MSG_NOSIGNAL | wait) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(Error::EINTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Reads and discards what the client still sends, at most so many bytes, until the client ends
    /// the connection or [`super::Socket::end`] is called.
    pub(in super::super) fn discard(&self, most_bytes: usize) {
        let (mut buffer, mut taken) = (vec![0; BUFFER_BYTES], 0);
        while taken < most_bytes {
            match recv(self.descriptor, &mut buffer, MsgFlags::empty()) {
                Ok(0) => return,
                Ok(more) => taken += more,
                Err(Error::EINTR) => {}
                Err(_) => return,
            }
        }
    }

    pub(super) fn shut(&self, how: Shutdown) {
        shut(self.descriptor, how);
    }
}

impl Drop for Pinned {
    /// Holds the lock: the library can get the number at once, and a look must not skip it then.
    fn drop(&mut self) {
        let mut state = self.pins.0.lock();
        state.pinned.remove(&self.descriptor);
        // If this fails, nothing can be done about it.
        let _ = close(self.descriptor);
        state.replenish();
    }
}

/// Ignores the error, which only says that the connection has just ended by itself.
pub(super) fn shut(descriptor: RawFd, how: Shutdown) {
    let _ = shutdown(descriptor, how);
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::process::Command;

    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    use super::*;

    const INNER: &str = "http::sockets::pins::tests::with_every_descriptor_taken";

    #[test]
    fn what_is_kept_serves_where_no_descriptor_is_free() {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let output = command.args(["--exact", INNER, "--ignored"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }

    #[test]
    #[ignore = "takes all descriptors of its process, and is run by the test above"]
    fn with_every_descriptor_taken() {
        let pins = Pins::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 64, hard).unwrap();
        let take_all = || -> Vec<File> { (0..).map_while(|_| File::open(NOTHING).ok()).collect() };
        let _taken = take_all();
        let pin = |count: usize| -> Vec<_> {
            (0..count).map_while(|_| pins.pin(server.as_raw_fd())).collect()
        };
        assert_eq!(pin(SPARES + 1).len(), SPARES);
        assert_eq!(pin(SPARES + 1).len(), SPARES, "they come back");
        let lent = pins.lend();
        let taken = File::open(NOTHING).expect("the one that was lent");
        assert_eq!(pin(SPARES + 1).len(), SPARES - 1);
        drop(taken);
        let taken = File::open(NOTHING).expect("nobody else has taken it");
        drop((taken, lent));
        assert_eq!(pin(SPARES + 1).len(), SPARES, "it is kept again");
    }
}
