//! What the tests stand on: a private PostgreSQL, a database for each test, replicas in this
//! process and as processes, and a plain HTTP client.

mod client;
mod postgres;
mod replica;

use std::time::{Duration, Instant};

pub(crate) use client::{Answer, Client, ask, change, get, post};
pub(crate) use postgres::{Database, Postgres};
pub(crate) use replica::{Local, LocalOptions, Process};

/// Waits until something is so, and fails with its name when it is not so in time.
pub(crate) fn until(what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
