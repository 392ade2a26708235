//! The loop that looks for due jobs and claims them, one at a time.
//!
//! No replica knows of another, and still they share evenly: a replica that holds n jobs leaves
//! each offered job to others for `handicap(n)`, counted from the offer, an instant that all
//! replicas read from the same row. Whoever holds fewer comes first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{Level, info, log, warn};

use super::lease::Offers;
use super::random::Random;
use super::runner::Runner;
use super::running::{Running, Trust};
use crate::db::{Dedicated, Error};

pub(super) struct Scheduler {
    pub(super) runner: Arc<Runner>,
    pub(super) connection: Dedicated,
    pub(super) poll: Duration,
    pub(super) handicap: Duration,
    pub(super) trust: Trust,
    pub(super) random: Random,
    pub(super) wave: Wave,
    /// Jobs already reported as unknown to this build.
    pub(super) unknown: Vec<String>,
    /// Whether the last poll failed, which is logged once.
    pub(super) failing: bool,
    /// When the system last had no thread left for a run.
    pub(super) no_thread: Option<Instant>,
    /// Whether it was logged that nothing is claimed because the heartbeat is not answered.
    pub(super) deaf: bool,
}

/// How long nothing is claimed after that.
const THREAD_RETRY: Duration = Duration::from_secs(5);

/// The due jobs since there last were none.
#[derive(Default)]
pub(super) struct Wave {
    claimed: i64,
    told: Option<i64>,
}

/// How long a replica that holds `held` jobs leaves an offered one to others: `step` for the first
/// job held, always rising, never above ten times `step`.
pub(super) fn handicap(held: usize, step: Duration) -> Duration {
    let held = u32::try_from(held).unwrap_or(u32::MAX - 9).min(1_000_000);
    step * (10 * held) / (held + 9)
}

impl Scheduler {
    /// Polls until this replica drains.
    pub(super) fn run(mut self) {
        let mut seen = 0;
        while self.runner.held.begin_claiming() {
            match self.poll() {
                Ok(()) => self.failing = false,
                Err(error) => self.failed(&error),
            }
            self.runner.held.end_claiming();
            // Without jitter the phases of two replicas stay as they are, and one of them comes
            // first to every job.
            let pause = self.poll.mul_f64(0.5 + self.random.fraction());
            seen = self.runner.held.wait_for_an_end(seen, pause);
        }
    }

    fn failed(&mut self, error: &Error) {
        self.runner.metrics.runs.due_unknown();
        if !std::mem::replace(&mut self.failing, true) {
            let (reason, retry_ms) = (error.to_string(), self.poll.as_millis());
            warn!("event=poll_failed reason={reason:?} retry_ms={retry_ms}");
        }
    }

    /// Offers what is due, then claims one job after the other for as long as it is this replica's
    /// turn.
    fn poll(&mut self) -> Result<(), Error> {
        let runner = Arc::clone(&self.runner);
        let looked = Instant::now();
        let offers = self.connection.run(|session| runner.leases.offer(session))?;
        self.tell_unknown(&offers.unknown);
        offers.closed.iter().for_each(|orphan| orphan.tell(&runner.metrics));
        self.wave.begin(&offers);
        self.tell_deaf();
        let mut left = offers.due;
        while left > 0 && self.may_claim() {
            let handicap = handicap(runner.held.count(), self.handicap);
            let age = offers.oldest + looked.elapsed();
            if age < handicap {
                self.wave.tell_wait(left, runner.held.count(), handicap - age);
                break;
            }
            if !self.claim(handicap)? {
                break;
            }
            self.wave.claimed += 1;
            left -= 1;
        }
        runner.metrics.runs.due(usize::try_from(left).unwrap_or_default());
        Ok(())
    }

    fn claim(&mut self, handicap: Duration) -> Result<bool, Error> {
        let runner = &self.runner;
        let attempted = Instant::now();
        let claimed = self.connection.run(|session| runner.leases.claim(session, handicap))?;
        let Some(claimed) = claimed else {
            return Ok(false);
        };
        let running = Arc::new(Running::new(claimed, attempted, self.trust));
        runner.held.add(Arc::clone(&running));
        if !runner.start(running) {
            self.no_thread = Some(Instant::now());
        }
        Ok(true)
    }

    fn may_claim(&self) -> bool {
        let rested = self.no_thread.is_none_or(|since| since.elapsed() >= THREAD_RETRY);
        rested && self.runner.held.may_claim()
    }

    fn tell_deaf(&mut self) {
        let deaf = self.runner.held.is_deaf();
        match (std::mem::replace(&mut self.deaf, deaf), deaf) {
            (false, true) => warn!(
                "event=claims_stop reason=\"a lease expired, and no renewal was answered since\" \
                 hint=\"they go on with the first renewal that is answered\""
            ),
            (true, false) => info!("event=claims_go_on reason=\"a renewal was answered\""),
            _ => {}
        }
    }

    fn tell_unknown(&mut self, unknown: &[String]) {
        for new in unknown.iter().filter(|known| !self.unknown.contains(known)) {
            let (job, function) = new.split_once(' ').unwrap_or((new, ""));
            warn!(
                "event=function_unknown job={job} function={function} hint=\"left to replicas of \
                 another build\""
            );
        }
        self.unknown = unknown.to_vec();
    }
}

impl Wave {
    fn begin(&mut self, offers: &Offers) {
        if offers.due == 0 {
            *self = Wave::default();
        }
    }

    /// Once for each number of jobs held.
    fn tell_wait(&mut self, due: i64, held: usize, wait: Duration) {
        if self.told.replace(self.claimed) == Some(self.claimed) {
            return;
        }
        let (claimed, wait) = (self.claimed, wait.as_secs_f64());
        // While others' jobs come due one by one, each replica that holds any waits for each.
        let level = if claimed > 0 { Level::Info } else { Level::Debug };
        log!(
            level,
            "event=claims_wait due={due} claimed={claimed} runs={held} wait_seconds={wait:.1} \
             hint=\"left to replicas that hold fewer\""
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handicap_always_rises_and_stays_below_ten_steps() {
        let step = Duration::from_secs(3);
        assert_eq!(handicap(0, step), Duration::ZERO);
        assert_eq!(handicap(1, step), step);
        assert!(handicap(2, step) > Duration::from_millis(5_454));
        for held in 0..10_000 {
            assert!(handicap(held + 1, step) > handicap(held, step), "{held}");
            assert!(handicap(held + 1, step) < step * 10, "{held}");
        }
        assert!(handicap(usize::MAX, Duration::from_secs(60)) <= Duration::from_secs(600));
        assert_eq!(handicap(7, Duration::ZERO), Duration::ZERO);
    }
}
