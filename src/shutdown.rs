//! How the process ends: in order, by one signal that every thread sees, or at once, because a
//! thread has panicked that it cannot do without.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use log::error;
use parking_lot::{Condvar, Mutex};

/// The exit code of a process that has lost a thread it cannot do without.
const THREAD_DIED: i32 = 1;
const LAST_WORDS: Duration = Duration::from_millis(50);
const STACK_BYTES: usize = 128 * 1024;

/// How far the end has come. Each phase follows the one before it, and none comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Everything goes on.
    #[default]
    Going,
    /// The signal came: no job is claimed, runs are cancelled, answers end their connections.
    Draining,
    /// No connection is accepted any more; what has arrived is still answered.
    Closed,
    /// All is answered, or the grace is over: every thread returns.
    Ended,
}

/// The one signal to end. Clones share it. A run of a job has one of its own, which tells it that
/// it was cancelled.
#[derive(Clone, Default)]
pub struct Signal(Arc<Shared>);

#[derive(Default)]
struct Shared {
    failed: AtomicBool,
    phase: Mutex<Phase>,
    /// The same, for whoever only looks: each request does.
    seen: AtomicU8,
    changed: Condvar,
}

impl Signal {
    /// A signal that was not given yet.
    pub fn new() -> Signal {
        Signal::default()
    }

    /// Begins the end, unless it has begun.
    pub fn begin(&self) {
        self.advance(Phase::Draining);
    }

    /// Begins the end because the process cannot go on.
    pub fn fail(&self) {
        self.0.failed.store(true, Ordering::Relaxed);
        self.begin();
    }

    /// Whether the end began because the process cannot go on.
    pub fn has_failed(&self) -> bool {
        self.0.failed.load(Ordering::Relaxed)
    }

    /// Goes on to this phase, unless it is past it, and wakes everybody who waits.
    pub fn advance(&self, phase: Phase) {
        let mut now = self.0.phase.lock();
        *now = phase.max(*now);
        self.0.seen.store(*now as u8, Ordering::SeqCst);
        self.0.changed.notify_all();
    }

    /// Whether the end has begun.
    pub fn has_begun(&self) -> bool {
        self.has_reached(Phase::Draining)
    }

    /// Whether the end has come so far.
    pub fn has_reached(&self, phase: Phase) -> bool {
        self.0.seen.load(Ordering::SeqCst) >= phase as u8
    }

    /// Waits until the end begins.
    pub fn wait(&self) {
        let mut now = self.0.phase.lock();
        while *now < Phase::Draining {
            self.0.changed.wait(&mut now);
        }
    }

    /// Waits until the end begins, but no longer than `limit`; true when it has begun.
    pub fn wait_for(&self, limit: Duration) -> bool {
        self.wait_for_phase(Phase::Draining, limit)
    }

    /// Waits until the end has come so far, but no longer than `limit`; true when it has.
    pub fn wait_for_phase(&self, phase: Phase, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut now = self.0.phase.lock();
        while *now < phase {
            if self.0.changed.wait_until(&mut now, until).timed_out() {
                break;
            }
        }
        *now >= phase
    }
}

/// Starts a thread that the process cannot do without: should it panic, the process ends with a
/// last word in the log, and whoever supervises it starts another.
///
/// # Errors
/// When the system has no thread left.
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

/// Has something said in the log by a thread of its own, and waits for that no longer than 50 ms:
/// whoever reads the log may have stopped reading. Without a thread left it is said here.
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
