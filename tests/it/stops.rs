//! Runs that somebody asks to stop, wherever they go on, and whether their holder lives or not.

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use balanced::cron::Failure;
use serde_json::json;

use crate::support::{
    Database, Local, Postgres, Scheduler, endless, get, only, options, post, until, witness,
};

const SOON: Duration = Duration::from_secs(30);
const LEASE: Duration = Duration::from_secs(3);
const OPEN: &str = "select count(*) from cron_runs where finished_at is null";
const ENDED: &str = "select count(*) from cron_runs where finished_at is not null";
const NEXT: &str = "select count(*) from cron_jobs where holder is null and attempt = 0
    and stop_run is null and slot > now() and locked_until = slot and enabled";

/// A job that would be tried again for long.
fn database(job: &str, function: &str) -> Database {
    let database = Postgres::shared().migrated().without_jobs();
    database.add_job_calling(job, function, "every 1h");
    database.connect().batch_execute("update cron_jobs set retries = 20").unwrap();
    database
}

/// Asks for it; the status and the code of the answer.
fn stop(local: &Local, job: &str, run: i64) -> (u16, String) {
    let answer =
        post(local.addr, &format!("/api/cron/jobs/{job}/stop"), &json!({"runId": run}).to_string());
    (answer.status, if answer.status < 300 { String::new() } else { answer.code() })
}

fn open_run(database: &Database) -> i64 {
    database.wait_for("it runs", SOON, 1, OPEN);
    database.number("select id from cron_runs where finished_at is null")
}

#[test]
fn a_run_is_stopped_through_a_replica_that_does_not_hold_it() {
    let database = database("endless", "endless");
    let replica = Scheduler::start(database.url(), &options("a"), only("endless", endless));
    let local = Local::start(database.url());
    let run = open_run(&database);
    assert_eq!(stop(&local, "endless", run + 1), (409, "job_not_running".to_owned()));
    assert_eq!(stop(&local, "none", run), (404, "job_not_found".to_owned()));
    let body = post(local.addr, "/api/cron/jobs/endless/stop", "{}");
    assert_eq!((body.status, body.json()["field"].as_str()), (400, Some("runId")));
    assert_eq!(database.number(OPEN), 1, "what was refused has done nothing");
    let asked = Instant::now();
    assert_eq!(stop(&local, "endless", run).0, 202);
    database.wait_for("it has ended", SOON, 1, ENDED);
    // A third of a lease, and as much for a machine that is busy.
    assert!(asked.elapsed() < LEASE * 2 / 3, "{:?}", asked.elapsed());
    assert_eq!(database.outcomes("endless"), ["stopped on a"]);
    assert_eq!(database.number(NEXT), 1, "the next slot, not another try");
    assert_eq!(stop(&local, "endless", run), (409, "job_not_running".to_owned()));
    let shown = get(local.addr, "/api/cron/history?outcome=stopped").json();
    assert_eq!(shown["runs"][0]["detail"], "somebody asked to stop it");
    until("it is counted", SOON, || {
        replica.text().contains("cron_runs_total{job=\"endless\",outcome=\"stopped\"} 1")
    });
}

/// Whether it was killed, or is only silent and wakes later, it does not matter.
#[test]
fn a_run_whose_holder_is_dead_is_stopped_and_its_slot_is_not_run_again() {
    for (silence, wakes) in [("-KILL", false), ("-STOP", true)] {
        let database = database("lonely", "witness").with_witness_table();
        let holder = witness(&database, "a", LEASE);
        let run = open_run(&database);
        let local = Local::start(database.url());
        holder.signal(silence);
        assert_eq!(stop(&local, "lonely", run).0, 202);
        assert_eq!(stop(&local, "lonely", run).0, 202, "to ask again does no harm");
        let others = ["b", "c", "d"]
            .map(|name| Scheduler::start(database.url(), &options(name), only("witness", endless)));
        database.wait_for("it is closed", SOON, 1, ENDED);
        assert_eq!(database.outcomes("lonely"), ["stopped on a"]);
        let detail = database.text("select detail from cron_runs");
        assert_eq!(detail, "somebody asked to stop it, and the lease of a ran out");
        assert_eq!(database.number(NEXT), 1);
        if wakes {
            holder.signal("-CONT");
            until("it has found out", SOON, || holder.log().contains("event=run_lost"));
        }
        let counted = "cron_runs_total{job=\"lonely\",outcome=\"stopped\"} 1";
        until("it is counted", SOON, || others.iter().any(|other| other.text().contains(counted)));
        assert_eq!(others.iter().filter(|other| other.text().contains(counted)).count(), 1);
        assert_eq!(database.number(NEXT), 1, "{silence}");
        assert_eq!(database.number("select count(*) from cron_runs"), 1, "{silence}");
    }
}

