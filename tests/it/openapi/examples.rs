//! The document's examples fit its schemas, and its problems are as they are really given.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use balanced::config::new_token;
use balanced::db::{Db, Health, Limits, Manager};
use balanced::http::{Access, Api, Call, Readiness};
use balanced::jobs;
use balanced::metrics::Metrics;
use balanced::shutdown::Signal;
use serde_json::Value;

use super::answers::assert_is;
use super::schema::{faults, resolve};
use super::{Operation, between, document, operations, source, walk};
use crate::support::{
    Answer, Answers, Database, Local, LocalOptions, Postgres, Scheduler, ask, change, endless, get,
    only, options, post, target, until,
};

/// The values of a media type's examples, or of a parameter's or header's one.
pub(super) fn examples(document: &Value, described: &Value) -> Vec<Value> {
    let many = described["examples"].as_object().into_iter().flatten();
    let many = many.map(|(_, example)| resolve(document, example)["value"].clone());
    many.chain(described.get("example").cloned()).collect()
}

/// The media types of a body or an answer.
fn contents<'a>(document: &'a Value, value: &'a Value) -> Vec<(&'a String, &'a Value)> {
    resolve(document, value)["content"].as_object().into_iter().flatten().collect()
}

fn assert_examples_fit(document: &Value, described: &Value, what: &str) {
    let examples = examples(document, described);
    assert!(!examples.is_empty(), "{what} has no example");
    for example in examples {
        let faults = faults(document, &described["schema"], &example);
        assert!(faults.is_empty(), "{what}: {faults:#?}");
    }
}

#[test]
fn every_json_body_parameter_and_header_has_examples_that_fit() {
    let document = document();
    for Operation { method, template, value, .. } in operations() {
        let what = format!("{method} {template}");
        for parameter in value["parameters"].as_array().into_iter().flatten() {
            let parameter = resolve(&document, parameter);
            assert_examples_fit(&document, parameter, &format!("{what} {}", parameter["name"]));
        }
        for (_, content) in contents(&document, &value["requestBody"]) {
            assert_examples_fit(&document, content, &format!("{what}, body"));
        }
        for (status, response) in value["responses"].as_object().unwrap() {
            let headers = resolve(&document, response)["headers"].as_object().unwrap();
            for (name, header) in headers {
                let header = resolve(&document, header);
                assert_examples_fit(&document, header, &format!("{what} {status} {name}"));
            }
            for (media_type, content) in contents(&document, response) {
                if media_type.ends_with("json") {
                    assert_examples_fit(&document, content, &format!("{what} {status}"));
                }
            }
        }
    }
}

#[test]
fn every_field_parameter_and_header_is_described() {
    let document = document();
    let problem = &document["components"]["schemas"]["Problem"]["properties"];
    let described = |value: &Value| {
        let mut target = value;
        while target["description"].is_null() && !target["$ref"].is_null() {
            target = document.pointer(&target["$ref"].as_str().unwrap()[1..]).unwrap();
        }
        target["description"].as_str().is_some_and(|text| !text.is_empty())
    };
    let mut places = Default::default();
    walk(&document, "#", &mut places);
    for (place, value) in places {
        let (folder, name) = place.rsplit_once('/').unwrap();
        let kind = folder.rsplit('/').next().unwrap();
        if ["properties", "parameters", "headers"].contains(&kind) && value.is_object() {
            // Those of one problem only narrow what all problems have.
            let narrowed = folder.contains("/responses/") && problem.get(name).is_some();
            assert!(described(value) || narrowed, "{place}");
        }
    }
}

/// Each problem that a shared answer shows, with that answer.
fn shown_problems(document: &Value) -> Vec<(&Value, Value)> {
    let responses = document["components"]["responses"].as_object().unwrap();
    responses
        .values()
        .flat_map(|response| {
            let problems = examples(document, &response["content"]["application/problem+json"]);
            problems.into_iter().map(move |problem| (response, problem))
        })
        .collect()
}

