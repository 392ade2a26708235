//! The settings of a job: each is kept, listed on every replica, and refused by its own rule.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use balanced::cron::{Context, Failure, Functions};
use serde_json::{Map, Value, json};

use crate::support::{
    Answer, Database, Local, Postgres, Process, Scheduler, ask, at_once, endless, get, only,
    options, post,
};

const JOB: &str = "/api/cron/jobs/mine";
const SOON: Duration = Duration::from_secs(20);
const ENDED: &str = "select count(*) from cron_runs where finished_at is not null";

fn all_settings() -> Value {
    json!({
        "function": "count-primes",
        "arguments": {"below": 1_000},
        "schedule": "every 5m",
        "enabled": false,
        "description": "Zählt Primzahlen, 素数 \"too\"",
        "owner": "Ada",
        "maxSeconds": 31_536_000,
        "retries": 20,
        "retryAfterSeconds": 3_600,
        "startWithinSeconds": 1,
        "catchUp": "none",
        "group": "heavy-1",
    })
}

fn defaults() -> Value {
    json!({
        "function": "count-primes",
        "arguments": {},
        "schedule": "every 5m",
        "enabled": true,
        "description": null,
        "owner": null,
        "maxSeconds": null,
        "retries": 0,
        "retryAfterSeconds": 10,
        "startWithinSeconds": null,
        "catchUp": "one",
        "group": null,
    })
}

const LEAST: &str = r#"{"function":"count-primes","schedule":"every 5m","enabled":true}"#;

fn put(addr: SocketAddr, body: &str) -> Answer {
    ask(addr, &format!("PUT {JOB}"), &[], body)
}

fn patch(addr: SocketAddr, body: &str) -> Answer {
    ask(addr, &format!("PATCH {JOB}"), &[], body)
}

/// Two replicas that run no jobs.
fn two() -> (Database, [Local; 2]) {
    let database = Postgres::shared().migrated().without_jobs();
    let replicas = [(); 2].map(|()| Local::start(database.url()));
    (database, replicas)
}

/// Fails unless each replica shows the job with these settings, alone and in the list.
fn assert_all_see(replicas: &[Local], settings: &Value) {
    for replica in replicas {
        let job = get(replica.addr, JOB).json();
        let list = get(replica.addr, "/api/cron/jobs").json();
        for job in [&job, &list["jobs"][0]] {
            for (name, value) in settings.as_object().unwrap() {
                assert_eq!(&job[name], value, "{name}");
            }
        }
    }
}

