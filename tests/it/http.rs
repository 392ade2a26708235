//! What clients see besides the balance: every error, every header, and what a body may be.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use balanced::db::Health;
use balanced::http::{Call, Reply};

use crate::support::{
    Answers, Client, Local, LocalOptions, Postgres, ask, change, get, post, until,
};

fn replica() -> (crate::support::Database, Local) {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    (database, replica)
}

#[test]
fn every_error_has_its_status_its_code_and_one_form() {
    let (_database, replica) = replica();
    let long = format!("{{\"userId\":1,\"amount\":1,\"note\":\"{}\"}}", "x".repeat(1_024));
    for (head, body, status, code, field) in [
        ("POST /api/balance", "", 400, "invalid_json", None),
        ("POST /api/balance", "{\"userId\":1", 400, "invalid_json", None),
        ("POST /api/balance", "userId=1&amount=2", 400, "invalid_json", None),
        ("POST /api/balance", "[]", 400, "invalid_request", Some("body")),
        ("POST /api/balance", "{\"userId\":1}", 400, "invalid_request", Some("amount")),
        ("POST /api/balance", "{\"amount\":1}", 400, "invalid_request", Some("userId")),
        ("POST /api/balance", &change(1, 0), 400, "invalid_request", Some("amount")),
        (
            "POST /api/balance",
            "{\"userId\":1,\"amount\":2.5}",
            400,
            "invalid_request",
            Some("amount"),
        ),
        (
            "POST /api/balance",
            "{\"userId\":\"1\",\"amount\":2}",
            400,
            "invalid_request",
            Some("userId"),
        ),
        (
            "POST /api/balance",
            "{\"userId\":1,\"amount\":2,\"x\":1}",
            400,
            "invalid_request",
            Some("x"),
        ),
        (
            "POST /api/balance",
            "{\"userId\":1,\"amount\":2,\"amount\":2}",
            400,
            "invalid_request",
            Some("amount"),
        ),
        ("POST /api/users", "{\"balance\":-1}", 400, "invalid_request", Some("balance")),
        ("GET /api/users?limit=0", "", 400, "invalid_request", Some("limit")),
        ("GET /api/users?after=x", "", 400, "invalid_request", Some("after")),
        ("GET /api/users/1/changes?befor=1", "", 400, "invalid_request", Some("befor")),
        ("GET /nowhere", "", 404, "not_found", None),
        ("GET /api/users/x", "", 404, "not_found", None),
        ("GET /api/users/2", "", 404, "user_not_found", None),
        ("POST /api/balance", &change(2, 1), 404, "user_not_found", None),
        ("GET /api/balance", "", 405, "method_not_allowed", None),
        ("DELETE /api/users/1", "", 405, "method_not_allowed", None),
        ("BREW /health", "", 405, "method_not_allowed", None),
        ("POST /api/balance", &change(1, -10_001), 409, "insufficient_funds", None),
        ("POST /api/balance", &change(1, i64::MAX), 409, "amount_out_of_range", None),
        ("POST /api/balance", &long, 413, "body_too_large", None),
    ] {
        let answer = ask(replica.addr, head, &[], body);
        assert_eq!((answer.status, answer.code()), (status, code.to_owned()), "{head} {body}");
        assert_eq!(answer.json()["field"].as_str(), field, "{head} {body}");
    }
    assert_eq!(get(replica.addr, "/api/users/1").balance(), 10_000, "nothing of it was applied");
}

#[test]
fn a_wrong_method_is_told_the_right_ones() {
    let (_database, replica) = replica();
    assert_eq!(get(replica.addr, "/api/balance").header("allow"), Some("POST"));
    let answer = ask(replica.addr, "PUT /api/users", &[], "");
    assert_eq!(answer.header("allow"), Some("GET, HEAD, POST"));
}

