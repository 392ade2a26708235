//! A slot whose run failed is tried again: later each time, by whichever replica is there.

use std::sync::mpsc;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use balanced::cron::Failure;
use serde_json::{Value, json};

use crate::support::{
    Database, Local, Postgres, Scheduler, ask, get, only, options, post, witness,
};

const SOON: Duration = Duration::from_secs(30);
const ENDED: &str = "select count(*) from cron_runs where finished_at is not null";
const WAITS: &str = "select count(*) from cron_jobs where holder is null and attempt > 1";
const DONE: &str = "select count(*) from cron_jobs where holder is null and attempt = 0
    and checkpoint is null and slot > now() and locked_until = slot";
/// Of all runs, in the order of their starts.
const TRIES: &str = "select string_agg(attempt || ' ' || outcome, ', ' order by id) from cron_runs";
const SLOTS: &str = "select count(distinct scheduled_at) from cron_runs";

fn database(job: &str, retries: i64, retry_after_seconds: i64) -> Database {
    let database = Postgres::shared().migrated().without_jobs();
    database.add_job(job, "every 1h");
    set(&database, &format!("retries = {retries}, retry_after_seconds = {retry_after_seconds}"));
    database
}

fn set(database: &Database, settings: &str) {
    let set = format!("update cron_jobs set {settings}");
    database.connect().batch_execute(&set).expect("settings");
}

fn job(local: &Local, name: &str) -> Value {
    get(local.addr, &format!("/api/cron/jobs/{name}")).json()
}

fn fails(database: &Database, server: &str) -> Scheduler {
    let functions = only("fails", |_| Err(Failure::Failed("no luck".to_owned())));
    Scheduler::start(database.url(), &options(server), functions)
}

#[test]
fn a_failed_slot_is_tried_again_later_each_time_and_then_the_next_one_is_waited_for() {
    let database = database("fails", 2, 1);
    let due = "update cron_jobs set checkpoint = '1', tried_at = slot, attempt = 1";
    database.connect().batch_execute(due).unwrap();
    let _replicas = [fails(&database, "a"), fails(&database, "b")];
    database.wait_for("all tries", SOON, 3, ENDED);
    assert_eq!(database.text(TRIES), "1 failed, 2 failed, 3 failed");
    assert_eq!(database.number(SLOTS), 1);
    database.wait_for("the next slot is waited for", SOON, 1, DONE);
    let pauses = "select count(*) from (
            select attempt, extract(epoch from started_at - lag(finished_at) over (order by id))
                as pause from cron_runs
        ) as run
        where pause between 0.8 * (attempt - 1) and 1.2 * (attempt - 1) + 2";
    assert_eq!(database.number(pauses), 2, "about one second, and about two");
}

#[test]
fn both_replicas_show_the_try_that_is_waited_for_and_run_now_makes_it_due() {
    let database = database("fails", 1, 3_600);
    let _replica = fails(&database, "a");
    database.wait_for("a retry is waited for", SOON, 1, WAITS);
    let due = database.text("select to_json(locked_until at time zone 'utc')::text from cron_jobs");
    let locals = [Local::start(database.url()), Local::start(database.url())];
    for local in &locals {
        let job = job(local, "fails");
        let shown = ["state", "attempt", "failing", "lastSeenAt"].map(|field| job[field].clone());
        assert_eq!(shown, [json!("waiting"), json!(2), json!(true), Value::Null], "{job}");
        assert_eq!(job["nextRunAt"], job["nextAttemptAt"]);
        let shown = job["nextAttemptAt"].as_str().unwrap();
        assert_eq!(shown[..19], due.trim_matches('"')[..19], "{job}");
    }
    assert_eq!(post(locals[1].addr, "/api/cron/jobs/fails/run", "").status, 202);
    database.wait_for("the second try", SOON, 2, ENDED);
    assert_eq!(database.text(TRIES), "1 failed, 2 failed");
    assert_eq!(database.number(SLOTS), 1, "it is the same slot");
    let shown = job(&locals[0], "fails");
    assert_eq!((&shown["attempt"], &shown["nextAttemptAt"]), (&Value::Null, &Value::Null));
    assert_eq!(shown["failing"], true);
    let history = get(locals[0].addr, "/api/cron/history").json();
    assert_eq!(
        (&history["runs"][0]["attempt"], &history["runs"][1]["attempt"]),
        (&json!(2), &json!(1))
    );
    assert!(history["runs"][1]["server"] == "a");
}

