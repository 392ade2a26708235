//! A deploy: one replica after the other is replaced under load, and nobody notices.
//!
//! `DEPLOY_HANDICAP_MS` is the replicas' `CRON_HANDICAP_MS` (300 unless told; 3000 by default).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Client, Database, Door, History, Postgres, Process, SetOnDrop, change, free_addr, get, number,
    until,
};

const REPLICAS: usize = 5;
const CLIENTS: usize = 8;
const JOBS: i64 = 10;
const SOON: Duration = Duration::from_secs(60);
const HANDED_OVER_MAX: Duration = Duration::from_secs(10);
/// The door asks each replica every 0.3 s whether it is ready.
const DOOR_NOTICES: Duration = Duration::from_secs(1);
const RUNNING: &str =
    "select count(*) from cron_jobs where holder is not null and locked_until > now()";

fn replica(database: &Database, addr: SocketAddr, index: usize) -> Process {
    let (name, addr) = (format!("replica-{index}"), addr.to_string());
    let handicap = number("DEPLOY_HANDICAP_MS", 300).to_string();
    let variables = [
        ("LISTEN_ADDR", addr.as_str()),
        ("REPLICA_NAME", &name),
        ("CRON_HANDICAP_MS", &handicap),
        ("JOB_MIN_SECONDS", "600"),
    ];
    Process::start(database.url(), &variables)
}

/// Changes a balance up and down on one connection, again and again, and never tries anything a
/// second time; what went wrong.
fn insist(door: SocketAddr, number: usize, stop: &AtomicBool, history: &History) -> Vec<String> {
    let mut failures = Vec::new();
    let mut client = Client::connect(door);
    for amount in [1, -1].into_iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (begun, head, body) = (Instant::now(), "POST /api/balance", change(1, amount));
        let answer = client.try_ask(head, &[], &body);
        let known = answer.as_ref().ok().and_then(Option::as_ref);
        history.note(number, begun, (head, &[], &body), known);
        match answer {
            Ok(Some(answer)) if answer.status == 200 => {
                if answer.header("connection") == Some("close") {
                    client = Client::connect(door);
                }
            }
            other => {
                failures.push(format!("{other:?}"));
                client = Client::connect(door);
            }
        }
    }
    failures
}

/// Replaces one replica, as a deploy does; how long its jobs were without one.
fn replace(
    database: &Database,
    replica: &mut Process,
    start: impl FnOnce() -> Process,
) -> Duration {
    let name = get(replica.addr, "/health").header("x-served-by").expect("a name").to_owned();
    let held = format!("from cron_jobs where holder like '{name}#%'");
    let mine = database.text(&format!("select coalesce(string_agg(id::text, ','), '0') {held}"));
    let holder = database.text(&format!("select coalesce(max(holder), '') {held}"));
    replica.signal("-TERM");
    let told = Instant::now();
    let elsewhere = format!(
        "select count(*) from cron_jobs where id in ({mine}) and (holder is null or \
         locked_until < now() or holder = '{holder}')"
    );
    let handed_over = thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            database.wait_for("its jobs run elsewhere", SOON, 0, &elsewhere);
            told.elapsed()
        });
        assert_eq!(replica.wait(SOON).code(), Some(0), "{}", replica.log());
        *replica = start();
        waiting.join().expect("the jobs")
    });
    thread::sleep(DOOR_NOTICES);
    handed_over
}

#[test]
fn five_replicas_are_replaced_one_after_the_other_and_no_request_fails() {
    let database = Postgres::shared().migrated();
    let addrs: Vec<SocketAddr> = (0..REPLICAS).map(|_| free_addr()).collect();
    let mut replicas: Vec<Process> = thread::scope(|scope| {
        let starts: Vec<_> = (0..REPLICAS)
            .map(|index| {
                let (database, addr) = (&database, addrs[index]);
                scope.spawn(move || replica(database, addr, index))
            })
            .collect();
        starts.into_iter().map(|start| start.join().expect("a replica")).collect()
    });
    let Some(door) = Door::start(&addrs) else { return };
    database.wait_for("all jobs run", SOON, JOBS, RUNNING);
    let (stop, history) = (AtomicBool::new(false), History::new());
    history.read(&[door.addr], &[1]);
    let failures: Vec<String> = thread::scope(|scope| {
        let (stop, history, addr) = (&stop, &history, door.addr);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| scope.spawn(move || insist(addr, number, stop, history)))
            .collect();
        let end = SetOnDrop(stop);
        for index in 0..REPLICAS {
            let start = || replica(&database, addrs[index], index);
            let handed_over = replace(&database, &mut replicas[index], start);
            println!("replica-{index}: its jobs ran elsewhere after {handed_over:.1?}");
            assert!(handed_over < HANDED_OVER_MAX, "{handed_over:?}");
        }
        drop(end);
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect()
    });
    history.read(&[door.addr], &[1]);
    let asked = history.check();
    println!("{asked} requests while five replicas were replaced, {} failed", failures.len());
    assert!(failures.is_empty(), "{} of {asked}: {}", failures.len(), failures[0]);
    assert!(asked > 100, "{asked}");
    until("all jobs run", SOON, || database.number(RUNNING) == JOBS);
    database.assert_books_balance();
}
