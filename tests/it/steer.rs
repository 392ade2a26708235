//! Jobs over HTTP: the status, the history, and steering at run time.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    Answer, Database, Local, Postgres, Scheduler, ask, endless, get, only, options, post,
};

const SOON: Duration = Duration::from_secs(20);
const OPEN: &str = "select count(*) from cron_runs where finished_at is null";
const ENDED: &str = "select count(*) from cron_runs where finished_at is not null";

fn put(addr: SocketAddr, name: &str, body: &str) -> Answer {
    ask(addr, &format!("PUT /api/cron/jobs/{name}"), &[], body)
}

fn patch(addr: SocketAddr, name: &str, body: &str) -> Answer {
    ask(addr, &format!("PATCH /api/cron/jobs/{name}"), &[], body)
}

fn delete(addr: SocketAddr, name: &str) -> Answer {
    ask(addr, &format!("DELETE /api/cron/jobs/{name}"), &[], "")
}

fn job(addr: SocketAddr, name: &str) -> Value {
    let answer = get(addr, &format!("/api/cron/jobs/{name}"));
    assert_eq!(answer.status, 200);
    answer.json()
}

/// A web server and no scheduler.
fn quiet() -> (Database, Local) {
    let database = Postgres::shared().migrated().without_jobs();
    let local = Local::start(database.url());
    (database, local)
}

#[test]
fn the_ten_jobs_are_listed_with_every_field() {
    let database = Postgres::shared().migrated();
    let local = Local::start(database.url());
    let status = get(local.addr, "/api/cron/status").json();
    assert_eq!(status["servedBy"], "local");
    assert_eq!(
        status["counts"],
        json!({"running": 0, "waiting": 0, "due": 10, "paused": 0, "stalled": 0})
    );
    let jobs = status["jobs"].as_array().unwrap();
    assert_eq!(jobs.len(), 10);
    let mut functions: Vec<&str> =
        jobs.iter().map(|job| job["function"].as_str().unwrap()).collect();
    functions.sort_unstable();
    functions.dedup();
    assert_eq!(functions.len(), 9, "two jobs share one");
    let fields = "name function functionKnown arguments schedule enabled description owner \
                  maxSeconds retries retryAfterSeconds startWithinSeconds catchUp group state \
                  server runId scheduledAt startedAt elapsedSeconds progress nextRunAt attempt \
                  nextAttemptAt failing overdue stopRequested waitsFor lastSeenAt lastRun";
    for job in jobs {
        let job = job.as_object().unwrap();
        assert_eq!(job.len(), fields.split_whitespace().count());
        assert!(fields.split_whitespace().all(|field| job.contains_key(field)), "{job:?}");
        assert_eq!(job["functionKnown"], true, "{job:?}");
    }
    let other = get(local.addr, "/api/cron/jobs").json();
    assert_eq!(other["jobs"], status["jobs"], "the same under its other name");
}

