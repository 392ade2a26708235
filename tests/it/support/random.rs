use std::ops::Range;
use std::time::{Duration, SystemTime};

use super::number;

/// splitmix64: enough to choose by, and the same everywhere.
pub(crate) struct Random(pub(crate) u64);

/// The seed in this variable, or a new one, printed so that the test can be repeated with it.
pub(crate) fn seed(variable: &str) -> u64 {
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("the clock");
    let seed = number(variable, clock.as_secs());
    println!("{variable}={seed}");
    seed
}

impl Random {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    pub(crate) fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(range.start + self.bits() % (range.end - range.start))
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }
}
