//! `GET /health/jobs`: one answer to whoever watches from outside.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use balanced::cron::UNHEALTHY_MAX;
use serde_json::{Value, json};

use crate::support::{
    Answer, Database, Local, Postgres, Process, Scheduler, endless, get, only, options,
};

const SOON: Duration = Duration::from_secs(20);
/// In which every answer comes, and what this machine may add.
const ANSWER_MAX: Duration = Duration::from_millis(3_500);

/// A run of this job that has ended so, and that no later one follows.
fn add_run(database: &Database, job: &str, outcome: &str) {
    let run = "with job as (update cron_jobs set token = token + 1 where name = $1 returning *) \
               insert into cron_runs (job_id, job, function, token, server, scheduled_at, \
               started_at, finished_at, outcome) select id, name, function, token, \
               case when $2 = 'missed' then '' else 'replica-1' end, slot, slot, now(), $2 \
               from job";
    database.connect().execute(run, &[&job, &outcome]).expect("a run");
}

fn set(database: &Database, job: &str, what: &str) {
    let update = format!("update cron_jobs set {what} where name = '{job}'");
    database.connect().batch_execute(&update).expect(what);
}

/// The reasons by name, as every replica tells them: `a failing, b late`.
fn told(replicas: &[Local]) -> String {
    let told = replicas.iter().map(|replica| {
        let answer = get(replica.addr, "/health/jobs");
        let jobs = answer.json()["jobs"].clone();
        let named = jobs.as_array().into_iter().flatten();
        let text = |key: &Value| key.as_str().unwrap().to_owned();
        let named: Vec<String> =
            named.map(|job| text(&job["name"]) + " " + &text(&job["reason"])).collect();
        let expected = if named.is_empty() { 200 } else { 503 };
        assert_eq!(answer.status, expected, "{}", answer.json());
        named.join(", ")
    });
    let told: Vec<String> = told.collect();
    assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
    told.into_iter().next().unwrap()
}

fn two_replicas() -> (Database, [Local; 2]) {
    let database = Postgres::shared().migrated().without_jobs();
    let replicas = [Local::start(database.url()), Local::start(database.url())];
    (database, replicas)
}

#[test]
fn every_reason_is_told_of_every_enabled_job_and_of_no_other() {
    let (database, replicas) = two_replicas();
    assert_eq!(
        get(replicas[0].addr, "/health/jobs").json(),
        json!({"ok": true, "enabled": 0, "paused": false})
    );
    for job in ["a", "b", "c", "d", "e"] {
        database.add_job(job, "every 1h");
        set(&database, job, "locked_until = now() + interval '1 hour'");
    }
    assert_eq!(told(&replicas), "", "no run says nothing");
    ["a", "b", "c"].iter().for_each(|job| add_run(&database, job, "succeeded"));
    assert_eq!(told(&replicas), "");
    add_run(&database, "a", "failed");
    add_run(&database, "b", "timed_out");
    add_run(&database, "c", "missed");
    assert_eq!(told(&replicas), "a failing, b failing, c missed");
    // Runs that were broken off say nothing of the function, and that a slot was missed is over.
    for outcome in ["cancelled", "abandoned", "stopped"] {
        ["a", "c", "d"].iter().for_each(|job| add_run(&database, job, outcome));
        assert_eq!(told(&replicas), "a failing, b failing", "{outcome}");
    }
    add_run(&database, "a", "succeeded");
    set(&database, "b", "enabled = false");
    assert_eq!(told(&replicas), "", "it is paused");
    // By its own limit or by that of all, and also if a dead replica holds it.
    set(&database, "d", "locked_until = now() - interval '299 seconds'");
    set(&database, "e", "locked_until = now() - interval '11 seconds', start_within_seconds = 10");
    assert_eq!(told(&replicas), "e late");
    set(&database, "d", "locked_until = now() - interval '301 seconds'");
    set(&database, "e", "start_within_seconds = 30");
    assert_eq!(told(&replicas), "d late");
    set(&database, "a", "locked_until = now() - interval '1 hour', start_within_seconds = 4000");
    assert_eq!(told(&replicas), "d late");
    database
        .connect()
        .batch_execute("delete from cron_jobs where name <> 'd'; delete from cron_runs")
        .unwrap();
    database.orphan_the_job();
    assert_eq!(told(&replicas), "", "it is stalled, and not for long");
    set(&database, "d", "locked_until = now() - interval '301 seconds'");
    assert_eq!(told(&replicas), "d late");
}

