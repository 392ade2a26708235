//! The bank's promise while everything around it breaks at random.
//!
//! `CHAOS_SECONDS` is how long it breaks (15 unless told). `CHAOS_SEED` repeats the events of an
//! earlier run, which printed its seed; what they meet differs all the same.

use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use super::bank::Bank;
use crate::support::{Door, Postgres, Process, Random, free_addr, get, seconds, seed, until};

const REPLICAS: usize = 3;
const BETWEEN_EVENTS_MS: Range<u64> = 500..2_500;
const PAUSE_MS: Range<u64> = 200..4_000;
const SOON: Duration = Duration::from_secs(30);

fn replica(server: &Postgres, addr: SocketAddr) -> Process {
    let addr = addr.to_string();
    Process::spawn(&mut Process::command(server.url(), &[("LISTEN_ADDR", &addr)]))
}

fn is_ready(addr: SocketAddr) -> bool {
    TcpStream::connect(addr).is_ok() && get(addr, "/health").status == 200
}

struct Chaos<'a> {
    server: &'a Postgres,
    addrs: &'a [SocketAddr],
    replicas: Vec<Process>,
    random: Random,
    /// What is still to happen before anything happens again.
    deck: Vec<Event>,
    events: Vec<String>,
}

#[derive(Clone, Copy)]
enum Event {
    KillReplica,
    DrainReplica,
    PauseReplica,
    CrashDatabase,
    PauseDatabase,
}

const EVENTS: [Event; 7] = [
    Event::KillReplica,
    Event::CrashDatabase,
    Event::PauseReplica,
    Event::KillReplica,
    Event::DrainReplica,
    Event::CrashDatabase,
    Event::PauseDatabase,
];

impl Chaos<'_> {
    fn run(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end || self.events.len() < EVENTS.len() {
            thread::sleep(self.random.millis(BETWEEN_EVENTS_MS));
            self.break_something();
        }
        for addr in self.addrs {
            until("every replica is ready in the end", SOON, || is_ready(*addr));
        }
    }

    fn break_something(&mut self) {
        if self.deck.is_empty() {
            self.deck.extend(EVENTS);
        }
        let event = self.deck.remove(self.random.below(self.deck.len()));
        let (index, pause) = (self.random.below(REPLICAS), self.random.millis(PAUSE_MS));
        let event = match event {
            Event::KillReplica => {
                self.end(index, "-KILL");
                format!("replica {index} killed")
            }
            Event::DrainReplica => {
                self.end(index, "-TERM");
                format!("replica {index} drained")
            }
            Event::PauseReplica => {
                self.replicas[index].signal("-STOP");
                thread::sleep(pause);
                self.replicas[index].signal("-CONT");
                format!("replica {index} paused for {pause:?}")
            }
            Event::CrashDatabase => {
                self.server.crash_and_restart();
                "PostgreSQL crashed and restarted".to_owned()
            }
            Event::PauseDatabase => {
                let paused = self.server.pause();
                thread::sleep(pause);
                drop(paused);
                format!("PostgreSQL paused for {pause:?}")
            }
        };
        self.events.push(event);
    }

    /// Ends a replica, and starts it again at the same address.
    fn end(&mut self, index: usize, signal: &str) {
        self.replicas[index].signal(signal);
        self.replicas[index].wait(Duration::from_secs(15));
        self.replicas[index] = replica(self.server, self.addrs[index]);
    }
}

#[test]
fn every_acknowledged_change_is_applied_exactly_once_whatever_breaks() {
    let seed = seed("CHAOS_SEED");
    let server = Postgres::lend();
    let addrs: Vec<SocketAddr> = (0..REPLICAS).map(|_| free_addr()).collect();
    let replicas = addrs.iter().map(|addr| replica(&server, *addr)).collect();
    until("all are ready", SOON, || addrs.iter().all(|addr| is_ready(*addr)));
    let Some(door) = Door::start(&addrs) else { return };
    let bank = Bank::open(door.addr);
    let (random, deck, events) = (Random(seed), Vec::new(), Vec::new());
    let mut chaos = Chaos { server: &server, addrs: &addrs, replicas, random, deck, events };
    let time = seconds("CHAOS_SECONDS", 15);
    let database = server.first_database();
    let audit = bank.work(&[door.addr], seed, &database, || chaos.run(time));
    println!("CHAOS_SEED={seed}: {} events in {time:?}:", chaos.events.len());
    chaos.events.iter().for_each(|event| println!("  {event}"));
    println!(
        "{} applied, {} of them sets, {} refused, {} unacknowledged, {} reads, {} retries; the \
         longest took {:.1?}",
        audit.applied,
        audit.sets,
        audit.refused,
        audit.unacknowledged,
        audit.reads,
        audit.retries,
        audit.longest
    );
    let log = std::fs::read_to_string(server.folder().join("postgres/postgresql.log"));
    let log = log.expect("the log of PostgreSQL");
    assert!(log.contains("database system is ready"), "this is another log");
    assert!(!log.contains("deadlock"), "{log}");
    assert!(audit.retries > 0, "nothing that was broken was noticed");
    assert!(audit.applied > 100, "too few changes to say anything: {}", audit.applied);
}
