//! What a replica really answers is what the document says: status, headers and body.

use std::net::SocketAddr;

use serde_json::Value;

use super::examples::examples;
use super::schema::{faults, resolve};
use super::{Operation, document, operations};
use crate::support::{Answer, Client, Database, Local, LocalOptions, Postgres, ask};

const TOKEN: &str = "correct-horse-battery";
const RIGHT: &str = "Authorization: Bearer correct-horse-battery";

/// A job that a replica left behind in a run, one run that has ended, and a second user.
fn database_with_runs() -> Database {
    let database = Postgres::shared().migrated().without_jobs();
    database.add_job_calling("sample-pi", "estimate-pi", "every 3m");
    database.orphan_the_job();
    let ended = "insert into cron_runs (job_id, job, function, token, server, scheduled_at, \
                 started_at, finished_at, outcome, detail) select id, name, function, 0, \
                 'replica-1', slot, slot, now(), 'succeeded', '3.14' from cron_jobs";
    database.connect().batch_execute(ended).expect("a run");
    let user = "insert into users (balance) values (0)";
    database.connect().batch_execute(user).expect("a user");
    database
}

/// One request as the examples of its parameters and its body say.
struct Request {
    target: String,
    headers: Vec<String>,
    body: String,
}

/// With every parameter that may be given, and without.
fn requests(document: &Value, operation: &Operation) -> Vec<Request> {
    let bodies = examples(document, &operation.value["requestBody"]["content"]["application/json"]);
    let mut bodies: Vec<String> = bodies.iter().map(Value::to_string).collect();
    if bodies.is_empty() {
        bodies.push(String::new());
    }
    let mut requests = Vec::new();
    for with_all in [true, false] {
        for body in &bodies {
            let (mut target, mut query) = (operation.template.clone(), Vec::new());
            let mut headers = vec![RIGHT.to_owned()];
            for parameter in operation.value["parameters"].as_array().into_iter().flatten() {
                let parameter = resolve(document, parameter);
                let name = parameter["name"].as_str().unwrap();
                let example = text(&parameter["example"]);
                match parameter["in"].as_str().unwrap() {
                    "path" => target = target.replace(&format!("{{{name}}}"), &example),
                    "query" if with_all => query.push(format!("{name}={example}")),
                    "header" if with_all => headers.push(format!("{name}: {example}")),
                    _ => {}
                }
            }
            if !query.is_empty() {
                target = format!("{target}?{}", query.join("&"));
            }
            requests.push(Request { target, headers, body: body.clone() });
        }
    }
    requests
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Fails unless the document knows this answer of the operation.
fn assert_documented(document: &Value, operation: &Operation, answer: &Answer) {
    let Operation { method, template, value, .. } = operation;
    let what = format!("{method} {template} {}", answer.status);
    let response = value["responses"].get(answer.status.to_string());
    let response = response.unwrap_or_else(|| panic!("{what}: not documented"));
    assert_is(document, resolve(document, response), answer, &what);
}

/// Fails unless headers and body are as this response is documented.
pub(super) fn assert_is(document: &Value, response: &Value, answer: &Answer, what: &str) {
    assert_headers(document, response, answer, what);
    let Some(contents) = response["content"].as_object() else {
        assert!(answer.body.is_empty(), "{what}: a body");
        return;
    };
    let given = answer.header("content-type").unwrap();
    let is_given = |(media_type, _): &(&String, &Value)| given.starts_with(media_type.as_str());
    let (media_type, content) = contents.iter().find(is_given).expect(what);
    if media_type.ends_with("json") {
        let faults = faults(document, &content["schema"], &answer.json());
        assert!(faults.is_empty(), "{what}: {faults:#?}");
    }
}

fn assert_headers(document: &Value, response: &Value, answer: &Answer, what: &str) {
    let documented = response["headers"].as_object().unwrap();
    for name in document["components"]["headers"].as_object().unwrap().keys() {
        let is_given = answer.header(&name.to_ascii_lowercase()).is_some();
        assert!(!is_given || documented.contains_key(name), "{what}: {name} is not documented");
    }
    for (name, header) in documented {
        let header = resolve(document, header);
        let Some(given) = answer.header(&name.to_ascii_lowercase()) else {
            assert_ne!(header["required"], true, "{what}: no {name}");
            continue;
        };
        let given = match header["schema"]["type"].as_str() {
            Some("integer") => serde_json::from_str(given).expect("a number"),
            _ => Value::from(given),
        };
        let faults = faults(document, &header["schema"], &given);
        assert!(faults.is_empty(), "{what} {name}: {faults:#?}");
    }
}

/// The example job is there, unless it is to be made, and runs if its run is to be stopped.
fn prepare(database: &Database, addr: SocketAddr, operation: &Operation) {
    let job = r#"{"function":"count-primes","schedule":"every 5m","enabled":true}"#;
    let is_made = operation.value["operationId"] == "putJob";
    let method = if is_made { "DELETE" } else { "PUT" };
    let prepared = ask(addr, &format!("{method} /api/cron/jobs/my-job"), &[RIGHT], job);
    assert!(prepared.status < 300, "{}", prepared.status);
    if operation.value["operationId"] == "stopRun" {
        let runs = "insert into cron_runs \
            (id, job_id, job, function, token, server, scheduled_at, started_at) \
            select 10, id, name, function, 1, 'a', slot, now() from cron_jobs \
            where name = 'my-job'; \
            update cron_jobs set token = 1, holder = 'a#1', run_id = 10, \
            locked_until = now() + interval '1 h' where name = 'my-job'";
        database.connect().batch_execute(runs).expect("a run");
    }
}

#[test]
fn every_example_request_is_answered_as_documented() {
    let database = database_with_runs();
    let options = LocalOptions { token: Some(TOKEN), ..LocalOptions::default() };
    let local = Local::start_with(database.url(), options);
    let document = document();
    for operation in operations() {
        prepare(&database, local.addr, &operation);
        let mut seen = Vec::new();
        for Request { target, headers, body } in requests(&document, &operation) {
            let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
            let head = format!("{} {target}", operation.method);
            let answer = ask(local.addr, &head, &headers, &body);
            assert_documented(&document, &operation, &answer);
            seen.push(answer.status.to_string());
        }
        let responses = operation.value["responses"].as_object().unwrap();
        for status in responses.keys().filter(|status| status.starts_with('2')) {
            assert!(seen.contains(status), "{} {}: {seen:?}", operation.method, operation.template);
        }
    }
    database.assert_books_balance();
}

/// Whatever is wrong with a request, at every operation.
#[test]
fn every_refusal_is_documented_at_every_operation() {
    let database = database_with_runs();
    let options = LocalOptions { token: Some(TOKEN), ..LocalOptions::default() };
    let local = Local::start_with(database.url(), options);
    let document = document();
    for operation in operations() {
        let head = format!("{} {}", operation.method, operation.path);
        let mut refused =
            vec![(405, ask(local.addr, &format!("BREW {}", operation.path), &[], ""))];
        let Request { body, .. } = requests(&document, &operation).remove(0);
        if operation.route.changes_something() {
            let other = [RIGHT, "If-None-Match: \"other\""];
            refused.push((412, ask(local.addr, &head, &other, &body)));
            refused.push((403, ask(local.addr, &head, &[RIGHT, "Origin: null"], "")));
        }
        if operation.route.scope.is_some() {
            refused.push((401, ask(local.addr, &head, &[], "")));
        }
        if operation.value.get("requestBody").is_some() {
            let coded = [RIGHT, "Content-Encoding: gzip"];
            refused.push((415, ask(local.addr, &head, &coded, &body)));
        }
        for (status, field) in [(400, "Content-Length: two"), (413, "Content-Length: 2000000")] {
            let mut client = Client::connect(local.addr);
            client.send(format!("{head} HTTP/1.1\r\nHost: x\r\n{RIGHT}\r\n{field}\r\n\r\n"));
            refused.push((status, client.receive().expect("an answer")));
        }
        for (status, answer) in refused {
            assert_eq!(answer.status, status, "{head}");
            assert_documented(&document, &operation, &answer);
        }
        let nobody = operation.template.replace("{id}", "999999").replace("{name}", "nobody");
        let nobody = format!("{} {nobody}?unknown=1", operation.method);
        assert_documented(&document, &operation, &ask(local.addr, &nobody, &[RIGHT], "{}"));
    }
}