#[test]
fn a_running_job_tells_where_and_for_how_long_and_what_is_next() {
    let (database, local) = quiet();
    database.add_job("endless", "every 1h");
    let scheduler = Scheduler::start(database.url(), &options("a"), only("endless", endless));
    database.wait_for("it runs", SOON, 1, OPEN);
    let running = job(local.addr, "endless");
    assert_eq!((&running["state"], &running["server"]), (&json!("running"), &json!("a")));
    assert!(running["elapsedSeconds"].as_f64().unwrap() < 20.0);
    let number = database.number("select id from cron_runs");
    assert_eq!(running["runId"], number);
    assert!(running["nextRunAt"].as_str() > running["startedAt"].as_str(), "{running}");
    assert_eq!(running["functionKnown"], false, "the web server's build has no such function");
    assert_eq!(patch(local.addr, "endless", r#"{"enabled":false}"#).status, 200);
    let paused = job(local.addr, "endless");
    assert_eq!((&paused["state"], &paused["nextRunAt"]), (&json!("running"), &Value::Null));
    scheduler.0.begin_drain();
    database.wait_for("it has ended", SOON, 1, ENDED);
    let ended = job(local.addr, "endless");
    assert_eq!((&ended["state"], &ended["runId"]), (&json!("paused"), &Value::Null));
    let last = &ended["lastRun"];
    assert_eq!((&last["outcome"], &last["server"]), (&json!("cancelled"), &json!("a")));
    assert_eq!(last["detail"], "a was shut down");
}

#[test]
fn a_dead_holders_job_is_stalled_and_can_be_deleted() {
    let (database, local) = quiet();
    database.add_job("orphan", "every 1h");
    database.orphan_the_job();
    let stalled = job(local.addr, "orphan");
    assert_eq!((&stalled["state"], &stalled["server"]), (&json!("stalled"), &json!("dead")));
    assert_eq!(post(local.addr, "/api/cron/jobs/orphan/run", "").status, 202, "due already");
    let answer = delete(local.addr, "orphan");
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    assert_eq!(database.outcomes("orphan"), ["abandoned on dead"]);
}

#[test]
fn a_job_is_made_changed_and_deleted_at_run_time() {
    let (database, local) = quiet();
    let body = r#"{"function":"count-primes","schedule":"every 5m","enabled":true}"#;
    let made = put(local.addr, "mine", body);
    assert_eq!((made.status, made.header("location")), (201, Some("/api/cron/jobs/mine")));
    let made = made.json();
    assert_eq!((&made["state"], &made["schedule"]), (&json!("waiting"), &json!("every 5m")));
    let in_five = "select count(*) from cron_jobs where slot = locked_until and slot \
                   between now() + interval '4 minutes' and now() + interval '5 minutes'";
    assert_eq!(database.number(in_five), 1);
    let same = put(local.addr, "mine", body);
    assert_eq!((same.status, &same.json()["nextRunAt"]), (200, &made["nextRunAt"]));
    let changed = patch(local.addr, "mine", r#"{"schedule":"0 3 * * *  Europe/Berlin"}"#);
    assert_eq!(changed.json()["schedule"], "0 3 * * * Europe/Berlin");
    let at_three = "select count(*) from cron_jobs \
                    where extract(hour from slot at time zone 'Europe/Berlin') = 3";
    assert_eq!(database.number(at_three), 1);
    let paused = patch(local.addr, "mine", r#"{"enabled":false}"#).json();
    assert_eq!((&paused["state"], &paused["nextRunAt"]), (&json!("paused"), &Value::Null));
    assert_eq!(post(local.addr, "/api/cron/jobs/mine/run", "").code(), "job_paused");
    let resumed = patch(local.addr, "mine", r#"{"enabled":true,"schedule":"every 1h"}"#).json();
    assert_eq!(resumed["state"], "waiting");
    assert_eq!(delete(local.addr, "mine").status, 204);
    assert_eq!(delete(local.addr, "mine").code(), "job_not_found");
}

#[test]
fn a_paused_job_leaves_out_what_it_missed() {
    let (database, local) = quiet();
    database.add_job("paused", "every 1h");
    assert_eq!(patch(local.addr, "paused", r#"{"enabled":false}"#).status, 200);
    let missed = "update cron_jobs set slot = slot - interval '150 minutes', locked_until = slot";
    database.connect().batch_execute(missed).unwrap();
    let next = database.text("select (slot + interval '3 hours')::text from cron_jobs");
    assert_eq!(patch(local.addr, "paused", r#"{"enabled":true}"#).json()["state"], "waiting");
    assert_eq!(database.text("select slot::text from cron_jobs"), next);
}

#[test]
fn run_now_runs_once_and_keeps_the_grid() {
    let (database, local) = quiet();
    let body = r#"{"function":"endless","schedule":"every 1h","enabled":true}"#;
    assert_eq!(put(local.addr, "endless", body).status, 201);
    let slot = database.text("select slot::text from cron_jobs");
    let scheduler = Scheduler::start(database.url(), &options("a"), only("endless", endless));
    let asked = post(local.addr, "/api/cron/jobs/endless/run", "");
    assert_eq!(asked.status, 202);
    database.wait_for("it runs", SOON, 1, OPEN);
    let again = post(local.addr, "/api/cron/jobs/endless/run", "");
    assert_eq!((again.status, again.code().as_str()), (409, "job_running"));
    assert_eq!(delete(local.addr, "endless").code(), "job_running");
    let running = job(local.addr, "endless");
    assert_eq!(running["nextRunAt"].as_str().map(|text| text.len()), Some(27));
    scheduler.0.begin_drain();
    database.wait_for("it has ended", SOON, 1, ENDED);
    let due =
        "select count(*) from cron_jobs where locked_until < now() and requested_at is not null";
    assert_eq!(database.number(due), 1, "what was asked for and cancelled is due still");
    let quick = only("endless", |_| Ok("done".to_owned()));
    let _second = Scheduler::start(database.url(), &options("b"), quick);
    database.wait_for("it has run", SOON, 2, ENDED);
    assert_eq!(database.text("select slot::text from cron_jobs"), slot, "the grid stays");
    assert_eq!(database.number("select count(*) from cron_jobs where requested_at is null"), 1);
}

#[test]
fn the_history_has_pages_and_filters() {
    let (database, local) = quiet();
    let fill = "insert into cron_runs (job_id, job, function, token, server, scheduled_at, \
                started_at, finished_at, outcome, detail) select n % 2, 'job-' || n % 2, 'f', n, \
                'host:' || n % 3, now(), now(), now() + interval '1500 ms', \
                case n % 5 when 0 then 'failed' else 'succeeded' end, 'run ' || n \
                from generate_series(1, 30) n";
    database.connect().batch_execute(fill).unwrap();
    let page = |query: &str| get(local.addr, &format!("/api/cron/history{query}")).json();
    let all = page("");
    assert_eq!((all["runs"].as_array().unwrap().len(), &all["next"]), (30, &Value::Null));
    let newest = &all["runs"][0];
    assert_eq!(newest["detail"], "run 30");
    assert_eq!(newest["durationSeconds"], 1.5);
    let fields = "runId job function server outcome scheduledAt startedAt finishedAt \
                  durationSeconds detail";
    assert!(fields.split_whitespace().all(|field| newest.get(field).is_some()), "{newest}");
    for query in ["?limit=20&job=job-1", "?limit=15&job=job-1"] {
        let last = page(query);
        assert_eq!((last["runs"].as_array().unwrap().len(), &last["next"]), (15, &Value::Null));
    }
    let (mut seen, mut next) = (Vec::new(), String::new());
    loop {
        let part = page(&format!("?limit=7{next}"));
        seen.extend(part["runs"].as_array().unwrap().iter().map(|run| run["runId"].clone()));
        match part["next"].as_i64() {
            Some(id) => next = format!("&before={id}"),
            None => break,
        }
    }
    let ids: Vec<Value> =
        all["runs"].as_array().unwrap().iter().map(|run| run["runId"].clone()).collect();
    assert_eq!(seen, ids);
    let failed = page("?outcome=failed&server=host%3A1");
    let details: Vec<&str> = failed["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["detail"].as_str().unwrap())
        .collect();
    assert_eq!(details, ["run 25", "run 10"]);
}

/// One request, and what is wrong with it.
fn assert_refused(addr: SocketAddr, head: &str, body: &str, status: u16, code: &str, field: &str) {
    let answer = ask(addr, head, &[], body);
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{head} {body}");
    assert_eq!(answer.json()["field"].as_str().unwrap_or(""), field, "{head} {body}");
}

#[test]
fn every_error_about_jobs_has_its_status_and_its_code() {
    let (database, local) = quiet();
    database.add_job("there", "every 1h");
    let fine = r#"{"function":"f","schedule":"every 1s","enabled":true}"#;
    for (head, body, status, code, field) in [
        ("GET /api/cron/jobs/none", "", 404, "job_not_found", ""),
        ("GET /api/cron/jobs/Not%20a%20name", "", 404, "job_not_found", ""),
        ("PATCH /api/cron/jobs/none", r#"{"enabled":true}"#, 404, "job_not_found", ""),
        ("DELETE /api/cron/jobs/none", "", 404, "job_not_found", ""),
        ("POST /api/cron/jobs/none/run", "", 404, "job_not_found", ""),
        ("PUT /api/cron/jobs/Upper", fine, 400, "invalid_request", "name"),
        ("PUT /api/cron/jobs/a", "", 400, "invalid_json", ""),
        ("GET /api/cron/history?outcome=won", "", 400, "invalid_request", "outcome"),
        ("GET /api/cron/history?limit=0", "", 400, "invalid_request", "limit"),
        ("GET /api/cron/history?job=%00", "", 400, "invalid_request", "job"),
        ("GET /api/cron/history?job=%FF", "", 400, "invalid_request", "job"),
        ("GET /api/cron/status?x=1", "", 400, "invalid_request", "x"),
        ("POST /api/cron/jobs/there", "", 405, "method_not_allowed", ""),
    ] {
        assert_refused(local.addr, head, body, status, code, field);
    }
}

#[test]
fn settings_of_a_job_are_read_strictly() {
    let (database, local) = quiet();
    database.add_job("there", "every 1h");
    for (body, field) in [
        (r#"{"function":"f","schedule":"every 1s"}"#, "enabled"),
        (r#"{"function":"f","enabled":true}"#, "schedule"),
        (r#"{"schedule":"every 1s","enabled":true}"#, "function"),
    ] {
        let head = "PUT /api/cron/jobs/a";
        assert_refused(local.addr, head, body, 400, "invalid_request", field);
    }
    for (body, field) in [
        ("{}", "body"),
        (r#"{"enabled":1}"#, "enabled"),
        (r#"{"enabled":true,"enabled":true}"#, "enabled"),
        (r#"{"function":"A b"}"#, "function"),
        ("{\"function\":\"a\\u0000\"}", "function"),
        ("{\"schedule\":\"every 1s\\u0000\"}", "schedule"),
        (r#"{"schedule":"every 0s"}"#, "schedule"),
        (r#"{"schedule":"0 0 30 2 *"}"#, "schedule"),
        (r#"{"schedule":"0 0 * * * Mars/Base"}"#, "schedule"),
        (r#"{"name":"x"}"#, "name"),
    ] {
        let head = "PATCH /api/cron/jobs/there";
        assert_refused(local.addr, head, body, 400, "invalid_request", field);
    }
    assert_eq!(database.number("select count(*) from cron_jobs"), 1);
}

/// A step of a run locks its job's row: whoever steers the job is told so, and does not wait. Who
/// meets another's change of a moment waits for it.
#[test]
fn a_job_whose_run_is_in_a_step_is_told_to_run_and_not_waited_for() {
    let (database, local) = quiet();
    database.add_job_calling("busy", "endless", "every 1h");
    let _scheduler = Scheduler::start(database.url(), &options("a"), only("endless", endless));

    database.wait_for("it runs", SOON, 1, OPEN);
    let mut holder = database.connect();
    let mut step = holder.transaction().unwrap();
    step.query_one("select from cron_jobs where name = 'busy' for key share", &[]).unwrap();
    let start = Instant::now();
    let again = post(local.addr, "/api/cron/jobs/busy/run", "");
    assert_eq!((again.status, again.code().as_str()), (409, "job_running"));
    assert_eq!(delete(local.addr, "busy").code(), "job_running");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    step.rollback().unwrap();

    database.add_job("waiting", "every 1h");
    let mut change = holder.transaction().unwrap();
    change.execute("update cron_jobs set enabled = enabled where name = 'waiting'", &[]).unwrap();
    let now = database.text("select clock_timestamp()::text");
    let looked = format!(
        "select least(1, count(*)) from pg_stat_activity where datname = current_database() \
         and query like '%asked as%' and pid <> pg_backend_pid() and query_start > '{now}'"
    );
    let asked = thread::scope(|scope| {
        let asked = scope.spawn(|| post(local.addr, "/api/cron/jobs/waiting/run", ""));
        database.wait_for("somebody has looked", SOON, 1, &looked);
        change.commit().unwrap();
        asked.join().unwrap()
    });
    assert_eq!(asked.status, 202, "{}", String::from_utf8_lossy(&asked.body));
}
