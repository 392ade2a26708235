//! What the door lets through, what it makes of it, and what it refuses. Behind it stands a
//! listener that writes down what a replica would be sent.

use std::time::Duration;

use crate::support::{Client, LISTENS, Record, change, sockets};

const POST: &str = "POST /api/balance HTTP/1.1\r\nHost: x\r\n";
/// Asks for the end of the connection, so that a test sees that nothing else comes.
const LAST: &str = "GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

#[test]
fn a_length_that_is_no_plain_number_is_refused_and_nothing_behind_it_is_read() {
    let Some(record) = Record::start() else { return };
    let hidden = change(1, -1);
    for length in [
        "18446744073709551616", // 2^64
        "1844674407370955161623",
        "18446744073709551616023",
        "184467440737095516160000000000000000000023",
        "36893488147419103232",
        "-5",
        "+5",
        "5, 6",
        "5\r\nContent-Length: 6",
        "0x5",
        "5 5",
        "5;",
        "5.0",
        "",
    ] {
        let sent = format!("{hidden}{POST}\r\n{LAST}");
        let answers = record.answers(format!("{POST}Content-Length: {length}\r\n\r\n{sent}"));
        assert_eq!(answers.last().expect("an answer").0, 400, "{length}: {answers:?}");
        let passed = record.taken();
        assert_eq!(passed.len(), answers.len() - 1, "{length}: {answers:?}");
        // HAProxy 3.0 drops digits that it does not understand, and hands on what it has read.
        assert!(passed.iter().all(|(_, body)| sent.starts_with(body)), "{length}: {passed:?}");
        assert!(passed.len() < 2, "{length}: {passed:?}");
    }
    // Not until the end, since HAProxy 3 waits for the rest, for as long as a client may be silent.
    let mut client = Client::connect(record.addr);
    client.send(format!("{POST}Content-Length: 123456789012345678\r\n\r\n{hidden}"));
    assert_eq!(client.receive().expect("an answer").status, 400);
    assert_eq!(record.taken(), []);
}

#[test]
fn a_length_that_is_plain_passes_however_it_is_written() {
    let Some(record) = Record::start() else { return };
    for length in ["5", "00005", "5, 5", "5\r\nContent-Length: 5"] {
        let answers = record.answers(format!("{POST}Content-Length: {length}\r\n\r\nhello{LAST}"));
        assert_eq!(answers.len(), 2, "{length}: {answers:?}");
        let requests = record.taken();
        assert_eq!(requests[0].1, "hello", "{length}");
        assert!(requests[1].0.starts_with("GET /last "), "{length}");
    }
}

#[test]
fn chunked_bodies_reach_a_replica_in_one_piece_with_their_length() {
    let Some(record) = Record::start() else { return };
    let body = change(1, 1);
    let (first, rest) = body.split_at(7);
    let two = rest.len();
    for (chunks, whole) in [
        (format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()), body.as_str()),
        (format!("7\r\n{first}\r\n{two:X}\r\n{rest}\r\n0\r\n\r\n"), &body),
        (format!("7;a=\"b\"\r\n{first}\r\n{two:x};x\r\n{rest}\r\n000;y=z\r\n\r\n"), &body),
        (format!("000{:x}\r\n{body}\r\n0\r\nX-Late: 1\r\nGET: /x\r\n\r\n", body.len()), &body),
        ("0\r\n\r\n".to_owned(), ""),
    ] {
        for also in ["", "Content-Length: 3\r\n"] {
            let head = format!("{POST}{also}{CHUNKED}Expect: 100-continue\r\n\r\n");
            let answers = record.answers(format!("{head}{chunks}{LAST}"));
            // HAProxy ends the connection behind a request that had both.
            let statuses: Vec<u16> = answers.iter().map(|(status, _)| *status).collect();
            let expected: &[u16] = if also.is_empty() { &[100, 200, 200] } else { &[100, 200] };
            assert_eq!(statuses, expected, "{also}{chunks}");
            let (head, got) = record.taken().remove(0);
            assert_eq!(got, whole, "{chunks}");
            assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", whole.len())), "{head}");
            for field in ["transfer-encoding:", "x-late:", "expect:", "x-door-client:"] {
                assert!(!head.contains(field), "{head}");
            }
        }
    }
}

