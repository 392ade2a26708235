//! The guard thread. It keeps the server library's accept loop alive and its connections served: it
//! opens connections to our own port, called nudges, and checks that they are answered.
//!
//! - The library may queue several new connections for one idle thread. All but the first are then
//!   stranded until another connection ends. When a nudge ends, its thread takes a stranded
//!   connection. The next nudge then needs one more thread: so while the number of threads grows,
//!   connections are stranded.
//! - A nudge that gets no answer shows that the accept loop is dead; the guard builds a new one.
//! - Once a second the guard runs the sweep: see `sweep`.
//!
//! A nudge is not a valid request, so the library answers and closes first. Our reset afterwards
//! leaves no socket in TIME_WAIT on either side.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use log::{info, warn};

use super::accept::AcceptLoop;
use super::capacity::{Capacity, descriptors, threads};
use super::dispatch::Dispatch;
use super::self_check::from_here;
use super::sweep::Sweep;
use crate::shutdown::Phase;

/// Pause while requests arrive: each may be the first of a new connection.
const REST_BUSY: Duration = Duration::from_millis(20);
/// Pause while none arrives. With [`PATIENCE`], a dead accept loop is noticed within two seconds.
const REST_IDLE: Duration = Duration::from_millis(400);
/// How long an accept loop may take to answer a nudge while very many connections arrive.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// An accept loop younger than this may end again, for the reason that ended the last one.
const NEW: Duration = Duration::from_secs(5);
/// Replaces [`PATIENCE`] for such a new accept loop, and while few descriptors are left.
const PATIENCE_SUSPICIOUS: Duration = Duration::from_millis(200);
/// How long the guard waits before it sends the next nudge, which may free the last one.
const STEP: Duration = Duration::from_millis(20);
/// The shortest wait for an answer; a socket's time-out cannot be zero.
const LOOK: Duration = Duration::from_millis(1);
/// Pause between two tries to build an accept loop while descriptors are short.
const REBUILD_PAUSE: Duration = Duration::from_millis(50);
/// Limit for connecting to our own port, which takes no time unless the backlog is full.
const CONNECT: Duration = Duration::from_millis(50);
/// The most nudges in one look. With [`REST_UNSETTLED`] that is 800 a second: enough to leave none
/// of 9,000 connections stranded, at the cost of a tenth of a core.
const NUDGES_MAX: usize = 8;
/// Pause after a look that returned [`Look::Unsettled`].
const REST_UNSETTLED: Duration = Duration::from_millis(10);
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

/// A connection from the guard to our own port. It can be stranded like any other.
struct Nudge(TcpStream);

pub(super) struct AcceptGuard {
    dispatch: Arc<Dispatch>,
    listener: TcpListener,
    spare: Vec<TcpListener>,
    addr: SocketAddr,
    replaced_at: Option<Instant>,
    unanswered: Vec<Nudge>,
    answered_at: Instant,
    sweep: Sweep,
    capacity: Capacity,
}

/// What the guard found out about the accept loop.
enum Look {
    /// No connection is stranded.
    Settled,
    /// Some connections may be stranded.
    Unsettled,
    Dead,
}

impl AcceptGuard {
    /// `listener` is the socket that the current accept loop listens on, or a clone of it.
    pub(super) fn new(
        dispatch: Arc<Dispatch>,
        listener: TcpListener,
        capacity: Capacity,
    ) -> io::Result<AcceptGuard> {
        let addr = from_here(listener.local_addr()?);
        Ok(AcceptGuard {
            sweep: Sweep::new(Arc::clone(&dispatch)),
            dispatch,
            capacity,
            listener,
            spare: Vec::new(),
            addr,
            replaced_at: None,
            unanswered: Vec::new(),
            answered_at: Instant::now(),
        })
    }

    /// Guards until listening is over, then only sweeps until the server has ended.
    pub(super) fn run(&mut self) {
        let mut seen = 0;
        self.sweep.run();
        let mut swept = Instant::now();
        while self.dispatch.is_listening() {
            if swept.elapsed() >= SWEEP_PAUSE {
                self.sweep.run();
                swept = Instant::now();
            }
            self.sweep.end_leaving();
            let look = if self.dispatch.accept_loop_is_dead() { Look::Dead } else { self.look() };
            if matches!(look, Look::Dead) {
                self.rebuild();
            }
            let arrivals = self.dispatch.arrivals();
            match look {
                Look::Unsettled => thread::sleep(REST_UNSETTLED),
                _ if arrivals != seen => thread::sleep(REST_BUSY),
                _ => self.dispatch.rest_until_stirred(seen, REST_IDLE),
            }
            seen = arrivals;
        }
        while !self.dispatch.shutdown.wait_for_phase(Phase::Ended, REST_BUSY) {
            self.sweep.end_leaving();
            if swept.elapsed() >= SWEEP_PAUSE {
                self.sweep.run();
                swept = Instant::now();
            }
        }
    }

