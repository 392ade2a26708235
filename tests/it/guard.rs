//! Whose pages may change something, and that nobody learns a password. Tokens: `tokens`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::openapi::{Operation, operations};
use crate::support::{Answer, Local, Postgres, Process, ask, change, get, until};

/// A body that each of them refuses or takes, whatever it is.
const BODY: &str = r#"{"enabled":true}"#;

fn send(addr: SocketAddr, operation: &Operation, headers: &[&str]) -> Answer {
    ask(addr, &format!("{} {}", operation.method, operation.path), headers, BODY)
}

/// Browsers send the first field since 2023, and the second alone before.
#[test]
fn a_page_of_another_site_changes_nothing() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    let host = format!("Host: {}", replica.addr);
    let own = format!("Origin: http://{}", replica.addr);
    let cross = [
        vec!["Sec-Fetch-Site: cross-site"],
        vec!["Sec-Fetch-Site: same-site", &own],
        vec!["Origin: http://evil.example"],
        vec!["Origin: null"],
    ];
    for operation in operations().iter().filter(|operation| operation.route.changes_something()) {
        for fields in &cross {
            let fields = [fields.as_slice(), &[&host]].concat();
            let refused = send(replica.addr, operation, &fields);
            let refused = (refused.status, refused.code());
            assert_eq!(refused, (403, "cross_site_request".to_owned()), "{fields:?}");
        }
    }
    assert_eq!(get(replica.addr, "/api/users/1").balance(), 10_000);
    for fields in [vec!["Sec-Fetch-Site: same-origin"], vec!["Sec-Fetch-Site: none"], vec![&own]] {
        let fields = [fields.as_slice(), &[&host]].concat();
        let changed = ask(replica.addr, "POST /api/balance", &fields, &change(1, -2));
        assert_eq!(changed.status, 200, "{fields:?}");
    }
    let read = ask(replica.addr, "GET /api/users/1", &[&host, cross[0][0]], "");
    assert_eq!(read.balance(), 9_994, "looking is not changing");
}

#[test]
fn no_answer_lets_a_browser_do_anything_with_it() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    let long = ["Content-Length: 5000"];
    for (answer, cache) in [
        (get(replica.addr, "/api/users/1"), "no-store"),
        (get(replica.addr, "/health"), "no-store"),
        (get(replica.addr, "/openapi.json"), "no-cache"),
        (get(replica.addr, "/nowhere"), "no-store"),
        (ask(replica.addr, "POST /api/balance", &long, ""), "no-store"),
        (ask(replica.addr, "DELETE /api/cron/jobs/sample-pi", &[], ""), "no-store"),
    ] {
        for (name, value) in [
            ("cache-control", cache),
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{}", answer.status);
        }
    }
}

#[test]
fn a_page_that_a_browser_has_is_not_sent_again() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    for path in ["/", "/jobs/sample-pi", "/runs/1", "/users/1", "/api-docs", "/openapi.json"] {
        let page = get(replica.addr, path);
        let tag = page.header("etag").expect("a tag");
        // It is a weak one where the page is compressed.
        let weak = format!("\"other\", W/{tag}");
        for (known, status) in [(tag, 304), (&weak, 304), ("*", 304), ("\"other\"", 200)] {
            let known = format!("If-None-Match: {known}");
            let answer = ask(replica.addr, &format!("GET {path}"), &[&known], "");
            assert_eq!((answer.status, answer.body.is_empty()), (status, status == 304), "{known}");
            for name in ["etag", "cache-control", "content-security-policy"] {
                assert_eq!(answer.header(name), page.header(name), "{known} {name}");
            }
        }
        let gzip = ["Accept-Encoding: gzip", "If-None-Match: *"];
        let answer = ask(replica.addr, &format!("GET {path}"), &gzip, "");
        assert_eq!(answer.header("etag"), Some(&*format!("W/{tag}")), "{path}");
    }
}

/// A server that asks for the password in plain text, gets it, and refuses it.
fn refuse_the_password(mut stream: TcpStream, password: &str) -> std::io::Result<bool> {
    let mut bytes = [0; 4_096];
    let mut read = stream.read(&mut bytes)?;
    // The driver asks for TLS first, where it knows it.
    if bytes[..read].ends_with(&80_877_103u32.to_be_bytes()) {
        stream.write_all(b"N")?;
        read = stream.read(&mut bytes)?;
    }
    if read == 0 {
        // A replica that was ended in the middle of it.
        return Ok(false);
    }
    stream.write_all(b"R\0\0\0\x08\0\0\0\x03")?;
    let read = stream.read(&mut bytes)?;
    let given = String::from_utf8_lossy(&bytes[..read]).contains(password);
    let fields = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user \"u\"\0\0";
    let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
    stream.write_all(&[b"E".as_slice(), &length, fields].concat())?;
    Ok(given)
}

#[test]
fn the_password_of_the_database_is_in_no_log_and_no_answer() {
    const PASSWORD: &str = "hunter2-hunter2";
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let (given, is_given) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for stream in server.incoming().flatten() {
            if refuse_the_password(stream, PASSWORD).unwrap_or(false) && given.send(()).is_err() {
                return;
            }
        }
    });
    for url in [
        format!("postgresql://u:{PASSWORD}@127.0.0.1:{port}/balanced"),
        format!("host=127.0.0.1 port={port} user=u password={PASSWORD} dbname=balanced"),
    ] {
        let process = Process::spawn(&mut Process::command(&url, &[("LOG_LEVEL", "trace")]));
        is_given.recv_timeout(Duration::from_secs(20)).expect("the password was sent");
        until("the refusal is logged", Duration::from_secs(20), || {
            process.log().contains("password authentication failed")
        });
        for path in ["/health", "/api/users"] {
            let answer = get(process.addr, path);
            assert_eq!(answer.status, 503);
            assert!(!String::from_utf8_lossy(&answer.body).contains(PASSWORD));
        }
        assert!(!process.log().contains(PASSWORD), "{}", process.log());
    }
}
