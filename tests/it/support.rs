//! What the tests stand on: a private PostgreSQL, a database for each test, replicas in this
//! process and as processes, and a plain HTTP client.

mod browser;
mod child;
mod client;
mod door;
mod history;
mod postgres;
mod random;
mod record;
mod replica;
mod scheduler;
mod sockets;
mod tool;
mod witness;

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use browser::{Browser, LOOKS, Screen};
pub(crate) use child::Child;
pub(crate) use client::{Answer, Client, ask, change, get, post};
pub(crate) use door::{Door, free_addr};
pub(crate) use history::History;
pub(crate) use postgres::{Database, Postgres, target};
pub(crate) use random::{Random, seed};
pub(crate) use record::Record;
pub(crate) use replica::{Answers, Local, LocalOptions, Process};
pub(crate) use scheduler::{Scheduler, endless, only, options};
pub(crate) use sockets::{LISTENS, sockets};
pub(crate) use tool::{from_npm, program, tool};
pub(crate) use witness::{counting, witness, witness_beside, witness_command};

/// Waits until something is so, and fails with its name when it is not so in time.
pub(crate) fn until(what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// What so many clients are told that ask at the same moment, each on a connection that it has.
/// They take turns over the replicas.
pub(crate) fn at_once<T: Send>(
    clients: usize,
    replicas: &[Local],
    work: impl Fn(usize, &mut Client) -> T + Sync,
) -> Vec<T> {
    let start = Barrier::new(clients);
    thread::scope(|scope| {
        let clients = (0..clients).map(|index| {
            let (addr, start, work) = (replicas[index % replicas.len()].addr, &start, &work);
            scope.spawn(move || {
                let mut client = Client::connect(addr);
                start.wait();
                work(index, &mut client)
            })
        });
        let clients: Vec<_> = clients.collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    })
}

/// Tells the other threads of a test to end, also when the one that holds it fails.
pub(crate) struct SetOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A time in seconds that a variable can make longer than the suite has time for.
pub(crate) fn seconds(variable: &str, default: u64) -> Duration {
    Duration::from_secs(number(variable, default))
}

/// A number that a variable can make larger than the suite has time for.
pub(crate) fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text}: not a number")),
        Err(_) => default,
    }
}
