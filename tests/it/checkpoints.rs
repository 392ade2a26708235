//! Another run of the same slot goes on where the last one was, and no other run does.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use balanced::cron::{Context, Failure, Functions};
use balanced::jobs::{self, FunctionOptions};
use serde_json::{Value, json};

use crate::support::{
    Child, Database, Local, Postgres, Process, Scheduler, counting, get, only, options, post,
    until, witness,
};

const LEASE: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_secs(30);
/// As many as take an audit some seconds.
const CHANGES: i64 = 600_000;
const SAVED: &str = "select coalesce(max(checkpoint), '0')::bigint from cron_jobs";
const ENDED: &str = "select count(*) from cron_runs where finished_at is not null";

fn database(function: &str) -> Database {
    let database = Postgres::shared().migrated().without_jobs();
    database.add_job_calling("long", function, "every 1h");
    database
}

/// Two replicas of which one runs the only job, that one first.
fn holder_and_other(database: &Database) -> (Child, Child) {
    let (a, b) = (witness(database, "a", LEASE), witness(database, "b", LEASE));
    let held = "select count(*) from cron_jobs where holder is not null";
    database.wait_for("it runs", SOON, 1, held);
    match database.text("select server from cron_runs").as_str() {
        "a" => (a, b),
        _ => (b, a),
    }
}

/// One user with many changes, and this job alone.
fn filled(job: &str) -> Database {
    let database = Postgres::shared().migrated();
    let fill = format!(
        "delete from cron_jobs where name <> '{job}'; \
         insert into balance_changes (user_id, id, amount, balance_after) \
         select 1, 1 + n, 1, 10000 + n from generate_series(1, {CHANGES}) n; \
         update users set changes = 1 + {CHANGES}, balance = 10000 + {CHANGES}; \
         vacuum analyze balance_changes"
    );
    fill.split("; ").for_each(|step| database.connect().batch_execute(step).expect(step));
    database
}

fn wait_until_saved(database: &Database, number: i64) {
    until("the checkpoint moves on", SOON, || database.number(SAVED) >= number);
}

/// Where the last run of the job began.
fn began_at(database: &Database) -> i64 {
    let line = "select replace(max(line), 'began at ', '')::bigint from cron_run_lines \
                where number = 1 and run_id = (select max(id) from cron_runs)";
    let said = "select count(*) from cron_run_lines where number = 1 \
                and run_id = (select max(id) from cron_runs)";
    database.wait_for("the run says where it began", SOON, 1, said);
    database.number(line)
}

/// A function that tells what it was given to go on from, and ends or waits.
fn tells(waits: bool) -> (Functions, Arc<Mutex<Vec<Option<Value>>>>) {
    let given = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&given);
    let function = move |context: &Context| -> Result<String, Failure> {
        let last: Option<Value> = context.last_checkpoint();
        told.lock().unwrap().push(last);
        context.checkpoint(&json!({"run": context.run_id(), "note": "größer → kleiner"}))?;
        if waits {
            context.wait(Duration::from_secs(60))?;
        }
        Ok(String::new())
    };
    (Functions::new().with("tells", function.clone()).with("other", function), given)
}

#[test]
fn a_run_that_is_taken_over_goes_on_from_the_last_checkpoint() {
    let database = database("counting");
    let (holder, _other) = holder_and_other(&database);
    wait_until_saved(&database, 40);
    holder.signal("-KILL");
    let saved = database.number(SAVED);
    database.wait_for("it was taken over", SOON, 1, ENDED);
    assert_eq!(began_at(&database), saved);
    wait_until_saved(&database, saved + 40);
    // What a run has kept is seen through any replica.
    let local = Local::start(database.url());
    let open = database.number("select max(id) from cron_runs");
    let run = get(local.addr, &format!("/api/cron/runs/{open}")).json();
    assert!(run["checkpointBytes"].as_i64() >= Some(2), "{run}");
}

/// It wakes with a checkpoint that is older than the one of the run that has taken over.
#[test]
fn a_holder_that_was_frozen_moves_neither_the_checkpoint_nor_the_log() {
    let database = database("counting");
    let (sleeper, _other) = holder_and_other(&database);
    wait_until_saved(&database, 40);
    sleeper.signal("-STOP");
    database.wait_for("it was taken over", SOON, 1, ENDED);
    let first = database.number("select min(id) from cron_runs");
    let lines = format!("select count(*) from cron_run_lines where run_id = {first}");
    let said = database.number(&lines);
    wait_until_saved(&database, database.number(SAVED) + 100);
    let mut last = database.number(SAVED);
    sleeper.signal("-CONT");
    until("the sleeper has found out", SOON, || sleeper.log().contains("event=run_lost"));
    let start = Instant::now();
    while start.elapsed() < LEASE {
        let saved = database.number(SAVED);
        assert!(saved >= last, "{saved} after {last}");
        last = saved;
    }
    assert_eq!(database.number(&lines), said);
}

