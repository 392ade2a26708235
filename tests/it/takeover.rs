//! Holders that die, sleep or do not let go: the job goes on elsewhere, and never on two at once.

use std::sync::{Arc, Barrier, mpsc};
use std::time::{Duration, Instant};

use balanced::cron::Functions;

use crate::support::{Child, Database, Postgres, Scheduler, options, until, witness};

const LEASE: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_secs(30);
const JOBS: i64 = 6;
const RUNNING: &str =
    "select count(*) from cron_jobs where locked_until > now() and holder is not null";

fn database(function: &str) -> Database {
    let database = Postgres::shared().migrated().without_jobs().with_witness_table();
    for number in 0..JOBS {
        database.add_job_calling(&format!("job-{number}"), function, "every 1h");
    }
    database
}

fn held_by(server: &str) -> String {
    format!(
        "select count(*) from cron_jobs where holder like '{server}#%' and locked_until > now()"
    )
}

/// Steps of a run behind the first step of the job's next run, and later than `limit` seconds
/// after the instant `woken`.
fn late_steps(database: &Database, woken: &str) -> i64 {
    database.number(&format!(
        "select count(*) from witness step where at > '{woken}'::timestamptz + interval '1 s' \
         and exists (select from witness later where later.job = step.job \
         and later.run_id > step.run_id and later.at < step.at)"
    ))
}

fn overlapping_steps_until(database: &Database, woken: &str) -> i64 {
    database.number(&format!(
        "select count(*) from witness step where at < '{woken}'::timestamptz \
         and exists (select from witness later where later.job = step.job \
         and later.run_id > step.run_id and later.at < step.at)"
    ))
}

fn clock(database: &Database) -> String {
    database.text("select clock_timestamp()::text")
}

#[test]
fn a_killed_replicas_jobs_run_elsewhere_and_nothing_else_is_disturbed() {
    let database = database("witness");
    let replicas: Vec<_> =
        ["a", "b", "c"].iter().map(|name| witness(&database, name, LEASE)).collect();
    database.wait_for("all run", SOON, JOBS, RUNNING);
    let lost = database.number(&held_by("a"));
    assert!(lost > 0);
    replicas[0].signal("-KILL");
    let killed = Instant::now();
    let abandoned = "select count(*) from cron_runs where outcome = 'abandoned' and server = 'a'";
    database.wait_for("the orphans are closed", SOON, lost, abandoned);
    database.wait_for("all run again", SOON, JOBS, RUNNING);
    // The lease, the handicap of two or three, and two polls; all scaled to a fifth.
    assert!(killed.elapsed() < LEASE + Duration::from_secs(2), "{:?}", killed.elapsed());
    let detail = database.text("select min(detail) from cron_runs where outcome = 'abandoned'");
    assert!(detail.starts_with("the lease of a ran out, and "), "{detail}");
    until("each of its runs is followed to its end in a log", SOON, || {
        let told = |replica: &Child| replica.log().matches(" from_run=").count() as i64;
        replicas[1..].iter().map(told).sum::<i64>() == lost
    });
    let disturbed =
        "select count(*) from cron_runs where server <> 'a' and finished_at is not null";
    assert_eq!(database.number(disturbed), 0);
    assert_eq!(database.number("select count(*) from cron_runs"), JOBS + lost);
    drop(replicas);
    assert_eq!(late_steps(&database, "-infinity"), 0, "two runs of a job interleave");
}

#[test]
fn a_replica_that_sleeps_past_its_lease_changes_nothing_when_it_wakes() {
    let database = database("witness");
    let sleeper = witness(&database, "a", LEASE);
    let _other = witness(&database, "b", LEASE);
    database.wait_for("all run", SOON, JOBS, RUNNING);
    let held = database.number(&held_by("a"));
    assert!(held > 0);
    sleeper.signal("-STOP");
    database.wait_for("the other runs all", SOON, JOBS, &held_by("b"));
    let leases = "select string_agg(id || ' ' || token || ' ' || holder, ',' order by id) \
                  from cron_jobs";
    let runs = "select string_agg(id || server || coalesce(outcome, ''), ',' order by id) \
                from cron_runs";
    let before = (database.text(leases), database.text(runs));
    let woken = clock(&database);
    sleeper.signal("-CONT");
    until("the sleeper has found out", SOON, || {
        sleeper.log().matches("event=run_lost").count() as i64 == held
    });
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!((database.text(leases), database.text(runs)), before);
    assert_eq!(late_steps(&database, &woken), 0, "steps later than a second after waking");
    assert_eq!(overlapping_steps_until(&database, &woken), 0, "steps while it slept");
    let both = "select count(*) from cron_runs where outcome = 'abandoned' and server = 'a'";
    assert_eq!(database.number(both), held, "the history shows both");
}

