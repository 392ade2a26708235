//! The runs that this process holds. Of other replicas' runs it knows nothing.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::ends::Ending;
use super::lease::{End, Leases};
use super::running::{Reason, Running};
use crate::metrics::Metrics;
use crate::shutdown::Signal;

/// What the parts of one replica share.
pub(super) struct Replica {
    pub(super) leases: Leases,
    pub(super) held: Held,
    pub(super) metrics: Arc<Metrics>,
}

pub(super) struct Held {
    shutdown: Signal,
    all: Mutex<All>,
    changed: Condvar,
}

#[derive(Default)]
struct All {
    runs: Vec<Arc<Running>>,
    /// The ends of runs whose functions have returned, until `take_ended` takes them.
    ended: Vec<Ending>,
    /// True while the scheduler claims, and so may be about to add a run.
    claiming: bool,
}

impl Held {
    /// Holds no run yet. `shutdown` is the signal that ends this process.
    pub(super) fn new(shutdown: Signal) -> Held {
        Held { shutdown, all: Mutex::default(), changed: Condvar::new() }
    }

    pub(super) fn count(&self) -> usize {
        self.all.lock().runs.len()
    }

    pub(super) fn list(&self) -> Vec<Arc<Running>> {
        self.all.lock().runs.clone()
    }

    /// Adds a run, and cancels it at once if this replica is already draining.
    pub(super) fn add(&self, run: Arc<Running>) {
        let mut all = self.all.lock();
        if self.shutdown.has_begun() {
            run.cancel(Reason::Drained);
        }
        all.runs.push(run);
        self.changed.notify_all();
    }

    /// Notes that a function has returned. Its run stays held until its end is written.
    pub(super) fn ended(&self, run: &Arc<Running>, end: End) {
        run.returned();
        self.all.lock().ended.push(Ending::new(run, end));
        self.changed.notify_all();
    }

    /// Returns the ends of runs whose functions have returned since the last call.
    pub(super) fn take_ended(&self) -> Vec<Ending> {
        std::mem::take(&mut self.all.lock().ended)
    }

    /// Whether a function has returned since the last call of `take_ended`.
    pub(super) fn has_ended(&self) -> bool {
        !self.all.lock().ended.is_empty()
    }

    pub(super) fn remove(&self, run: &Running) {
        self.all.lock().runs.retain(|held| held.claimed.holder != run.claimed.holder);
        self.changed.notify_all();
    }

    /// Has to be asked before a claim. False while draining: then nothing may be claimed.
    pub(super) fn begin_claiming(&self) -> bool {
        let mut all = self.all.lock();
        all.claiming = !self.shutdown.has_begun();
        all.claiming
    }

    pub(super) fn end_claiming(&self) {
        self.all.lock().claiming = false;
        self.changed.notify_all();
    }

    pub(super) fn is_draining(&self) -> bool {
        self.shutdown.has_begun()
    }

    /// Waits until a function returns or this replica begins to drain, but not longer than `until`.
    pub(super) fn wait_for_an_end(&self, until: Instant) {
        let drains = self.shutdown.has_begun();
        let mut all = self.all.lock();
        while all.ended.is_empty() && self.shutdown.has_begun() == drains {
            if self.changed.wait_until(&mut all, until).timed_out() {
                break;
            }
        }
    }

    /// Waits until there is a run. False when this replica drains and no run can be added.
    pub(super) fn wait_for_a_run(&self) -> bool {
        let mut all = self.all.lock();
        while all.runs.is_empty() {
            if self.shutdown.has_begun() && !all.claiming {
                return false;
            }
            self.changed.wait(&mut all);
        }
        true
    }

    /// Begins to drain: no further claim may begin, and every run is cancelled.
    pub(super) fn drain(&self) {
        self.shutdown.begin();
        let all = self.all.lock();
        for run in &all.runs {
            run.cancel(Reason::Drained);
        }
        self.changed.notify_all();
    }

    /// Waits until no run is held and none can be added. Returns how many runs are left at `until`;
    /// a claim that is still under way counts as one.
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
    use std::time::Duration;

    use super::super::lease::Claimed;
    use super::*;

    fn run(attempted: Instant) -> Arc<Running> {
        Arc::new(Running::new(Claimed::default(), attempted, Duration::from_secs(10)))
    }

    #[test]
    fn a_run_that_comes_while_draining_is_cancelled_and_waited_for() {
        let held = Held::new(Signal::new());
        assert!(held.begin_claiming());
        held.drain();
        assert!(held.is_draining());
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
}
