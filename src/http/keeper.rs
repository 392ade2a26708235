//! The keeper: keeps the accept loop of the server library alive and its connections served, by
//! opening a connection to the own port now and then and seeing that it is answered.
//!
//! - The library hands several new connections to one idle thread, and all but one of them wait
//!   until some other connection ends. Each connection of ours that has ended leaves its thread
//!   to one of those. Whether there are any is seen by the number of threads: while each round
//!   adds a thread, a stranded connection has taken the one before.
//! - A connection that gets no answer shows that the accept loop is dead: a new one is built.
//!
//! What we send is no request, so the library answers and closes first, and our reset afterwards
//! leaves no socket in TIME_WAIT on either side.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::panic;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use log::{info, warn};

use super::front::Source;
use super::inbox::Inbox;

/// While requests arrive: each may be the first of a new connection.
const REST_BUSY: Duration = Duration::from_millis(20);
/// While nothing arrives. With [`PATIENCE`], a dead accept loop is noticed within two seconds.
const REST_IDLE: Duration = Duration::from_millis(400);
/// How long an accept loop may take to answer under a flood of connections.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// An accept loop so young has taken over what a flood has left, and may end of it again.
const NEW: Duration = Duration::from_secs(5);
const PATIENCE_NEW: Duration = Duration::from_millis(200);
/// How long a nudge is waited for before the next is sent, which may free it.
const STEP: Duration = Duration::from_millis(20);
/// The shortest wait for a socket.
const LOOK: Duration = Duration::from_millis(1);
/// Between two tries to build an accept loop while descriptors are short.
const REBUILD_PAUSE: Duration = Duration::from_millis(50);
/// What a new accept loop must find free.
const DESCRIPTORS_SPARE: usize = 16;
/// More rounds than any flood strands; a bound, not a plan.
const ROUNDS_MAX: usize = 4_096;

/// A connection of ours to the own port. It can be stranded like any other.
struct Nudge(TcpStream);

pub(super) struct Keeper {
    inbox: Arc<Inbox>,
    listener: TcpListener,
    /// A descriptor held for the nudge, which must find one also when clients hold all others.
    reserve: Option<TcpListener>,
    addr: SocketAddr,
    replaced_at: Option<Instant>,
}

impl Keeper {
    /// `listener` is the one that the inbox' source accepts on, or a clone of it.
    pub(super) fn new(inbox: Arc<Inbox>, listener: TcpListener) -> io::Result<Keeper> {
        let mut addr = listener.local_addr()?;
        match addr.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => addr.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => addr.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        let reserve = listener.try_clone().ok();
        Ok(Keeper { inbox, listener, reserve, addr, replaced_at: None })
    }

    /// Keeps until listening is over.
    pub(super) fn run(&mut self) {
        let mut seen = 0;
        while self.inbox.is_listening() {
            if self.inbox.source_died() || !self.release_stranded() {
                self.rebuild();
            }
            let arrivals = self.inbox.arrivals();
            match arrivals == seen {
                true => self.inbox.rest_until_stirred(REST_IDLE),
                false => thread::sleep(REST_BUSY),
            }
            seen = arrivals;
        }
    }

    /// Nudges until no stranded connection is left; false when the accept loop is dead.
    fn release_stranded(&mut self) -> bool {
        let mut unanswered: Vec<Nudge> = Vec::new();
        let mut answered_at = Instant::now();
        let mut steady = 0;
        for _ in 0..ROUNDS_MAX {
            let before = threads();
            let sent = self.nudge();
            // A backlog that stays full is silence, too.
            let refused = sent.as_ref().is_err_and(|error| error.kind() == ErrorKind::TimedOut);
            unanswered.extend(sent);
            let count = unanswered.len();
            if let Some(mut last) = unanswered.pop() {
                // The others have waited before: a look is enough.
                unanswered.retain_mut(|nudge| !nudge.is_answered(LOOK));
                if !last.is_answered(STEP) {
                    unanswered.push(last);
                }
            }
            if unanswered.len() < count {
                answered_at = Instant::now();
            } else if (count > 0 || refused) && answered_at.elapsed() > self.patience() {
                self.inbox.accept_loop_is_silent();
                return false;
            }
            // A thread that ends meanwhile hides one that was added: look twice.
            let calm = unanswered.is_empty() && !refused && threads() <= before;
            steady = if calm { steady + 1 } else { 0 };
            if steady == 2 {
                break;
            }
        }
        true
    }

    fn patience(&self) -> Duration {
        let new = self.replaced_at.is_some_and(|at| at.elapsed() < NEW);
        if new { PATIENCE_NEW } else { PATIENCE }
    }

    /// One more connection, where a descriptor can be found for it.
    fn nudge(&mut self) -> io::Result<Nudge> {
        let nudge = Nudge::send(self.addr).or_else(|error| match error.kind() {
            ErrorKind::TimedOut => Err(error),
            _ => {
                self.reserve = None;
                Nudge::send(self.addr)
            }
        });
        if self.reserve.is_none() {
            self.reserve = self.listener.try_clone().ok();
        }
        nudge
    }

    /// Builds a new accept loop on the same listener, once there are descriptors for it to use:
    /// without them it would end at its first connection.
    fn rebuild(&mut self) {
        let mut told = false;
        while self.inbox.is_listening() {
            let spare: io::Result<Vec<TcpListener>> =
                (0..DESCRIPTORS_SPARE).map(|_| self.listener.try_clone()).collect();
            // The library panics where the system has no thread left.
            let build = |mut spare: Vec<TcpListener>| {
                panic::catch_unwind(move || Source::build(spare.swap_remove(0)))
                    .unwrap_or_else(|_| Err(io::Error::other("no thread left")))
            };
            match spare.and_then(build) {
                Ok(source) => {
                    self.inbox.replace_source(source);
                    self.replaced_at = Some(Instant::now());
                    info!("event=accept_loop_replaced hint=\"connections are taken again\"");
                    return;
                }
                Err(error) if !told => {
                    let (reason, retry_ms) = (error.to_string(), REBUILD_PAUSE.as_millis());
                    warn!("event=accept_loop_not_replaced reason={reason:?} retry_ms={retry_ms}");
                    told = true;
                }
                Err(_) => {}
            }
            thread::sleep(REBUILD_PAUSE);
        }
    }
}

impl Nudge {
    fn send(addr: SocketAddr) -> io::Result<Nudge> {
        let mut stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.write_all(b"\r\n")?;
        Ok(Nudge(stream))
    }

    /// Whether the server has said anything by now, or says it within `limit`.
    fn is_answered(&mut self, limit: Duration) -> bool {
        let read = self.0.set_read_timeout(Some(limit)).and_then(|()| self.0.read(&mut [0; 256]));
        let waits = |error: &io::Error| error.kind() == ErrorKind::WouldBlock;
        let answered = !read.as_ref().is_err_and(waits);
        if answered {
            // A reset where this cannot be set leaves a socket in TIME_WAIT, and nothing worse.
            let _ = socket2::SockRef::from(&self.0).set_linger(Some(Duration::ZERO));
        }
        answered
    }
}

/// Threads of this process; unknown where the system does not show them as a folder's links.
#[cfg(target_os = "linux")]
fn threads() -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self/task").map_or(0, |folder| folder.nlink())
}

#[cfg(not(target_os = "linux"))]
fn threads() -> u64 {
    0
}