#[test]
fn every_setting_is_kept_and_each_replica_shows_it() {
    let (_database, replicas) = two();
    let [one, other] = [replicas[0].addr, replicas[1].addr];
    let all = all_settings();
    assert_eq!(put(one, &all.to_string()).status, 201);
    assert_all_see(&replicas, &all);

    let patched = patch(other, r#"{"retries":3,"description":null,"maxSeconds":null}"#);
    assert_eq!(patched.status, 200);
    let mut expected = all.clone();
    expected["retries"] = json!(3);
    expected["description"] = Value::Null;
    expected["maxSeconds"] = Value::Null;
    assert_all_see(&replicas, &expected);

    let nulls: Map<String, Value> = defaults()
        .as_object()
        .unwrap()
        .keys()
        .filter(|name| !["function", "schedule", "enabled"].contains(&name.as_str()))
        .map(|name| (name.clone(), Value::Null))
        .collect();
    assert_eq!(patch(one, &Value::Object(nulls).to_string()).status, 200);
    let mut expected = defaults();
    expected["enabled"] = json!(false);
    assert_all_see(&replicas, &expected);

    assert_eq!(put(other, &all.to_string()).status, 200);
    assert_eq!(put(one, LEAST).status, 200, "what is not given takes its default");
    assert_all_see(&replicas, &defaults());
}

#[test]
fn arguments_are_kept_in_one_way_and_count_as_changed_only_if_they_are() {
    let (database, replicas) = two();
    let kept = "select arguments from cron_jobs";
    let job = r#"{"function":"elsewhere","schedule":"every 5m","enabled":true,"arguments":ARGS}"#;
    let spelled = r#"{ "z" : [1, {"b": -9223372036854775808, "a": "\u00e4\\u0000"}],"a":1.5 }"#;
    assert_eq!(put(replicas[0].addr, &job.replace("ARGS", spelled)).status, 201);
    let text = database.text(kept);
    assert_eq!(text, r#"{"a":1.5,"z":[1,{"a":"ä\\u0000","b":-9223372036854775808}]}"#);
    let tag = get(replicas[0].addr, JOB).header("etag").unwrap().to_owned();
    assert_eq!(put(replicas[1].addr, &job.replace("ARGS", &text)).header("etag").unwrap(), tag);
    let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(4_096 - 11));
    assert_eq!(put(replicas[1].addr, &job.replace("ARGS", &long)).status, 200);
    assert_eq!(database.text(kept), long);
    let longer = put(replicas[1].addr, &job.replace("ARGS", &long.replace("text", "texts")));
    assert_eq!((longer.status, longer.json()["field"].as_str()), (400, Some("arguments")));
    let levels = |count| format!("{{\"a\":{}{}}}", "[".repeat(count), "]".repeat(count));
    assert_eq!(put(replicas[0].addr, &job.replace("ARGS", &levels(15))).status, 200);
    assert_eq!(put(replicas[0].addr, &job.replace("ARGS", &levels(16))).status, 400);
    assert_eq!(put(replicas[0].addr, &job.replace("ARGS", &levels(2_000))).status, 400);
}

#[test]
fn every_bad_value_is_refused_by_the_name_of_its_field_and_changes_nothing() {
    let (database, replicas) = two();
    let all = all_settings();
    assert_eq!(put(replicas[0].addr, &all.to_string()).status, 201);
    let rows = "select cron_jobs::text || (select count(*) from cron_job_changes) from cron_jobs";
    let before = database.text(rows);
    let wide = |length: usize| format!("{:?}", "ä".repeat(length));
    let (description, owner) = (wide(1_001), wide(256));
    for (field, values) in [
        ("function", vec!["null", "1", "\"\"", "\"A\""]),
        ("schedule", vec!["null", "1", "\"\"", "\"every\""]),
        ("enabled", vec!["null", "0", "\"true\""]),
        (
            "arguments",
            vec![
                "[]",
                "1",
                "\"{}\"",
                r#"{"below":"7"}"#,
                r#"{"below":0}"#,
                r#"{"below":5000001}"#,
                r#"{"below":7.5}"#,
                r#"{"below":7,"above":1}"#,
                r#"{"above":1}"#,
                r#"{"below":7,"below":7}"#,
                r#"{"a":{"b":1,"b":1}}"#,
                r#"{"a":"\u0000"}"#,
                r#"{"\u0000":1}"#,
                r#"{"a":[18446744073709551616]}"#,
                r#"{"a":1e400}"#,
            ],
        ),
        ("description", vec!["1", "\"\"", "\"a\\nb\"", "\"\\u0000\"", &description]),
        ("owner", vec!["false", "\"\"", "\"\\t\"", "\"\\u0000\"", &owner]),
        ("maxSeconds", vec!["0", "-1", "31536001", "1.0", "1e1", "\"1\"", "true"]),
        ("retries", vec!["-1", "21", "0.5", "\"0\"", "[]"]),
        ("retryAfterSeconds", vec!["0", "3601", "\"10\""]),
        ("startWithinSeconds", vec!["0", "31536001", "{}"]),
        ("catchUp", vec!["\"\"", "\"all\"", "1", "\"One\""]),
        ("group", vec!["\"\"", "\"A\"", "\"-a\"", "\"a b\"", "1", "\"\\u0000\""]),
        ("maxseconds", vec!["1"]),
    ] {
        for value in values {
            let given = format!("{field:?}:{value}");
            let own = format!("{field:?}:{}", all[field]);
            let whole = match all.get(field) {
                Some(_) => all.to_string().replace(&own, &given),
                None => all.to_string().replacen('{', &format!("{{{given},"), 1),
            };
            let [one, other] = [replicas[0].addr, replicas[1].addr];
            for answer in [patch(one, &format!("{{{given}}}")), put(other, &whole)] {
                let told = (answer.status, answer.code());
                assert_eq!(told, (400, "invalid_request".to_owned()), "{given}");
                assert_eq!(answer.json()["field"], field, "{given}");
                assert!(answer.json()["detail"].as_str().unwrap().len() > 15, "{given}");
            }
        }
        if let Some(own) = all.get(field) {
            let twice = patch(replicas[0].addr, &format!("{{{field:?}:{own},{field:?}:{own}}}"));
            assert_eq!((twice.status, twice.json()["field"].as_str()), (400, Some(field)));
        }
    }
    let large = format!("{{\"description\":\"{}\"}}", "x".repeat(8_192));
    assert_eq!(patch(replicas[0].addr, &large).code(), "body_too_large");
    assert_eq!(database.text(rows), before);
}

#[test]
fn a_function_says_what_arguments_it_takes_and_one_that_is_not_known_is_not_asked() {
    let (_database, replicas) = two();
    let addr = replicas[0].addr;
    let detail = |body: &str| {
        let answer = put(addr, body);
        assert_eq!((answer.status, answer.json()["field"].as_str()), (400, Some("arguments")));
        answer.json()["detail"].as_str().unwrap().to_owned()
    };
    let pi =
        r#"{"function":"estimate-pi","schedule":"every 5m","enabled":true,"arguments":{"n":1}}"#;
    let rule = "`arguments` of the function `estimate-pi` must be {}: it takes none";
    assert_eq!(detail(pi), rule);
    let primes = pi.replace("estimate-pi", "count-primes");
    assert!(detail(&primes).ends_with("from 1 to 5000000}, or {}: then it is 300000"));
    let elsewhere = pi.replace("estimate-pi", "of-another-build");
    assert_eq!(put(addr, &elsewhere).status, 201);
    // What another build has taken stays until function or arguments are changed.
    let known = patch(addr, r#"{"function":"estimate-pi"}"#);
    assert_eq!((known.status, known.json()["field"].as_str()), (400, Some("arguments")));
    assert_eq!(patch(addr, r#"{"retries":1}"#).json()["arguments"], json!({"n": 1}));
    let both = r#"{"function":"count-primes","arguments":{"below":10}}"#;
    assert_eq!(patch(addr, both).status, 200);
}

#[test]
fn changes_of_different_settings_at_one_moment_are_all_kept() {
    let (database, replicas) = two();
    let all = all_settings();
    let names: Vec<&String> = all.as_object().unwrap().keys().collect();
    for round in 0..10 {
        assert!(put(replicas[0].addr, LEAST).status < 300);
        let changed = at_once(names.len(), &replicas, |index, client| {
            let body = format!("{{{:?}:{}}}", names[index], all[names[index]]);
            client.ask(&format!("PATCH {JOB}"), &[], &body).status
        });
        assert_eq!(changed, vec![200; names.len()], "round {round}");
        assert_all_see(&replicas, &all);
    }
    // Each row begins with what the one before it ended with.
    let broken = "select count(*) from (select before, lag(after) over (order by id) as last \
                  from cron_job_changes) as change where before is distinct from last";
    assert_eq!(database.number(broken), 0);
    // The function and the schedule were what they are in the end.
    let count = 1 + 10 * (names.len() as i64 - 2) + 9;
    assert_eq!(database.number("select count(*) from cron_job_changes"), count);
}

/// Tells its arguments once it is let go.
fn tells(free: &Arc<AtomicBool>) -> Functions {
    let free = Arc::clone(free);
    let text = |members: &Map<String, Value>| Some(Value::Object(members.clone()).to_string());
    Functions::new().with_arguments(
        "tells",
        "anything",
        json!({}),
        text,
        move |context: &Context, text: String| {
            while !free.load(Ordering::Relaxed) {
                context.wait(Duration::from_millis(5))?;
            }
            Ok::<String, Failure>(text)
        },
    )
}

#[test]
fn a_run_has_the_arguments_of_its_claim_and_the_next_one_the_new_ones() {
    let (database, replicas) = two();
    let body = r#"{"function":"tells","schedule":"every 1h","enabled":true,"arguments":{"n":1}}"#;
    assert_eq!(put(replicas[0].addr, body).status, 201);
    let free = Arc::new(AtomicBool::new(false));
    let schedulers =
        ["a", "b"].map(|server| Scheduler::start(database.url(), &options(server), tells(&free)));
    assert_eq!(post(replicas[0].addr, &format!("{JOB}/run"), "").status, 202);
    database.wait_for("it runs", SOON, 1, "select count(*) from cron_runs");
    assert_eq!(patch(replicas[1].addr, r#"{"arguments":{"n":2}}"#).status, 200);
    assert_eq!(get(replicas[0].addr, JOB).json()["arguments"], json!({"n": 2}));
    free.store(true, Ordering::Relaxed);
    database.wait_for("it has ended", SOON, 1, ENDED);
    assert_eq!(post(replicas[1].addr, &format!("{JOB}/run"), "").status, 202);
    database.wait_for("it has ended again", SOON, 2, ENDED);
    let details = "select string_agg(detail, ' ' order by id) from cron_runs";
    assert_eq!(database.text(details), r#"{"n":1} {"n":2}"#);
    drop(schedulers);
}

#[test]
fn arguments_that_a_function_does_not_take_are_a_failed_run() {
    let database = Postgres::shared().migrated().without_jobs();
    database.add_job("endless", "every 1h");
    let set = "update cron_jobs set arguments = '{\"n\":1e400}'";
    database.connect().batch_execute(set).unwrap();
    let _scheduler = Scheduler::start(database.url(), &options("a"), only("endless", endless));
    database.wait_for("it has ended", SOON, 1, ENDED);
    let told = database.text("select outcome || ': ' || detail from cron_runs");
    assert_eq!(told, "failed: its arguments must be {}: it takes none");
    let local = Local::start(database.url());
    let listed = get(local.addr, "/api/cron/jobs/endless");
    assert!(String::from_utf8_lossy(&listed.body).contains(r#""arguments":{"n":1e400}"#));
    let owned = ask(local.addr, "PATCH /api/cron/jobs/endless", &[], r#"{"owner":"somebody"}"#);
    assert_eq!(owned.status, 200);
    let changes = get(local.addr, "/api/cron/jobs/endless/changes");
    let changes = String::from_utf8_lossy(&changes.body);
    assert!(!changes.contains(r#""before":null"#), "it was not created: {changes}");
}

/// The holder is killed after the change: whoever takes over runs the slot with the new arguments.
#[test]
fn a_takeover_runs_with_what_was_set_meanwhile() {
    let database = Postgres::shared().migrated().without_jobs();
    let variables = |name, least| {
        [("REPLICA_NAME", name), ("JOB_MIN_SECONDS", least), ("CRON_LEASE_SECONDS", "3")]
    };
    let holder = Process::start(database.url(), &variables("holder", "600"));
    let body = LEAST.replacen('{', r#"{"arguments":{"below":1000},"#, 1);
    assert_eq!(put(holder.addr, &body).status, 201);
    assert_eq!(post(holder.addr, &format!("{JOB}/run"), "").status, 202);
    database.wait_for("it runs", SOON, 1, "select count(*) from cron_runs");
    let other = Process::start(database.url(), &variables("other", "0"));
    assert_eq!(patch(other.addr, r#"{"arguments":{"below":100}}"#).status, 200);
    assert_eq!(get(holder.addr, JOB).json()["arguments"], json!({"below": 100}));
    holder.signal("-KILL");
    database.wait_for("it was taken over", SOON, 2, ENDED);
    assert_eq!(database.outcomes("mine"), ["abandoned on holder", "succeeded on other"]);
    let last = "select detail from cron_runs order by id desc limit 1";
    assert_eq!(database.text(last), "25 primes below 100");
}

#[test]
fn a_running_job_does_not_join_a_group_of_which_another_one_runs() {
    let (database, replicas) = two();
    for name in ["mine", "other"] {
        database.add_job_calling(name, "endless", "every 1h");
    }
    let _scheduler = Scheduler::start(database.url(), &options("a"), only("endless", endless));
    database.wait_for("both run", SOON, 2, "select count(*) from cron_runs");
    let other = ask(replicas[0].addr, "PATCH /api/cron/jobs/other", &[], r#"{"group":"heavy"}"#);
    assert_eq!(other.status, 200);
    let joined = patch(replicas[1].addr, r#"{"group":"heavy"}"#);
    assert_eq!((joined.status, joined.code().as_str()), (409, "job_running"));
    let detail = joined.json()["detail"].to_string();
    assert!(detail.contains("another job of that group"), "{detail}");
    assert_eq!(get(replicas[0].addr, JOB).json()["group"], Value::Null);
    assert_eq!(patch(replicas[1].addr, r#"{"group":"light"}"#).status, 200);
}
