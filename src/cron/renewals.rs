//! The heartbeat: renews the leases of all runs of this process with one statement.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};

use super::Replica;
use super::lease::{Claimed, Leases, Own};
use super::running::{Reason, Running};
use crate::db::{Dedicated, Error};

pub(super) struct Renewals {
    pub(super) replica: Arc<Replica>,
    /// When the next renewal is due.
    pub(super) at: Instant,
    /// Whether the last try failed. Only the first of several failures is logged.
    pub(super) failing: bool,
}

impl Renewals {
    /// When the next renewal is due; none when no run is held.
    pub(super) fn next(&self) -> Option<Instant> {
        (self.replica.held.count() > 0).then_some(self.at)
    }

    /// Whether leases cannot be renewed at present: then no other may be claimed.
    pub(super) fn are_failing(&self) -> bool {
        self.failing && self.replica.held.count() > 0
    }

    /// The time from one renewal to the next.
    pub(super) fn pause(&self) -> Duration {
        self.replica.leases.term / 3
    }

    /// Renews the leases, if that is due.
    pub(super) fn renew(&mut self, connection: &mut Dedicated) {
        if self.next().is_none_or(|at| Instant::now() < at) {
            return;
        }
        let begun = Instant::now();
        match self.try_to_renew(connection) {
            Ok(all) => {
                let soon = Instant::now() + self.replica.leases.term / 30;
                self.at = if all { begun + self.pause() } else { soon };
                if std::mem::take(&mut self.failing) {
                    let runs = self.replica.held.count();
                    info!("event=leases_renewed_again runs={runs}");
                }
            }
            Err(error) => {
                // The try itself can take long, so the pause counts from its end.
                self.at = Instant::now() + self.replica.leases.term / 30;
                self.replica.metrics.runs.heartbeat_failures.inc();
                if !std::mem::replace(&mut self.failing, true) {
                    let (runs, reason) = (self.replica.held.count(), error.to_string());
                    warn!("event=leases_not_renewed runs={runs} reason={reason:?}");
                }
            }
        }
    }

    /// False when some leases have to be tried again soon, because their rows were locked.
    fn try_to_renew(&self, connection: &mut Dedicated) -> Result<bool, Error> {
        // Opening the connection can take long: the runs and `attempted` are read after that.
        let (runs, attempted, own) = connection.run(|session| {
            let mut runs = self.replica.held.list();
            runs.retain(|run| run.is_trusted());
            let claimed: Vec<&Claimed> = runs.iter().map(|run| &run.claimed).collect();
            let attempted = Instant::now();
            let own = self.replica.leases.renew(session, &claimed)?;
            Ok((runs, attempted, own))
        })?;
        let mut all = true;
        for run in &runs {
            all &= note(run, &own, attempted);
        }
        self.tell(connection, &runs);
        Ok(all)
    }

    /// Writes the progress that has changed. Nothing depends on it, so errors are ignored.
    fn tell(&self, connection: &mut Dedicated, runs: &[Arc<Running>]) {
        let news = |run: &Arc<Running>| run.news().map(|done| (Arc::clone(run), done));
        let news: Vec<(Arc<Running>, f64)> = runs.iter().filter_map(news).collect();
        let mut send = |some: &[(Arc<Running>, f64)]| {
            let done: Vec<(&Claimed, f64)> =
                some.iter().map(|(run, done)| (&run.claimed, *done)).collect();
            connection.run(|session| Leases::tell(session, &done))?;
            some.iter().for_each(|(run, done)| run.told(*done));
            Ok::<(), Error>(())
        };
        if !news.is_empty() && send(&news).is_err_and(|error| !error.is_passing()) {
            // One refused progress must not keep the others from being written.
            news.chunks(1).for_each(|one| drop(send(one)));
        }
    }
}

/// False when the lease was not renewed because somebody has locked the row.
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
