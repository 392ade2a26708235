//! The one thread that writes leases, on the one connection that it keeps: it renews, ends, offers
//! and claims, in this order, and never waits for a lock. So what a run needs to keep its lease and
//! to be recorded is there before the run is claimed, and no poll begins while renewals are not
//! answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::claims::Claims;
use super::ends::Ends;
use super::held::Held;
use super::renewals::Renewals;
use crate::db::Dedicated;
use crate::random;

pub(super) struct Scheduler {
    pub(super) held: Arc<Held>,
    pub(super) connection: Dedicated,
    pub(super) renewals: Renewals,
    pub(super) ends: Ends,
    pub(super) claims: Claims,
    /// The mean time between two polls.
    pub(super) poll: Duration,
    /// When the next is due.
    pub(super) poll_at: Instant,
}

/// Between two polls while a connection for steps is being opened.
const CONNECT_PAUSE: Duration = Duration::from_millis(50);

impl Scheduler {
    /// Goes on until this replica has drained.
    pub(super) fn run(mut self) {
        while !self.held.is_draining() || self.held.count() > 0 {
            self.turn();
            self.held.wait_for_an_end(self.next());
        }
    }

    fn turn(&mut self) {
        self.renewals.renew(&mut self.connection);
        let renewal = self.renewals.next();
        if let Some(clock) = &self.claims.clock
            && self.ends.write(&mut self.connection, clock, renewal)
        {
            // Whoever holds fewer may be next.
            self.poll_at = Instant::now();
        }
        if let Err(reason) = self.may_poll() {
            self.claims.rest(reason);
        } else if Instant::now() >= self.poll_at && self.held.begin_claiming() {
            self.poll();
        }
    }

    fn poll(&mut self) {
        let renewal = self.renewals.next().unwrap_or(Instant::now() + self.renewals.pause());
        let interrupted = self.claims.poll(&mut self.connection, renewal);
        self.held.end_claiming();
        if std::mem::take(&mut self.claims.leases_have_ended) {
            self.renewals.at = Instant::now();
        }
        // Without jitter the phases of two replicas stay as they are, and one of them comes first
        // to every job.
        let pause = self.poll.mul_f64(0.5 + random::fraction());
        self.poll_at = Instant::now()
            + match interrupted {
                true => Duration::ZERO,
                false if self.claims.is_connecting => CONNECT_PAUSE.min(pause),
                false => pause,
            };
    }

    /// What would be claimed while no lease is renewed would be lost as well.
    fn may_poll(&self) -> Result<(), &'static str> {
        if self.held.is_draining() {
            return Err("this replica is shutting down");
        }
        if self.renewals.are_failing() {
            return Err("leases cannot be renewed");
        }
        if !self.claims.may_ask() {
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
