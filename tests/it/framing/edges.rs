//! Where a head begins and ends, how long it may be, and what HTTP/1.0 knows of that.

use super::vector::{
    BODY, BOTH, BOTH_OR_REFUSED, GOOD, HIDDEN, POST, REFUSED, Vector, chunked, head,
};

const LENGTH: &str = "Content-Length: 28\r\n";

pub(super) fn vectors() -> Vec<Vector> {
    let mut all = Vec::new();
    old(&mut all);
    lines(&mut all);
    long(&mut all);
    all
}

/// HTTP/1.0 knows no chunks, and keeps a connection only where asked to.
fn old(all: &mut Vec<Vector>) {
    let line = "POST /api/balance HTTP/1.0";
    for (name, fields, body, expected) in [
        ("kept", "Connection: keep-alive\r\nContent-Length: 28\r\n", BODY.to_owned(), "22 | 2!"),
        ("no length", "", String::new(), "4!"),
        ("chunked", "Transfer-Encoding: chunked\r\n", chunked(BODY), "! | 2!"),
        (
            "chunked and kept",
            "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n",
            chunked(BODY),
            "! | 2!",
        ),
    ] {
        let text = format!("{}{body}{HIDDEN}", head(line, fields));
        all.push(Vector::new(format!("HTTP/1.0: {name}"), text, expected));
    }
    all.push(Vector::new("HTTP/0.9: a line", "GET /health/live\r\n".to_owned(), "! | 2!"));
    let text = format!("GET /health/live\r\n{HIDDEN}");
    all.push(Vector::new("HTTP/0.9: a line and more", text, REFUSED));
}

/// Ends of lines, and what stands before and behind a message.
fn lines(all: &mut Vec<Vector>) {
    let whole = format!("{}{BODY}", head(POST, LENGTH));
    let feeds = format!("{}{HIDDEN}", whole.replace("\r\n", "\n"));
    // A reader that waits for CRLF alone sees no end of the head.
    all.push(Vector::new("bare LF in a whole head", feeds, BOTH_OR_REFUSED).half_closed());
    let returns = format!("{}{HIDDEN}", whole.replace("\r\n", "\r"));
    all.push(Vector::new("bare CR in a whole head", returns, REFUSED).half_closed());
    for (name, before, between, expected) in [
        ("an empty line before", "\r\n", "", BOTH_OR_REFUSED),
        ("ten empty lines before", "\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n", "", BOTH_OR_REFUSED),
        ("a bare LF before", "\n", "", BOTH_OR_REFUSED),
        ("NUL before", "\0", "", REFUSED),
        ("a byte order mark before", "\u{ef}\u{bb}\u{bf}", "", REFUSED),
        ("an empty line between", "", "\r\n", "22 | 2!"),
        ("a bare LF between", "", "\n", "22 | 2!"),
        ("NUL between", "", "\0", "2!"),
        ("an x between", "", "x\r\n", "2!"),
        ("a proxy's word before", "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n", "", REFUSED),
        ("TLS before", "\u{16}\u{3}\u{1}\0\u{5}\u{1}\0\0\u{1}\r\n\r\n", "", REFUSED),
    ] {
        all.push(Vector::new(name, format!("{before}{whole}{between}{HIDDEN}"), expected));
    }
    // The server library trims it off the line.
    let vector = Vector::new("a bare CR before", format!("\r{whole}{HIDDEN}"), REFUSED);
    all.push(vector.replica(BOTH_OR_REFUSED));
    for (name, end) in [
        ("LF CR", "\n\r"),
        ("CR CR LF", "\r\r\n"),
        ("a blank line of a blank", " \r\n\r\n"),
        ("a blank line of a tab", "\t\r\n\r\n"),
    ] {
        let head = head(POST, LENGTH);
        let head = head.strip_suffix("\r\n").expect("an empty line");
        let text = format!("{head}{end}{BODY}{HIDDEN}");
        // Some of them are folds, or an end that one reader sees and another does not.
        let vector = Vector::new(format!("a head that ends with {name}"), text, "22 | 2! | 4! | !");
        all.push(vector.half_closed());
    }
    for (name, length) in [("in the line", 20), ("in a field", 60), ("behind the fields", 100)] {
        let text = format!("{GOOD}{}", &whole[..length]);
        all.push(Vector::new(format!("broken off {name}"), text, "2!").half_closed());
    }
    let text = format!("{GOOD}{}", &whole[..whole.len() - 5]);
    all.push(Vector::new("broken off in a body", text, "2!").half_closed());
}

/// As long as cookies of other programs make a head, and longer than anybody reads.
fn long(all: &mut Vec<Vector>) {
    for (bytes, door) in
        [(8_000, BOTH), (14_000, BOTH), (16_384, "42 | !"), (32_768, REFUSED), (70_000, REFUSED)]
    {
        let one = format!("Cookie: {}\r\n{LENGTH}", "a".repeat(bytes));
        let text = format!("{}{BODY}{HIDDEN}", head(POST, &one));
        let vector = Vector::new(format!("a field of {bytes} bytes"), text, door);
        all.push(vector.replica(BOTH_OR_REFUSED));
        let target = format!("POST /{} HTTP/1.1", "a".repeat(bytes));
        let text = format!("{}{BODY}{HIDDEN}", head(&target, LENGTH));
        let door = if door == BOTH { "42" } else { door };
        let vector = Vector::new(format!("a target of {bytes} bytes"), text, door);
        all.push(vector.replica("42 | !"));
    }
    for count in [60, 99, 200, 1_000] {
        let fields = format!("{}{LENGTH}", "X-A: b\r\n".repeat(count));
        let text = format!("{}{BODY}{HIDDEN}", head(POST, &fields));
        let expected = if count == 60 { BOTH } else { BOTH_OR_REFUSED };
        all.push(Vector::new(format!("{count} fields"), text, expected));
    }
}
