//! Descriptors of our own of the library's sockets, so that their numbers are nobody else's for as
//! long as they are used.

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
/// Descriptors kept for when clients hold all others.
const SPARES: usize = 8;
const BUFFER_BYTES: usize = 16 * 1024;

/// What is pinned, and what it takes to pin more.
#[derive(Default)]
pub(super) struct Pins(Mutex<State>);

#[derive(Default)]
struct State {
    pinned: HashSet<RawFd>,
    spares: Vec<File>,
    /// To send descriptors to ourselves.
    mirror: Option<(UnixDatagram, UnixDatagram)>,
}

/// A descriptor of our own of one connection's socket: its number is nobody else's until it is
/// dropped.
pub(in super::super) struct Pinned {
    pub(super) descriptor: RawFd,
    pins: Arc<Pins>,
}

impl Pins {
    /// Where the system gives no descriptor now, each use tries again.
    pub(super) fn new() -> Arc<Pins> {
        let pins = Pins::default();
        pins.0.lock().replenish();
        Arc::new(pins)
    }

    /// Another descriptor of the same; none when it was closed, or where the system has none left.
    pub(super) fn pin(self: &Arc<Pins>, descriptor: RawFd) -> Option<Pinned> {
        let state = &mut *self.0.lock();
        let mut own = state.duplicate(descriptor);
        if own.is_none() && state.spares.pop().is_some() {
            own = state.duplicate(descriptor);
        }
        state.pinned.extend(own);
        own.map(|descriptor| Pinned { descriptor, pins: Arc::clone(self) })
    }

    /// Gives back a spare descriptor to the system, for a use that ends with
    /// [`Pins::replenish`].
    pub(super) fn lend(&self) {
        self.0.lock().spares.pop();
    }

    pub(super) fn replenish(&self) {
        self.0.lock().replenish();
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

impl State {
    fn replenish(&mut self) {
        if self.mirror.is_none() {
            self.mirror = UnixDatagram::pair().ok();
        }
        let missing = SPARES - self.spares.len();
        self.spares.extend((0..missing).map_while(|_| File::open(NOTHING).ok()));
    }

    /// Sends it to ourselves, since only what is owned can be duplicated otherwise, and the
    /// library owns these.
    fn duplicate(&self, descriptor: RawFd) -> Option<RawFd> {
        let (from, to) = self.mirror.as_ref()?;
        let (mut byte, mut space) = ([0], cmsg_space!(RawFd));
        let own = [ControlMessage::ScmRights(&[descriptor])];
        let wait = MsgFlags::MSG_DONTWAIT;
        sendmsg::<()>(from.as_raw_fd(), &[IoSlice::new(&byte)], &own, wait, None).ok()?;
        let mut bytes = [IoSliceMut::new(&mut byte)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | wait;
        let message = recvmsg::<()>(to.as_raw_fd(), &mut bytes, Some(&mut space), flags);
        message.ok()?.cmsgs().ok()?.find_map(|own| match own {
            ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
            _ => None,
        })
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
    /// somebody calls [`super::Socket::end`]; true when it has ended.
    pub(in super::super) fn discard(&self, most_bytes: usize) -> bool {
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

    pub(super) fn shut(&self, how: Shutdown) {
        // Fails only when the connection has just ended by itself.
        let _ = shutdown(self.descriptor, how);
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
        pins.lend();
        let _lent = File::open(NOTHING).expect("the one that was lent");
        pins.replenish();
        assert_eq!(pin(SPARES + 1).len(), SPARES - 1);
    }
}
