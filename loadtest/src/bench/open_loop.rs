//! The open loop: when each request is due, and how well that was kept.
//!
//! A client that waits for a slow answer before it asks again leaves out just the requests that
//! would have been slow ("coordinated omission"). So here a request is due at an instant of its
//! own, whatever the answers do, and its latency counts from then: the method of wrk2 (Gil Tene,
//! <https://github.com/giltene/wrk2>).

use std::ops::Range;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::traffic::Free;
use crate::outcome::{Failure, Outcome};
use crate::report::{Latencies, Percentiles, grouped, millis};

/// More than the millisecond by which the poll may be late.
const LATE_MIN: Duration = Duration::from_millis(10);
/// The status of the servers' and the door's refusals.
const UNAVAILABLE: u16 = 503;

/// The instants, and what is counted about them.
pub(super) struct Schedule {
    rate: u32,
    start: Instant,
    /// The number of the next request.
    next: u64,
    /// The requests that are due here count.
    counted: Range<Instant>,
    /// How old a request may become.
    limit: Duration,
    sent: u64,
    /// The answers and changes that came while requests were due: those of the warm-up too, whose
    /// place the late answers of the last requests would otherwise take.
    answered_meanwhile: u64,
    made_meanwhile: u64,
    shed: u64,
    late_busy: Late,
    late_itself: Late,
    made_after: Latencies,
    unavailable_after: Latencies,
}

#[derive(Default)]
struct Late {
    count: u64,
    longest: Duration,
}

/// How the schedule was kept, and what it met.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Kept {
    /// Requests a second, as asked for.
    rate_asked: u32,
    /// Requests a second that left, while they were due.
    rate_sent: f64,
    /// Full answers a second, while requests were due.
    rate_answered: f64,
    /// Changes made a second, while requests were due.
    rate_succeeded: f64,
    /// 503 that say that nothing was changed and when to come back.
    shed: u64,
    /// Requests that left late because no connection was free.
    late_busy: u64,
    late_busy_ms_max: f64,
    /// Requests that left late although a connection was free.
    late_itself: u64,
    late_itself_ms_max: f64,
    /// Of the answers that a change was made.
    latency_ms_succeeded: Option<Percentiles>,
    /// Of the answers 503.
    latency_ms_unavailable: Option<Percentiles>,
}

impl Schedule {
    /// `rate` requests a second from `start` to the end of what is counted.
    pub(super) fn new(
        rate: u32,
        limit: Duration,
        start: Instant,
        counted: Range<Instant>,
    ) -> Schedule {
        Schedule {
            rate,
            start,
            next: 0,
            counted,
            limit,
            sent: 0,
            answered_meanwhile: 0,
            made_meanwhile: 0,
            shed: 0,
            late_busy: Late::default(),
            late_itself: Late::default(),
            made_after: Latencies::default(),
            unavailable_after: Latencies::default(),
        }
    }

    /// When the next request is due.
    pub(super) fn next(&self) -> Instant {
        // From the start each time: adding up steps would add up what each of them is rounded by.
        let (seconds, rest) = (self.next / u64::from(self.rate), self.next % u64::from(self.rate));
        let nanos = rest * 1_000_000_000 / u64::from(self.rate);
        self.start + Duration::from_secs(seconds) + Duration::from_nanos(nanos)
    }

    /// Notes that the request that was next leaves now, or was due so long ago that it cannot.
    pub(super) fn leave(&mut self, free: Free) {
        let due = self.next();
        self.next += 1;
        let late = free.now.saturating_duration_since(due);
        if self.counted.contains(&free.now) && late < self.limit {
            self.sent += 1;
        }
        if self.counted.contains(&due) {
            let itself = free.now.saturating_duration_since(due.max(free.since));
            self.late_itself.note(itself);
            self.late_busy.note(late - itself);
        }
    }

    /// Notes what became of a request, after `latency`, and whether it was due when it counts.
    pub(super) fn came(
        &mut self,
        result: &Result<Outcome, Failure>,
        now: Instant,
        (latency, counts): (Duration, bool),
    ) {
        let made = matches!(result, Ok(Outcome::Succeeded(_)));
        let failure = result.as_ref().err();
        if self.counted.contains(&now) {
            let answered = failure.is_none_or(|failure| failure.status.is_some());
            self.answered_meanwhile += u64::from(answered);
            self.made_meanwhile += u64::from(made);
        }
        if !counts {
            return;
        }
        if made {
            self.made_after.add(latency);
        }
        if let Some(failure) = failure.filter(|failure| failure.status == Some(UNAVAILABLE)) {
            self.unavailable_after.add(latency);
            self.shed += u64::from(failure.shed);
        }
    }

    /// Sums up.
    pub(super) fn end(self) -> Kept {
        let seconds = (self.counted.end - self.counted.start).as_secs_f64();
        let a_second = |count: u64| count as f64 / seconds;
        Kept {
            rate_asked: self.rate,
            rate_sent: a_second(self.sent),
            rate_answered: a_second(self.answered_meanwhile),
            rate_succeeded: a_second(self.made_meanwhile),
            shed: self.shed,
            late_busy: self.late_busy.count,
            late_busy_ms_max: self.late_busy.longest.as_secs_f64() * 1_000.0,
            late_itself: self.late_itself.count,
            late_itself_ms_max: self.late_itself.longest.as_secs_f64() * 1_000.0,
            latency_ms_succeeded: self.made_after.sum_up().0,
            latency_ms_unavailable: self.unavailable_after.sum_up().0,
        }
    }
}

