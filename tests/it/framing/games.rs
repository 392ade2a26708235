//! What attackers combine, and faults that servers have had: each was somebody's real hole.

use super::vector::{
    BODY, BOTH, BOTH_OR_REFUSED, Expected, GOOD, HIDDEN, POST, REFUSED, Vector, chunked, head,
};

/// Framings that nobody may read: `#` is the length of the hidden request, which follows.
const MALFORMED: &[(&str, &str)] = &[
    ("a signed length", "Content-Length: +#\r\n"),
    ("a negative length", "Content-Length: -#\r\n"),
    ("an empty length", "Content-Length:\r\n"),
    ("a list of lengths", "Content-Length: #, 5\r\n"),
    ("two lengths", "Content-Length: #\r\nContent-Length: 5\r\n"),
    ("an endless length", "Content-Length: 99999999999\r\n"),
    ("a wrapped length", "Content-Length: 18446744073709551616#\r\n"),
    ("an unknown coding", "Transfer-Encoding: cow\r\n"),
    ("a name with NUL", "Content-Length\0: #\r\n"),
];

/// Ways on which a server may answer before it looks at the framing.
const WAYS: &[(&str, &str, &str)] = &[
    ("expected", POST, "Expect: 100-continue\r\n"),
    ("another expectation", POST, "Expect: tea\r\n"),
    ("an upgrade", POST, "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
    ("to memory", "GET /health/live HTTP/1.1", ""),
    ("to a page", "GET / HTTP/1.1", ""),
    ("to nowhere", "POST /nowhere HTTP/1.1", ""),
    ("by a wrong method", "DELETE /api/balance HTTP/1.1", ""),
    ("by HEAD", "HEAD /health/live HTTP/1.1", ""),
    ("with a key", POST, "Idempotency-Key: key-iiii\r\n"),
    ("from another site", POST, "Origin: http://elsewhere\r\n"),
];

/// Fields that name a request, which answers and logs repeat.
const IDS: &[(&str, &str, Expected)] = &[
    ("two", "X-Request-Id: a\r\nX-Request-Id: b\r\n", BOTH),
    ("empty", "X-Request-Id:\r\n", BOTH),
    ("a fold", "X-Request-Id: a\r\n X-B: c\r\n", BOTH_OR_REFUSED),
    ("a bare CR", "X-Request-Id: a\rX-B: c\r\n", BOTH_OR_REFUSED),
    ("a bare LF", "X-Request-Id: a\nX-B: c\r\n", BOTH_OR_REFUSED),
    ("NUL", "X-Request-Id: a\0b\r\n", BOTH_OR_REFUSED),
    ("percent", "X-Request-Id: a%0d%0aX-B:%20c\r\n", BOTH),
    ("a page", "X-Request-Id: <script>\r\n", BOTH),
    ("a tab", "X-Request-Id: a\tb\r\n", BOTH),
];

/// Words on the connection, beside a length of 28.
const CONNECTIONS: &[(&str, &str, Expected)] = &[
    ("close twice", "Connection: close, close\r\n", "2!"),
    ("close behind a comma", "Connection: ,close\r\n", "2!"),
    ("close and a tab", "Connection: close\t\r\n", "2!"),
    ("close in capitals", "CONNECTION: CLOSE\r\n", "2!"),
    ("close and keep-alive", "Connection: close, keep-alive\r\n", "2!"),
    // HAProxy 2.6 forgets the first word when the head comes in two parts.
    ("close and an upgrade", "Connection: close, Upgrade\r\nUpgrade: h2c\r\n", "22 | 2!"),
    ("close, quoted", "Connection: \"close\"\r\n", "22 | 2! | !"),
    ("a proxy's close", "Proxy-Connection: close\r\n", BOTH),
    ("no time", "Keep-Alive: timeout=0, max=1\r\n", BOTH),
    ("all of them", "Connection: Host, Content-Length, X-Request-Id, Expect\r\n", BOTH_OR_REFUSED),
];

/// What another version of HTTP writes otherwise, beside a body in chunks: a door may speak it to
/// itself.
const CHUNKED: &[(&str, &str, &str, Expected)] = &[
    ("a second host", POST, "Host: y\r\n", "42 | !"),
    ("the whole URI", "POST http://x/api/balance HTTP/1.1", "", BOTH),
    ("the URI of another host", "POST http://y/api/balance HTTP/1.1", "", "*2 | !"),
    ("an authority", "POST x:80 HTTP/1.1", "", "42 | !"),
    ("a star", "POST * HTTP/1.1", "", "42 | !"),
    ("CONNECT", "CONNECT x:80 HTTP/1.1", "", "42 | 4! | !"),
    ("HEAD", "HEAD /health/live HTTP/1.1", "", "22 | !"),
    ("GET", "GET /health/live HTTP/1.1", "", "22 | !"),
    ("a lower-case method", "post /api/balance HTTP/1.1", "", "42 | !"),
    ("a fragment", "POST /api/balance#x HTTP/1.1", "", "*2 | !"),
    ("a query", "POST /api/balance?a=b HTTP/1.1", "", "*2 | !"),
    ("close", POST, "Connection: close\r\n", "2!"),
    ("an upgrade", POST, "Connection: Upgrade\r\nUpgrade: websocket\r\n", BOTH_OR_REFUSED),
    ("keep-alive", POST, "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n", BOTH),
    ("the coding is the connection's", POST, "Connection: Transfer-Encoding\r\n", BOTH_OR_REFUSED),
    ("two cookies", POST, "Cookie: a=b\r\nCookie: c=d\r\n", BOTH),
    ("TE", POST, "TE: gzip, trailers\r\n", BOTH),
    ("an expectation", POST, "Expect: 100-continue\r\n", BOTH_OR_REFUSED),
    ("another expectation", POST, "Expect: tea\r\n", BOTH_OR_REFUSED),
    ("a client's name", POST, "X-Door-Client: 1.2.3.4\r\n", BOTH),
    ("a colon before a name", POST, ":path: /nowhere\r\n", REFUSED),
    ("a name with an underscore", POST, "Content_Length: 5\r\n", BOTH),
    ("NUL in a value", POST, "X-A: b\0c\r\n", "*2 | !"),
    ("a bare CR in a value", POST, "X-A: b\rc\r\n", "*2 | !"),
    ("a byte of Latin 1 in a value", POST, "X-A: \u{fc}\r\n", BOTH_OR_REFUSED),
    ("a second id", POST, "X-Request-Id: other\r\n", BOTH),
];

pub(super) fn vectors() -> Vec<Vector> {
    let mut all = Vec::new();
    for (way, line, more) in WAYS {
        for (what, framing) in MALFORMED {
            let framing = framing.replace('#', &HIDDEN.len().to_string());
            let text = format!("{}{HIDDEN}", head(line, &format!("{more}{framing}")));
            let vector = Vector::new(format!("{what}, {way}"), text, REFUSED);
            all.push(vector.costly(*what == "an endless length"));
        }
    }
    for (name, fields, expected) in IDS {
        let head = head(POST, "Content-Length: 28\r\n");
        let head = head.replace("X-Request-Id: outer-iiii\r\n", fields);
        all.push(Vector::new(format!("id: {name}"), format!("{head}{BODY}{HIDDEN}"), expected));
    }
    for (name, fields, expected) in CONNECTIONS {
        let head = head(POST, &format!("{fields}Content-Length: 28\r\n"));
        let name = format!("connection: {name}");
        all.push(Vector::new(name, format!("{head}{BODY}{HIDDEN}"), expected));
    }
    for (name, line, fields, expected) in CHUNKED {
        let head = head(line, &format!("{fields}Transfer-Encoding: chunked\r\n"));
        let text = format!("{head}{}{HIDDEN}", chunked(BODY));
        all.push(Vector::new(format!("beside chunks: {name}"), text, expected));
    }
    holes(&mut all);
    early(&mut all);
    preface(&mut all);
    all
}

/// Faults of HAProxy, and where they came from.
fn holes(all: &mut Vec<Vector>) {
    let length = HIDDEN.len();
    for (name, fields, expected) in [
        // CVE-2021-40346: the length of a name lost its upper bits.
        (
            "a name of 270 bytes",
            format!("Content-Length0{}:\r\nContent-Length: {length}\r\n", "a".repeat(255)),
            "4 | !",
        ),
        // CVE-2023-25725: a field without a name ended the list of fields.
        ("no name, then a length", format!(": a\r\nContent-Length: {length}\r\n"), REFUSED),
        ("no name, then a coding", ":\r\nTransfer-Encoding: chunked\r\n".to_owned(), REFUSED),
        // CVE-2023-40225: an empty length was passed on.
        ("an empty length first", format!("Content-Length:\r\nContent-Length: {length}\r\n"), "!"),
        // CVE-2019-18277: a coding behind a vertical tab was not seen.
        (
            "a coding behind a vertical tab",
            format!("Transfer-Encoding:\u{b}chunked\r\nContent-Length: {length}\r\n"),
            REFUSED,
        ),
        ("a length twenty times", format!("Content-Length: {length}\r\n").repeat(20), "4 | !"),
    ] {
        let text = format!("{}{HIDDEN}", head(POST, &fields));
        all.push(Vector::new(format!("hole: {name}"), text, expected));
    }
    // White space between the request line and the first field (RFC 9112, 2.2).
    let first = format!("{POST}\r\n Content-Length: {length}");
    let text = format!("{}{HIDDEN}", head(&first, ""));
    let vector = Vector::new("hole: a fold behind the request line", text, "42 | !");
    all.push(vector.replica("42 | 4 | !"));
    let text = format!("{}{GOOD}", "\r\n".repeat(1_000));
    all.push(Vector::new("a thousand empty lines before", text, "2 | !"));
    let text = format!("{}{}{HIDDEN}", head(POST, "Expect: 100-continue\r\n"), chunked(BODY));
    all.push(Vector::new("chunks without a coding, expected", text, "4!"));
}

/// Answers that may come before the body has: too long, with a hidden request at its end.
fn early(all: &mut Vec<Vector>) {
    let stuffing = "x".repeat(2_000);
    let body = format!("{stuffing}{HIDDEN}");
    let length = format!("Content-Length: {}\r\n", body.len());
    for line in [POST, "POST /nowhere HTTP/1.1", "GET /health/live HTTP/1.1", "GET / HTTP/1.1"] {
        for (what, fields, body) in [
            ("a length", length.clone(), body.clone()),
            ("a length, expected", format!("Expect: 100-continue\r\n{length}"), body.clone()),
            ("chunks", "Transfer-Encoding: chunked\r\n".to_owned(), chunked(&body)),
            ("a length, upgraded", format!("Connection: Upgrade\r\n{length}"), body.clone()),
        ] {
            let text = format!("{}{body}", head(line, &fields));
            all.push(Vector::new(format!("too long by {what}: {line}"), text, "* | !"));
        }
    }
    let fields = "Content-Length: 1000\r\nExpect: 100-continue\r\n";
    let text = format!("{}{HIDDEN}", head(POST, fields));
    let vector = Vector::new("a body that ends early, expected", text, REFUSED);
    all.push(vector.half_closed());
    let text = format!("{}{HIDDEN}", head(POST, "Content-Length: 1000\r\n"));
    all.push(Vector::new("a body that ends early", text, REFUSED).half_closed());
    let text = format!("{}{HIDDEN}", head(POST, "Content-Length: 9000\r\n"));
    all.push(Vector::new("a long body that ends early", text, REFUSED).half_closed());
}

/// HTTP/2 without TLS, which would make all rules about lengths void.
fn preface(all: &mut Vec<Vector>) {
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = "\0\0\0\u{4}\0\0\0\0\0";
    // Its first line is a request that has no body, to who reads it as HTTP/1; the rest is none.
    let text = format!("{preface}{settings}{HIDDEN}");
    all.push(Vector::new("HTTP/2's preface", text, "4! | !").costly(true));
    let text = format!("{GOOD}{preface}");
    let vector = Vector::new("HTTP/2's preface behind a good one", text, "24! | 2!");
    all.push(vector.costly(true));
    let upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
        HTTP2-Settings: AAMAAABk\r\nContent-Length: 28\r\n";
    let text = format!("{}{BODY}{preface}{settings}{HIDDEN}", head(POST, upgrade));
    all.push(Vector::new("HTTP/2's preface behind an upgrade", text, "24! | 2!"));
}
