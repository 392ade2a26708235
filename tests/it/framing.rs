//! Messages that two readers may understand differently, sent to the door and to a replica beside
//! honest clients: nothing runs that is not answered, nothing is answered twice, nothing is kept.
//!
//! Each message holds a whole request with an amount of its own, where a careless reader would find
//! it. The ledger then tells what ran. The names and the kinds follow RFC 9112 and what is known of
//! request smuggling. `FRAMING_PATIENCE_SECONDS` is how long a silent server is waited for (10).

mod attack;
mod chunks;
mod edges;
mod games;
mod heads;
mod innocent;
mod lengths;
mod streams;
mod vector;

use std::collections::{HashMap, HashSet};
use std::fs::read_dir;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use attack::{Delivery, Heard, Target, attack};
use vector::{Reader, Vector};

use crate::support::{Database, Door, Postgres, Process, SetOnDrop, change, post, seconds, until};

const EVERY_WAY: &[Delivery] = &[Delivery::Whole, Delivery::InPieces, Delivery::HeadFirst];
/// A replica ends a connection without a request after 75 s at the latest.
const SILENCE_MAX: Duration = Duration::from_secs(90);
const ATTACKERS: usize = 16;
const INNOCENTS: usize = 8;
/// A server's threads and its connections to others are let go some seconds after their last use.
const SETTLED_WITHIN: Duration = Duration::from_secs(20);
/// The server library ends a thread that has had nothing to do for 5 s, and a replica's own
/// connections to itself keep some busy. One with a connection shows by its socket.
const IDLE_THREADS: usize = 24;
/// What it opens for itself later on: sessions of the database, four each, and spare ones.
const OWN_DESCRIPTORS: usize = 128;

fn all() -> Vec<Vector> {
    let tables = [
        lengths::vectors(),
        chunks::vectors(),
        heads::vectors(),
        edges::vectors(),
        streams::vectors(),
        games::vectors(),
    ];
    let vectors: Vec<Vector> =
        tables.into_iter().flatten().chain(heads::later_versions()).collect();
    let names: HashSet<&str> = vectors.iter().map(|vector| vector.name.as_str()).collect();
    assert_eq!(names.len(), vectors.len(), "a name stands twice");
    vectors
}

#[test]
fn nothing_passes_the_door() {
    let (database, replicas) = replicas(2);
    let addrs: Vec<SocketAddr> = replicas.iter().map(|replica| replica.addr).collect();
    let rest: Vec<Held> = replicas.iter().map(Held::by).collect();
    let Some(door) = Door::start(&addrs) else {
        return;
    };
    let target = Target { addr: door.addr, reader: Reader::Door, patience: patience() };
    let mut failures = assault(&database, &target, &all(), EVERY_WAY);
    // Its connections to replicas are its own to keep; those of clients are not.
    until("the door keeps no client", SETTLED_WITHIN, || door.clients() == 0);
    drop(door);
    failures.extend(kept(&replicas, &rest));
    judge(&failures);
}

#[test]
fn nothing_confuses_a_replica() {
    let (database, replicas) = replicas(1);
    let rest = [Held::by(&replicas[0])];
    let vectors: Vec<Vector> = all().into_iter().filter(|vector| !vector.is_costly).collect();
    let addr = replicas[0].addr;
    let target = Target { addr, reader: Reader::Replica, patience: patience() };
    let mut failures = assault(&database, &target, &vectors, EVERY_WAY);
    failures.extend(kept(&replicas, &rest));
    judge(&failures);
}

/// What no door lets pass may cost a replica a connection, but neither an answer nor a change.
#[test]
fn what_costs_a_replica_a_connection_is_refused_all_the_same() {
    let (database, replicas) = replicas(1);
    let vectors: Vec<Vector> = all().into_iter().filter(|vector| vector.is_costly).collect();
    let addr = replicas[0].addr;
    let target = Target { addr, reader: Reader::Replica, patience: SILENCE_MAX };
    judge(&assault(&database, &target, &vectors, &[Delivery::Whole]));
}

/// Nobody who is right is silent for so long.
fn patience() -> Duration {
    seconds("FRAMING_PATIENCE_SECONDS", 10)
}

fn replicas(count: usize) -> (Database, Vec<Process>) {
    let database = Postgres::shared().migrated();
    let start = |_| Process::start(database.url(), &[("CRON_ENABLED", "false")]);
    let replicas: Vec<Process> = (0..count).map(start).collect();
    let rich = post(replicas[0].addr, "/api/balance", &change(1, 1_000_000_000));
    assert_eq!(rich.status, 200);
    (database, replicas)
}

