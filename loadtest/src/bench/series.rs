//! The answers second by second: a pause that a percentile over everything hides is seen here.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::report::Latencies;

/// Answers by the second in which they came, from the first moment that counts on.
pub(super) struct Series {
    begin: Instant,
    seconds: Vec<Latencies>,
}

/// One second.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Second {
    /// Full answers of any status that came in it.
    answers: u64,
    /// Of their latencies, in milliseconds; absent where none came.
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    max_ms: Option<f64>,
}

impl Series {
    /// Seconds count from `begin`.
    pub(super) fn new(begin: Instant) -> Series {
        Series { begin, seconds: Vec::new() }
    }

    /// Notes an answer that came at `now`, after `latency`.
    pub(super) fn add(&mut self, now: Instant, latency: Duration) {
        let second = now.saturating_duration_since(self.begin).as_secs();
        let second = usize::try_from(second).unwrap_or(usize::MAX);
        if self.seconds.len() <= second {
            self.seconds.resize_with(second + 1, Latencies::default);
        }
        self.seconds[second].add(latency);
    }

    /// Every second up to the last answer, also those in which none came.
    pub(super) fn end(self) -> Vec<Second> {
        let of = |latencies: Latencies| {
            let answers = latencies.count();
            let (percentiles, _) = latencies.sum_up();
            let of = percentiles.as_ref();
            Second {
                answers,
                p50_ms: of.map(|of| of.p50),
                p99_ms: of.map(|of| of.p99),
                max_ms: of.map(|of| of.max),
            }
        };
        self.seconds.into_iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_without_an_answer_is_seen() {
        let begin = Instant::now();
        let mut series = Series::new(begin);
        let ms = Duration::from_millis;
        for (at, latency) in [(0, 1), (900, 2), (999, 3), (2_000, 1_500)] {
            series.add(begin + ms(at), ms(latency));
        }
        let second = |answers, p50_ms, p99_ms, max_ms| Second { answers, p50_ms, p99_ms, max_ms };
        let some = |ms: f64| Some(ms);
        assert_eq!(
            series.end(),
            [
                second(3, some(2.0), some(3.0), some(3.0)),
                second(0, None, None, None),
                second(1, some(1_500.0), some(1_500.0), some(1_500.0)),
            ]
        );
    }
}
