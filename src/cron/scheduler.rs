//! The one thread that writes leases. On one connection of its own it renews, ends, offers and
//! claims, in this order, and never waits for a lock. So the connection that is needed to renew the
//! lease and to record the run is open before the run is claimed, and nothing is claimed while
//! renewals fail.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};

use super::claims::Claims;
use super::ends::Ends;
use super::lease::Claimed;
use super::replica::Replica;
use super::running::{Reason, Running};
use super::telling::tell;
use crate::db::{Dedicated, Error, Lack};
use crate::random;

pub(super) struct Scheduler {
    pub(super) replica: Arc<Replica>,
    pub(super) connection: Dedicated,
    pub(super) ends: Ends,
    pub(super) claims: Claims,
    /// The mean time between two polls.
    pub(super) poll: Duration,
    /// When the next poll is due.
    pub(super) poll_at: Instant,
    /// When the next renewal is due.
    pub(super) renew_at: Instant,
    /// Whether the last renewal failed. Only the first of several failures is logged.
    pub(super) cannot_renew: bool,
}

/// The pause between two polls while a connection for steps is being opened.
const CONNECT_PAUSE: Duration = Duration::from_millis(50);

impl Scheduler {
    /// Returns when this replica has drained.
    pub(super) fn run(mut self) {
        loop {
            self.turn();
            if !self.replica.held.wait_for_an_end(self.next()) {
                return;
            }
        }
    }

    fn turn(&mut self) {
        self.renew();
        let renewal = self.next_renewal();
        if let Some(clock) = &self.claims.clock
            && self.ends.write(&mut self.connection, clock, renewal)
        {
            // This replica holds fewer jobs now, so its handicap may let it claim at once.
            self.poll_at = Instant::now();
        }
        let is_overdue =
            |run: &&Arc<Running>| matches!(run.reason(), Some(Reason::TimedOut | Reason::Stopped));
        let overdue = self.replica.held.list().iter().filter(is_overdue).count();
        self.replica.metrics.runs.overdue(overdue);
        if let Err(reason) = self.may_poll() {
            self.claims.rest(reason);
        } else if Instant::now() >= self.poll_at {
            self.poll();
        }
    }

    fn poll(&mut self) {
        let renewal = self.next_renewal().unwrap_or(Instant::now() + self.renewal_pause());
        let interrupted = self.claims.poll(&mut self.connection, renewal);
        if std::mem::take(&mut self.claims.leases_have_ended) {
            self.renew_at = Instant::now();
        }
        // Without jitter two replicas would keep the order of their polls, and one of them would be
        // first to every job.
        let pause = self.poll.mul_f64(0.5 + random::fraction());
        self.poll_at = Instant::now()
            + match interrupted {
                true => Duration::ZERO,
                false if matches!(self.claims.lack, Some(Lack::UnderWay(_))) => {
                    CONNECT_PAUSE.min(pause)
                }
                false => pause,
            };
    }

    /// The error says why not to poll: a job claimed while no lease can be renewed would be lost.
    fn may_poll(&self) -> Result<(), &'static str> {
        if self.replica.held.is_draining() {
            return Err("this replica is shutting down");
        }
        if self.cannot_renew && self.replica.held.count() > 0 {
            return Err("leases cannot be renewed");
        }
        if !self.claims.steps.health().is_fit() {
            return Err("on the way to the database sessions may not keep apart");
        }
        Ok(())
    }

    /// When there is something to do again.
    fn next(&self) -> Instant {
        let poll = self.may_poll().ok().map(|()| self.poll_at);
        let all = [self.next_renewal(), self.ends.next(), poll];
        all.into_iter().flatten().min().unwrap_or_else(|| Instant::now() + self.poll)
    }

    /// When the next renewal is due; none when no run is held.
    fn next_renewal(&self) -> Option<Instant> {
        (self.replica.held.count() > 0).then_some(self.renew_at)
    }

    /// The time from one renewal to the next.
    fn renewal_pause(&self) -> Duration {
        self.replica.leases.term / 3
    }

    /// Renews the leases, if that is due.
    fn renew(&mut self) {
        if self.next_renewal().is_none_or(|at| Instant::now() < at) {
            return;
        }
        let begun = Instant::now();
        match self.try_to_renew() {
            Ok(all) => {
                let soon = Instant::now() + self.replica.leases.term / 30;
                self.renew_at = if all { begun + self.renewal_pause() } else { soon };
                if std::mem::take(&mut self.cannot_renew) {
                    let runs = self.replica.held.count();
                    info!("event=leases_renewed_again runs={runs}");
                }
            }
            Err(error) => {
                // The try itself can take long, so the pause counts from its end.
                self.renew_at = Instant::now() + self.replica.leases.term / 30;
                self.replica.metrics.runs.heartbeat_failures.inc();
                if !std::mem::replace(&mut self.cannot_renew, true) {
                    let (runs, reason) = (self.replica.held.count(), error.to_string());
                    warn!("event=leases_not_renewed runs={runs} reason={reason:?}");
                }
            }
        }
    }

    /// False when some leases have to be tried again soon, because their rows were locked.
    fn try_to_renew(&mut self) -> Result<bool, Error> {
        // Opening the connection can take long: the runs and `attempted` are read after that.
        let (runs, checkpoints, attempted, own) = self.connection.run(|session| {
            let mut runs = self.replica.held.list();
            runs.retain(|run| run.is_trusted());
            let checkpoints: Vec<_> = runs.iter().map(|run| run.unsaved_checkpoint()).collect();
            let claimed: Vec<&Claimed> = runs.iter().map(|run| &run.claimed).collect();
            let attempted = Instant::now();
            let own = self.replica.leases.renew(session, &claimed, &checkpoints)?;
            Ok((runs, checkpoints, attempted, own))
        })?;
        for (run, checkpoint) in runs.iter().zip(checkpoints) {
            match own.get(&run.claimed.job_id) {
                Some(renewal) => {
                    if renewal.is_renewed {
                        run.renewed(attempted);
                        checkpoint.into_iter().for_each(|checkpoint| run.saved(checkpoint));
                    }
                    if renewal.is_stopped {
                        run.cancel(Reason::Stopped);
                    }
                    if run.has_become_overdue() {
                        tell_overdue(run);
                    }
                }
                None => run.cancel(Reason::Lost),
            }
        }
        tell(&mut self.connection, &runs);
        Ok(own.values().all(|renewal| renewal.is_renewed))
    }
}

fn tell_overdue(run: &Running) {
    let (job, run_id, seconds) = (&run.claimed.job, run.claimed.run_id, run.elapsed().as_secs());
    warn!(
        "event=run_overdue job={job} run={run_id} seconds={seconds} reason=\"its function was told \
         to return and does not\" hint=\"its lease is renewed until it does: nobody else runs the \
         job meanwhile\""
    );
}
