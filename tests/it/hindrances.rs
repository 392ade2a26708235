//! What stands in the way of a job or of a set of jobs is told, and how to go on.

use std::time::Duration;

use serde_json::{Value, json};

use crate::job_sets::File;
use crate::jobs_command::{command, said};
use crate::support::{
    Database, Local, Postgres, Scheduler, ask, endless, get, only, options, post,
};

const SOON: Duration = Duration::from_secs(20);
const RUNNING: &str = "select count(*) from cron_jobs where holder is not null";

fn two() -> (Database, [Local; 2]) {
    let database = Postgres::shared().migrated().without_jobs();
    let replicas = [0, 1].map(|_| Local::start(database.url()));
    (database, replicas)
}

fn run(replica: &Local, words: &[&str]) -> (Option<i32>, String, String) {
    said(&command(&format!("http://{}", replica.addr), words).output().expect("the command"))
}

#[test]
fn a_set_that_is_tried_tells_all_that_would_change_and_every_job_that_runs() {
    let (database, [one, other]) = two();
    ["a", "b"].iter().for_each(|job| database.add_job_calling(job, "endless", "every 1h"));
    let scheduler = Scheduler::start(database.url(), &options("r"), only("endless", endless));
    database.wait_for("they run", SOON, 2, RUNNING);
    database.add_job("c", "every 1h");
    let file = File::of("pruned", &json!([{"name": "d", "function": "f", "schedule": "every 1h"}]));
    let apply = |replica: &Local, words: &[&str]| {
        run(replica, &[&["apply", "--prune", "-f", file.0.to_str().unwrap()], words].concat())
    };
    let listed = "would be created: d\nwould be deleted: a\nwould be deleted: b\n\
                  would be deleted: c\nwould be 1 created, 0 changed, 3 deleted, 0 unchanged\n";
    let why = "balanced: it would be refused now, since of the jobs to delete these run: a, b\n";
    for replica in [&one, &other] {
        let told = apply(replica, &["--dry-run"]);
        assert_eq!(told, (Some(1), listed.to_owned(), why.to_owned()));
    }
    let (code, out, err) = apply(&one, &[]);
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    assert_eq!(err, "balanced: the job \"a\" is running\n");
    assert_eq!(database.number("select count(*) from cron_jobs"), 3, "nothing was changed");
    scheduler.0.begin_drain();
    database.wait_for("they have ended", SOON, 0, RUNNING);
    assert_eq!(apply(&other, &["--dry-run"]), (Some(0), listed.to_owned(), String::new()));
    assert_eq!(apply(&one, &[]).0, Some(0));
}

/// What each replica, and the list of one, tell of this job.
fn waits_for(replicas: &[Local; 2], job: &str) -> Value {
    let shown = replicas.each_ref().map(|replica| {
        get(replica.addr, &format!("/api/cron/jobs/{job}")).json()["waitsFor"].clone()
    });
    let list = get(replicas[0].addr, &format!("/api/cron/jobs?name={job}")).json();
    assert_eq!((&shown[0], &shown[0]), (&shown[1], &list["jobs"][0]["waitsFor"]));
    shown[0].clone()
}

