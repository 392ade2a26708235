//! Latencies: every single one is kept, so a percentile is exact. A histogram of high dynamic range
//! (hdrhistogram.org) is smaller and rounds them; an hour at a high rate still fits the memory.

use std::time::Duration;

use serde::Serialize;

/// Equal steps of the histogram; one more holds the slowest hundredth.
const STEPS: u64 = 10;

/// Latencies in microseconds, 4 bytes each: an hour at 20,000 a second is 288 MB.
#[derive(Default)]
pub(crate) struct Latencies {
    micros: Vec<u32>,
}

/// Milliseconds.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Percentiles {
    /// The fastest.
    pub(crate) min: f64,
    /// Half are at most this.
    pub(crate) p50: f64,
    /// 90 of 100 are at most this.
    pub(crate) p90: f64,
    /// 99 of 100 are at most this.
    pub(crate) p99: f64,
    /// 999 of 1,000 are at most this.
    pub(crate) p999: f64,
    /// The slowest.
    pub(crate) max: f64,
}

/// How many latencies are from `from_ms` up to, not including, `to_ms`; the last bar includes it.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Bar {
    /// Milliseconds.
    pub(crate) from_ms: f64,
    /// Milliseconds.
    pub(crate) to_ms: f64,
    /// Answers.
    pub(crate) count: u64,
}

impl Latencies {
    /// Room for `count` without a pause to make more.
    pub(crate) fn with_capacity(count: usize) -> Latencies {
        Latencies { micros: Vec::with_capacity(count) }
    }

    /// Keeps one; beyond 71 minutes it counts as 71 minutes.
    pub(crate) fn add(&mut self, latency: Duration) {
        self.micros.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
    }

    /// How many were kept.
    pub(crate) fn count(&self) -> u64 {
        self.micros.len() as u64
    }

    /// Sorts and sums up; nothing where nothing was kept.
    pub(crate) fn sum_up(mut self) -> (Option<Percentiles>, Vec<Bar>) {
        self.micros.sort_unstable();
        let (Some(&min), Some(&max)) = (self.micros.first(), self.micros.last()) else {
            return (None, Vec::new());
        };
        let rank = |permille| in_ms(nearest_rank(&self.micros, permille));
        let percentiles = Percentiles {
            min: in_ms(min),
            p50: rank(500),
            p90: rank(900),
            p99: rank(990),
            p999: rank(999),
            max: in_ms(max),
        };
        (Some(percentiles), histogram(&self.micros))
    }
}

/// The smallest value that `permille` of 1,000 do not exceed.
fn nearest_rank(sorted: &[u32], permille: usize) -> u32 {
    sorted[(sorted.len() * permille).div_ceil(1_000).max(1) - 1]
}

fn histogram(sorted: &[u32]) -> Vec<Bar> {
    // 64 bits: the end of the last step may lie beyond 32.
    let (min, max) = (u64::from(sorted[0]), u64::from(sorted[sorted.len() - 1]));
    let p99 = u64::from(nearest_rank(sorted, 990));
    // One slow outlier must not squeeze all others into the first step: steps end at p99.
    let width = (p99 - min) / STEPS + 1;
    let mut bars = Vec::new();
    let (mut from, mut below) = (min, 0);
    while from <= p99 {
        let to = from + width;
        let until = sorted.partition_point(|micros| u64::from(*micros) < to);
        bars.push(bar(from, to, until - below));
        (from, below) = (to, until);
    }
    if below < sorted.len() {
        bars.push(bar(from, max, sorted.len() - below));
    }
    bars
}

fn bar(from: u64, to: u64, count: usize) -> Bar {
    Bar { from_ms: from as f64 / 1_000.0, to_ms: to as f64 / 1_000.0, count: count as u64 }
}

fn in_ms(micros: u32) -> f64 {
    f64::from(micros) / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum_up(micros: impl IntoIterator<Item = u64>) -> (Option<Percentiles>, Vec<Bar>) {
        let mut latencies = Latencies::default();
        for micros in micros {
            latencies.add(Duration::from_micros(micros));
        }
        latencies.sum_up()
    }

    #[test]
    fn percentiles_are_the_nearest_rank() {
        let of = |percentiles: Option<Percentiles>| {
            percentiles.map(|of| (of.min, of.p50, of.p90, of.p99, of.max))
        };
        assert_eq!(of(sum_up([]).0), None);
        assert_eq!(of(sum_up([7_000]).0), Some((7.0, 7.0, 7.0, 7.0, 7.0)));
        let hundred = (1..=100).rev().map(|ms| ms * 1_000);
        assert_eq!(of(sum_up(hundred).0), Some((1.0, 50.0, 90.0, 99.0, 100.0)));
        let thousand = sum_up((1..=2_000).map(|ms| ms * 1_000)).0;
        assert_eq!(thousand.map(|of| (of.p99, of.p999)), Some((1_980.0, 1_998.0)));
        let three = [3_000, 1_000, 2_000];
        assert_eq!(of(sum_up(three).0), Some((1.0, 2.0, 3.0, 3.0, 3.0)));
        assert_eq!(of(sum_up([u64::MAX]).0).map(|of| of.4), Some(4_294_967.295));
    }

    #[test]
    fn every_latency_is_in_exactly_one_bar() {
        let tables: [Vec<u64>; 5] = [
            vec![5],
            vec![5, 5, 5],
            vec![0, u64::MAX],
            (0..1_000).collect(),
            (0..990).map(|at| at % 37).chain([10_000; 10]).collect(),
        ];
        for table in tables {
            let (_, bars) = sum_up(table.iter().copied());
            let counted: u64 = bars.iter().map(|bar| bar.count).sum();
            assert_eq!(counted, table.len() as u64, "{bars:?}");
            assert!(bars.len() <= STEPS as usize + 1, "{bars:?}");
            assert!(bars.windows(2).all(|pair| pair[0].to_ms == pair[1].from_ms), "{bars:?}");
        }
    }

    #[test]
    fn an_outlier_has_a_bar_of_its_own() {
        let (_, bars) = sum_up((0..1_000).chain([2_000_000]));
        assert_eq!(bars.len(), 11);
        assert_eq!(bars[10].to_ms, 2_000.0);
        assert!(bars[..10].iter().all(|bar| bar.count >= 90), "{bars:?}");
    }
}