#[test]
fn a_function_that_does_not_return_ends_the_process_before_the_lease_does() {
    let database = database("stubborn");
    // Between the decision and the end of the lease is a tenth: time enough for a busy machine.
    let mut replica = witness(&database, "a", LEASE * 3);
    database.wait_for("all run", SOON, JOBS, RUNNING);
    // No renewal succeeds any more, and nobody has taken the leases: a cut heartbeat.
    let cut = "create function refuse() returns trigger language plpgsql as $$ begin \
               raise exception 'cut off'; end $$; \
               create trigger cut before update on cron_jobs execute function refuse()";
    database.connect().batch_execute(cut).unwrap();
    let status = replica.wait(SOON);
    assert_eq!(status.code(), Some(balanced::cron::LEASE_LOST));
    assert!(replica.log().contains("event=process_ends job="), "{}", replica.log());
    let alive = "select count(*) from cron_jobs where locked_until > clock_timestamp()";
    assert_eq!(database.number(alive), JOBS, "it ended before the leases did");
}

#[test]
fn a_holder_cannot_write_into_a_job_that_was_made_anew() {
    let database = Postgres::shared().migrated().without_jobs();
    database.add_job("again", "every 1h");
    let gate = Arc::new(Barrier::new(2));
    let inner = Arc::clone(&gate);
    let functions = Functions::new().with("again", move |_| {
        inner.wait();
        Ok("from the old one".to_owned())
    });
    let replica = Scheduler::start(database.url(), &options("a"), functions);
    let open = "select count(*) from cron_runs where finished_at is null";
    database.wait_for("it runs", SOON, 1, open);
    // The same name, the same token and even the same holder: the job is another all the same.
    let anew = "create temporary table old as select * from cron_jobs; delete from cron_jobs; \
                with run as (insert into cron_runs \
                (job_id, job, function, token, server, scheduled_at, started_at) \
                select id + 1, name, function, token, 'b', slot, now() from old returning *) \
                insert into cron_jobs \
                (name, function, schedule, slot, locked_until, token, holder, run_id) \
                select name, old.function, schedule, slot, locked_until + interval '1 h', \
                old.token, holder, run.id from old, run";
    database.connect().batch_execute(anew).unwrap();
    let row = "select row_to_json(job)::text from cron_jobs job";
    let before = database.text(row);
    gate.wait();
    replica.0.begin_drain();
    assert!(replica.0.wait_drained(Instant::now() + SOON));
    assert_eq!(database.text(row), before);
    assert_eq!(database.outcomes("again"), ["abandoned on a"]);
    assert_eq!(
        database.text("select detail from cron_runs where server = 'a'"),
        "the job was deleted"
    );
}

#[test]
fn a_renewal_refused_by_the_database_cancels_the_run_at_once() {
    let database = Postgres::shared().migrated().without_jobs();
    database.add_job("taken", "every 1h");
    let (told, cancelled) = mpsc::channel();
    let functions = Functions::new().with("taken", move |context| {
        let result = context.wait(Duration::from_secs(60));
        told.send(Instant::now()).unwrap();
        result.map(|()| String::new())
    });
    let mut options = options("a");
    options.lease = Duration::from_secs(30);
    let _replica = Scheduler::start(database.url(), &options, functions);
    let open = "select count(*) from cron_runs where finished_at is null and server = 'a'";
    database.wait_for("it runs", SOON, 1, open);
    let taken = "update cron_jobs set token = token + 1, holder = 'b#1', \
                 locked_until = now() + interval '1 h'";
    database.connect().batch_execute(taken).unwrap();
    // The next renewal is due after a third of the lease, its end of trust after four fifths.
    cancelled.recv_timeout(Duration::from_secs(15)).expect("cancelled by the renewal");
    assert_eq!(database.number(&held_by("b")), 1, "it is the other's still");
    assert_eq!(database.number(open), 1, "its run is for the new holder to close");
}

#[test]
fn a_lease_that_has_ended_early_stays_its_holders_if_nobody_has_taken_it() {
    let database = Postgres::shared().migrated().without_jobs();
    database.add_job("lapsed", "every 1h");
    let (told, cancelled) = mpsc::channel();
    let functions = Functions::new().with("lapsed", move |context| {
        let result = context.wait(Duration::from_secs(60));
        told.send(()).unwrap();
        result.map(|()| String::new())
    });
    let mut options = options("a");
    // It is renewed every 5 s. Who holds one job leaves the next to others for a minute, so the
    // holder does not take it over from itself.
    (options.lease, options.handicap) = (Duration::from_secs(15), Duration::from_secs(60));
    let _replica = Scheduler::start(database.url(), &options, functions);
    database.wait_for("it runs", SOON, 1, RUNNING);
    let lapse = "update cron_jobs set locked_until = now() - interval '1 s', offered_at = now()";
    database.connect().batch_execute(lapse).unwrap();
    database.wait_for("it is renewed", SOON, 1, RUNNING);
    assert!(cancelled.try_recv().is_err(), "the run was told to return");
    let same = "select count(*) from cron_jobs where token = 1 and offered_at is null";
    assert_eq!(database.number(same), 1);
    assert_eq!(database.number("select count(*) from cron_runs"), 1);
}
