//! Compares the database's clock with this process's own, which never jumps, and so finds bounds
//! for how far the database's clock has jumped.
//!
//! The database reads its clock between the sending of a poll and its answer. So the offset, the
//! database's clock minus this process's own, lies between two bounds. While that clock does not
//! jump, all polls' bounds hold, and the closest are kept (as in F. Cristian, "Probabilistic clock
//! synchronization", 1989). A jump that is undone between two polls is not noticed.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

/// What the polls have shown. Offsets are in seconds, relative to the first poll.
#[derive(Debug)]
pub(in crate::cron) struct Clock {
    first: (DateTime<Utc>, Instant),
    last: (DateTime<Utc>, Instant),
    /// Lower bounds of the offset, the oldest first. Each has held since its instant.
    marks: Vec<Mark>,
    /// The upper bound of the offset since the last jump.
    high: f64,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    since: Instant,
    low: f64,
}

/// The least size of a jump that is certain, in seconds; below 0 when the clock was set back.
pub(in crate::cron) type Jump = Option<f64>;

/// In seconds. Smaller jumps are not reported, and do no harm.
const JUMP_MIN: f64 = 0.3;
/// In seconds. The two clocks may drift apart by this during one lease.
const DRIFT: f64 = 0.01;
/// The longest lease that the configuration allows.
const LEASE_MAX: Duration = Duration::from_secs(3_600);

impl Clock {
    /// Starts with the first poll, which was `sent` and answered (`known`) at these instants.
    pub(super) fn new(at: DateTime<Utc>, sent: Instant, known: Instant) -> Clock {
        Clock {
            first: (at, known),
            last: (at, known),
            marks: vec![Mark { since: known, low: 0.0 }],
            high: (known - sent).as_secs_f64(),
        }
    }

    /// What the database's clock shows now, if it has not jumped since the last poll.
    pub(in crate::cron) fn now(&self) -> DateTime<Utc> {
        self.last.0 + self.last.1.elapsed()
    }

    /// For each mark, the oldest first: its age in seconds, and the least that the database's clock
    /// shows now if it has not jumped since then.
    pub(super) fn marks(&self, now: Instant) -> (Vec<f64>, Vec<DateTime<Utc>>) {
        let own = (now - self.first.1).as_secs_f64();
        let shown = |mark: &Mark| {
            let micros = ((own + mark.low) * 1e6) as i64;
            ((now - mark.since).as_secs_f64(), self.first.0 + TimeDelta::microseconds(micros))
        };
        self.marks.iter().map(shown).unzip()
    }

    /// Adds a poll: the database's clock showed `at` between the instants `sent` and `known`.
    pub(super) fn note(&mut self, at: DateTime<Utc>, sent: Instant, known: Instant) -> Jump {
        let (low, high) = (self.offset(at, known), self.offset(at, sent));
        let before = self.marks.last().map_or(low, |mark| mark.low);
        let (forward, back) = (low - self.high, before - high);
        self.last = (at, known);
        if back > 0.0 {
            self.marks.iter_mut().for_each(|mark| mark.low = mark.low.min(low));
        }
        if low > before + DRIFT {
            self.marks.push(Mark { since: known, low });
        }
        self.high = if forward > 0.0 || back > 0.0 { high } else { high.min(self.high) };
        let is_past = |mark: &Mark| (known - mark.since) > LEASE_MAX;
        while self.marks.get(1).is_some_and(is_past) {
            self.marks.remove(0);
        }
        match (forward > JUMP_MIN, back > JUMP_MIN) {
            (true, _) => Some(forward),
            (_, true) => Some(-back),
            _ => None,
        }
    }

