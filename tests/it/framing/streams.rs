//! Several messages on one connection, and bodies where nobody looks for one.

use super::vector::{BODY, GOOD, HIDDEN, POST, Vector, chunked, head};

/// Requests whose route or method reads no body, or answers before it.
const UNREAD: &[&str] = &[
    "POST / HTTP/1.1",
    "POST /nowhere HTTP/1.1",
    "POST /health/live HTTP/1.1",
    "POST /metrics HTTP/1.1",
    "POST /api/users/1 HTTP/1.1",
    "GET / HTTP/1.1",
    "GET /nowhere HTTP/1.1",
    "GET /health/live HTTP/1.1",
    "GET /health/ready HTTP/1.1",
    "GET /metrics HTTP/1.1",
    "GET /api/users HTTP/1.1",
    "GET /api/cron/jobs HTTP/1.1",
    "GET /openapi.json HTTP/1.1",
    "HEAD /health/live HTTP/1.1",
    "HEAD /nowhere HTTP/1.1",
    "PUT /api/balance HTTP/1.1",
    "DELETE /api/cron/jobs/nothing HTTP/1.1",
    "OPTIONS /api/balance HTTP/1.1",
    "BREW /api/balance HTTP/1.1",
];

/// Messages between two good requests: the first is served, the last never.
const BAD: &[(&str, &str, &str)] = &[
    ("a signed length", "Content-Length: +28\r\n", BODY),
    ("a wrapped length", "Content-Length: 18446744073709551644\r\n", BODY),
    ("a length with a comma", "Content-Length: 28, 5\r\n", BODY),
    ("an empty length", "Content-Length:\r\n", BODY),
    ("an unknown coding", "Transfer-Encoding: cow\r\n", BODY),
    ("chunked twice", "Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
    ("a negative chunk", "Transfer-Encoding: chunked\r\n", "-1\r\nx\r\n0\r\n\r\n"),
    ("a chunk of 2^64", "Transfer-Encoding: chunked\r\n", "10000000000000000\r\n\r\n"),
    ("a chunk without a size", "Transfer-Encoding: chunked\r\n", "\r\n\r\n"),
    ("a name with a blank", "X A: b\r\n", ""),
    ("a line without a colon", "X-A\r\n", ""),
    ("NUL in a name", "X\0A: b\r\n", ""),
];

pub(super) fn vectors() -> Vec<Vector> {
    let mut all = Vec::new();
    for line in UNREAD {
        let length = format!("Content-Length: {}\r\n", HIDDEN.len());
        for (what, fields, body) in [
            ("a length", length.clone(), HIDDEN.to_owned()),
            ("chunks", "Transfer-Encoding: chunked\r\n".to_owned(), chunked(HIDDEN)),
            ("a length, expected", format!("Expect: 100-continue\r\n{length}"), HIDDEN.to_owned()),
            ("an upgrade", format!("Connection: Upgrade\r\n{length}"), HIDDEN.to_owned()),
        ] {
            let text = format!("{}{body}", head(line, &fields));
            all.push(Vector::new(format!("{line} over the hidden one, {what}"), text, "* | !"));
        }
    }
    for (name, fields, body) in BAD {
        let bad = format!("{}{body}", head(POST, fields));
        let text = format!("{GOOD}{bad}{GOOD}");
        all.push(Vector::new(format!("between good ones: {name}"), text, "2!"));
        let text = format!("{GOOD}{GOOD}{GOOD}{bad}{HIDDEN}");
        all.push(Vector::new(format!("behind three good ones: {name}"), text, "222!"));
    }
    all.push(Vector::new("two good ones", GOOD.repeat(2), "22"));
    all.push(Vector::new("twenty good ones", GOOD.repeat(20), "22222222222222222222"));
    let chunks = format!("{}{}", head(POST, "Transfer-Encoding: chunked\r\n"), chunked(BODY));
    all.push(Vector::new("chunks between good ones", format!("{GOOD}{chunks}{GOOD}"), "222"));
    all.push(Vector::new("chunks three times", chunks.repeat(3), "222"));
    let expect = "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n";
    let text = format!("{}{}{HIDDEN}", head(POST, expect), chunked(BODY));
    all.push(Vector::new("chunks, expected", text, "22 | 2! | !"));
    let text = format!("{}{HIDDEN}", head(POST, "Expect: 100-continue\r\n"));
    all.push(Vector::new("nothing, expected", text, "42 | 4! | !"));
    all
}