/// No renewal is due before the drain: the end of the run carries the checkpoint.
#[test]
fn a_run_that_is_drained_hands_its_checkpoint_over() {
    let database = database("tells");
    let (functions, given) = tells(true);
    let mut options = options("a");
    options.lease = Duration::from_secs(600);
    let first = Scheduler::start(database.url(), &options, functions.clone());
    until("it runs", SOON, || given.lock().unwrap().len() == 1);
    first.0.begin_drain();
    assert!(first.0.wait_drained(Instant::now() + SOON));
    let run = database.number("select id from cron_runs");
    assert!(database.number("select checkpoint_bytes::bigint from cron_runs") > 20);
    options.server = "b".to_owned();
    let second = Scheduler::start(database.url(), &options, functions.clone());
    until("it runs elsewhere", SOON, || given.lock().unwrap().len() == 2);
    let kept = json!({"run": run, "note": "größer → kleiner"});
    assert_eq!(*given.lock().unwrap(), [None, Some(kept)]);
    // The job calls another function by the time of the next hand-over.
    database.connect().batch_execute("update cron_jobs set function = 'other'").unwrap();
    second.0.begin_drain();
    assert!(second.0.wait_drained(Instant::now() + SOON));
    options.server = "c".to_owned();
    let _third = Scheduler::start(database.url(), &options, functions);
    until("it runs again", SOON, || given.lock().unwrap().len() == 3);
    assert_eq!(given.lock().unwrap()[2], None);
}

#[test]
fn the_next_slot_begins_anew() {
    let database = database("tells");
    database.connect().batch_execute("update cron_jobs set schedule = 'every 1s'").unwrap();
    let (functions, given) = tells(false);
    let _replica = Scheduler::start(database.url(), &options("a"), functions);
    until("three slots", SOON, || given.lock().unwrap().len() >= 3);
    assert!(given.lock().unwrap().iter().all(Option::is_none));
    database.wait_for(
        "nothing is kept",
        SOON,
        1,
        "select count(*) from cron_jobs where checkpoint is null",
    );
}

/// The slot waits to be tried again, with what its last run has kept.
#[test]
fn a_run_that_somebody_asks_for_begins_anew_and_its_own_takeover_does_not() {
    for asks in [false, true] {
        let database = database("tells");
        let (functions, given) = tells(true);
        let wait = if asks { "1 hour" } else { "0" };
        let kept = format!(
            "insert into cron_runs (job_id, job, function, token, server, scheduled_at, \
             started_at, finished_at, outcome) select id, name, function, token, 'z', slot, slot, \
             now(), 'failed' from cron_jobs; update cron_jobs set checkpoint = '7', \
             tried_at = slot, locked_until = now() + interval '{wait}'"
        );
        database.connect().batch_execute(&kept).unwrap();
        let local = Local::start(database.url());
        if asks {
            assert_eq!(post(local.addr, "/api/cron/jobs/long/run", "").status, 202);
        }
        let first = Scheduler::start(database.url(), &options("a"), functions.clone());
        until("it runs", SOON, || given.lock().unwrap().len() == 1);
        assert_eq!(given.lock().unwrap()[0], (!asks).then_some(json!(7)));
        first.0.begin_drain();
        assert!(first.0.wait_drained(Instant::now() + SOON));
        let _second = Scheduler::start(database.url(), &options("b"), functions);
        until("it runs elsewhere", SOON, || given.lock().unwrap().len() == 2);
        let last = given.lock().unwrap()[1].clone();
        assert!(last.is_some_and(|last| last["run"].is_number()));
    }
}

#[test]
fn a_checkpoint_that_is_too_long_fails_the_run_and_says_so() {
    let database = database("hoards");
    let hoards = |context: &Context| {
        context.checkpoint(&"x".repeat(4_094))?;
        context.checkpoint(&"x".repeat(4_095))?;
        Ok(String::new())
    };
    let _replica = Scheduler::start(database.url(), &options("a"), only("hoards", hoards));
    database.wait_for("it has ended", SOON, 1, ENDED);
    assert_eq!(
        database.text("select outcome || ': ' || detail from cron_runs"),
        "failed: a checkpoint of 4097 bytes of JSON is too long: keep at most 4096"
    );
}

