//! The database goes away under running jobs, and comes back: real processes, the real ten jobs.
//!
//! `OUTAGE_SECONDS` is how long it is away (6 unless told), `OUTAGE_LEASE_SECONDS` the lease (3).

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::support::{Database, Postgres, Process, number, seconds};

const REPLICAS: usize = 5;
const JOBS: i64 = 10;
const SOON: Duration = Duration::from_secs(60);
const RUNNING: &str =
    "select count(*) from cron_jobs where holder is not null and locked_until > now()";

fn start(server: &Postgres, lease: &str) -> (Database, Vec<Process>) {
    let database = server.empty();
    let start = |index| {
        let name = format!("replica-{index}");
        let variables = [
            ("REPLICA_NAME", name.as_str()),
            ("JOB_MIN_SECONDS", "600"),
            ("CRON_LEASE_SECONDS", lease),
            ("CRON_POLL_MS", "250"),
        ];
        Process::spawn(&mut Process::command(database.url(), &variables))
    };
    let replicas = (0..REPLICAS).map(start).collect();
    crate::support::until("the migrations are applied", SOON, || {
        let mut client = database.connect();
        client.query_one(RUNNING, &[]).is_ok_and(|row| row.get::<_, i64>(0) == JOBS)
    });
    (database, replicas)
}

/// When each line of this event was written.
fn instants(log: &str, event: &str) -> Vec<DateTime<Utc>> {
    let lines = log.lines().filter(|line| line.contains(event));
    lines.map(|line| line.split(' ').next().unwrap().parse().expect("an instant")).collect()
}

/// Stops the server by `stop`, and judges what became of the jobs.
fn survive(stop: impl Fn(&Postgres), what: &str) {
    let lease = number("OUTAGE_LEASE_SECONDS", 3);
    let server = Postgres::lend();
    let (database, mut replicas) = start(&server, &lease.to_string());
    let all: String = replicas.iter().map(|replica| replica.log()).collect();
    assert!(!all.contains("event=run_cancelled"), "{all}");
    let before: i64 = database.number("select max(id) from cron_runs");
    stop(&server);
    let stopped = Utc::now();
    std::thread::sleep(seconds("OUTAGE_SECONDS", 6));
    server.start();
    let back = Instant::now();
    let again =
        format!("select count(*) from cron_runs where id > {before} and finished_at is null");
    database.wait_for("all run again", SOON, JOBS, &again);
    let took = back.elapsed();
    assert!(took < Duration::from_secs(25), "{what}: {took:?}");
    let ends = stopped + chrono::TimeDelta::seconds(lease.cast_signed());
    for replica in &mut replicas {
        assert!(replica.is_alive(), "{what}: a replica did not survive");
        let cancelled = instants(&replica.log(), "event=run_cancelled");
        assert_eq!(cancelled.len(), 2, "{what}: {}", replica.log());
        assert!(cancelled.iter().all(|at| *at < ends), "{what}: cancelled after the lease's end");
    }
    let left = "select count(*) from cron_runs where outcome is distinct from 'abandoned'";
    assert_eq!(database.number(left), JOBS, "{what}: each orphan is closed");
    let spread = "select max(jobs) - case when count(*) < 5 then 0 else min(jobs) end from \
                  (select count(*) as jobs from cron_runs where finished_at is null \
                  group by server) as server";
    let spread = database.number(spread);
    println!("{what}: all ran again {took:.1?} after the return, max - min = {spread}");
    assert!(spread <= 1, "{what}: max - min = {spread}");
}

#[test]
fn replicas_survive_a_database_that_is_stopped_and_started() {
    survive(Postgres::stop, "a clean stop");
}

#[test]
fn replicas_survive_a_database_that_crashes() {
    survive(Postgres::crash, "a crash");
}