/// It was offered before somebody asked: nobody takes it over all the same, also while a replica
/// cannot know yet that the lease's whole length is over.
#[test]
fn an_offered_run_that_is_to_be_stopped_is_not_taken_over() {
    let database = database("orphan", "endless");
    database.orphan_the_job();
    let offered = "update cron_jobs set offered_at = now() - interval '20 s', \
                   written_at = locked_until - interval '4 s'";
    database.connect().batch_execute(offered).unwrap();
    let local = Local::start(database.url());
    assert_eq!(stop(&local, "orphan", open_run(&database)).0, 202);
    let _replica = Scheduler::start(database.url(), &options("a"), only("endless", endless));
    database.wait_for("it is closed", SOON, 1, ENDED);
    assert_eq!(database.outcomes("orphan"), ["stopped on dead"]);
    assert_eq!((database.number(NEXT), database.number(OPEN)), (1, 0));
}

#[test]
fn a_stopped_run_of_a_dead_holder_that_was_to_be_the_only_one_is_the_last() {
    let database = database("once", "endless");
    database.orphan_the_job();
    let asked = "update cron_jobs set stop_run = run_id, slot = '2026-01-01T00:00:00Z', \
                 schedule = 'at 2026-01-01T00:00:00Z'";
    database.connect().batch_execute(asked).unwrap();
    let local = Local::start(database.url());
    let _replica = Scheduler::start(database.url(), &options("a"), only("endless", endless));
    database.wait_for("it is closed", SOON, 1, ENDED);
    assert_eq!(database.outcomes("once"), ["stopped on dead"]);
    let job = get(local.addr, "/api/cron/jobs/once").json();
    assert_eq!((&job["enabled"], &job["state"]), (&json!(false), &json!("paused")));
    let changes = get(local.addr, "/api/cron/jobs/once/changes").json();
    let change = &changes["changes"][0];
    let seen = (&change["before"]["enabled"], &change["after"]["enabled"]);
    assert_eq!(seen, (&json!(true), &json!(false)));
}

/// A poll that had begun before somebody asked has offered it: that offer ends by its age.
#[test]
fn a_run_that_is_offered_and_to_be_stopped_at_the_same_moment_is_closed_later() {
    let database = database("orphan", "endless");
    database.orphan_the_job();
    let asked = "update cron_jobs set offered_at = now() - interval '10 minutes', \
                 stop_run = run_id, written_at = locked_until - interval '4 s'";
    database.connect().batch_execute(asked).unwrap();
    let _replica = Scheduler::start(database.url(), &options("a"), only("endless", endless));
    database.wait_for("it is closed", SOON, 1, ENDED);
    assert_eq!(database.outcomes("orphan"), ["stopped on dead"]);
}

#[test]
fn run_now_is_refused_while_a_run_that_is_to_be_stopped_is_not_closed() {
    let database = database("orphan", "endless");
    database.orphan_the_job();
    let local = Local::start(database.url());
    assert_eq!(stop(&local, "orphan", open_run(&database)).0, 202);
    let answer = post(local.addr, "/api/cron/jobs/orphan/run", "");
    assert_eq!((answer.status, answer.code()), (409, "job_running".to_owned()));
}

/// Somebody asks, and before the holder can know of it, it is shut down or the function fails.
#[test]
fn a_run_that_ends_by_itself_meanwhile_is_not_run_again() {
    let database = database("endless", "endless");
    let slow = || {
        let mut options = options("a");
        options.lease = LEASE * 5;
        options
    };
    let replica = Scheduler::start(database.url(), &slow(), only("endless", endless));
    let local = Local::start(database.url());
    assert_eq!(stop(&local, "endless", open_run(&database)).0, 202);
    drop(replica);
    database.wait_for("it has ended", SOON, 1, ENDED);
    assert_eq!(database.outcomes("endless"), ["stopped on a"]);
    assert_eq!(database.number(NEXT), 1);

    let database = self::database("gated", "gated");
    let gate = Arc::new(Barrier::new(2));
    let inner = Arc::clone(&gate);
    let functions = only("gated", move |context| {
        context.set_progress(0.5);
        inner.wait();
        Err(Failure::Failed("no luck".to_owned()))
    });
    let _replica = Scheduler::start(database.url(), &slow(), functions);
    let local = Local::start(database.url());
    // The first renewal may come at any moment. After the one that makes this visible the replica
    // learns nothing for a third of its lease.
    let renewed = "select count(*) from cron_runs where progress > 0";
    database.wait_for("its lease was renewed", SOON, 1, renewed);
    assert_eq!(stop(&local, "gated", open_run(&database)).0, 202);
    gate.wait();
    database.wait_for("it has ended", SOON, 1, ENDED);
    assert_eq!(database.outcomes("gated"), ["failed on a"]);
    assert_eq!(database.number(NEXT), 1, "the next slot, not another try");
}

#[test]
fn a_stop_of_an_earlier_run_is_no_stop_of_the_one_that_goes_on() {
    let database = database("endless", "endless");
    let _replica = Scheduler::start(database.url(), &options("a"), only("endless", endless));
    let run = open_run(&database);
    let other = format!("update cron_jobs set stop_run = {run} - 1");
    database.connect().batch_execute(&other).unwrap();
    let renewed = "select count(*) from cron_jobs where written_at > now() - interval '1 s'
        and written_at > (select started_at from cron_runs) + interval '2 s'";
    database.wait_for("it was renewed", SOON, 1, renewed);
    assert_eq!((database.number(OPEN), database.number(ENDED)), (1, 0));
}
