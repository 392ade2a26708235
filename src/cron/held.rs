//! The runs that this process holds. Of other replicas' runs it knows nothing.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::lease::End;
use super::running::{Reason, Running};
use crate::shutdown::Signal;

pub(super) struct Held {
    shutdown: Signal,
    all: Mutex<All>,
    changed: Condvar,
}

#[derive(Default)]
struct All {
    runs: Vec<Arc<Running>>,
    /// The ends of runs whose functions have returned, until `take_ended` takes them.
    ended: Vec<(Arc<Running>, End)>,
    /// True when this replica has drained: it holds no run, and none can be added any more.
    drained: bool,
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
            run.cancel(Reason::ShutDown);
        }
        all.runs.push(run);
        self.changed.notify_all();
    }

    /// Notes that a function has returned. Its run stays held until its end is written.
    pub(super) fn ended(&self, run: &Arc<Running>, end: End) {
        run.returned();
        self.all.lock().ended.push((Arc::clone(run), end));
        self.changed.notify_all();
    }

    /// Returns the ends of runs whose functions have returned since the last call.
    pub(super) fn take_ended(&self) -> Vec<(Arc<Running>, End)> {
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

    /// Whether the drain has begun. Then nothing may be claimed.
    pub(super) fn is_draining(&self) -> bool {
        self.shutdown.has_begun()
    }

    /// Waits until a function returns or this replica begins to drain, but not longer than `until`.
    /// False when it has drained. Only the thread that claims may call it, since no run may be
    /// added from then on.
    pub(super) fn wait_for_an_end(&self, until: Instant) -> bool {
        let drains = self.is_draining();
        let mut all = self.all.lock();
        if !(drains && all.runs.is_empty()) {
            let is_calm = |all: &mut All| all.ended.is_empty() && self.is_draining() == drains;
            self.changed.wait_while_until(&mut all, is_calm, until);
        }
        all.drained = self.is_draining() && all.runs.is_empty();
        self.changed.notify_all();
        !all.drained
    }

    /// Waits until there is a run. False when this replica has drained.
    pub(super) fn wait_for_a_run(&self) -> bool {
        let mut all = self.all.lock();
        self.changed.wait_while(&mut all, |all| all.runs.is_empty() && !all.drained);
        !all.drained
    }

    /// Begins to drain: no further claim may begin, and every run is cancelled.
    pub(super) fn drain(&self) {
        self.shutdown.begin();
        let all = self.all.lock();
        for run in &all.runs {
            run.cancel(Reason::ShutDown);
        }
        self.changed.notify_all();
    }

    /// Waits until this replica has drained. Returns how many runs are left at `until`; a claim
    /// that is still under way counts as one.
    pub(super) fn wait_until_drained(&self, until: Instant) -> usize {
        let mut all = self.all.lock();
        self.changed.wait_while_until(&mut all, |all| !all.drained, until);
        if all.drained { 0 } else { all.runs.len().max(1) }
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
        assert!(held.wait_for_an_end(Instant::now()));
        held.drain();
        assert!(held.is_draining());
        assert_eq!(held.wait_until_drained(Instant::now()), 1, "none yet, but one may come");
        let late = run(Instant::now());
        held.add(Arc::clone(&late));
        assert_eq!(late.cancelled(), Some(Reason::ShutDown));
        assert!(held.wait_for_an_end(Instant::now()));
        assert_eq!(held.wait_until_drained(Instant::now()), 1);
        held.remove(&late);
        let soon = Instant::now() + Duration::from_secs(60);
        assert!(!held.wait_for_an_end(soon), "there is nothing to wait for");
        assert_eq!(held.wait_until_drained(soon), 0);
        assert!(!held.wait_for_a_run());
    }
}