#[test]
fn the_list_counts_and_finds_what_is_wrong_with_jobs() {
    let (database, replicas) = two_replicas();
    for job in ["bad", "cut", "fine", "gone", "idle", "late", "off", "slow", "tried"] {
        database.add_job(job, "every 1h");
        set(&database, job, "locked_until = now() + interval '1 hour'");
    }
    for (job, outcomes) in [
        ("bad", vec!["missed", "failed"]),
        ("cut", vec!["timed_out", "cancelled", "stopped"]),
        ("fine", vec!["failed", "missed", "succeeded", "cancelled"]),
        ("gone", vec!["failed", "missed"]),
        ("late", vec!["succeeded", "missed"]),
        ("off", vec!["failed", "missed"]),
    ] {
        outcomes.iter().for_each(|outcome| add_run(&database, job, outcome));
    }
    set(&database, "off", "enabled = false");
    set(&database, "tried", "attempt = 2, tried_at = slot");
    set(&database, "idle", "attempt = 2, tried_at = slot - interval '1 hour'");
    let open = "with run as (insert into cron_runs (job_id, job, function, token, server, \
                scheduled_at, started_at, max_seconds, attempt) select id, name, function, 9, 'a', \
                slot, now() - interval '66 s', 60, 2 from cron_jobs where name = 'slow' \
                returning id, job_id, scheduled_at) update cron_jobs set holder = 'a#1', \
                run_id = run.id, attempt = 2, tried_at = scheduled_at, token = 9, \
                enabled = false from run where cron_jobs.id = job_id";
    database.connect().batch_execute(open).expect("an open run");
    let list = |query: &str| get(replicas[0].addr, &format!("/api/cron/status?{query}")).json();
    let names = |query: &str| -> Vec<String> {
        let jobs = list(query)["jobs"].as_array().expect("jobs").clone();
        jobs.iter().map(|job| job["name"].as_str().unwrap().to_owned()).collect()
    };
    for (query, expected) in [
        ("condition=failing", vec!["bad", "cut", "gone"]),
        ("condition=overdue", vec!["slow"]),
        ("condition=missed", vec!["gone", "late"]),
        ("condition=retrying", vec!["slow", "tried"]),
        ("condition=overdue,missed&limit=2", vec!["gone", "late"]),
        ("condition=failing,retrying&state=running", vec!["slow"]),
        ("condition=failing&state=paused", vec![]),
    ] {
        assert_eq!(names(query), expected, "{query}");
        let conditions = json!({"failing": 3, "overdue": 1, "missed": 2, "retrying": 2});
        assert_eq!(list(query)["conditions"], conditions, "{query}");
    }
    let all = list("")["jobs"].clone();
    let told = |member: &str| -> Vec<&str> {
        let jobs = all.as_array().unwrap().iter().filter(|job| job[member] == true);
        jobs.map(|job| job["name"].as_str().unwrap()).collect()
    };
    assert_eq!(told("failing"), ["bad", "cut", "gone", "off"], "also of a job that is paused");
    assert_eq!(told("overdue"), ["slow"]);
    let answer = get(replicas[0].addr, "/api/cron/jobs?condition=due");
    assert_eq!((answer.status, &answer.json()["field"]), (400, &Value::from("condition")));
}

