//! Descriptors of our own of the library's sockets, so that their numbers are nobody else's for as
//! long as they are used.

use std::collections::HashSet;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, Shutdown, recv, recvmsg, send, sendmsg,
};
use nix::unistd::close;
use nix::{Error, cmsg_space};
use parking_lot::Mutex;

use super::socket::shut;

const NOTHING: &str = "/dev/null";
/// Descriptors kept for when clients hold all others.
const SPARES: usize = 8;
const BUFFER_BYTES: usize = 16 * 1024;

/// What is pinned, and what it takes to pin more.
#[derive(Default)]
pub(super) struct Pins(Mutex<Stock>);

#[derive(Default)]
struct Stock {
    pinned: HashSet<RawFd>,
    spares: Vec<File>,
    /// Of the spares, those that somebody uses for a moment.
    lent: usize,
    /// To send descriptors to ourselves.
    mirror: Option<(UnixDatagram, UnixDatagram)>,
}

/// A descriptor of our own of one connection's socket: its number is nobody else's until it is
/// dropped.
pub(in super::super) struct Pinned {
    pub(super) descriptor: RawFd,
    pins: Arc<Pins>,
}

/// One spare descriptor that the system may give away, until this is dropped.
pub(super) struct Lent<'a>(&'a Pins);

impl Pins {
    /// What the system does not give now is asked for again after each use.
    pub(super) fn new() -> Arc<Pins> {
        let pins = Pins::default();
        pins.0.lock().replenish();
        Arc::new(pins)
    }

    /// Another descriptor of the same; none when it was closed, or where the system has none left.
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

    /// What `look` finds at this number, unless it is pinned; it does not become so meanwhile.
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

    /// Sends it to ourselves, since only what is owned can be duplicated otherwise, and the
    /// library owns these.
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
            // The next one would receive what is left in it.
            self.mirror = None;
            return Err(Error::EMFILE);
        };
        // Where no descriptor is free, the message comes without it.
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
    /// Writes past the library, which would first read a body that nobody wants. Only where every
    /// earlier answer of the connection has been written. Waits for a client that takes nothing, if
    /// `patient`.
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

    /// Takes what the client still sends, at most so many bytes, until it ends the connection or
    /// somebody calls [`super::Socket::end`].
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
    /// Its number may be the library's at once, and is then to be looked at.
    fn drop(&mut self) {
        let mut state = self.pins.0.lock();
        state.pinned.remove(&self.descriptor);
        // Nothing could be done where it fails.
        let _ = close(self.descriptor);
        state.replenish();
    }
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