#[test]
fn every_answer_names_its_request_and_its_server() {
    let (_database, replica) = replica();
    for head in ["GET /api/users/1", "GET /nowhere", "GET /health/live"] {
        let own = ask(replica.addr, head, &["X-Request-Id: my-7.b"], "");
        assert_eq!(own.header("x-request-id"), Some("my-7.b"));
        assert_eq!(own.header("x-served-by"), Some("local"));
        let strange = ask(replica.addr, head, &["X-Request-Id: <script>"], "");
        let given = strange.header("x-request-id").unwrap();
        assert!(!given.is_empty() && !given.contains('<'), "{given}");
    }
}

#[test]
fn head_is_get_without_its_body() {
    let (_database, replica) = replica();
    let mut client = Client::connect(replica.addr);
    let one = |method| format!("{method} /api/users/1 HTTP/1.1\r\nHost: x\r\n\r\n");
    client.send(one("HEAD") + &one("GET"));
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).ends_with("10000}") {
        text.extend(client.read_some());
    }
    let text = String::from_utf8(text).unwrap();
    assert_eq!(text.matches("Content-Length: 28").count(), 2, "{text}");
    assert_eq!(text.matches("{\"userId\":1,\"balance\":10000}").count(), 1, "{text}");
}

#[test]
fn a_body_is_json_whatever_its_type() {
    let (_database, replica) = replica();
    let form = ["Content-Type: application/x-www-form-urlencoded"];
    let answer = ask(replica.addr, "POST /api/balance", &form, &change(1, -2));
    assert_eq!(answer.balance(), 9_998);
}

