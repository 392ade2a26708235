//! Replicas that start together share the jobs evenly, and those of one that goes are soon
//! elsewhere: real processes, the real ten jobs, the real times.
//!
//! `SPREAD_ROUNDS` repeats each case (1 unless told), `SPREAD_DOWN_SECONDS` is how long everything
//! is down in between (10), and `SPREAD_JOB_SECONDS` the length of the runs (600).

use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Database, Postgres, Process, number, post, seconds};

const JOBS: i64 = 10;
const PATIENCE: Duration = Duration::from_secs(60);
/// The default of `SHUTDOWN_GRACE_SECONDS`.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
const RUNNING: &str =
    "select count(*) from cron_jobs where holder is not null and locked_until > now()";

/// Starts replicas on a database, each `skew` after the one before.
fn start(database: &Database, replicas: usize, skew: Duration) -> Vec<Process> {
    let seconds = number("SPREAD_JOB_SECONDS", 600).to_string();
    thread::scope(|scope| {
        let starts: Vec<_> = (0..replicas)
            .map(|index| {
                let (name, seconds) = (format!("replica-{index}"), &seconds);
                scope.spawn(move || {
                    thread::sleep(skew * u32::try_from(index).unwrap());
                    let variables = [("REPLICA_NAME", name.as_str()), ("JOB_MIN_SECONDS", seconds)];
                    Process::start(database.url(), &variables)
                })
            })
            .collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    })
}

/// Waits until all run, then judges the wave of runs that are open: how even, and how fast.
fn judge(database: &Database, replicas: i64, limit_seconds: f64, what: &str) {
    database.wait_for("all jobs run", PATIENCE, JOBS, RUNNING);
    let wave = "select count(*) as servers, max(runs) as most, min(runs) as least, \
                extract(epoch from max(last) - min(first))::float8 as seconds \
                from (select count(*) as runs, min(started_at) as first, max(started_at) as last \
                from cron_runs where finished_at is null group by server) as server";
    let row = database.connect().query_one(wave, &[]).unwrap();
    let (servers, most, least): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    let least = if servers < replicas { 0 } else { least };
    let seconds: f64 = row.get(3);
    println!("{what}: {replicas} replicas, {least} to {most} jobs on each, in {seconds:.2} s");
    assert!(most - least <= 1, "{what}: {least} to {most} jobs on {replicas} replicas");
    assert!(seconds <= limit_seconds, "{what}: {seconds} s");
}

fn rounds() -> u64 {
    number("SPREAD_ROUNDS", 1)
}

fn down() -> Duration {
    seconds("SPREAD_DOWN_SECONDS", 10)
}

#[test]
fn five_replicas_that_start_together_take_two_of_ten_jobs_each() {
    for round in 1..=rounds() {
        let database = Postgres::shared().migrated();
        let _replicas = start(&database, 5, Duration::ZERO);
        judge(&database, 5, 6.0, &format!("start {round}"));
    }
}

#[test]
fn three_and_seven_replicas_differ_by_one_job_at_most() {
    for round in 1..=rounds() {
        for (replicas, limit_seconds) in [(3, 12.0), (7, 5.0)] {
            let database = Postgres::shared().migrated();
            let _replicas = start(&database, replicas, Duration::ZERO);
            judge(&database, replicas as i64, limit_seconds, &format!("start {round}"));
        }
    }
}

#[test]
fn starts_that_are_skewed_by_two_seconds_are_even_too() {
    for round in 1..=rounds() {
        let database = Postgres::shared().migrated();
        let _replicas = start(&database, 5, Duration::from_millis(500));
        judge(&database, 5, 8.0, &format!("skewed start {round}"));
    }
}

#[test]
fn after_everything_was_down_the_jobs_are_shared_evenly_again() {
    for round in 1..=rounds() {
        let database = Postgres::shared().migrated();
        let mut replicas = start(&database, 5, Duration::ZERO);
        database.wait_for("all jobs run", PATIENCE, JOBS, RUNNING);
        for replica in &replicas {
            replica.signal("-TERM");
        }
        for replica in &mut replicas {
            assert_eq!(replica.wait(PATIENCE).code(), Some(0));
        }
        let cancelled = "select count(*) from cron_runs where outcome = 'cancelled'";
        assert_eq!(database.number(cancelled), JOBS);
        thread::sleep(down());
        let _replicas = start(&database, 5, Duration::ZERO);
        judge(&database, 5, 6.0, &format!("after {:?} down, {round}", down()));
    }
}

