//! The runs that this process holds: what a replica knows of itself, and all it knows.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::ends::Ending;
use super::lease::End;
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
    /// Those of them whose functions have returned since somebody looked.
    ended: Vec<Ending>,
    /// The scheduler may be about to add one.
    claiming: bool,
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

    /// The function of a run has returned. The run stays held until its end is written.
    pub(super) fn ended(&self, run: &Arc<Running>, end: End) {
        run.returned();
        self.all.lock().ended.push(Ending::new(run, end));
        self.changed.notify_all();
    }

    /// Those that have ended since this was asked.
    pub(super) fn take_ended(&self) -> Vec<Ending> {
        std::mem::take(&mut self.all.lock().ended)
    }

    /// Whether any has ended since then.
    pub(super) fn has_ended(&self) -> bool {
        !self.all.lock().ended.is_empty()
    }

    pub(super) fn remove(&self, run: &Running) {
        self.all.lock().runs.retain(|held| held.claimed.holder != run.claimed.holder);
        self.changed.notify_all();
    }

    /// Asks for leave to claim; refused while draining.
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

    /// Waits until a function returns, or this replica begins to drain; not beyond `until`.
    pub(super) fn wait_for_an_end(&self, until: Instant) {
        let drains = self.shutdown.has_begun();
        let mut all = self.all.lock();
        while all.ended.is_empty() && self.shutdown.has_begun() == drains {
            if self.changed.wait_until(&mut all, until).timed_out() {
                break;
            }
        }
    }

    /// Waits until there is a run to look after; false when there will be none any more.
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
    use std::time::Duration;

    use super::super::lease::Claimed;
    use super::super::running::TrustWindow;
    use super::*;

    fn run(attempted: Instant) -> Arc<Running> {
        let trust = TrustWindow::of_lease(Duration::from_secs(10));
        Arc::new(Running::new(Claimed::default(), attempted, trust))
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