#[test]
fn a_token_is_taken_as_its_header_has_it_and_not_otherwise() {
    let database = Postgres::shared().migrated();
    let token = Some("correct-horse");
    let options = LocalOptions { token, ..LocalOptions::default() };
    let replica = Local::start_with(database.url(), options);
    for headers in [
        vec![],
        vec!["Authorization: Bearer wrong-horse"],
        vec!["Authorization: Basic correct-horse"],
        vec!["Authorization: correct-horse"],
        vec!["Authorization: Bearer correct-hors"],
    ] {
        for (head, body) in
            [("POST /api/balance", change(1, -2)), ("POST /api/users", "{\"balance\":0}".into())]
        {
            let answer = ask(replica.addr, head, &headers, &body);
            assert_eq!((answer.status, answer.code()), (401, "unauthorized".to_owned()));
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
    let right = ["Authorization: bearer correct-horse"];
    assert_eq!(ask(replica.addr, "GET /api/users/1", &right, "").balance(), 10_000);
    assert_eq!(ask(replica.addr, "POST /api/balance", &right, &change(1, -2)).balance(), 9_998);
}

/// One worker, and clients that keep their bodies to themselves: it stays free all the while.
#[test]
fn a_long_chunked_or_slow_body_holds_no_worker() {
    let database = Postgres::shared().migrated();
    let options = LocalOptions { workers: 1, ..LocalOptions::default() };
    let replica = Local::start_with(database.url(), options);
    let head = "POST /api/balance HTTP/1.1\r\nHost: x\r\n";
    let mut stuck = Vec::new();
    for (rest, status, code) in [
        ("Content-Length: 5000\r\n\r\n{", 413, "body_too_large"),
        ("Content-Length: 1000000000000\r\n\r\n{", 413, "body_too_large"),
        ("Content-Length: 5000\r\nExpect: 100-continue\r\n\r\n", 413, "body_too_large"),
        ("Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400, "invalid_request"),
        ("Content-Length: two\r\n\r\n", 400, "invalid_request"),
    ] {
        let mut client = Client::connect(replica.addr);
        client.send(format!("{head}{rest}"));
        let answer = client.receive().expect(rest);
        assert_eq!((answer.status, answer.code()), (status, code.to_owned()), "{rest}");
        assert!(answer.header("connection").is_some());
        stuck.push(client);
    }
    for rest in [
        "Content-Length: 25\r\nExpect: 100-continue\r\n\r\n",
        "Content-Length: 25\r\n\r\n{\"user",
        "Content-Length: 25\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n{\"user",
    ] {
        let mut client = Client::connect(replica.addr);
        client.send(format!("{head}{rest}"));
        stuck.push(client);
    }
    let start = Instant::now();
    assert_eq!(post(replica.addr, "/api/balance", &change(1, -2)).balance(), 9_998);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());

    // Those that sent a part of theirs are answered when the rest comes.
    let mut upgrading = stuck.pop().unwrap();
    upgrading.send("Id\":1,\"amount\":-2 }");
    assert_eq!(upgrading.receive().unwrap().balance(), 9_996);
    let mut slow = stuck.remove(stuck.len() - 2);
    assert_eq!(slow.receive().unwrap().status, 100);
    slow.send("{\"userId\":1,\"amount\":-2 }");
    assert_eq!(slow.receive().unwrap().balance(), 9_994);
}

/// What stands inside a refused body is never taken for a request, nor is what follows it.
#[test]
fn a_refused_body_smuggles_nothing_in() {
    let (_database, replica) = replica();
    let inner = request(&change(1, -5_000));
    for (bytes, status) in [
        (format!("Content-Length: 2000\r\n\r\n{inner}{}", " ".repeat(2_000 - inner.len())), 413),
        (format!("Content-Length: 99999999999\r\n\r\n{inner}"), 413),
        (format!("Content-Length: 18446744073709551616\r\n\r\n{inner}"), 400),
        (format!("Content-Length: 5, 5\r\n\r\n{inner}"), 400),
        (format!("Transfer-Encoding: gzip, chunked\r\n\r\n{inner}"), 400),
        (format!("Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n{inner}"), 400),
    ] {
        let mut client = Client::connect(replica.addr);
        client.send(format!("POST /api/balance HTTP/1.1\r\nHost: x\r\n{bytes}{inner}"));
        let answer = client.receive().expect(&bytes);
        assert_eq!(
            (answer.status, answer.header("connection")),
            (status, Some("close")),
            "{bytes}"
        );
        assert!(answer.header("upgrade").is_none() && answer.header("server").is_none());
        assert!(client.is_ended(), "a second answer: {bytes}");
    }
    assert_eq!(get(replica.addr, "/api/users/1").balance(), 10_000);
}

fn request(body: &str) -> String {
    let length = body.len();
    format!("POST /api/balance HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}")
}

#[test]
fn a_body_in_chunks_is_read_to_its_end() {
    let (_database, replica) = replica();
    let head = "POST /api/balance HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = Client::connect(replica.addr);
    for round in 1..=3 {
        for part in [head, "a\r\n{\"userId\":\r\n", "e;x=y\r\n1,\"amount\":-2}\r\n", "0\r\n\r\n"] {
            client.send(part);
        }
        assert_eq!(client.receive().unwrap().balance(), 10_000 - 2 * round);
    }
    // The last one of its connection.
    let last = head.replace("Host", "Connection: close\r\nHost");
    for _ in 0..20 {
        let mut client = Client::connect(replica.addr);
        client.send(format!("{last}18\r\n{{\"userId\":1,\"amount\":-2}}\r\n0\r\n\r\n"));
        assert_eq!(client.receive().unwrap().status, 200);
        assert!(client.is_ended());
    }
    client.send(format!("{head}400\r\n{}\r\n1\r\n \r\n0\r\n\r\n", " ".repeat(1_024)));
    assert_eq!(client.receive().unwrap().status, 413);

    // A complete object in a body that is not.
    let mut short = Client::connect(replica.addr);
    short.send(format!("{head}20\r\n{{\"userId\":1,\"amount\":-2}}"));
    short.try_clone().shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(short.receive().unwrap().code(), "request_timeout");
    assert_eq!(get(replica.addr, "/api/users/1").balance(), 9_954);
}

/// It looks whole to the library once the replica waits for it no longer.
#[test]
fn a_body_that_stops_is_refused_and_not_worked_on() {
    let (_database, replica) = replica();
    let head = "POST /api/balance HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = Client::connect(replica.addr);
    client.send(format!("{head}40\r\n{{\"userId\":1,\"amount\":-2}}"));
    let answer = client.receive().expect("an answer");
    assert_eq!((answer.status, answer.code()), (408, "request_timeout".to_owned()));
    assert!(client.is_ended());
    assert_eq!(get(replica.addr, "/api/users/1").balance(), 10_000);
}

/// "100 Continue" would have to wait for the answer before it on the same connection.
#[test]
fn an_expectation_without_a_body_stops_nobody() {
    let gate = Arc::new(parking_lot::Mutex::new(()));
    let stuck_at = Arc::clone(&gate);
    let application = Answers(move |call: &Call| {
        if call.path() == "/api/users/1" {
            drop(stuck_at.lock());
        }
        Reply::json(200, &"fine")
    });
    let limit = Duration::from_secs(30);
    let server = Local::serve(1, limit, Arc::new(Health::default()), Arc::new(application));
    let (addr, closed) = (server.addr, gate.lock());
    let first = thread::spawn(move || get(addr, "/api/users/1").status);
    let mut client = Client::connect(addr);
    client.send("GET /api/users/1 HTTP/1.1\r\nHost: x\r\n\r\n");
    client.send("GET /api/users/2 HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n");
    for _ in 0..5 {
        let health = thread::spawn(move || get(addr, "/health/live").status);
        until("health is answered", Duration::from_secs(5), || health.is_finished());
        assert_eq!(health.join().unwrap(), 200);
    }
    drop(closed);
    assert_eq!(first.join().unwrap(), 200);
    assert_eq!(client.receive().unwrap().status, 200);
    assert_eq!(client.receive().unwrap().status, 200);
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    const REQUESTS: i64 = 200;
    let (_database, replica) = replica();
    let mut client = Client::connect(replica.addr);
    let body = change(1, -1);
    let head = "POST /api/balance HTTP/1.1\r\nHost: x\r\n";
    let one = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    client.send(one.repeat(usize::try_from(REQUESTS).unwrap()));
    let mut seen = Vec::new();
    for _ in 0..REQUESTS {
        seen.push(client.receive().unwrap().balance());
    }
    seen.sort_unstable();
    assert_eq!(seen, (10_000 - REQUESTS..10_000).collect::<Vec<_>>());
}

#[test]
fn what_needs_no_database_is_answered_while_every_worker_is_stuck() {
    const IN_MEMORY: [&str; 3] = ["/health/live", "/health", "/openapi.json"];
    let gate = Arc::new(parking_lot::Mutex::new(()));
    let stuck_at = Arc::clone(&gate);
    let application = Answers(move |call: &Call| {
        if !IN_MEMORY.contains(&call.path()) {
            drop(stuck_at.lock());
        }
        Reply::json(200, &call.path())
    });
    let server =
        Local::serve(2, Duration::from_secs(1), Arc::new(Health::default()), Arc::new(application));
    let closed = gate.lock();
    let stuck: Vec<_> = (0..6)
        .map(|_| {
            let addr = server.addr;
            thread::spawn(move || get(addr, "/api/users/1"))
        })
        .collect();
    for path in IN_MEMORY.repeat(2) {
        let start = Instant::now();
        assert_eq!(get(server.addr, path).status, 200);
        assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
    }
    // Those that nobody works on are answered by their deadline, as nobody has sent anything.
    for client in stuck {
        let answer = client.join().unwrap();
        assert_eq!((answer.status, answer.code()), (503, "database_unavailable".to_owned()));
        assert_eq!(answer.json()["outcome"], "not_applied");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    drop(closed);
    until("the workers are back", Duration::from_secs(5), || {
        get(server.addr, "/api/users/1").status == 200
    });
}