/// Every message, delivered in each of these ways, beside honest clients; what was wrong.
fn assault(
    database: &Database,
    target: &Target,
    vectors: &[Vector],
    ways: &[Delivery],
) -> Vec<String> {
    let every = |way: &Delivery| vectors.iter().map(|vector| (vector, *way)).collect::<Vec<_>>();
    let attacks: Vec<(&Vector, Delivery)> = ways.iter().flat_map(every).collect();
    let (stop, next, begun) = (AtomicBool::new(false), AtomicUsize::new(0), Instant::now());
    // Most of a long wait is for silent servers: asking less often leaves other tests more time.
    let pause = target.patience / 2_000;
    let (mut heard, answers) = thread::scope(|scope| {
        let (stop, next, attacks) = (&stop, &next, &attacks);
        let honest: Vec<_> = (0..INNOCENTS)
            .map(|name| scope.spawn(move || innocent::live(target.addr, name, pause, stop)))
            .collect();
        let end = SetOnDrop(stop);
        let hostile: Vec<_> = (0..ATTACKERS)
            .map(|_| {
                let one = || {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let (vector, delivery) = attacks.get(number)?;
                    Some((number, attack(target, vector, (number, *delivery))))
                };
                scope.spawn(move || std::iter::from_fn(one).collect::<Vec<_>>())
            })
            .collect();
        let heard: Vec<(usize, Heard)> =
            hostile.into_iter().flat_map(|thread| thread.join().expect("an attacker")).collect();
        drop(end);
        let answers: u64 =
            honest.into_iter().map(|thread| thread.join().expect("an honest client")).sum();
        (heard, answers)
    });
    println!(
        "{} messages, delivered in {} ways, {:.1?}; {answers} honest answers",
        vectors.len(),
        ways.len(),
        begun.elapsed()
    );
    database.assert_books_balance();
    heard.sort_by_key(|(number, _)| *number);
    let ran = ledger(database);
    let told = heard.iter().map(|(number, heard)| {
        let ran = ran.get(number).copied().unwrap_or_default();
        verdict(attacks[*number], (*number, heard), ran, target.reader)
    });
    told.flatten().collect()
}

/// How many changes each attack has made.
fn ledger(database: &Database) -> HashMap<usize, usize> {
    let mut ran = HashMap::new();
    let sql = "select -amount from balance_changes where user_id = 1 and amount < 0";
    for row in database.connect().query(sql, &[]).expect("the ledger") {
        let amount = usize::try_from(row.get::<_, i64>(0)).expect("an amount");
        *ran.entry(amount % 10_000).or_default() += 1;
    }
    ran
}

/// What was wrong with one attack, if anything.
fn verdict(
    (vector, delivery): (&Vector, Delivery),
    (number, heard): (usize, &Heard),
    ran: usize,
    reader: Reader,
) -> Option<String> {
    let told = heard.answers.iter().filter(|answer| answer.tells_a_change()).count();
    let expected = vector.expected(reader);
    if heard.is(expected) && heard.is_of(number) && told == ran {
        return None;
    }
    let name = &vector.name;
    let counts = format!("expected `{expected}`, {ran} ran, {told} told");
    let sent: Vec<u8> = vector.bytes(number).into_iter().take(600).collect();
    let sent = sent.escape_ascii();
    Some(format!("{name} ({delivery:?}), {counts}\n    sent \"{sent}\"\n{heard}"))
}

fn judge(failures: &[String]) {
    assert!(failures.is_empty(), "{} wrong:\n{}", failures.len(), failures.join("\n"));
}

/// What a replica still holds for its clients, once it had time to let it go; `rest` is how many
/// threads and descriptors it had before they came.
fn kept(replicas: &[Process], rest: &[Held]) -> Vec<String> {
    let begun = Instant::now();
    let kept = replicas.iter().zip(rest).filter_map(|(replica, rest)| {
        loop {
            let (held, sockets) = (Held::by(replica), replica.client_sockets());
            let of_its_own = held.threads <= rest.threads + IDLE_THREADS
                && held.descriptors <= rest.descriptors + OWN_DESCRIPTORS;
            if of_its_own && sockets == 0 {
                return None;
            }
            if begun.elapsed() > SETTLED_WITHIN {
                return Some(format!("{held:?} and {sockets} sockets are kept, of {rest:?}"));
            }
            thread::sleep(Duration::from_millis(20));
        }
    });
    kept.collect()
}

#[derive(Clone, Copy, Debug)]
struct Held {
    threads: usize,
    descriptors: usize,
}

impl Held {
    fn by(replica: &Process) -> Held {
        let count = |what: &str| {
            read_dir(format!("/proc/{}/{what}", replica.pid())).expect("a process").count()
        };
        Held { threads: count("task"), descriptors: count("fd") }
    }
}
