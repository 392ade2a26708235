//! The door compresses what is long, for clients that take that, and leaves all else as it is.

use std::process::Command;

use crate::support::{Answer, Door, Postgres, Process, ask, change, get};

const GZIP: &[&str] = &["Accept-Encoding: gzip"];

/// What curl makes of an answer: its head, its body, and how many bytes of that have come.
fn fetched(door: &Door, path: &str) -> (String, Vec<u8>, usize) {
    let mut curl = Command::new("curl");
    curl.args(["-s", "--compressed", "-D", "/dev/stderr", "-w", "%{stderr}%{size_download}"]);
    let output = curl.arg(format!("http://{}{path}", door.addr)).output().expect("curl");
    let told = String::from_utf8(output.stderr).expect("a text");
    let (head, size) = told.rsplit_once("\r\n\r\n").expect("a head");
    (head.to_ascii_lowercase(), output.stdout, size.parse().expect("a number"))
}

fn is_plain(answer: &Answer) -> bool {
    let length = answer.header("content-length").map(|text| text.parse().unwrap());
    answer.header("content-encoding").is_none() && length == Some(answer.body.len())
}

#[test]
fn what_is_long_is_compressed_for_clients_that_take_it() {
    let database = Postgres::shared().migrated();
    let fill = "insert into users (balance) select 0 from generate_series(1, 500)";
    database.connect().batch_execute(fill).unwrap();
    let replica = Process::start(database.url(), &[("CRON_ENABLED", "false")]);
    let Some(door) = Door::start(&[replica.addr]) else { return };
    for path in ["/", "/api-docs", "/openapi.json", "/api/users?limit=500", "/api/cron/jobs"] {
        let plain = get(door.addr, path);
        assert!(is_plain(&plain), "{path}");
        let (head, body, size) = fetched(&door, path);
        let changes = path == "/api/cron/jobs"; // it has the instant at which it was asked for
        assert!(changes || body == plain.body, "{path}: another body");
        println!("{path}: {} bytes, compressed {size}", body.len());
        assert!(head.contains("\r\ncontent-encoding: gzip"), "{path}: {head}");
        assert!(head.contains("\r\nvary: accept-encoding"), "{path}: {head}");
        assert!(size * 2 < body.len(), "{path}: {size} of {}", body.len());
    }
}

#[test]
fn what_is_short_what_has_changed_something_and_a_jobs_tag_stay_as_they_are() {
    let database = Postgres::shared().migrated();
    let replica = Process::start(database.url(), &[("CRON_ENABLED", "false")]);
    let Some(door) = Door::start(&[replica.addr]) else { return };
    let made = ask(door.addr, "POST /api/balance", GZIP, &change(1, 1));
    assert!(made.status == 200 && is_plain(&made));
    for path in ["/api/users/1", "/api/users/1/balance", "/api/cron/pause", "/health"] {
        assert!(is_plain(&ask(door.addr, &format!("GET {path}"), GZIP, "")), "{path}");
    }
    // Long enough, and to be changed under this very tag.
    let job = "/api/cron/jobs/sample-pi";
    let long = format!("{{\"description\":\"{}\"}}", "long ".repeat(190));
    assert_eq!(ask(door.addr, &format!("PATCH {job}"), &[], &long).status, 200);
    let shown = ask(door.addr, &format!("GET {job}"), GZIP, "");
    assert!(shown.body.len() > 1_024 && is_plain(&shown), "{}", shown.json());
    let condition = format!("If-Match: {}", shown.header("etag").expect("a tag"));
    let patched = ask(door.addr, &format!("PATCH {job}"), &[&condition], "{\"enabled\":false}");
    assert_eq!(patched.status, 200, "{}", patched.json());
}
