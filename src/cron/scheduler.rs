//! The one thread that writes leases, on the one connection that it keeps: it renews, ends, offers
//! and claims, in this order, and never waits for a lock. So what a run needs to keep its lease and
//! to be recorded is there before the run is claimed, and nothing is claimed while renewals are not
//! answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::claims::{Claims, Polled};
use super::ends::Ends;
use super::held::Held;
use super::random::Random;
use super::renewals::Renewals;
use crate::db::Dedicated;

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
    pub(super) random: Random,
}

impl Scheduler {
    /// Goes on until this replica has drained.
    pub(super) fn run(mut self) {
        while !self.held.is_draining() || self.held.count() > 0 {
            self.turn();
            self.held.wait_for_an_end(self.next());
        }
    }

    fn turn(&mut self) {
        if !self.renewals.renew(&mut self.connection) {
            return;
        }
        let renewal = self.renewals.next();
        if let Some(seen) = self.claims.seen
            && self.ends.write(&mut self.connection, seen, renewal)
        {
            // Whoever holds fewer may be next.
            self.poll_at = Instant::now();
        }
        if Instant::now() >= self.poll_at && self.held.begin_claiming() {
            let polled = self.claims.poll(&mut self.connection, self.renewals.next());
            self.held.end_claiming();
            if polled == Polled::Jumped {
                self.renewals.at = Instant::now();
            }
            // Without jitter the phases of two replicas stay as they are, and one of them comes
            // first to every job.
            let pause = self.poll.mul_f64(0.5 + self.random.fraction());
            let pause = if polled == Polled::Interrupted { Duration::ZERO } else { pause };
            self.poll_at = Instant::now() + pause;
        }
    }

    /// When there is something to do again.
    fn next(&self) -> Instant {
        let poll = (!self.held.is_draining()).then_some(self.poll_at);
        let all = [self.renewals.next(), self.ends.next(), poll];
        all.into_iter().flatten().min().unwrap_or_else(Instant::now)
    }
}
