//! Who may claim when: what makes replicas share jobs evenly.

use std::time::Duration;

/// How long after the offer a replica that holds `held` jobs may claim the job: `step` if it holds
/// one job, more with each further one, and never more than ten times `step`.
pub(in crate::cron) fn handicap(held: usize, step: Duration) -> Duration {
    let held = u32::try_from(held).unwrap_or(u32::MAX - 9).min(1_000_000);
    step * (10 * held) / (held + 9)
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