#[test]
fn while_everything_is_paused_no_job_is_late_and_what_else_is_wrong_is_told() {
    let (database, replicas) = two_replicas();
    for job in ["long", "late"] {
        database.add_job_calling(job, "endless", "every 1h");
    }
    set(&database, "late", "function = 'unknown', locked_until = now() - interval '1 day'");
    let _scheduler = Scheduler::start(database.url(), &options("a"), only("endless", endless));
    let open = "select count(*) from cron_runs where finished_at is null";
    database.wait_for("it runs", SOON, 1, open);
    assert_eq!(told(&replicas), "late late");
    set(&database, "long", "max_seconds = 1");
    assert_eq!(told(&replicas), "late late", "it counts from the next run on");
    let began = "update cron_runs set started_at = now() - interval '1006 seconds', \
                 max_seconds = 1000";
    database.connect().batch_execute(began).unwrap();
    assert_eq!(told(&replicas), "late late, long overdue");
    let pause = "insert into cron_pause (reason, until) values ('a move', $1::text::timestamptz)";
    let pause_until = |until: Option<&str>| {
        database.connect().batch_execute("delete from cron_pause").unwrap();
        database.connect().execute(pause, &[&until]).expect("a pause");
    };
    pause_until(None);
    assert_eq!(told(&replicas), "long overdue");
    add_run(&database, "late", "failed");
    assert_eq!(told(&replicas), "late failing, long overdue", "not late for the pause");
    let detail = get(replicas[0].addr, "/health/jobs").json()["detail"].clone();
    let all = "2 jobs should be looked at: late (failing), long (overdue); everything is paused";
    assert_eq!(detail, all);
    add_run(&database, "late", "succeeded");
    let other = "update cron_runs set max_seconds = null";
    database.connect().batch_execute(other).unwrap();
    assert_eq!(
        get(replicas[0].addr, "/health/jobs").json(),
        json!({"ok": true, "enabled": 2, "paused": true})
    );
    pause_until(Some("2999-01-01"));
    assert_eq!(told(&replicas), "");
    pause_until(Some("2020-01-01"));
    assert_eq!(told(&replicas), "late late", "its end has come");
}

#[test]
fn many_unhealthy_jobs_are_counted_and_the_first_are_named() {
    let (database, replicas) = two_replicas();
    database.add_due_jobs(UNHEALTHY_MAX + 20, "unknown");
    let late = "update cron_jobs set locked_until = now() - interval '1 day'";
    database.connect().batch_execute(late).unwrap();
    let problem = get(replicas[0].addr, "/health/jobs").json();
    assert_eq!(problem["jobs"].as_array().unwrap().len(), 100);
    assert_eq!(
        problem["detail"],
        "120 jobs should be looked at: job-1 (late), job-10 (late), job-100 (late), \
         job-101 (late), job-102 (late), …"
    );
}

fn timed(addr: SocketAddr) -> (Answer, Duration) {
    let began = Instant::now();
    (get(addr, "/health/jobs"), began.elapsed())
}

#[test]
fn it_is_answered_in_time_while_the_database_is_away_or_does_not_answer() {
    let away = Process::spawn(&mut Process::command("host=/nowhere user=nobody", &[]));
    let server = Postgres::lend();
    let database = server.prepared();
    let local = Local::start(database.url());
    let (mut holder, jobs) = (database.connect(), "lock table cron_jobs");
    let mut locked = holder.transaction().unwrap();
    locked.batch_execute(jobs).expect("a lock");
    let (stuck, stuck_for) = timed(local.addr);
    locked.rollback().unwrap();
    assert_eq!(get(local.addr, "/health/jobs").status, 200);
    let paused = server.pause();
    let (frozen, frozen_for) = timed(local.addr);
    drop(paused);
    let (nowhere, nowhere_for) = timed(away.addr);
    for (what, answer, time) in [
        ("locked", stuck, stuck_for),
        ("frozen", frozen, frozen_for),
        ("nowhere", nowhere, nowhere_for),
    ] {
        assert_eq!((answer.status, answer.code()), (503, "database_unavailable".into()), "{what}");
        assert!(time < ANSWER_MAX, "{what}: {time:?}");
    }
}
