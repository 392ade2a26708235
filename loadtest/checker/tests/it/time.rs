//! How long it takes, by the number of requests.

use std::fs;
use std::time::Duration;

use checker::check;

use crate::ledger::{Traffic, history};

/// As many of them as a debug build can do in a moment.
const REQUESTS: u64 = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };

/// How long this thread has been on a processor, whatever else the machine does.
fn on_cpu() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("a Linux");
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("nanoseconds"))
}

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
        let begun = on_cpu();
        assert_eq!(check(&records).violations, []);
        on_cpu() - begun
    };
    let took = (0..3).map(|_| once()).min().expect("three times");
    println!("{} requests in {took:.3?}", records.len());
    took
}

#[test]
fn ten_times_the_requests_take_about_ten_times_as_long() {
    let (few, many) = (time(REQUESTS / 10), time(REQUESTS));
    let ratio = many.as_secs_f64() / few.as_secs_f64();
    println!("{ratio:.1} times as long");
    // A hundred times, where it grows with the square; what is too large for the caches costs more.
    assert!(ratio < 50.0, "{ratio}");
}
