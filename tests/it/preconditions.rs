//! `If-Match` and `If-None-Match`: a job is changed only if it is as it was last seen.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::{
    Answer, Database, Local, Postgres, Scheduler, ask, at_once, change, endless, get, only, options,
};

const JOB: &str = "/api/cron/jobs/mine";
const SETTINGS: &str = r#"{"function":"f","schedule":"every 5m","enabled":true}"#;

fn with_a_job() -> (Database, Local) {
    let database = Postgres::shared().migrated().without_jobs();
    let local = Local::start(database.url());
    assert_eq!(on_condition(local.addr, "PUT", "If-None-Match: *", SETTINGS).status, 201);
    (database, local)
}

fn on_condition(addr: SocketAddr, method: &str, condition: &str, body: &str) -> Answer {
    ask(addr, &format!("{method} {JOB}"), &[condition], body)
}

fn tag(answer: &Answer) -> String {
    assert!(answer.status < 300, "{}", answer.status);
    answer.header("etag").expect("a tag").to_owned()
}

fn assert_failed(answer: &Answer, what: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (412, "precondition_failed"), "{what}");
}

#[test]
fn the_tag_is_another_one_with_each_setting_and_the_same_while_the_job_runs() {
    let (database, local) = with_a_job();
    let mut seen = vec![tag(&get(local.addr, JOB))];
    for body in [
        r#"{"function":"endless"}"#,
        r#"{"schedule":"every 1h"}"#,
        r#"{"enabled":false}"#,
        r#"{"enabled":true,"schedule":"every 2h"}"#,
        r#"{"arguments":{"n":1}}"#,
        r#"{"description":"d"}"#,
        r#"{"owner":"d"}"#,
        r#"{"maxSeconds":7}"#,
        r#"{"retries":7}"#,
        r#"{"retryAfterSeconds":7}"#,
        r#"{"startWithinSeconds":7}"#,
        r#"{"catchUp":"none"}"#,
        r#"{"group":"d"}"#,
        r#"{"arguments":null}"#,
    ] {
        let changed = ask(local.addr, &format!("PATCH {JOB}"), &[], body);
        assert_eq!(tag(&changed), tag(&get(local.addr, JOB)));
        seen.push(tag(&changed));
        let same = ask(local.addr, &format!("PATCH {JOB}"), &[], body);
        assert_eq!(tag(&same), tag(&changed), "nothing was changed");
    }
    let last = seen.last().unwrap().clone();
    let _scheduler = Scheduler::start(database.url(), &options("a"), only("endless", endless));
    let asked = ask(local.addr, &format!("POST {JOB}/run"), &[], "");
    assert_eq!((asked.status, tag(&asked)), (202, last.clone()));
    let open = "select count(*) from cron_runs where finished_at is null";
    database.wait_for("it runs", Duration::from_secs(20), 1, open);
    let running = get(local.addr, JOB);
    assert_eq!((running.json()["state"].as_str(), tag(&running)), (Some("running"), last));
    database.connect().batch_execute("delete from cron_jobs").unwrap();
    seen.push(tag(&ask(local.addr, &format!("PUT {JOB}"), &[], SETTINGS)));
    let all = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), all, "a job that is made anew is another one, too");
}