    fn offset(&self, at: DateTime<Utc>, own: Instant) -> f64 {
        (at - self.first.0).as_seconds_f64() - (own - self.first.1).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each poll is the seconds on the own clock when it is sent and when its answer is known, and
    /// how far ahead the database's clock is half-way between.
    fn clock(polls: &[(f64, f64, f64)]) -> (Clock, Vec<Jump>, Instant) {
        let start = Instant::now();
        let own = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let shown = |sent: f64, known: f64, ahead: f64| {
            let seconds = 1e9 + (sent + known) / 2.0 + ahead;
            DateTime::from_timestamp_micros((seconds * 1e6) as i64).unwrap()
        };
        let (sent, known, ahead) = polls[0];
        let mut clock = Clock::new(shown(sent, known, ahead), own(sent), own(known));
        let jumps = polls[1..]
            .iter()
            .map(|(sent, known, ahead)| {
                clock.note(shown(*sent, *known, *ahead), own(*sent), own(*known))
            })
            .collect();
        (clock, jumps, start)
    }

    /// The most by which the clock may have jumped forward since `ago` seconds before, if it is
    /// read at `at`; none if no mark is that old.
    fn ahead(clock: &Clock, start: Instant, at: f64, ahead: f64, ago: f64) -> Option<f64> {
        let now = start + Duration::from_secs_f64(at);
        let shown = DateTime::from_timestamp_micros(((1e9 + at + ahead) * 1e6) as i64).unwrap();
        let (ages, expected) = clock.marks(now);
        let known = ages.iter().zip(expected).rev().find(|(age, _)| **age >= ago);
        known.map(|(_, expected)| (shown - expected).as_seconds_f64())
    }

    #[test]
    fn slow_answers_are_no_jumps_and_do_not_hide_one() {
        let (clock, jumps, start) = clock(&[(0.0, 0.1, 0.0), (1.0, 4.0, 0.0), (5.0, 5.1, 0.0)]);
        assert_eq!(jumps, [None, None]);
        assert!(ahead(&clock, start, 6.0, 0.0, 3.0).unwrap() < 0.11);
        assert!(ahead(&clock, start, 6.0, 0.5, 3.0).unwrap() > 0.5);
        assert_eq!(ahead(&clock, start, 6.0, 0.0, 6.0), None, "nobody knows what was then");
    }

    #[test]
    fn a_jump_forward_is_known_for_as_long_as_it_concerns_a_lease() {
        let (clock, jumps, start) =
            clock(&[(0.0, 0.1, 0.0), (9.0, 9.1, 0.0), (10.0, 10.1, 20.0), (11.0, 11.1, 20.0)]);
        assert!(jumps[1].unwrap() > 19.8 && jumps[0].is_none() && jumps[2].is_none());
        assert!(ahead(&clock, start, 12.0, 20.0, 3.0).unwrap() > 19.8);
        assert!(ahead(&clock, start, 12.0, 20.0, 1.0).unwrap() < 0.2);
    }

    #[test]
    fn small_jumps_add_up() {
        let (clock, _, start) =
            clock(&[(0.0, 0.1, 0.0), (5.0, 5.1, 0.5), (6.0, 6.1, 1.0), (7.0, 7.1, 1.5)]);
        assert!(ahead(&clock, start, 8.0, 1.5, 6.0).unwrap() > 1.4);
        assert!(ahead(&clock, start, 8.0, 1.5, 1.5).unwrap() < 0.7);
    }

    #[test]
    fn a_clock_that_was_set_back_and_put_forward_again_has_jumped() {
        let (clock, jumps, start) =
            clock(&[(0.0, 0.1, 0.0), (5.0, 5.1, -60.0), (6.0, 6.1, -60.0), (7.0, 7.1, 0.0)]);
        assert!(jumps[0].unwrap() < -59.8 && jumps[1].is_none() && jumps[2].unwrap() > 59.8);
        assert!(ahead(&clock, start, 8.0, 0.0, 4.0).unwrap() > 59.8);
        assert!(ahead(&clock, start, 6.5, -60.0, 4.0).unwrap() < 0.3);
    }
}