/// What such a database cannot hold is kept all the same, and costs no lease.
#[test]
fn a_checkpoint_and_a_log_fit_a_database_of_any_encoding() {
    let database = Postgres::shared().latin_1().without_jobs();
    database.add_job_calling("long", "tells", "every 1h");
    let (functions, given) = tells(true);
    let talks = |context: &Context| {
        context.say("größer → kleiner");
        counting(context)
    };
    database.add_job_calling("talks", "talks", "every 1h");
    let functions = functions.with("talks", talks);
    let mut options = options("a");
    options.handicap = Duration::ZERO;
    let replica = Scheduler::start(database.url(), &options, functions.clone());
    let said = "select count(*) from cron_run_lines where line = 'gr??er ? kleiner'";
    database.wait_for("the line", SOON, 1, said);
    let kept = "select count(*) from cron_jobs where checkpoint is not null";
    database.wait_for("the checkpoints", SOON, 2, kept);
    assert!(replica.text().contains("cron_leases_lost_total 0"), "{}", replica.text());
    assert!(replica.text().contains("cron_heartbeat_failures_total 0"), "{}", replica.text());
    drop(replica);
    let _other = Scheduler::start(database.url(), &options, functions);
    until("it goes on", SOON, || given.lock().unwrap().len() == 2);
    assert_eq!(given.lock().unwrap()[1].as_ref().unwrap()["note"], "größer → kleiner");
}

/// One user has all changes, so it is within that user's sum that the run is drained.
#[test]
fn a_reconciliation_that_is_drained_goes_on_within_a_users_sum_and_lasts_its_least_time() {
    let database = filled("reconcile-balances");
    let start = |name| {
        let functions = FunctionOptions { least: Duration::from_secs(4), run_history_days: 14 };
        Scheduler::start(database.url(), &options(name), jobs::functions(functions))
    };
    let first = start("a");
    let part = "select count(*) from cron_jobs \
                where (checkpoint::json -> 'part' ->> 'number')::bigint > 100000";
    database.wait_for("a part is summed", SOON, 1, part);
    first.0.begin_drain();
    assert!(first.0.wait_drained(Instant::now() + SOON));
    let _second = start("b");
    database.wait_for("it has ended", SOON * 2, 2, ENDED);
    assert_eq!(database.outcomes("reconcile-balances"), ["cancelled on a", "succeeded on b"]);
    let detail = database.text("select detail from cron_runs where server = 'b'");
    let right = "balances that are the sums of their changes: 1; this run went on after user 1";
    assert_eq!(detail, right);
    let least = "select count(*) from cron_runs where server = 'b' \
                 and finished_at - started_at >= interval '4 seconds'";
    assert_eq!(database.number(least), 1);
}

/// Of the changes that the killed run has read, the next one reads none again, but for those since
/// the last renewal.
#[test]
fn an_audit_that_is_killed_half_way_does_not_begin_anew() {
    let database = filled("audit-ledger");
    let start = |name| {
        let quick = [("REPLICA_NAME", name), ("CRON_LEASE_SECONDS", "3"), ("JOB_MIN_SECONDS", "0")];
        Process::start(database.url(), &quick)
    };
    let (a, b) = (start("a"), start("b"));
    let number = "select coalesce((max(checkpoint)::json ->> 'number')::bigint, 0) from cron_jobs";
    until("a part is read", SOON * 2, || database.number(number) > CHANGES / 3);
    let (holder, other) = match database.text("select server from cron_runs").as_str() {
        "a" => (a, b),
        _ => (b, a),
    };
    holder.signal("-KILL");
    let kept = database.number(number);
    assert!(kept < CHANGES, "it had ended");
    database.wait_for("it was taken over", SOON, 1, ENDED);
    let read = "select coalesce(idx_tup_fetch, 0) from pg_stat_user_tables \
                where relname = 'balance_changes'";
    database.wait_for("it has ended", SOON * 2, 2, ENDED);
    let last = "from cron_runs order by id desc limit 1";
    assert_eq!(
        database.text(&format!("select outcome || ': ' || detail {last}")),
        format!(
            "succeeded: changes that follow from one another: {}; this run went on after user 1, \
             change {kept}",
            CHANGES + 1
        )
    );
    let run = database.number(&format!("select id {last}"));
    let log = get(other.addr, &format!("/api/cron/runs/{run}/log")).json();
    let line = format!("this run goes on after user 1, change {kept}");
    assert_eq!(log["lines"][0]["line"], line, "{log}");
    // A run that begins anew reads again at least what was kept.
    until("what was read is counted", SOON, || database.number(read) > CHANGES);
    let all = database.number(read);
    assert!(all < CHANGES + kept, "both together have read {all}");
}