#[test]
fn a_job_is_changed_run_or_deleted_only_under_its_own_tag() {
    let (database, local) = with_a_job();
    let own = tag(&get(local.addr, JOB));
    let wrong = [
        "If-Match: \"0\"".to_owned(),
        "If-Match:".to_owned(),
        format!("If-Match: W/{own}"),
        format!("If-Match: {}", own.trim_matches('"')),
        format!("If-Match: \"0\", \"1\"\r\nIf-Match: W/{own}"),
        "If-None-Match: *".to_owned(),
        "If-None-Match: \"0\"".to_owned(),
        format!("If-None-Match: {own}"),
        format!("If-Match: {own}\r\nIf-None-Match: \"0\""),
    ];
    let changes = [
        ("PUT", "", r#"{"function":"g","schedule":"every 6m","enabled":true}"#),
        ("PATCH", "", r#"{"schedule":"every 7m"}"#),
        ("POST", "/run", ""),
        ("DELETE", "", ""),
    ];
    let before = database.text("select cron_jobs::text from cron_jobs");
    for (method, path, body) in changes {
        for condition in &wrong {
            let answer = ask(local.addr, &format!("{method} {JOB}{path}"), &[condition], body);
            assert_failed(&answer, &format!("{method} {condition}"));
        }
    }
    assert_eq!(database.text("select cron_jobs::text from cron_jobs"), before);
    for (method, path, body) in changes {
        for condition in ["*", "own", "\"0\" , own", "\"0\"\r\nIf-Match: own"] {
            let own = tag(&get(local.addr, JOB));
            let condition = format!("If-Match: {}", condition.replace("own", &own));
            let answer = ask(local.addr, &format!("{method} {JOB}{path}"), &[&condition], body);
            assert!(answer.status < 300, "{method} {condition}: {}", answer.status);
            if method == "DELETE" {
                ask(local.addr, &format!("PUT {JOB}"), &[], SETTINGS);
            }
        }
    }
}

/// What would be refused without a condition is refused as it is without one.
#[test]
fn a_job_that_is_not_there_meets_no_condition_but_that() {
    let (database, local) = with_a_job();
    let own = tag(&get(local.addr, JOB));
    assert_eq!(on_condition(local.addr, "DELETE", &format!("If-Match: {own}"), "").status, 204);
    for condition in ["If-Match: *", &format!("If-Match: {own}")] {
        assert_failed(&on_condition(local.addr, "PUT", condition, SETTINGS), condition);
        let patched = on_condition(local.addr, "PATCH", condition, r#"{"enabled":false}"#);
        assert_eq!(patched.code(), "job_not_found");
        assert_eq!(on_condition(local.addr, "DELETE", condition, "").code(), "job_not_found");
    }
    assert_eq!(database.number("select count(*) from cron_jobs"), 0);
    let paused = SETTINGS.replace("true", "false");
    assert_eq!(on_condition(local.addr, "PUT", "If-None-Match: *", &paused).status, 201);
    let run = ask(local.addr, &format!("POST {JOB}/run"), &["If-Match: \"0\""], "");
    assert_eq!(run.code(), "job_paused");
}

#[test]
fn what_has_no_tag_is_not_changed_under_a_condition() {
    let (database, local) = with_a_job();
    for condition in ["If-Match: *", "If-None-Match: *", "If-Match: \"0\"", "If-None-Match:"] {
        for (path, body) in [("balance", change(1, -2)), ("users", "{\"balance\":1}".to_owned())] {
            let answer = ask(local.addr, &format!("POST /api/{path}"), &[condition], &body);
            assert_failed(&answer, condition);
        }
        for path in ["/api/users/1", JOB] {
            let read = ask(local.addr, &format!("GET {path}"), &[condition], "");
            assert_eq!(read.status, 200, "looking changes nothing");
        }
    }
    assert_eq!(database.number("select sum(balance)::bigint from users"), 10_000);
}

/// The answers of twenty clients on three replicas to what they send at one moment.
fn twenty_at_once(
    replicas: &[Local],
    condition: &str,
    request: impl Fn(usize) -> (&'static str, String) + Sync,
) -> Vec<u16> {
    at_once(20, replicas, |index, client| {
        let (method, body) = request(index);
        client.ask(&format!("{method} {JOB}"), &[condition], &body).status
    })
}

#[test]
fn of_twenty_who_have_seen_the_same_one_makes_changes_or_deletes() {
    const ROUNDS: usize = 15;
    let database = Postgres::shared().migrated().without_jobs();
    let replicas: Vec<Local> = (0..3).map(|_| Local::start(database.url())).collect();
    for round in 0..ROUNDS {
        let put = |client| {
            let schedule = format!("every {}s", 60 + client);
            ("PUT", SETTINGS.replace("every 5m", &schedule))
        };
        let made = twenty_at_once(&replicas, "If-None-Match: *", put);
        assert_eq!(made.iter().filter(|status| **status == 201).count(), 1, "{round}: {made:?}");
        assert_eq!(made.iter().filter(|status| **status == 412).count(), 19, "{round}: {made:?}");

        let own = tag(&get(replicas[0].addr, JOB));
        let alter = |client| match client % 4 {
            0 if round % 2 == 0 => ("DELETE", String::new()),
            1 => ("PATCH", format!("{{\"schedule\":\"every {}m\"}}", 10 + client)),
            2 => ("PATCH", format!("{{\"function\":\"f{client}\"}}")),
            _ => ("PUT", SETTINGS.replace("every 5m", &format!("every {}h", 1 + client))),
        };
        let altered = twenty_at_once(&replicas, &format!("If-Match: {own}"), alter);
        let done = altered.iter().filter(|status| **status < 300).count();
        let refused = altered.iter().filter(|status| [404, 412].contains(*status)).count();
        assert_eq!((done, refused), (1, 19), "{round}: {altered:?}");
        database.connect().batch_execute("delete from cron_jobs").unwrap();
    }
}
