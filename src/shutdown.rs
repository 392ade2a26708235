//! How the process ends: in order, by one signal that every thread sees; or at once, because a
//! thread has panicked that the process needs.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use log::error;
use parking_lot::{Condvar, Mutex};

/// The exit code after a panic of a thread that the process needs.
const THREAD_DIED: i32 = 1;
const LAST_WORDS: Duration = Duration::from_millis(50);
const STACK_BYTES: usize = 128 * 1024;

/// How far the shutdown has come. The phases follow each other, and none comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No shutdown has begun.
    Going,
    /// The signal came: no job is claimed, runs are cancelled, each answer closes its connection.
    Draining,
    /// No new connection is accepted; requests that have arrived are still answered.
    Closed,
    /// All requests are answered, or the grace time is over: every thread returns.
    Ended,
}

/// The signal to end; clones share it. Each run of a job has a signal of its own, which tells it
/// that it was cancelled.
#[derive(Clone, Default)]
pub struct Signal(Arc<Shared>);

#[derive(Default)]
struct Shared {
    failed: AtomicBool,
    /// A [`Phase`], of which the first is 0. It is read without the lock, because each request
    /// reads it.
    phase: AtomicU8,
    /// Held while the phase changes, so that nobody who is about to wait misses it.
    turn: Mutex<()>,
    changed: Condvar,
}

impl Signal {
    /// A signal that was not given yet: its phase is [`Phase::Going`].
    pub fn new() -> Signal {
        Signal::default()
    }

    /// Begins the shutdown; does nothing if it has begun.
    pub fn begin(&self) {
        self.advance(Phase::Draining);
    }

    /// Begins the shutdown because the process cannot go on.
    pub fn fail(&self) {
        self.0.failed.store(true, Ordering::Relaxed);
        self.begin();
    }

    /// Whether [`Signal::fail`] was called.
    pub fn has_failed(&self) -> bool {
        self.0.failed.load(Ordering::Relaxed)
    }

    /// Goes on to `phase` and wakes all threads that wait; does nothing if a later one was reached.
    pub fn advance(&self, phase: Phase) {
        let _turn = self.0.turn.lock();
        self.0.phase.fetch_max(phase as u8, Ordering::SeqCst);
        self.0.changed.notify_all();
    }

    /// Whether the phase is [`Phase::Draining`] or a later one.
    pub fn has_begun(&self) -> bool {
        self.has_reached(Phase::Draining)
    }

    /// Whether the phase is `phase` or a later one; takes no lock.
    pub fn has_reached(&self, phase: Phase) -> bool {
        self.0.phase.load(Ordering::SeqCst) >= phase as u8
    }

    /// Waits until the shutdown begins, without a limit.
    pub fn wait(&self) {
        self.0.changed.wait_while(&mut self.0.turn.lock(), |()| !self.has_begun());
    }

    /// Waits until the shutdown begins, but no longer than `limit`; true if it has begun.
    pub fn wait_for(&self, limit: Duration) -> bool {
        self.wait_for_phase(Phase::Draining, limit)
    }

    /// Waits until `phase` is reached, but no longer than `limit`; true if it was reached.
    pub fn wait_for_phase(&self, phase: Phase, limit: Duration) -> bool {
        let mut turn = self.0.turn.lock();
        self.0.changed.wait_while_for(&mut turn, |()| !self.has_reached(phase), limit);
        self.has_reached(phase)
    }
}

/// Starts a thread that the process needs. If it panics, the process logs that and exits with code
/// 1, so that its supervisor starts another process.
///
/// # Errors
/// If the system has no thread left.
pub fn spawn_vital(
    name: &str,
    stack_bytes: usize,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let thread = name.to_owned();
    let or_end = move || {
        if panic::catch_unwind(AssertUnwindSafe(run)).is_err() {
            say(move || {
                error!(
                    "event=process_ends thread={thread} exit_code={THREAD_DIED} reason=\"the \
                     thread has panicked, and this replica cannot do without it\""
                );
            });
            process::exit(THREAD_DIED);
        }
    };
    thread::Builder::new().name(name.to_owned()).stack_size(stack_bytes).spawn(or_end)
}

/// Runs `words`, which write to the log, in a thread of their own, and waits for it at most 50 ms:
/// writing blocks if the reader of the log has stopped. If no thread is left, they run here.
pub fn say(words: impl Fn() + Send + Sync + 'static) {
    let words = Arc::new(words);
    let (said, is_said) = mpsc::channel::<()>();
    let other = Arc::clone(&words);
    let aside = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
        other();
        drop(said);
    });
    match aside {
        Ok(_) => drop(is_said.recv_timeout(LAST_WORDS)),
        Err(_) => words(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_when_its_phase_is_reached_and_not_before() {
        let signal = Signal::new();
        assert!(!signal.wait_for(Duration::from_millis(1)));
        let waiter = thread::spawn({
            let signal = signal.clone();
            move || signal.wait_for_phase(Phase::Closed, Duration::from_secs(60))
        });
        signal.begin();
        assert!(signal.wait_for(Duration::ZERO) && !signal.has_reached(Phase::Closed));
        signal.advance(Phase::Ended);
        assert!(waiter.join().unwrap());
    }

    #[test]
    fn no_phase_comes_back() {
        let signal = Signal::new();
        signal.advance(Phase::Ended);
        signal.begin();
        assert!(signal.has_reached(Phase::Ended));
    }
}