#[test]
fn every_code_of_an_answer_is_shown_by_an_example() {
    let document = document();
    for (name, response) in document["components"]["responses"].as_object().unwrap() {
        let content = &response["content"]["application/problem+json"];
        let code = &content["schema"]["properties"]["code"];
        let codes = code["enum"].as_array().into_iter().flatten().chain(code.get("const"));
        let codes: BTreeSet<String> = codes.map(|code| code.as_str().unwrap().to_owned()).collect();
        let examples = examples(&document, content).into_iter();
        let shown = examples.map(|problem| problem["code"].as_str().unwrap().to_owned()).collect();
        assert_eq!(codes, shown, "{name}");
        for key in content["examples"].as_object().into_iter().flat_map(|all| all.keys()) {
            assert!(codes.iter().any(|code| key.starts_with(code)), "{name}: {key}");
        }
    }
}

/// Answers to what must be refused, by a replica with a database.
fn refusals(addr: SocketAddr) -> Vec<Answer> {
    let put = |body: &str| ask(addr, "PUT /api/cron/jobs/my-job", &[], body);
    let paused = r#"{"function":"sum","schedule":"every 5m","enabled":false}"#;
    let unknown = post(addr, "/api/cron/jobs/my-job/run", "");
    assert_eq!(put(paused).status, 201);
    let key = ["Idempotency-Key: order-7"];
    assert_eq!(ask(addr, "POST /api/balance", &key, &change(1, -2)).balance(), 9_998);
    let user = |balance| ask(addr, "POST /api/users", &key, &format!("{{\"balance\":{balance}}}"));
    let set = |headers: &[&str], one: i64, is_balanced: bool| {
        let (one, other) = (change(1, one), change(2, 1));
        let body = format!("{{\"changes\":[{one},{other}],\"balanced\":{is_balanced}}}");
        ask(addr, "POST /api/changes", headers, &body)
    };
    let named = || post(addr, "/api/users", r#"{"balance":0,"externalId":"customer-17"}"#);
    vec![
        unknown,
        ask(addr, "POST /api/users", &["If-None-Match: *"], "{\"balance\":0}"),
        ask(addr, "PUT /api/cron/jobs/my-job", &["If-None-Match: *"], paused),
        ask(addr, "POST /api/balance", &["Content-Encoding: gzip"], &change(1, -2)),
        post(addr, "/api/balance", ""),
        post(addr, "/api/balance", &change(1, 0)),
        post(addr, "/api/balance", &change(2, 1)),
        post(addr, "/api/balance", &change(1, -20_000)),
        post(addr, "/api/balance", &change(1, i64::MAX)),
        post(addr, "/api/balance", &" ".repeat(2_000)),
        ask(addr, "POST /api/balance", &key, &change(1, -3)),
        ask(addr, "POST /api/balance", &["Sec-Fetch-Site: cross-site"], &change(1, -2)),
        get(addr, "/api/users/01"),
        get(addr, "/api/users/1/balance?at=2020-01-01T00:00:00Z"),
        get(addr, "/api/users/1/balance?number=20"),
        get(addr, "/api/cron/runs/20"),
        post(addr, "/api/users/1", ""),
        post(addr, "/api/cron/jobs/my-job/run", ""),
        post(addr, "/api/cron/jobs/my-job/stop", r#"{"runId":10}"#),
        user(0),
        user(1),
        named(),
        named(),
        set(&[], -20_000, false),
        set(&[], i64::MAX, false),
        set(&[], -2, true),
        set(&key, 1, false),
        set(&key, 2, false),
        post(addr, "/api/changes", &" ".repeat(9_000)),
    ]
}

/// Without a token, and with one of another scope.
fn refused_by_scope(database_url: &str) -> [Answer; 2] {
    let file = std::env::temp_dir().join(format!("balanced-shown-{}", std::process::id()));
    let (token, line) = new_token("ci", &["run"], &[7; 32]).expect("a token");
    std::fs::write(&file, line).expect("a file");
    let access = vec![("API_TOKENS_FILE", file.display().to_string())];
    let local = Local::start_with(database_url, LocalOptions { access, ..Default::default() });
    std::fs::remove_file(&file).expect("no file");
    let field = format!("Authorization: Bearer {token}");
    [&[][..], &[field.as_str()]].map(|fields| ask(local.addr, "GET /api/users", fields, ""))
}

/// A job is due for long, and another has failed.
fn unhealthy(database: &Database, addr: SocketAddr) -> Answer {
    database.connect().batch_execute("delete from cron_jobs").expect("no jobs");
    ["nightly", "hourly"].iter().for_each(|name| database.add_job(name, "every 1h"));
    let failed = "insert into cron_runs (job_id, job, function, token, server, scheduled_at, \
                  started_at, finished_at, outcome) select id, name, function, 0, 'replica-1', \
                  slot, slot, now(), 'failed' from cron_jobs where name = 'nightly'";
    database.connect().batch_execute(failed).expect("a run");
    let late = "update cron_jobs set locked_until = now() - interval '6 minutes' \
                where name = 'hourly'";
    database.connect().batch_execute(late).expect("a late job");
    get(addr, "/health/jobs")
}

fn refused_while_it_runs() -> Answer {
    let database = Postgres::shared().migrated().without_jobs();
    let local = Local::start(database.url());
    database.add_job_calling("my-job", "endless", "every 1h");
    let _scheduler = Scheduler::start(database.url(), &options("a"), only("endless", endless));
    let open = "select count(*) from cron_runs where finished_at is null";
    database.wait_for("it runs", Duration::from_secs(20), 1, open);
    post(local.addr, "/api/cron/jobs/my-job/run", "")
}

/// The backend that works on a change is ended.
fn broken_in_flight() -> Answer {
    let database = Postgres::shared().migrated();
    let local = Local::start(database.url());
    let (mut holder, mut admin) = (database.connect(), database.connect());
    let mut lock = holder.transaction().unwrap();
    lock.query_one("select balance from users where id = 1 for update", &[]).unwrap();
    std::thread::scope(|scope| {
        let in_flight = scope.spawn(|| post(local.addr, "/api/balance", &change(1, -2)));
        until("the statement is ended", Duration::from_secs(4), || {
            let end = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                       where wait_event_type = 'Lock' and datname = current_database()";
            admin.query_one(end, &[]).unwrap().get::<_, i64>(0) == 1
        });
        in_flight.join().unwrap()
    })
}

fn a_panic() -> Answer {
    let panics = Answers(|_: &Call| panic!("as a bug would"));
    let limit = Duration::from_secs(1);
    get(Local::serve(1, limit, Arc::new(Health::default()), Arc::new(panics)).addr, "/")
}

/// One that has no database and is about to end.
fn ending() -> Local {
    let limit = Duration::from_secs(1);
    let health = Arc::new(Health::default());
    let shutdown = Signal::new();
    shutdown.begin();
    let readiness = Arc::new(Readiness::new(Arc::clone(&health), shutdown));
    let manager = Manager::new(target("host=/nowhere", "local"), Limits::for_requests(limit));
    let db = Arc::new(Db::open(manager, 1, Duration::from_secs(60), Arc::clone(&health)));
    let functions =
        jobs::functions(jobs::FunctionOptions { least: Duration::ZERO, run_history_days: 14 });
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let api = Api::new(&db, Access::default(), readiness, "local", &functions, &metrics);
    Local::serve(1, limit, health, Arc::new(api))
}

/// Word for word, so that whoever reads the document knows what comes.
#[test]
fn every_problem_is_shown_as_it_is_given() {
    let database = Postgres::shared().migrated();
    let local = Local::start(database.url());
    let mut answers = refusals(local.addr);
    answers.extend(refused_by_scope(database.url()));
    answers.push(unhealthy(&database, local.addr));
    answers.extend([refused_while_it_runs(), broken_in_flight(), a_panic()]);
    let ending = ending();
    answers.extend([get(ending.addr, "/health"), get(ending.addr, "/api/users")]);
    let door = source("deploy/haproxy.cfg");
    let doors: Vec<Value> =
        between(&door, "string '", "'").map(|text| serde_json::from_str(text).unwrap()).collect();
    let document = document();
    for (response, problem) in shown_problems(&document) {
        if let Some(answer) = answers.iter().find(|answer| answer.json() == problem) {
            assert_is(&document, response, answer, &problem.to_string());
        } else {
            let code = &problem["code"];
            let given = answers.iter().map(Answer::json).filter(|one| one["code"] == *code);
            assert!(
                doors.contains(&problem),
                "{problem} is none of {:#?}",
                given.collect::<Vec<_>>()
            );
        }
    }
}