#[test]
fn a_job_that_is_due_tells_what_it_waits_for() {
    let (database, replicas) = two();
    database.add_job("first", "every 1h");
    let _scheduler = Scheduler::start(database.url(), &options("a"), only("first", endless));
    database.wait_for("it runs", SOON, 1, RUNNING);
    database.add_job_calling("second", "estimate-pi", "every 1h");
    assert_eq!(waits_for(&replicas, "second"), Value::Null, "a replica takes it soon");
    let group = "update cron_jobs set job_group = 'g'";
    database.connect().batch_execute(group).unwrap();
    assert_eq!(waits_for(&replicas, "second"), json!({"reason": "group", "job": "first"}));
    assert_eq!(waits_for(&replicas, "first"), Value::Null, "it runs");
    let unknown = "update cron_jobs set function = 'unknown' where name = 'second'";
    database.connect().batch_execute(unknown).unwrap();
    assert_eq!(waits_for(&replicas, "second")["reason"], "group", "which both say");
    database.connect().batch_execute("update cron_jobs set job_group = null").unwrap();
    assert_eq!(waits_for(&replicas, "second"), json!({"reason": "function"}));

    let (code, told, _) = run(&replicas[0], &["pause", "--all"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.ends_with("to end the pause: balanced jobs resume --all\n"), "{told}");
    assert_eq!(waits_for(&replicas, "second"), json!({"reason": "pause"}));
    assert_eq!(waits_for(&replicas, "first"), Value::Null, "it goes on");
    let later = "update cron_jobs set locked_until = now() + interval '1 h' where name = 'second'";
    database.connect().batch_execute(later).unwrap();
    assert_eq!(waits_for(&replicas, "second"), Value::Null, "it is not due");
    let asked = post(replicas[1].addr, "/api/cron/jobs/second/run", "");
    assert_eq!((asked.status, &asked.json()["waitsFor"]["reason"]), (202, &json!("pause")));
    let told = run(&replicas[0], &["run", "second"]).1;
    assert_eq!(told, "second is due\nwaits for             pause\n");
    let shown = run(&replicas[1], &["show", "second"]).1;
    assert!(shown.contains("\nwaits for             pause\n"), "{shown}");
}

#[test]
fn a_dead_holders_job_tells_that_everything_is_paused_and_whether_it_is_to_be_stopped() {
    let (database, replicas) = two();
    database.add_job_calling("orphan", "estimate-pi", "every 1h");
    database.orphan_the_job();
    let job = || get(replicas[1].addr, "/api/cron/jobs/orphan").json();
    assert_eq!((&job()["stopRequested"], &job()["waitsFor"]), (&json!(false), &Value::Null));
    let body = json!({"runId": job()["runId"]}).to_string();
    let asked = post(replicas[0].addr, "/api/cron/jobs/orphan/stop", &body);
    assert_eq!((asked.status, &asked.json()["stopRequested"]), (202, &json!(true)));
    assert_eq!(job()["stopRequested"], true);
    let path = format!("/api/cron/runs/{}", job()["runId"]);
    let run = || get(replicas[1].addr, &path).json();
    assert_eq!(run()["stopRequested"], true);
    assert_eq!(post(replicas[0].addr, "/api/cron/pause", r#"{"reason":"x"}"#).status, 200);
    assert_eq!(waits_for(&replicas, "orphan"), json!({"reason": "pause"}));
    let closes = only("estimate-pi", |_| Ok(String::new()));
    let _scheduler = Scheduler::start(database.url(), &options("a"), closes);
    database.wait_for("it is closed", SOON, 0, RUNNING);
    assert_eq!((&job()["stopRequested"], &job()["state"]), (&json!(false), &json!("waiting")));
    assert_eq!((&run()["stopRequested"], &run()["state"]), (&json!(false), &json!("ended")));
}

#[test]
fn a_job_that_was_to_run_once_tells_that_it_needs_a_new_schedule() {
    let (_database, [one, other]) = two();
    let past = r#"{"function":"estimate-pi","schedule":"at 2020-01-01T00:00:00Z","enabled":false}"#;
    assert_eq!(ask(one.addr, "PUT /api/cron/jobs/once", &[], past).status, 201);
    let refused = post(other.addr, "/api/cron/jobs/once/run", "");
    assert_eq!((refused.status, refused.code().as_str()), (409, "job_paused"));
    let (code, _, err) = run(&one, &["run", "once"]);
    let why = "balanced: the schedule of the job \"once\" names no instant from now on; give it \
               another one\n";
    assert_eq!((code, err.as_str()), (Some(1), why));
    let (code, _, err) = run(&one, &["resume", "once"]);
    let why = "balanced: `schedule` names no instant from now on; give another one\n";
    assert_eq!((code, err.as_str()), (Some(1), why));
    let later = r#"{"schedule":"at 2127-01-01T00:00:00Z"}"#;
    assert_eq!(ask(one.addr, "PATCH /api/cron/jobs/once", &[], later).status, 200);
    let paused = post(other.addr, "/api/cron/jobs/once/run", "").json()["detail"].clone();
    let why = "the job \"once\" is paused; resume it first (`balanced jobs resume once`)";
    assert_eq!(paused, why);
}
