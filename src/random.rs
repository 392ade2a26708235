//! Numbers to jitter by and to name things by; not for secrets. From the standard library's hasher,
//! which the system seeds: other processes, also copies of this machine, have other numbers.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// Any 64 bits.
pub fn bits() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// From 0 to 1, 1 excluded.
pub fn fraction() -> f64 {
    f64::from(u32::try_from(bits() >> 32).unwrap_or_default()) / (f64::from(u32::MAX) + 1.0)
}
