//! Runs that take longer than they may: they are told to return, and never run twice for that.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Database, Local, Postgres, Scheduler, endless, get, only, options, until, witness,
};

const SOON: Duration = Duration::from_secs(30);
const OPEN: &str = "select count(*) from cron_runs where finished_at is null";
const ENDED: &str = "select count(*) from cron_runs where finished_at is not null";

fn database(job: &str, settings: &str) -> Database {
    let database = Postgres::shared().migrated().without_jobs();
    database.add_job(job, "every 1h");
    set(&database, settings);
    database
}

fn set(database: &Database, settings: &str) {
    let set = format!("update cron_jobs set {settings}");
    database.connect().batch_execute(&set).expect("settings");
}

#[test]
fn a_run_that_takes_too_long_is_cancelled_and_tried_again() {
    let database = database("endless", "max_seconds = 1, retries = 1, retry_after_seconds = 1");
    let replica = Scheduler::start(database.url(), &options("a"), only("endless", endless));
    database.wait_for("both tries", SOON, 2, ENDED);
    assert_eq!(database.outcomes("endless"), ["timed_out on a", "timed_out on a"]);
    let took = "select count(*) from cron_runs where detail = 'it took longer than 1 s'
        and finished_at - started_at between interval '1 s' and interval '3 s'";
    assert_eq!(database.number(took), 2);
    let over = "select count(*) from cron_jobs where attempt = 0 and slot > now()";
    database.wait_for("the next slot is waited for", SOON, 1, over);
    until("it is counted", SOON, || {
        replica.text().contains("cron_runs_total{job=\"endless\",outcome=\"timed_out\"} 2")
    });
    assert!(replica.text().contains("cron_retries_total 1"));
    let local = Local::start(database.url());
    let job = get(local.addr, "/api/cron/jobs/endless").json();
    assert_eq!((&job["failing"], &job["overdue"]), (&Value::from(true), &Value::from(false)));
}

/// The process would end if the lease did: this is the process of the tests.
#[test]
fn a_function_that_does_not_return_keeps_its_job_and_is_shown_overdue_by_all() {
    let database = database("stubborn", "max_seconds = 1");
    let gate = Arc::new(Barrier::new(2));
    let inner = Arc::clone(&gate);
    let stubborn = move |context: &balanced::cron::Context| {
        let _ = context.wait(Duration::from_secs(60));
        inner.wait();
        context.check().map(|()| String::new())
    };
    let functions = only("stubborn", stubborn);
    let holder = Scheduler::start(database.url(), &options("a"), functions.clone());
    database.wait_for("it runs", SOON, 1, OPEN);
    let _other = Scheduler::start(database.url(), &options("b"), functions);
    let locals = [Local::start(database.url()), Local::start(database.url())];
    let job = |local: &Local| get(local.addr, "/api/cron/jobs/stubborn").json();
    for local in &locals {
        until("it is overdue", SOON, || job(local)["overdue"] == true);
        let job = job(local);
        assert_eq!((&job["state"], &job["server"]), (&Value::from("running"), &Value::from("a")));
        assert!(job["lastSeenAt"].as_str() > job["startedAt"].as_str(), "{job}");
    }
    until("it is counted", SOON, || holder.text().contains("cron_overdue_jobs 1"));
    let unhealthy = get(locals[1].addr, "/health/jobs").json()["jobs"].clone();
    assert_eq!(unhealthy, json!([{"name": "stubborn", "reason": "overdue"}]));
    // Two leases later than it began: it was renewed since.
    let renewed = "select count(*) from cron_jobs where token = 1 and locked_until > now()
        and written_at > (select started_at from cron_runs) + interval '6 s'";
    database.wait_for("it is renewed", SOON, 1, renewed);
    gate.wait();
    database.wait_for("it has ended", SOON, 1, ENDED);
    assert_eq!(database.outcomes("stubborn"), ["timed_out on a"]);
    assert!(holder.text().contains("cron_leases_lost_total 0"));
    until("it is not overdue", SOON, || holder.text().contains("cron_overdue_jobs 0"));
    assert_eq!(job(&locals[1])["overdue"], false);
}

/// It goes on beyond its time until its process is killed: only then another has the job.
#[test]
fn the_job_of_an_overdue_run_is_taken_over_when_its_holder_is_killed_and_not_before() {
    let database = database("slow", "function = 'stubborn', max_seconds = 1, retries = 1");
    let database = database.with_witness_table();
    let lease = Duration::from_secs(3);
    let first = witness(&database, "a", lease);
    database.wait_for("it runs", SOON, 1, OPEN);
    let second = witness(&database, "b", lease);
    let overdue = "select count(*) from cron_runs where now() - started_at > interval '7 s'";
    database.wait_for("it has gone on for long", SOON, 1, overdue);
    until("this is in the log", SOON, || first.log().contains("event=run_overdue job=slow"));
    assert_eq!(database.number("select count(*) from cron_runs"), 1);
    first.signal("-KILL");
    let taken = "select count(*) from cron_runs where server = 'b' and attempt = 1";
    database.wait_for("it is taken over", SOON, 1, taken);
    assert_eq!(database.outcomes("slow"), ["abandoned on a"]);
    drop(second);
    let both = "select count(*) from witness step where exists (select from witness later \
        where later.run_id > step.run_id and later.at < step.at)";
    assert_eq!(database.number(both), 0, "two ran at once");
}

#[test]
fn a_time_limit_that_is_set_while_it_runs_counts_from_the_next_run() {
    let database = database("gated", "max_seconds = null, retries = 0");
    let gate = Arc::new(Barrier::new(2));
    let inner = Arc::clone(&gate);
    let functions = only("gated", move |context| {
        inner.wait();
        context.wait(Duration::from_secs(3)).map(|()| String::new())
    });
    let _replica = Scheduler::start(database.url(), &options("a"), functions);
    gate.wait();
    set(&database, "max_seconds = 1");
    database.wait_for("it has ended", SOON, 1, ENDED);
    assert_eq!(database.outcomes("gated"), ["succeeded on a"]);
    set(&database, "locked_until = now(), requested_at = now()");
    gate.wait();
    database.wait_for("both have ended", SOON, 2, ENDED);
    assert_eq!(database.outcomes("gated"), ["succeeded on a", "timed_out on a"]);
}
