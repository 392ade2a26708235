//! Bodies that do harm: nested deep, or sent slowly by those who may change nothing.

use std::fs::{DirEntry, read_dir, read_to_string};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::{Client, Local, LocalOptions, Postgres, Process, ask, get, post, until};

/// As many as there are threads that read bodies for anybody.
const SLOW: usize = 64;
const TOKEN: &str = "correct-horse-battery";

/// A connection on which a long body has begun.
fn begun(addr: SocketAddr, head: &str) -> Client {
    let mut client = Client::connect(addr);
    client.send(format!("{head} HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n{{"));
    client
}

/// The same in chunks.
fn begun_in_chunks(addr: SocketAddr, head: &str) -> Client {
    let mut client = Client::connect(addr);
    let head = format!("{head} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(format!("{head}1\r\n{{\r\n"));
    client
}

fn until_every_thread_waits_for_a_body(replica: &Process) {
    let name = |task: DirEntry| read_to_string(task.path().join("comm")).unwrap_or_default();
    until("every thread waits for a body", Duration::from_secs(20), || {
        let tasks = read_dir(format!("/proc/{}/task", replica.pid())).expect("a process");
        tasks.flatten().map(name).filter(|name| name == "body\n").count() >= SLOW
    });
}

/// A set whose body is longer than the server library reads by itself.
fn long_set() -> String {
    let set = r#"{"changes":[{"userId":1,"amount":-2},{"userId":2,"amount":2}]}"#;
    format!("{set:1500}")
}

/// In a debug build, whose frames are the largest, and on the small stacks of a replica's threads.
#[test]
fn a_body_that_is_nested_deep_is_refused_like_any_other() {
    let database = Postgres::shared().migrated();
    let process = Process::start(database.url(), &[]);
    let mut client = Client::connect(process.addr);
    for (head, field, bytes_max) in [
        ("POST /api/balance", "amount", 1_024),
        ("POST /api/changes", "changes", 8_192),
        ("PUT /api/cron/jobs/sample-pi", "arguments", 8_192),
    ] {
        for (open, core, close) in
            [("[", "", "]"), ("{\"a\":", "1", "}"), ("[{\"a\":", "[{}]", "},1]")]
        {
            let wrap = |depth| format!("{}{core}{}", open.repeat(depth), close.repeat(depth));
            let depths = [20, 60, 63, 64, 127, (bytes_max - 40) / (open.len() + close.len())];
            let of_a_field = depths.map(wrap).map(|deep| format!("{{{field:?}:{deep}}}"));
            let whole = depths.map(wrap);
            let broken = depths.map(|depth| open.repeat(depth));
            for body in [of_a_field, whole, broken].concat() {
                if body.len() > bytes_max {
                    continue;
                }
                assert_eq!(client.ask(head, &[], &body).status, 400, "{head} {body}");
                client.send(format!(
                    "{head} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
                     {:x}\r\n{body}\r\n0\r\n\r\n",
                    body.len()
                ));
                assert_eq!(client.receive().expect("an answer").status, 400, "{head} {body}");
            }
        }
    }
    assert_eq!(get(process.addr, "/api/users/1").balance(), 10_000);
}

#[test]
fn who_has_no_token_keeps_nobody_waiting_by_a_body() {
    let database = Postgres::shared().migrated();
    let replica = Process::start(database.url(), &[("API_TOKEN", TOKEN)]);
    let field = format!("Authorization: Bearer {TOKEN}");
    let user = ask(replica.addr, "POST /api/users", &[&field], "{\"balance\":5}");
    assert_eq!(user.status, 201);
    // What needs no token is read to its end: such a connection goes on.
    let mut strangers: Vec<Client> = ["GET /health/live", "POST /nowhere"]
        .iter()
        .flat_map(|head| (0..SLOW).map(|_| begun_in_chunks(replica.addr, head)))
        .collect();
    until_every_thread_waits_for_a_body(&replica);
    strangers.extend((0..SLOW).map(|_| begun(replica.addr, "POST /api/changes")));
    let start = Instant::now();
    let answer = ask(replica.addr, "POST /api/changes", &[&field], &long_set());
    assert_eq!(answer.status, 200);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn who_may_not_ask_is_told_so_before_the_body_is_read() {
    let database = Postgres::shared().migrated();
    let options = LocalOptions { token: Some(TOKEN), ..Default::default() };
    let replica = Local::start_with(database.url(), options);
    for mut client in
        [begun(replica.addr, "POST /api/changes"), begun_in_chunks(replica.addr, "POST /api/users")]
    {
        let answer = client.receive().expect("an answer");
        assert_eq!((answer.status, answer.code()), (401, "unauthorized".to_owned()));
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(client.is_ended());
    }
}

/// The 30 seconds for a body begin when a thread reads it.
#[test]
fn a_body_that_waits_for_a_thread_is_not_told_that_it_took_too_long() {
    let database = Postgres::shared().migrated();
    let replica = Process::start(database.url(), &[]);
    assert_eq!(post(replica.addr, "/api/users", "{\"balance\":5}").status, 201);
    let slow: Vec<Client> = (0..SLOW).map(|_| begun(replica.addr, "POST /api/changes")).collect();
    until_every_thread_waits_for_a_body(&replica);
    let honest: Vec<Client> = (0..4)
        .map(|_| {
            let mut client = Client::connect(replica.addr);
            client.send_request("POST /api/changes", &[], &long_set());
            client
        })
        .collect();
    for mut client in honest {
        assert_eq!(client.receive().expect("an answer").status, 200);
    }
    drop(slow);
}