/// Each job has an offer from before the pause, whose handicaps would be over.
#[test]
fn after_a_pause_of_everything_the_jobs_are_shared_evenly() {
    for round in 1..=rounds() {
        let database = Postgres::shared().migrated();
        let pause = "update cron_jobs set locked_until = now() - interval '1 min', \
                     offered_at = now() - interval '40 s'; \
                     insert into cron_pause (reason) values ('a test')";
        database.connect().batch_execute(pause).expect("a pause");
        let replicas = start(&database, 5, Duration::ZERO);
        let offers = "select count(offered_at) from cron_jobs";
        database.wait_for("offers are taken back", PATIENCE, 0, offers);
        thread::sleep(down());
        assert_eq!(database.number("select count(*) from cron_runs"), 0);
        assert_eq!(post(replicas[0].addr, "/api/cron/resume", "").status, 200);
        judge(&database, 5, 6.0, &format!("after a pause of {:?}, {round}", down()));
    }
}

#[test]
fn after_all_were_killed_the_jobs_are_shared_evenly_again() {
    for round in 1..=rounds() {
        let database = Postgres::shared().migrated();
        let mut replicas = start(&database, 5, Duration::ZERO);
        database.wait_for("all jobs run", PATIENCE, JOBS, RUNNING);
        let killed = database.text("select max(id)::text from cron_runs");
        for replica in &replicas {
            replica.signal("-KILL");
        }
        for replica in &mut replicas {
            replica.wait(PATIENCE);
        }
        let _replicas = start(&database, 5, Duration::ZERO);
        let again = format!("select count(*) from cron_runs where id > {killed}");
        database.wait_for("all are taken over", PATIENCE, JOBS, &again);
        // The leases end up to a third of their term apart, as the holders' renewals were.
        judge(&database, 5, 12.0, &format!("after a kill of all, {round}"));
    }
}

/// Takes one of five away, and tells how long its two jobs were without a replica.
fn without_one(database: &Database, signal: &str, outcome: &str) -> (Vec<Process>, Duration) {
    let mut replicas = start(database, 5, Duration::ZERO);
    judge(database, 5, 6.0, "before");
    let others = "select string_agg(id::text, ',' order by id) from cron_runs \
                  where server <> 'replica-0'";
    let undisturbed = database.text(others);
    replicas[0].signal(signal);
    let gone = Instant::now();
    let status = replicas.remove(0).wait(SHUTDOWN_GRACE);
    assert_eq!(status.code(), (signal == "-TERM").then_some(0));
    let again = "select count(*) from cron_runs where token = 2";
    database.wait_for("both run elsewhere", PATIENCE, 2, again);
    let took = gone.elapsed();
    let lost = format!(
        "select count(*) from cron_runs where server = 'replica-0' and outcome = '{outcome}'"
    );
    assert_eq!(database.number(&lost), 2);
    let open = "select string_agg(id::text, ',' order by id) from cron_runs \
                where token = 1 and finished_at is null";
    assert_eq!(database.text(open), undisturbed, "nothing else is disturbed");
    (replicas, took)
}

#[test]
fn a_killed_replicas_two_jobs_run_elsewhere_within_25_seconds() {
    for round in 1..=rounds() {
        let database = Postgres::shared().migrated();
        let (_replicas, took) = without_one(&database, "-KILL", "abandoned");
        println!("kill {round}: both run elsewhere after {took:.1?}");
        assert!(took < Duration::from_secs(25), "{took:?}");
    }
}

#[test]
fn a_drained_replicas_two_jobs_run_elsewhere_within_10_seconds() {
    for round in 1..=rounds() {
        let database = Postgres::shared().migrated();
        let (_replicas, took) = without_one(&database, "-TERM", "cancelled");
        println!("drain {round}: both run elsewhere after {took:.1?}");
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}
