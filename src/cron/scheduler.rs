//! The one thread that writes leases. On one connection of its own it renews, ends, offers and
//! claims, in this order, and never waits for a lock. So the connection that is needed to renew the
//! lease and to record the run is open before the run is claimed, and nothing is claimed while
//! renewals fail.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::claims::Claims;
use super::ends::Ends;
use super::held::Replica;
use super::renewals::Renewals;
use crate::db::{Dedicated, Lack};
use crate::random;

pub(super) struct Scheduler {
    pub(super) replica: Arc<Replica>,
    pub(super) connection: Dedicated,
    pub(super) renewals: Renewals,
    pub(super) ends: Ends,
    pub(super) claims: Claims,
    /// The mean time between two polls.
    pub(super) poll: Duration,
    /// When the next poll is due.
    pub(super) poll_at: Instant,
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
        self.renewals.renew(&mut self.connection);
        let renewal = self.renewals.next();
        if let Some(clock) = &self.claims.clock
            && self.ends.write(&mut self.connection, clock, renewal)
        {
            // This replica holds fewer jobs now, so its handicap may let it claim at once.
            self.poll_at = Instant::now();
        }
        if let Err(reason) = self.may_poll() {
            self.claims.rest(reason);
        } else if Instant::now() >= self.poll_at {
            self.poll();
        }
    }

    fn poll(&mut self) {
        let renewal = self.renewals.next().unwrap_or(Instant::now() + self.renewals.pause());
        let interrupted = self.claims.poll(&mut self.connection, renewal);
        if std::mem::take(&mut self.claims.leases_have_ended) {
            self.renewals.at = Instant::now();
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
        if self.renewals.are_failing() {
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
        let all = [self.renewals.next(), self.ends.next(), poll];
        all.into_iter().flatten().min().unwrap_or_else(|| Instant::now() + self.poll)
    }
}
