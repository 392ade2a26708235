//! How long it takes, by the number of requests.

use std::time::{Duration, Instant};

use checker::check;

use crate::ledger::{Traffic, history};

/// As many of them as a debug build can do in a moment.
const REQUESTS: u64 = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };

fn time(requests: u64) -> Duration {
    let traffic = Traffic {
        users: 100,
        clients: 50,
        requests,
        latency: 50,
        amount_max: 20,
        unknown: 1,
        keyed: 30,
        sets: 10,
        reads: 30,
        numbered: 50,
        past: 10,
        closing: true,
    };
    let records = history(1, &traffic);
    let once = || {
        let begun = Instant::now();
        assert_eq!(check(&records).violations, []);
        begun.elapsed()
    };
    // Other tests run at the same time.
    let took = (0..3).map(|_| once()).min().expect("three times");
    println!("{} requests in {took:.3?}", records.len());
    took
}

#[test]
fn ten_times_the_requests_take_about_ten_times_as_long() {
    let (few, many) = (time(REQUESTS / 10), time(REQUESTS));
    let ratio = many.as_secs_f64() / few.as_secs_f64();
    println!("{ratio:.1} times as long");
    // A hundred times, where it grows with the square; caches and busy machines cost something.
    assert!(ratio < 50.0, "{ratio}");
}
