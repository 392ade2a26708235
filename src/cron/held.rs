//! The runs that this process holds: what a replica knows of itself, and all it knows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::running::{Reason, Running};
use crate::shutdown::Signal;

/// All runs of this process.
pub(super) struct Held {
    shutdown: Signal,
    all: Mutex<All>,
    changed: Condvar,
}

#[derive(Default)]
struct All {
    runs: Vec<Arc<Running>>,
    /// How many runs have ended: the scheduler is woken by each.
    ended: u64,
    /// The scheduler may be about to add one.
    claiming: bool,
    /// A lease has expired in spite of the heartbeat, which was not answered since: what would be
    /// claimed now would be lost as well.
    deaf: bool,
}

impl Held {
    /// None yet, in a process that ends by this signal.
    pub(super) fn new(shutdown: Signal) -> Held {
        Held { shutdown, all: Mutex::default(), changed: Condvar::new() }
    }

    pub(super) fn count(&self) -> usize {
        self.all.lock().runs.len()
    }

    pub(super) fn list(&self) -> Vec<Arc<Running>> {
        self.all.lock().runs.clone()
    }

    /// Adds a run; one that comes too late is cancelled at once.
    pub(super) fn add(&self, run: Arc<Running>) {
        let mut all = self.all.lock();
        if self.shutdown.has_begun() {
            run.cancel(Reason::Drained);
        }
        all.runs.push(run);
        self.changed.notify_all();
    }

    pub(super) fn remove(&self, run: &Running) {
        let mut all = self.all.lock();
        all.deaf |= run.reason() == Some(Reason::Expired);
        all.runs.retain(|held| held.claimed.run_id != run.claimed.run_id);
        all.ended += 1;
        self.changed.notify_all();
    }

    /// Asks for leave to claim; refused while draining.
    pub(super) fn begin_claiming(&self) -> bool {
        let mut all = self.all.lock();
        all.claiming = !self.shutdown.has_begun();
        all.claiming
    }

    /// Whether one more job may be claimed just now.
    pub(super) fn may_claim(&self) -> bool {
        !self.is_deaf() && !self.shutdown.has_begun()
    }

    /// Whether a lease has expired in spite of the heartbeat, which was not answered since.
    pub(super) fn is_deaf(&self) -> bool {
        let all = self.all.lock();
        let expired = |run: &Arc<Running>| run.cancelled() == Some(Reason::Expired);
        all.deaf || all.runs.iter().any(expired)
    }

    /// The heartbeat was answered.
    pub(super) fn heard(&self) {
        self.all.lock().deaf = false;
    }

    pub(super) fn end_claiming(&self) {
        self.all.lock().claiming = false;
        self.changed.notify_all();
    }

    /// Waits until a run ends after the `seen`-th, or this replica drains; at most `limit`. The
    /// count to wait for the next time.
    pub(super) fn wait_for_an_end(&self, seen: u64, limit: Duration) -> u64 {
        let until = Instant::now() + limit;
        let mut all = self.all.lock();
        while all.ended == seen && !self.shutdown.has_begun() {
            if self.changed.wait_until(&mut all, until).timed_out() {
                break;
            }
        }
        all.ended
    }

    /// Waits until there is a run to look after, or a heartbeat to try; false when there will be
    /// none any more.
    pub(super) fn wait_for_a_run(&self) -> bool {
        let mut all = self.all.lock();
        while all.runs.is_empty() {
            if self.shutdown.has_begun() && !all.claiming {
                return false;
            }
            if all.deaf {
                return true;
            }
            self.changed.wait(&mut all);
        }
        true
    }

    /// The end has begun: no run is added from now on, and each is told to return.
    pub(super) fn drain(&self) {
        self.shutdown.begin();
        let all = self.all.lock();
        for run in &all.runs {
            run.cancel(Reason::Drained);
        }
        self.changed.notify_all();
    }

    /// Waits until every run has ended and none can come; how many are left at `until`, a claim
    /// under way included.
    pub(super) fn wait_until_empty(&self, until: Instant) -> usize {
        let mut all = self.all.lock();
        while all.claiming || !all.runs.is_empty() {
            if self.changed.wait_until(&mut all, until).timed_out() {
                break;
            }
        }
        all.runs.len() + usize::from(all.claiming)
    }
}

#[cfg(test)]
mod tests {
    use super::super::lease::Claimed;
    use super::super::running::Trust;
    use super::*;

    fn run(attempted: Instant) -> Arc<Running> {
        let trust = Trust::of_lease(Duration::from_secs(10));
        Arc::new(Running::new(Claimed::default(), attempted, trust))
    }

    #[test]
    fn a_run_that_comes_while_draining_is_cancelled_and_waited_for() {
        let held = Held::new(Signal::new());
        assert!(held.begin_claiming());
        held.drain();
        assert!(!held.may_claim());
        assert_eq!(held.wait_until_empty(Instant::now()), 1, "none yet, but one may come");
        let late = run(Instant::now());
        held.add(Arc::clone(&late));
        held.end_claiming();
        assert_eq!(late.cancelled(), Some(Reason::Drained));
        assert_eq!(held.wait_until_empty(Instant::now()), 1);
        held.remove(&late);
        assert!(!held.begin_claiming());
        assert!(!held.wait_for_a_run());
    }

    #[test]
    fn nothing_is_claimed_from_an_expired_lease_to_the_next_answer() {
        let held = Held::new(Signal::new());
        assert!(held.may_claim());
        let expired = run(Instant::now().checked_sub(Duration::from_secs(9)).unwrap());
        held.add(Arc::clone(&expired));
        assert!(!held.may_claim());
        held.remove(&expired);
        assert!(!held.may_claim());
        assert!(held.wait_for_a_run(), "the heartbeat tries on, without a run");
        held.heard();
        assert!(held.may_claim());
    }
}
