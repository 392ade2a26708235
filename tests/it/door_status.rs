//! What the door tells of itself, at an address that no client reaches.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::metrics::sum;
use crate::support::{Client, Door, Postgres, Process, change, get, post, tool, until};

const SOON: Duration = Duration::from_secs(20);

/// By HTTP/1.0, since it would come in chunks otherwise.
fn metrics(door: &Door) -> String {
    let mut stream = TcpStream::connect(door.status).expect("the door");
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

/// The answers of status 5xx that are the door's own, as the alert counts them.
fn own_failures(text: &str) -> f64 {
    let of = |side| sum(text, &format!("haproxy_{side}_http_responses_total"), &["code=\"5xx\""]);
    of("backend") - of("server")
}

/// Each word of a text that begins as HAProxy's metrics do.
fn families(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("haproxy_")).collect()
}

#[test]
fn the_doors_own_failures_are_told_apart_from_those_of_replicas() {
    let database = Postgres::shared().migrated();
    let replica = Process::start(database.url(), &[("CRON_ENABLED", "false")]);
    let Some(door) = Door::start(&[replica.addr]) else { return };
    let exporter = Some(metrics(&door)).filter(|answer| !answer.starts_with("HTTP/1.1 404 "));
    let Some(_) = tool("HAProxy's exporter", exporter) else { return };
    for document in ["deploy/alerts.yml", "deploy/alerts.test.yml", "docs/monitoring.md"] {
        let path = format!("{}/{document}", env!("CARGO_MANIFEST_DIR"));
        let document = std::fs::read_to_string(path).expect(document);
        let text = metrics(&door);
        let (named, known) = (families(&document), families(&text));
        assert!(!named.is_empty() && named.is_subset(&known), "{named:?}");
    }
    let failures = || own_failures(&metrics(&door));
    let before = failures();
    assert_eq!(post(door.addr, "/api/balance", &change(1, -2)).status, 200);
    assert_eq!(post(door.addr, "/api/balance", "{}").status, 400);
    database.connect().batch_execute("alter table users rename to nobody").unwrap();
    let failed = post(door.addr, "/api/balance", &change(1, -2));
    assert_eq!((failed.status, failed.header("x-served-by") == Some("door")), (500, false));
    let mut chunked = Client::connect(door.addr);
    chunked.send("POST /api/balance HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    let body = change(1, -2);
    chunked.send(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()));
    assert_eq!(chunked.receive().expect("an answer").status, 500);
    assert_eq!(failures(), before, "these were the replica's");

    drop(replica);
    until("the door has noticed", SOON, || get(door.status, "/health/ready").status == 503);
    let before = failures();
    for _ in 0..3 {
        let answer = post(door.addr, "/api/balance", &change(1, -2));
        assert_eq!((answer.status, answer.header("x-served-by")), (503, Some("door")));
    }
    assert_eq!(failures(), before + 3.0);
}

#[test]
fn only_what_watchers_need_is_there_and_clients_do_not_find_it_at_the_door() {
    let database = Postgres::shared().migrated();
    let replica = Process::start(database.url(), &[("CRON_ENABLED", "false")]);
    let Some(door) = Door::start(&[replica.addr]) else { return };
    assert_eq!(get(door.status, "/health/ready").status, 200);
    for path in ["/", "/api/users/1", "/health", "/api/cron/jobs"] {
        assert_eq!(get(door.status, path).status, 404, "{path}");
    }
    assert_eq!(post(door.status, "/api/balance", &change(1, -2)).status, 404);
    let at_the_door = String::from_utf8(get(door.addr, "/metrics").body).expect("UTF-8");
    assert!(at_the_door.contains("balanced_ready") && !at_the_door.contains("haproxy_"));
}