#[test]
fn chunks_that_are_none_are_refused_and_nothing_behind_them_is_read() {
    let Some(record) = Record::start() else { return };
    for (codings, chunks) in [
        ("chunked", "zz\r\n"),
        ("chunked", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("chunked", "-5\r\nhello\r\n0\r\n\r\n"),
        ("chunked", "fffffffffffffffff\r\n"),
        ("chunked", "5\r\nhello!!\r\n0\r\n\r\n"),
        ("gzip, chunked", "0\r\n\r\n"),
        ("chunked, chunked", "0\r\n\r\n"),
        ("chunked, identity", "0\r\n\r\n"),
        ("chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        ("identity", "0\r\n\r\n"),
        ("xchunked", "0\r\n\r\n"),
        ("", "0\r\n\r\n"),
    ] {
        let answers = record
            .answers(format!("{POST}Transfer-Encoding: {codings}\r\n\r\n{chunks}{POST}\r\n{LAST}"));
        let refused = matches!(&answers[..], [(400 | 422 | 501, _)]);
        assert!(refused, "{codings}, {chunks}: {answers:?}");
        assert_eq!(record.taken(), [], "{codings}, {chunks}");
    }
}

/// As most clients do: they send all they have, and only then look for an answer.
#[test]
fn who_sends_too_much_sees_that_it_is_too_much() {
    let Some(record) = Record::start() else { return };
    for size in [1_025, 2_000, 100_000, 5_000_000] {
        let body = "x".repeat(size);
        for request in [
            format!("{POST}Content-Length: {size}\r\n\r\n{body}"),
            format!("{POST}{CHUNKED}\r\n{size:x}\r\n{body}\r\n0\r\n\r\n"),
        ] {
            for _ in 0..10 {
                let mut client = Client::connect(record.addr);
                client.send(&request);
                let answer = client.receive().expect("an answer");
                assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"));
                assert_eq!(answer.header("x-served-by"), Some("door"));
                assert!(client.is_ended());
            }
        }
    }
    // Also who sends it bit by bit, and does not listen meanwhile.
    let mut client = Client::connect(record.addr);
    client.send(format!("{POST}Content-Length: 1000000\r\n\r\n"));
    for _ in 0..100 {
        client.send("x".repeat(10_000));
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(client.receive().expect("an answer").status, 413);
    // Who announces it, or asks first, is told at once.
    for field in
        ["Content-Length: 12345678901234567", "Content-Length: 5000\r\nExpect: 100-continue"]
    {
        let mut client = Client::connect(record.addr);
        client.send(format!("{POST}{field}\r\n\r\n"));
        assert_eq!(client.receive().expect("an answer").status, 413, "{field}");
    }
    let longest = "x".repeat(1_024);
    for request in [
        format!("{POST}Content-Length: 1024\r\n\r\n{longest}"),
        format!("{POST}{CHUNKED}\r\n400\r\n{longest}\r\n0\r\n\r\n"),
    ] {
        let mut client = Client::connect(record.addr);
        client.send(request);
        assert_eq!(client.receive().expect("an answer").status, 200);
        assert_eq!(record.passed().1, longest);
    }
}

#[test]
fn the_body_of_a_set_and_of_a_jobs_settings_may_have_8_kb() {
    let Some(record) = Record::start() else { return };
    let head = |target: &str| format!("{target} HTTP/1.1\r\nHost: x\r\n");
    for (target, size, limit) in [
        ("POST /api/changes", 8_192, 8_192),
        ("POST http://x/api/changes?a=1", 8_192, 8_192),
        ("POST /api/changes", 8_193, 8_192),
        ("POST /api/changes/", 8_192, 1_024),
        ("POST /api/balance?/api/changes", 8_192, 1_024),
        ("PUT /api/cron/jobs/a", 8_192, 8_192),
        ("PATCH /api/cron/jobs/a", 8_192, 8_192),
        ("PATCH /api/cron/jobs/a", 8_193, 8_192),
        ("POST /api/cron/pause", 8_193, 8_192),
    ] {
        let (head, body) = (head(target), "x".repeat(size));
        for request in [
            format!("{head}Content-Length: {size}\r\n\r\n{body}"),
            format!("{head}{CHUNKED}\r\n{size:x}\r\n{body}\r\n0\r\n\r\n"),
        ] {
            let mut client = Client::connect(record.addr);
            client.send(request);
            let answer = client.receive().expect("an answer");
            let fits = size <= limit;
            assert_eq!(answer.status, if fits { 200 } else { 413 }, "{target} {size}");
            if fits {
                assert_eq!(record.passed().1, body);
            } else {
                let detail = format!("a body may have at most {limit} bytes");
                assert_eq!(answer.json()["detail"], detail, "{target}");
            }
        }
    }
}

#[test]
fn a_head_of_15_kb_passes_and_a_longer_one_is_told_so() {
    let Some(record) = Record::start() else { return };
    let head = |kilobytes| {
        let field = |number| format!("X-Cookie-{number}: {}\r\n", "c".repeat(1_000));
        let fields: String = (0..kilobytes).map(field).collect();
        format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}Connection: close\r\n\r\n")
    };
    for kilobytes in [8, 14] {
        assert_eq!(record.answers(head(kilobytes))[0].0, 200, "{kilobytes} KB");
        assert!(record.passed().0.len() > kilobytes * 1_000);
    }
    for kilobytes in [16, 30] {
        let (status, text) = record.answers(head(kilobytes)).remove(0);
        assert_eq!(status, 431, "{kilobytes} KB");
        assert!(text.contains("\"code\":\"headers_too_large\""), "{text}");
    }
    assert_eq!(record.taken(), []);
}

#[test]
fn fields_beyond_ascii_are_left_out_but_never_where_they_change_what_is_asked() {
    let Some(record) = Record::start() else { return };
    let ask = |field: &str| record.answers(format!("{POST}{field}\r\nConnection: close\r\n\r\n"));
    assert_eq!(ask("X-City: Zürich\r\nX-Region: ZH")[0].0, 200);
    let (head, _) = record.passed();
    assert!(head.contains("\r\nx-region: ZH\r\n") && !head.contains("city"), "{head}");
    for field in ["Idempotency-Key", "if-match", "If-None-Match", "Content-Encoding"] {
        let (status, text) = ask(&format!("{field}: Zürich")).remove(0);
        assert_eq!(status, 400, "{field}");
        assert!(text.contains("\"code\":\"invalid_request\""), "{text}");
    }
    assert_eq!(record.taken(), []);
}

#[test]
fn a_replica_sees_http_1_with_one_host() {
    let Some(record) = Record::start() else { return };
    for (sent, received) in [
        ("GET /a HTTP/2.0\r\nHost: x\r\n\r\n", "GET /a HTTP/1.1\r\nhost: x\r\n"),
        ("GET /a HTTP/1.9\r\nHost: x\r\n\r\n", "GET /a HTTP/1.1\r\nhost: x\r\n"),
        ("GET /a HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", "GET /a HTTP/1.1\r\nhost: x\r\n"),
        ("GET /a HTTP/1.0\r\n\r\n", "GET /a HTTP/1.0\r\n"),
    ] {
        let mut client = Client::connect(record.addr);
        client.send(sent);
        assert_eq!(client.receive().expect("an answer").status, 200, "{sent}");
        let (head, _) = record.passed();
        assert!(head.starts_with(received), "{head}");
        assert_eq!(head.matches("host: ").count(), 1, "{head}");
    }
    for refused in [
        "GET /a\r\n",
        "GET /a HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "hello there\r\n\r\n",
    ] {
        let mut client = Client::connect(record.addr);
        client.send(refused);
        assert_eq!(client.receive().expect("a word").status, 400, "{refused}");
    }
    assert_eq!(record.taken(), []);
}

#[test]
fn an_empty_address_is_this_machines_alone() {
    let Some(record) = Record::start() else { return };
    let port = format!(":{:04X}", record.addr.port());
    let rows = ["tcp", "tcp6"].map(|kind| sockets("self", kind).unwrap_or_default()).concat();
    let listens = rows.iter().filter(|row| row[1].ends_with(&port) && row[3] == LISTENS);
    let addrs: Vec<&str> = listens.map(|row| row[1].as_str()).collect();
    assert_eq!(addrs, [format!("0100007F:{:04X}", record.addr.port())]);
}