impl Late {
    fn note(&mut self, late: Duration) {
        if late > LATE_MIN {
            self.count += 1;
            self.longest = self.longest.max(late);
        }
    }
}

impl Kept {
    /// Rows of the summary.
    pub(super) fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![
            ("asked", format!("{}/s", grouped(u64::from(self.rate_asked)))),
            (
                "while asked",
                format!(
                    "{:.1}/s sent, {:.1}/s answered, {:.1}/s of them changes made",
                    self.rate_sent, self.rate_answered, self.rate_succeeded
                ),
            ),
            ("shed", format!("{} (503, not applied, Retry-After)", grouped(self.shed))),
        ];
        for (label, percentiles) in [
            ("after a 200", &self.latency_ms_succeeded),
            ("after a 503", &self.latency_ms_unavailable),
        ] {
            rows.extend(percentiles.as_ref().map(|percentiles| (label, one_line(percentiles))));
        }
        let late = format!(
            "{} because all connections were busy, by {} at most",
            grouped(self.late_busy),
            millis(self.late_busy_ms_max),
        );
        rows.push(("left late", late));
        rows
    }

    /// That this program was too slow for its own schedule, if it was.
    pub(super) fn warning(&self) -> Option<String> {
        (self.late_itself > 0).then(|| {
            format!(
                "{} requests left late, by {} at most, although a connection was free: this \
                 client did not keep its schedule, and part of these latencies is its own",
                grouped(self.late_itself),
                millis(self.late_itself_ms_max),
            )
        })
    }
}

fn one_line(of: &Percentiles) -> String {
    format!(
        "p50 {}, p90 {}, p99 {}, p99.9 {}, max {}",
        millis(of.p50),
        millis(of.p90),
        millis(of.p99),
        millis(of.p999),
        millis(of.max)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn schedule(rate: u32) -> (Schedule, Instant) {
        let start = Instant::now();
        let counted = start + 1_000 * MS..start + 2_000 * MS;
        (Schedule::new(rate, 500 * MS, start, counted), start)
    }

    #[test]
    fn requests_are_due_evenly_and_rounding_does_not_add_up() {
        let (mut schedule, start) = schedule(3);
        let mut due = Vec::new();
        for _ in 0..7 {
            due.push((schedule.next() - start).as_nanos());
            schedule.next += 1;
        }
        let third = 333_333_333;
        let second = 1_000_000_000;
        let expected =
            [0, third, 2 * third, second, second + third, second + 2 * third, 2 * second];
        assert_eq!(due, expected);
        schedule.next = 3 * 3_600;
        assert_eq!(schedule.next() - start, Duration::from_secs(3_600));
    }

    #[test]
    fn it_is_told_who_was_late() {
        let (mut schedule, start) = schedule(10);
        schedule.next = 10;
        // Due after 1,000, 1,100, 1,200 … ms.
        for (now, since) in [(1_001, 0), (1_150, 0), (1_300, 1_299), (1_350, 1_320), (1_900, 0)] {
            schedule.leave(Free { now: start + now * MS, since: start + since * MS });
        }
        let kept = schedule.end();
        assert_eq!((kept.late_itself, kept.late_itself_ms_max), (3, 500.0));
        assert_eq!((kept.late_busy, kept.late_busy_ms_max), (2, 99.0));
        assert_eq!(kept.rate_sent, 4.0, "the last one was too old to be sent");
        assert!(kept.warning().is_some_and(|warning| warning.starts_with("3 requests")));
    }

    #[test]
    fn rates_are_of_the_time_that_counts_and_latencies_of_what_was_due_then() {
        let (mut schedule, start) = schedule(10);
        let unavailable = |shed| {
            let (kind, example) = (String::new(), String::new());
            Err(Failure { kind, example, status: Some(UNAVAILABLE), shed })
        };
        let silent = Err(Failure::closed(0));
        for (result, now, latency, counts) in [
            (Ok(Outcome::Succeeded(1)), 1_100, 700, false),
            (Ok(Outcome::Succeeded(1)), 1_200, 100, true),
            (Ok(Outcome::Refused), 1_300, 100, true),
            (unavailable(true), 1_400, 200, true),
            (unavailable(false), 2_400, 900, true),
            (silent, 1_500, 300, true),
        ] {
            schedule.came(&result, start + now * MS, (latency * MS, counts));
        }
        let kept = schedule.end();
        assert_eq!((kept.rate_answered, kept.rate_succeeded, kept.shed), (4.0, 2.0, 1));
        let longest = |of: Option<Percentiles>| of.map(|of| of.max);
        assert_eq!(longest(kept.latency_ms_succeeded), Some(100.0));
        assert_eq!(longest(kept.latency_ms_unavailable), Some(900.0));
    }
}
