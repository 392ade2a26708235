//! Numbers to jitter by and to name a process by; not for secrets.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// The standard library's hasher, seeded by the system, over a counter.
pub(super) struct Random {
    state: RandomState,
    counter: u64,
}

impl Random {
    pub(super) fn new() -> Random {
        Random { state: RandomState::new(), counter: 0 }
    }

    /// Any 64 bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.counter += 1;
        let mut hasher = self.state.build_hasher();
        hasher.write_u64(self.counter);
        hasher.write_u32(std::process::id());
        hasher.finish()
    }

    /// From 0 to 1, 1 excluded.
    pub(super) fn fraction(&mut self) -> f64 {
        f64::from(u32::try_from(self.bits() >> 32).unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
    }
}
