//! Random numbers for jitter and for names, and, by a function of its own, for secrets. The first
//! come from the standard library's hasher, which the system seeds, so other processes and copies
//! of this machine get others.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use rustls::crypto::ring;

/// A random number of 64 bits.
pub fn bits() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// A random number from 0 to 1, 1 excluded.
pub fn fraction() -> f64 {
    f64::from(u32::try_from(bits() >> 32).unwrap_or_default()) / (f64::from(u32::MAX) + 1.0)
}

/// 256 random bits for a secret, from the operating system's own source; `None` when it has none.
pub fn secret() -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    ring::default_provider().secure_random.fill(&mut bytes).ok()?;
    Some(bytes)
}
