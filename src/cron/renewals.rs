//! The heartbeat: renews the leases of all runs of this process with one statement.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};

use super::held::Replica;
use super::lease::{Claimed, Leases};
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
                self.replica.metrics.runs.heartbeat_failed();
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
        for run in &runs {
            match own.get(&run.claimed.job_id) {
                Some(true) => run.renewed(attempted),
                Some(false) => {}
                None => run.cancel(Reason::Lost),
            }
        }
        self.tell(connection, &runs);
        Ok(own.values().all(|is_renewed| *is_renewed))
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
