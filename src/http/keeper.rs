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

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use log::{info, warn};

use super::front::Source;
use super::inbox::Inbox;

/// While requests arrive: each may be the first of a new connection.
const REST_BUSY: Duration = Duration::from_millis(20);
/// While nothing arrives. With [`PATIENCE`], a dead accept loop is noticed within two seconds.
const REST_IDLE: Duration = Duration::from_millis(400);
/// How long an accept loop may take to answer under a flood of connections.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// Between two tries to build an accept loop while descriptors are short.
const REBUILD_PAUSE: Duration = Duration::from_millis(50);
/// What a new accept loop must find free.
const DESCRIPTORS_SPARE: usize = 16;
/// More rounds than any flood strands; a bound, not a plan.
const ROUNDS_MAX: usize = 4_096;

/// What a connection to the own port showed.
enum Nudge {
    Answered,
    Silent,
    /// No descriptor or port was left for it: nothing is known.
    NotSent,
}

pub(super) struct Keeper {
    inbox: Arc<Inbox>,
    listener: TcpListener,
    /// A descriptor held for the nudge, which must find one also when clients hold all others.
    reserve: Option<TcpListener>,
    addr: SocketAddr,
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
        Ok(Keeper { inbox, listener, reserve, addr })
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
        let mut steady = 0;
        for _ in 0..ROUNDS_MAX {
            let before = threads();
            match self.nudge() {
                Ok(Nudge::Answered) if threads() > before => steady = 0,
                Ok(Nudge::Answered) => steady += 1,
                Ok(Nudge::NotSent) | Err(_) => return true,
                Ok(Nudge::Silent) => {
                    self.inbox.accept_loop_is_silent();
                    return false;
                }
            }
            // A thread that ends meanwhile hides one that was added: look twice.
            if steady == 2 {
                break;
            }
        }
        true
    }

    fn nudge(&mut self) -> io::Result<Nudge> {
        let connect = || TcpStream::connect_timeout(&self.addr, PATIENCE);
        let Ok(mut stream) = connect().or_else(|_| {
            self.reserve = None;
            connect()
        }) else {
            return Ok(Nudge::NotSent);
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"\r\n")?;
        let answered = stream.read_to_end(&mut Vec::new());
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        drop(stream);
        if self.reserve.is_none() {
            self.reserve = self.listener.try_clone().ok();
        }
        match answered {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Nudge::Silent),
            _ => Ok(Nudge::Answered),
        }
    }

    /// Builds a new accept loop on the same listener, once there are descriptors for it to use:
    /// without them it would end at its first connection.
    fn rebuild(&self) {
        let mut told = false;
        while self.inbox.is_listening() {
            let spare: io::Result<Vec<TcpListener>> =
                (0..DESCRIPTORS_SPARE).map(|_| self.listener.try_clone()).collect();
            match spare.and_then(|mut spare| Source::build(spare.swap_remove(0))) {
                Ok(source) => {
                    self.inbox.replace_source(source);
                    info!("event=accept_loop_replaced");
                    return;
                }
                Err(error) if !told => {
                    let reason = error.to_string();
                    warn!("event=accept_loop_not_replaced reason={reason:?} retry_ms=50");
                    told = true;
                }
                Err(_) => {}
            }
            thread::sleep(REBUILD_PAUSE);
        }
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
