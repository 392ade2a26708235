//! The database's clock beside this process's own, which never jumps: by how much it has jumped, at
//! the most, and at the least.
//!
//! The database reads its clock between the sending of a poll and its answer. So what it shows less
//! what the own clock shows, the offset, lies between two bounds; while it does not jump, the best
//! of all bounds hold (as in F. Cristian, "Probabilistic clock synchronization", 1989). A clock
//! that is set back and put forward again between two polls has not jumped for them.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

/// What all polls have shown. Offsets are in seconds, from the first poll's.
#[derive(Debug)]
pub(in crate::cron) struct Clock {
    first: (DateTime<Utc>, Instant),
    last: (DateTime<Utc>, Instant),
    /// From each instant on, the offset has never been less; the oldest first.
    marks: Vec<Mark>,
    /// The offset is not more.
    high: f64,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    since: Instant,
    low: f64,
}

/// A jump that is certain: at least so many seconds, below 0 when the clock was set back.
pub(in crate::cron) type Jump = Option<f64>;

/// In seconds. Smaller ones are told by nobody, and harm nobody.
const JUMP_MIN: f64 = 0.3;
/// In seconds: what two clocks differ by through drift, if one is looked at for as long as a lease.
const DRIFT: f64 = 0.01;
/// The longest lease that can be set.
const LEASE_MAX: Duration = Duration::from_secs(3_600);

impl Clock {
    /// As the first poll has shown it.
    pub(super) fn new(at: DateTime<Utc>, sent: Instant, known: Instant) -> Clock {
        let mut clock = Clock {
            first: (at, known),
            last: (at, known),
            marks: vec![Mark { since: known, low: 0.0 }],
            high: 0.0,
        };
        clock.high = clock.offset(at, sent);
        clock
    }

    /// What it shows now, unless it has jumped since the last poll.
    pub(in crate::cron) fn now(&self) -> DateTime<Utc> {
        self.last.0 + self.last.1.elapsed()
    }

    /// Of each mark, the oldest first: its age in seconds, and what the clock shows now at the
    /// least if the offset is what it was then.
    pub(super) fn marks(&self, now: Instant) -> (Vec<f64>, Vec<DateTime<Utc>>) {
        let own = (now - self.first.1).as_secs_f64();
        let shown = |mark: &Mark| {
            let micros = ((own + mark.low) * 1e6) as i64;
            ((now - mark.since).as_secs_f64(), self.first.0 + TimeDelta::microseconds(micros))
        };
        self.marks.iter().map(shown).unzip()
    }

    /// Another poll has shown this.
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
        let shown = (at - self.first.0).as_seconds_f64();
        match own.checked_duration_since(self.first.1) {
            Some(passed) => shown - passed.as_secs_f64(),
            None => shown + (self.first.1 - own).as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Polls at these seconds of the own clock: sent, known, and by how much the database's clock
    /// is ahead when it is read half-way.
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

    /// By how much the clock seems to be ahead of what it was so long ago, at the most, if it is
    /// read at this instant; none where nobody knows.
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