    /// Sends nudges until no connection is stranded, but at most [`NUDGES_MAX`].
    fn look(&mut self) -> Look {
        let mut steady = 0;
        for _ in 0..NUDGES_MAX {
            let before = threads();
            if self.dispatch.holds_back() {
                // No nudge can get through, but open connections may end and free stranded ones.
                self.unanswered.clear();
                self.answered_at = Instant::now();
                return Look::Unsettled;
            }
            let sent = self.nudge();
            // A backlog that stays full counts as an accept loop that does not answer.
            let refused = sent.as_ref().is_err_and(|error| error.kind() == ErrorKind::TimedOut);
            self.unanswered.extend(sent);
            if self.take_answers() {
                self.answered_at = Instant::now();
            } else if refused || !self.unanswered.is_empty() {
                if self.answered_at.elapsed() > self.patience() {
                    self.unanswered.clear();
                    self.dispatch.accept_loop_is_silent();
                    return Look::Dead;
                }
            } else {
                self.answered_at = Instant::now();
            }
            // A thread that ends meanwhile hides one that was added, so two calm nudges are needed.
            let calm = self.unanswered.is_empty() && !refused && threads() <= before;
            steady = if calm { steady + 1 } else { 0 };
            if steady == 2 {
                return Look::Settled;
            }
        }
        Look::Unsettled
    }

    /// Removes the nudges that were answered; true if there was any.
    fn take_answers(&mut self) -> bool {
        let count = self.unanswered.len();
        if let Some(mut last) = self.unanswered.pop() {
            // The others have waited before, so the shortest wait is enough.
            self.unanswered.retain_mut(|nudge| !nudge.is_answered(LOOK));
            if !last.is_answered(STEP) {
                self.unanswered.push(last);
            }
        }
        self.unanswered.len() < count
    }

    fn patience(&self) -> Duration {
        let new = self.replaced_at.is_some_and(|at| at.elapsed() < NEW);
        let full = descriptors() + 2 * self.capacity.spare >= self.capacity.descriptors;
        if new || full { PATIENCE_SUSPICIOUS } else { PATIENCE }
    }

    /// Sends one nudge, on a spare descriptor if no other is free.
    fn nudge(&mut self) -> io::Result<Nudge> {
        let nudge = Nudge::send(self.addr).or_else(|error| match error.kind() {
            ErrorKind::TimedOut => Err(error),
            _ => {
                self.spare.pop();
                Nudge::send(self.addr)
            }
        });
        while self.spare.len() < self.capacity.spare {
            let Ok(spare) = self.listener.try_clone() else { break };
            self.spare.push(spare);
        }
        nudge
    }

    /// Builds a new accept loop on the same listener as soon as there are enough descriptors:
    /// without them it would end at its first connection. Until then the rest of the process may
    /// use the spare ones.
    fn rebuild(&mut self) {
        let mut told = false;
        while self.dispatch.is_listening() {
            self.spare.clear();
            match self.build() {
                Ok(source) => {
                    self.dispatch.replace_accept_loop(source, self.sweep.clients());
                    self.replaced_at = Some(Instant::now());
                    self.answered_at = Instant::now();
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
            self.sweep.run();
            self.sweep.end_leaving();
            thread::sleep(REBUILD_PAUSE);
        }
    }

    fn build(&mut self) -> io::Result<AcceptLoop> {
        let taken: io::Result<Vec<TcpListener>> =
            (0..2 * self.capacity.spare.max(1)).map(|_| self.listener.try_clone()).collect();
        let mut taken = taken?;
        self.spare = taken.split_off(self.capacity.spare.max(1));
        let listener = taken.swap_remove(0);
        drop(taken);
        // The library panics if the system has no thread left.
        panic::catch_unwind(move || AcceptLoop::build(listener))
            .unwrap_or_else(|_| Err(io::Error::other("no thread left")))
    }
}

impl Nudge {
    fn send(addr: SocketAddr) -> io::Result<Nudge> {
        let mut stream = TcpStream::connect_timeout(&addr, CONNECT)?;
        stream.write_all(b"\r\n")?;
        Ok(Nudge(stream))
    }

    /// Whether the server has answered or closed the nudge, or does so within `limit`.
    fn is_answered(&mut self, limit: Duration) -> bool {
        let read = self.0.set_read_timeout(Some(limit)).and_then(|()| self.0.read(&mut [0; 256]));
        let waits = |error: &io::Error| error.kind() == ErrorKind::WouldBlock;
        let answered = !read.as_ref().is_err_and(waits);
        if answered {
            // A linger of zero resets the connection. If this fails, one socket stays in TIME_WAIT.
            let _ = socket2::SockRef::from(&self.0).set_linger(Some(Duration::ZERO));
        }
        answered
    }
}
