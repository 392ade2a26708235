//! Who has changed what of a job: each change leaves a row, and nothing else does.

use std::net::SocketAddr;
use std::time::Duration;

use balanced::jobs::{self, FunctionOptions};
use serde_json::{Value, json};

use crate::support::{
    Database, Local, LocalOptions, Postgres, Scheduler, ask, at_once, endless, get, only, options,
};
use crate::tokens::TokenFile;

const JOB: &str = "/api/cron/jobs/mine";
const SETTINGS: &str = r#"{"function":"count-primes","schedule":"every 5m","enabled":true}"#;
const SOON: Duration = Duration::from_secs(20);
const COUNT: &str = "select count(*) from cron_job_changes";

fn two() -> (Database, [Local; 2]) {
    let database = Postgres::shared().migrated().without_jobs();
    let replicas = [(); 2].map(|()| Local::start(database.url()));
    (database, replicas)
}

fn changes(addr: SocketAddr, query: &str) -> (Vec<Value>, Value) {
    let answer = get(addr, &format!("{JOB}/changes{query}"));
    assert_eq!(answer.status, 200, "{query}");
    let mut list = answer.json();
    let Value::Array(changes) = list["changes"].take() else { panic!("{list}") };
    (changes, list["next"].take())
}

#[test]
fn every_change_tells_by_whom_and_from_what_to_what() {
    let database = Postgres::shared().migrated().without_jobs();
    let file = TokenFile::new("job-changes");
    let scopes: &[&str] = &["jobs", "read", "run"];
    let texts = file.write(&[("ada", scopes), ("bob", scopes)]);
    let access = vec![("API_TOKENS_FILE", file.path()), ("OPEN_READS", "true".to_owned())];
    let start = || {
        let access = access.clone();
        Local::start_with(database.url(), LocalOptions { access, ..LocalOptions::default() })
    };
    let replicas = [start(), start()];
    let send = |who: usize, head: &str, id: &str, body: &str| {
        let bearer = format!("Authorization: Bearer {}", texts[who]);
        let id = format!("X-Request-Id: {id}");
        ask(replicas[who].addr, head, &[&bearer, &id], body).status
    };
    assert_eq!(send(0, &format!("PUT {JOB}"), "r1", SETTINGS), 201);
    assert_eq!(send(1, &format!("PATCH {JOB}"), "r2", r#"{"arguments":{"below":9}}"#), 200);
    assert_eq!(send(1, &format!("PATCH {JOB}"), "r3", r#"{"arguments":{"below":9}}"#), 200);
    assert_eq!(send(0, &format!("PUT {JOB}"), "r4", SETTINGS), 200);
    assert_eq!(send(0, &format!("PUT {JOB}"), "r5", SETTINGS), 200);
    assert_eq!(send(1, &format!("POST {JOB}/run"), "r6", ""), 202);
    assert_eq!(send(0, &format!("PATCH {JOB}"), "r7", r#"{"retries":-1}"#), 400);
    assert_eq!(send(0, &format!("PATCH {JOB}"), "r8", r#"{"arguments":{"n":9}}"#), 400);
    assert_eq!(send(1, &format!("DELETE {JOB}"), "r9", ""), 204);
    assert_eq!(send(1, &format!("DELETE {JOB}"), "r10", ""), 404);

    let (list, next) = changes(replicas[0].addr, "");
    assert_eq!((&list, &next), (&changes(replicas[1].addr, "").0, &Value::Null));
    let raw = get(replicas[0].addr, &format!("{JOB}/changes")).body;
    let first =
        r#""before":{"function":"count-primes","arguments":{"below":9},"schedule":"every 5m","#;
    assert!(String::from_utf8(raw).unwrap().contains(first), "written as settings are elsewhere");
    let of = |name: &str| -> Vec<Value> { list.iter().map(|row| row[name].clone()).collect() };
    assert_eq!(of("by"), [json!("bob"), json!("ada"), json!("bob"), json!("ada")]);
    assert_eq!(of("requestId"), [json!("r9"), json!("r4"), json!("r2"), json!("r1")]);
    let plain = json!({
        "function": "count-primes", "arguments": {}, "schedule": "every 5m", "enabled": true,
        "description": null, "owner": null, "maxSeconds": null, "retries": 0,
        "retryAfterSeconds": 10, "startWithinSeconds": null, "catchUp": "one", "group": null,
    });
    let mut nine = plain.clone();
    nine["arguments"] = json!({"below": 9});
    assert_eq!(of("before"), [plain.clone(), nine.clone(), plain.clone(), Value::Null]);
    assert_eq!(of("after"), [Value::Null, plain.clone(), nine, plain]);
    let at = of("at");
    assert!(at.windows(2).all(|pair| pair[0].as_str() >= pair[1].as_str()), "{at:?}");
    assert_eq!(at[0].as_str().map(str::len), Some(27));
}

#[test]
fn the_changes_of_one_job_come_in_pages_and_without_a_token_nobody_is_named() {
    let (_database, replicas) = two();
    let [one, other] = [replicas[0].addr, replicas[1].addr];
    let nothing = get(one, &format!("{JOB}/changes"));
    assert_eq!((nothing.status, nothing.code().as_str()), (404, "job_not_found"));
    let neighbour = ask(one, "PUT /api/cron/jobs/min", &[], SETTINGS);
    assert_eq!(neighbour.status, 201);
    assert_eq!(ask(one, &format!("PUT {JOB}"), &[], SETTINGS).status, 201);
    for retries in 1..=6 {
        let body = format!("{{\"retries\":{retries}}}");
        assert_eq!(ask(other, &format!("PATCH {JOB}"), &[], &body).status, 200);
    }
    let (all, next) = changes(one, "?before=&limit=");
    assert_eq!((all.len(), next), (7, Value::Null));
    assert!(all.iter().all(|row| row["by"].is_null() && row["requestId"].is_string()));
    let (mut paged, mut before) = (Vec::new(), String::new());
    loop {
        let (page, next) = changes(other, &format!("?limit=3{before}"));
        paged.extend(page);
        match next.as_i64() {
            Some(id) => before = format!("&before={id}"),
            None => break,
        }
    }
    assert_eq!(paged, all);
    assert_eq!(changes(one, "?before=1").0.len(), 0);
    for (query, field) in [("limit=0", "limit"), ("before=x", "before"), ("after=1", "after")] {
        let refused = get(one, &format!("{JOB}/changes?{query}"));
        assert_eq!((refused.status, refused.json()["field"].as_str()), (400, Some(field)));
    }
    assert_eq!(get(one, "/api/cron/jobs/Not%20a%20name/changes").code(), "job_not_found");
}

/// A job of the first migrations has not been changed by anybody.
#[test]
fn a_job_that_nobody_has_changed_has_an_empty_list() {
    let database = Postgres::shared().migrated();
    let local = Local::start(database.url());
    let answer = get(local.addr, "/api/cron/jobs/sample-pi/changes");
    assert_eq!((answer.status, answer.json()), (200, json!({"changes": [], "next": null})));
}

#[test]
fn of_many_who_change_a_job_at_one_moment_each_who_did_leaves_a_row() {
    let (database, replicas) = two();
    let mut done = 0;
    for _ in 0..10 {
        let answers = at_once(16, &replicas, |index, client| {
            let (method, body) = match index % 4 {
                0 => ("PUT", SETTINGS.to_owned()),
                1 => ("PATCH", format!("{{\"owner\":\"{index}\"}}")),
                2 => ("DELETE", String::new()),
                _ => ("PUT", SETTINGS.replace("5m", &format!("{index}m"))),
            };
            client.ask(&format!("{method} {JOB}"), &[], &body).status
        });
        assert!(answers.iter().all(|status| [200, 201, 204, 404].contains(status)), "{answers:?}");
        done += answers.iter().filter(|status| [201, 204].contains(status)).count();
    }
    // Whoever makes a job is told 404 where somebody deletes it before it is read for the answer.
    let made = "select count(*) from cron_job_changes where before is null or after is null";
    assert!(database.number(made) >= done as i64);
    // Each row begins with what the one before it ended with, and none says that nothing changed.
    let broken = "select count(*) from (select before, after, \
                  lag(after) over (order by id) as last from cron_job_changes) as change \
                  where before is distinct from last or before is not distinct from after";
    assert_eq!(database.number(broken), 0);
}

#[test]
fn a_running_job_is_changed_with_a_row_and_one_that_is_not_deleted_leaves_none() {
    let (database, replicas) = two();
    database.add_job_calling("mine", "endless", "every 1h");
    let _scheduler = Scheduler::start(database.url(), &options("a"), only("endless", endless));
    database.wait_for("it runs", SOON, 1, "select count(*) from cron_runs");
    let deleted = ask(replicas[0].addr, &format!("DELETE {JOB}"), &[], "");
    assert_eq!(deleted.code(), "job_running");
    assert_eq!(database.number(COUNT), 0);
    let tagged = ["If-Match: \"0\""];
    let changed = ask(replicas[0].addr, &format!("PATCH {JOB}"), &tagged, r#"{"retries":1}"#);
    assert_eq!((changed.status, database.number(COUNT)), (412, 0));
    let changed = ask(replicas[1].addr, &format!("PATCH {JOB}"), &[], r#"{"retries":1}"#);
    assert_eq!((changed.status, database.number(COUNT)), (200, 1));
}

#[test]
fn what_was_changed_is_forgotten_with_the_history() {
    let database = Postgres::shared().migrated();
    let fill = "insert into cron_job_changes (job, changed_at) \
                select 'mine', now() - interval '1 day' * n from generate_series(1, 30) n, \
                generate_series(1, 100); \
                delete from cron_jobs where name <> 'prune-run-history'";
    database.connect().batch_execute(fill).unwrap();
    let functions =
        jobs::functions(FunctionOptions { least: Duration::ZERO, run_history_days: 14 });
    let _scheduler = Scheduler::start(database.url(), &options("a"), functions);
    let ended = "select count(*) from cron_runs where outcome = 'succeeded'";
    database.wait_for("it has run", SOON, 1, ended);
    assert_eq!(database.number(COUNT), 1_300);
}
