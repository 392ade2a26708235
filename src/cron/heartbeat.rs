//! The heartbeat: renews the leases of all runs of this process with one statement, on a connection
//! of its own, so that it never waits for a job's own work.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use log::{info, warn};

use super::lease::Own;
use super::runner::Runner;
use super::running::Reason;
use crate::db::{Dedicated, Error};

pub(super) struct Heartbeat {
    pub(super) runner: Arc<Runner>,
    pub(super) connection: Dedicated,
    /// Whether the last try failed, which is logged once.
    pub(super) failing: bool,
}

impl Heartbeat {
    /// Beats as long as there are runs, or can be.
    pub(super) fn run(mut self) {
        while self.runner.held.wait_for_a_run() {
            let pause = self.beat();
            thread::sleep(pause);
        }
    }

    /// Renews once; the pause until the next time.
    fn beat(&mut self) -> Duration {
        let term = self.runner.leases.term;
        let begun = Instant::now();
        match self.renew() {
            Ok(false) => term / 30,
            Ok(true) => {
                self.runner.held.heard();
                if std::mem::take(&mut self.failing) {
                    let runs = self.runner.held.count();
                    info!("event=leases_renewed_again runs={runs}");
                }
                (term / 3).saturating_sub(begun.elapsed())
            }
            Err(error) => {
                self.runner.metrics.runs.heartbeat_failed();
                if !std::mem::replace(&mut self.failing, true) {
                    let (runs, reason) = (self.runner.held.count(), error.to_string());
                    warn!("event=leases_not_renewed runs={runs} reason={reason:?}");
                }
                term / 30
            }
        }
    }

    /// False when some have to be tried again soon.
    fn renew(&mut self) -> Result<bool, Error> {
        let mut runs = self.runner.held.list();
        runs.retain(|run| run.is_trusted());
        let signs: Vec<_> = runs.iter().map(|run| run.sign()).collect();
        let attempted = Instant::now();
        let leases = &self.runner.leases;
        let own = self.connection.run(|session| leases.renew(session, &signs))?;
        let mut all = true;
        for run in &runs {
            let claimed = &run.claimed;
            let same = |own: &&Own| (own.job_id, own.token) == (claimed.job_id, claimed.token);
            match own.iter().find(same) {
                Some(own) if own.renewed => run.renewed(attempted),
                Some(_) => all = false,
                // A run that has ended meanwhile, and been recorded, is gone rightly.
                None if run.is_over() => {}
                None => run.cancel(Reason::Lost),
            }
        }
        Ok(all)
    }
}
