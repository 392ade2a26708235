//! The heartbeat: renews the leases of all runs of this process with one statement.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};

use super::held::Held;
use super::lease::{Claimed, Leases, Own};
use super::running::{Reason, Running};
use crate::db::{Dedicated, Error};
use crate::metrics::Metrics;

pub(super) struct Renewals {
    pub(super) leases: Arc<Leases>,
    pub(super) held: Arc<Held>,
    pub(super) metrics: Arc<Metrics>,
    /// When the next is due.
    pub(super) at: Instant,
    /// Whether the last try failed, which is logged once.
    pub(super) failing: bool,
}

impl Renewals {
    /// When the next is due, if there is any lease.
    pub(super) fn next(&self) -> Option<Instant> {
        (self.held.count() > 0).then_some(self.at)
    }

    pub(super) fn are_due(&self) -> bool {
        self.next().is_some_and(|at| Instant::now() >= at)
    }

    /// Renews, if it is time; false when the database did not answer.
    pub(super) fn renew(&mut self, connection: &mut Dedicated) -> bool {
        if !self.are_due() {
            return true;
        }
        let begun = Instant::now();
        let renewed = self.try_to_renew(connection);
        self.at = begun + self.pause(matches!(renewed, Ok(true)));
        let Err(error) = renewed else {
            if std::mem::take(&mut self.failing) {
                let runs = self.held.count();
                info!("event=leases_renewed_again runs={runs}");
            }
            return true;
        };
        self.metrics.runs.heartbeat_failed();
        // What is left is tried again soon; the pause counts from the answer.
        self.at = Instant::now() + self.pause(false);
        if !std::mem::replace(&mut self.failing, true) {
            let (runs, reason) = (self.held.count(), error.to_string());
            warn!("event=leases_not_renewed runs={runs} reason={reason:?}");
        }
        false
    }

    /// From one renewal to the next.
    fn pause(&self, all_renewed: bool) -> Duration {
        self.leases.term / if all_renewed { 3 } else { 30 }
    }

    /// False when some have to be tried again soon.
    fn try_to_renew(&self, connection: &mut Dedicated) -> Result<bool, Error> {
        let mut runs = self.held.list();
        runs.retain(|run| run.is_trusted());
        let claimed: Vec<(&Claimed, f64)> =
            runs.iter().map(|run| (&run.claimed, run.progress())).collect();
        let attempted = Instant::now();
        let own = connection.run(|session| self.leases.renew(session, &claimed))?;
        let mut all = true;
        for run in &runs {
            all &= note(run, &own, attempted);
        }
        Ok(all)
    }
}

/// False when somebody has locked the row, so that it could not be renewed.
fn note(run: &Running, own: &[Own], attempted: Instant) -> bool {
    let claimed = &run.claimed;
    let same = |own: &&Own| (own.job_id, own.token) == (claimed.job_id, claimed.token);
    match own.iter().find(same) {
        Some(own) if own.renewed => run.renewed(attempted),
        Some(_) => return false,
        None => run.cancel(Reason::Lost),
    }
    true
}