/// Of three replicas one is killed while the second try is waited for, another in the middle of it.
#[test]
fn a_slot_is_tried_to_its_end_by_others_when_replicas_are_killed() {
    let database = Postgres::shared().migrated().without_jobs();
    database.add_job_calling("lucky", "third-time-lucky", "every 1h");
    set(&database, "retries = 2, retry_after_seconds = 2");
    let lease = Duration::from_secs(3);
    let replicas = ["a", "b", "c"].map(|name| (name, witness(&database, name, lease)));
    let kill = |of: &str| {
        let server = database.text(of);
        let (_, child) = replicas.iter().find(|(name, _)| *name == server).expect(&server);
        child.signal("-KILL");
    };
    database.wait_for("a retry is waited for", SOON, 1, WAITS);
    kill("select server from cron_runs where attempt = 1");
    let second = "select count(*) from cron_runs where attempt = 2 and finished_at is null";
    database.wait_for("the second try goes on", SOON, 1, second);
    kill("select server from cron_runs where attempt = 2");
    let over = "select count(*) from cron_runs where outcome = 'succeeded'";
    database.wait_for("the third try succeeds", SOON * 2, 1, over);
    assert_eq!(database.text(TRIES), "1 failed, 2 abandoned, 2 failed, 3 succeeded");
    assert_eq!(database.number(SLOTS), 1);
    assert_eq!(database.number(DONE), 1);
}

/// What is to happen after a failure is decided by the settings at that moment.
#[test]
fn settings_that_are_changed_while_it_runs_decide_about_the_next_try() {
    for (before, meanwhile, retried) in [(5, 0, false), (0, 5, true)] {
        let database = database("gated", before, 3_600);
        let gate = Arc::new(Barrier::new(2));
        let inner = Arc::clone(&gate);
        let functions = only("gated", move |_| {
            inner.wait();
            inner.wait();
            Err(Failure::Failed("no luck".to_owned()))
        });
        let _replica = Scheduler::start(database.url(), &options("a"), functions);
        gate.wait();
        set(&database, &format!("retries = {meanwhile}"));
        gate.wait();
        database.wait_for("it has ended", SOON, 1, ENDED);
        let ends = if retried { WAITS } else { DONE };
        assert_eq!(database.number(ends), 1, "{meanwhile} retries");
    }
}

#[test]
fn who_pauses_a_job_and_resumes_it_gives_up_the_try_that_was_waited_for() {
    let database = database("fails", 1, 3_600);
    let _replica = fails(&database, "a");
    database.wait_for("a retry is waited for", SOON, 1, WAITS);
    let local = Local::start(database.url());
    let patch = |body| ask(local.addr, "PATCH /api/cron/jobs/fails", &[], body).json();
    let paused = patch(r#"{"enabled":false}"#);
    assert_eq!((&paused["nextAttemptAt"], &paused["nextRunAt"]), (&Value::Null, &Value::Null));
    let resumed = patch(r#"{"enabled":true}"#);
    assert_eq!((&resumed["nextAttemptAt"], &resumed["attempt"]), (&Value::Null, &Value::Null));
    assert!(resumed["nextRunAt"].as_str() > resumed["lastRun"]["finishedAt"].as_str(), "{resumed}");
}

/// Replicas of earlier builds move the slot and leave the rest as it was.
#[test]
fn tries_of_another_slot_count_for_nothing() {
    let database = database("fails", 1, 3_600);
    set(&database, "attempt = 7, tried_at = slot - interval '1 h', checkpoint = '1'");
    let _replica = fails(&database, "a");
    database.wait_for("it has ended", SOON, 1, ENDED);
    assert_eq!(database.text(TRIES), "1 failed");
    let kept = "select count(*) from cron_jobs where checkpoint is null and attempt = 2";
    assert_eq!(database.number(kept), 1);
}

#[test]
fn a_drain_does_not_use_up_a_try() {
    let database = database("slow", 1, 1);
    set(&database, "attempt = 2, tried_at = slot");
    let (go, wait) = mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let start = |name| {
        let wait = Arc::clone(&wait);
        let functions = only("slow", move |context| {
            while wait.lock().unwrap().try_recv().is_err() {
                context.wait(Duration::from_millis(20))?;
            }
            Ok(format!("try {}", context.attempt()))
        });
        Scheduler::start(database.url(), &options(name), functions)
    };
    let first = start("a");
    let open = "select count(*) from cron_runs where finished_at is null";
    database.wait_for("it runs", SOON, 1, open);
    drop(first);
    let _second = start("b");
    database.wait_for(
        "it runs elsewhere",
        SOON,
        1,
        "select count(*) from cron_runs where server = 'b'",
    );
    go.send(()).unwrap();
    database.wait_for("both have ended", SOON, 2, ENDED);
    assert_eq!(database.text(TRIES), "2 cancelled, 2 succeeded");
    assert_eq!(database.number(DONE), 1);
}
