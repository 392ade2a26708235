//! Request lines, versions, hosts, fields about the connection, names of fields, and long heads.

use super::vector::{BODY, BOTH, BOTH_OR_REFUSED, Expected, HIDDEN, POST, REFUSED, Vector, head};

const LENGTH: &str = "Content-Length: 28\r\n";

/// Request lines, each in front of a change and the hidden request.
const LINES: &[(&str, &str, Expected)] = &[
    ("HTTP/1.0", "POST /api/balance HTTP/1.0", "2!"),
    ("HTTP/0.9", "POST /api/balance HTTP/0.9", "2! | !"),
    ("HTTP/1.2", "POST /api/balance HTTP/1.2", BOTH_OR_REFUSED),
    ("HTTP/1.10", "POST /api/balance HTTP/1.10", REFUSED),
    ("HTTP/1.1.1", "POST /api/balance HTTP/1.1.1", REFUSED),
    ("HTTP/01.1", "POST /api/balance HTTP/01.1", REFUSED),
    ("HTTP/11", "POST /api/balance HTTP/11", REFUSED),
    ("HTTP/1,1", "POST /api/balance HTTP/1,1", REFUSED),
    ("HTTP/1.", "POST /api/balance HTTP/1.", REFUSED),
    ("HTTP/.1", "POST /api/balance HTTP/.1", REFUSED),
    ("HTTP/1", "POST /api/balance HTTP/1", REFUSED),
    ("HTTP/", "POST /api/balance HTTP/", REFUSED),
    ("HTTP/+1.1", "POST /api/balance HTTP/+1.1", REFUSED),
    ("HTTP/-1.1", "POST /api/balance HTTP/-1.1", REFUSED),
    ("HTTP /1.1", "POST /api/balance HTTP /1.1", REFUSED),
    ("http/1.1", "POST /api/balance http/1.1", REFUSED),
    ("HTTPS/1.1", "POST /api/balance HTTPS/1.1", REFUSED),
    ("ICY", "POST /api/balance ICY/1.1", REFUSED),
    ("RTSP", "POST /api/balance RTSP/1.0", REFUSED),
    ("NUL behind the version", "POST /api/balance HTTP/1.1\0", REFUSED),
    ("no version", "POST /api/balance", REFUSED),
    ("no target", "POST HTTP/1.1", REFUSED),
    ("an empty target", "POST  HTTP/1.1", REFUSED),
    ("no method", "/api/balance HTTP/1.1", REFUSED),
    ("a blank in the target", "POST /api/ balance HTTP/1.1", REFUSED),
    ("two blanks", "POST  /api/balance  HTTP/1.1", BOTH_OR_REFUSED),
    ("tabs", "POST\t/api/balance\tHTTP/1.1", BOTH_OR_REFUSED),
    ("a vertical tab", "POST\u{b}/api/balance HTTP/1.1", BOTH_OR_REFUSED),
    ("a blank before", " POST /api/balance HTTP/1.1", BOTH_OR_REFUSED),
    ("a blank behind", "POST /api/balance HTTP/1.1 ", BOTH_OR_REFUSED),
    ("a bare CR before the version", "POST /api/balance\rHTTP/1.1", BOTH_OR_REFUSED),
    ("a bare CR in the target", "POST /api/\rbalance HTTP/1.1", REFUSED),
    ("a fold", "POST /api/balance\r\n HTTP/1.1", REFUSED),
    ("lower case", "post /api/balance HTTP/1.1", "42 | !"),
    ("an unknown method", "BREW /api/balance HTTP/1.1", "42 | !"),
    ("a method of many letters", "POSTPOSTPOSTPOSTPOSTPOST /api/balance HTTP/1.1", "42 | !"),
    ("NUL in the method", "PO\0ST /api/balance HTTP/1.1", REFUSED),
    ("a byte of Latin 1 in the method", "PO\u{ff}ST /api/balance HTTP/1.1", REFUSED),
    ("a brace in the method", "{}POST /api/balance HTTP/1.1", REFUSED),
    ("a colon in the method", "POST: /api/balance HTTP/1.1", REFUSED),
    ("NUL in the target", "POST /api\0/balance HTTP/1.1", REFUSED),
    ("a byte of Latin 1 in the target", "POST /api/\u{ff} HTTP/1.1", "42 | !"),
    ("UTF-8 in the target", "POST /api/\u{c3}\u{a9} HTTP/1.1", "42 | !"),
    ("DEL in the target", "POST /api/\u{7f} HTTP/1.1", "42 | !"),
    ("a fragment", "POST /api/balance#x HTTP/1.1", "*2 | !"),
    ("a query", "POST /api/balance?a=b HTTP/1.1", "*2 | !"),
    ("two slashes", "POST //api/balance HTTP/1.1", "*2 | !"),
    ("dots", "POST /x/../api/balance HTTP/1.1", "*2 | !"),
    ("a percent NUL", "POST /api/balance%00 HTTP/1.1", "42 | !"),
    ("a percent line", "POST /api/balance%0d%0aX:%20y HTTP/1.1", "42 | !"),
    ("the whole URI", "POST http://x/api/balance HTTP/1.1", BOTH),
    ("the whole URI in capitals", "POST HTTP://X/api/balance HTTP/1.1", "*2 | !"),
    ("the URI of another host", "POST http://y/api/balance HTTP/1.1", "*2 | !"),
    ("a URI with a user", "POST http://u@x/api/balance HTTP/1.1", "*2 | !"),
    ("a URI without a host", "POST http:///api/balance HTTP/1.1", "*2 | !"),
    ("an authority", "POST x:80 HTTP/1.1", "42 | !"),
    ("a star", "POST * HTTP/1.1", "42 | !"),
    ("OPTIONS", "OPTIONS * HTTP/1.1", "*2 | !"),
    ("HTTP/2 without a point", "POST /api/balance HTTP/2", REFUSED),
    ("PUT", "PUT /api/balance HTTP/1.1", "42"),
    ("DELETE", "DELETE /api/balance HTTP/1.1", "42"),
    ("TRACE", "TRACE /api/balance HTTP/1.1", "42 | !"),
    ("CONNECT", "CONNECT x:80 HTTP/1.1", "42 | 4! | !"),
    ("GET with a body", "GET /health/live HTTP/1.1", "22 | !"),
    ("a response", "HTTP/1.1 200 OK", REFUSED),
];

/// Versions that the server library of a replica does not answer.
const LATER: &[&str] = &[
    "POST /api/balance HTTP/2.0",
    "POST /api/balance HTTP/3.0",
    "POST /api/balance HTTP/9.9",
    "PRI * HTTP/2.0",
];

/// Fields about the host in place of the usual one.
const HOSTS: &[(&str, &str, Expected)] = &[
    ("none", "", "42 | !"),
    ("two", "Host: x\r\nHost: y\r\n", "42 | !"),
    ("two, one empty", "Host: x\r\nHost:\r\n", "42 | !"),
    ("empty", "Host:\r\n", "*2 | !"),
    ("a comma", "Host: x, y\r\n", "*2 | !"),
    ("a user", "Host: u@x\r\n", "*2 | !"),
    ("a path", "Host: x/api\r\n", "*2 | !"),
    ("a blank", "Host: x y\r\n", "*2 | !"),
    ("a port that is none", "Host: x:99999999999\r\n", "*2 | !"),
    ("a blank before the colon", "Host : x\r\n", REFUSED),
    ("NUL", "Host: x\0y\r\n", "*2 | !"),
    ("a fold", "Host:\r\n x\r\n", "*2 | !"),
];

/// Fields beside a length of 28.
const BESIDE: &[(&str, &str, Expected)] = &[
    ("close", "Connection: close\r\n", "2!"),
    ("Close", "Connection: Close\r\n", "2!"),
    ("keep-alive", "Connection: keep-alive\r\n", BOTH),
    ("close in a list", "Connection: keep-alive, close\r\n", "2!"),
    ("close in a second field", "Connection: X-A\r\nConnection: close\r\n", "2!"),
    ("the length is the connection's", "Connection: Content-Length\r\n", BOTH_OR_REFUSED),
    ("the coding is the connection's", "Connection: Transfer-Encoding\r\n", BOTH_OR_REFUSED),
    ("the host is the connection's", "Connection: Host\r\n", BOTH_OR_REFUSED),
    ("the id is the connection's", "Connection: X-Request-Id\r\n", BOTH_OR_REFUSED),
    ("a word that holds close", "Connection: disclosed\r\n", "22 | 2!"),
    ("an upgrade", "Connection: Upgrade\r\nUpgrade: websocket\r\n", BOTH),
    ("an upgrade to nothing", "Connection: Upgrade\r\n", BOTH),
    ("an upgrade in no list", "Upgrade: h2c\r\n", BOTH),
    (
        "h2c",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        BOTH,
    ),
    ("100-continue", "Expect: 100-continue\r\n", BOTH),
    ("100-Continue", "Expect: 100-Continue\r\n", BOTH_OR_REFUSED),
    ("another expectation", "Expect: tea\r\n", BOTH_OR_REFUSED),
    ("an expectation and more", "Expect: tea 100-continue\r\n", BOTH_OR_REFUSED),
    ("two expectations", "Expect: 100-continue, tea\r\n", BOTH_OR_REFUSED),
    ("100-continue twice", "Expect: 100-continue\r\nExpect: 100-continue\r\n", BOTH_OR_REFUSED),
    ("an empty expectation", "Expect:\r\n", BOTH_OR_REFUSED),
    ("a method in a field", "X-HTTP-Method-Override: GET\r\n", BOTH),
    ("a coding of the content", "Content-Encoding: chunked\r\n", "*2 | !"),
    ("trailers promised", "Trailer: Content-Length\r\n", BOTH),
    ("no colon", "X-A\r\n", REFUSED),
    ("no name", ": a\r\n", REFUSED),
    ("a colon alone", ":\r\n", REFUSED),
    ("a blank in a name", "X A: b\r\n", REFUSED),
    ("a blank before the colon", "X-A : b\r\n", REFUSED),
    ("NUL in a name", "X\0A: b\r\n", REFUSED),
    ("NUL in a value", "X-A: b\0c\r\n", "*2 | !"),
    ("a bare CR in a value", "X-A: b\rc\r\n", BOTH_OR_REFUSED),
    ("a bare LF in a value", "X-A: b\nX-B: c\r\n", BOTH_OR_REFUSED),
    ("a control character in a value", "X-A: b\u{1}c\r\n", "*2 | !"),
    ("a fold in a value", "X-A: b\r\n c\r\n", BOTH_OR_REFUSED),
    ("CR twice at a line's end", "X-A: b\r\r\n", BOTH_OR_REFUSED),
    ("a byte of Latin 1 in a name", "X-\u{ff}: b\r\n", REFUSED),
];

/// What no name of a field may hold.
const NO_TOKEN: &str = "\"(),/;<=>?@[\\]{}";

pub(super) fn vectors() -> Vec<Vector> {
    let mut all = Vec::new();
    for (name, line, expected) in LINES {
        let text = format!("{}{BODY}{HIDDEN}", head(line, LENGTH));
        all.push(Vector::new(format!("line: {name}"), text, expected));
    }
    for (name, fields, expected) in HOSTS {
        let head = head(POST, LENGTH).replace("Host: x\r\n", fields);
        let text = format!("{head}{BODY}{HIDDEN}");
        all.push(Vector::new(format!("host: {name}"), text, expected));
    }
    for (name, fields, expected) in BESIDE {
        let text = format!("{}{BODY}{HIDDEN}", head(POST, &format!("{fields}{LENGTH}")));
        all.push(Vector::new(format!("beside a length: {name}"), text, expected));
        let expected = if expected.starts_with('!') { REFUSED } else { "* | !" };
        let fields = format!("{fields}Content-Length: {}\r\n", HIDDEN.len());
        let text = format!("{}{HIDDEN}", head(POST, &fields));
        let name = format!("beside a length over the hidden one: {name}");
        all.push(Vector::new(name, text, expected));
    }
    for c in NO_TOKEN.chars() {
        let fields = format!("X{c}A: b\r\n{LENGTH}");
        let text = format!("{}{BODY}{HIDDEN}", head(POST, &fields));
        all.push(Vector::new(format!("a name with {c:?}"), text, REFUSED));
    }
    // The server library does not look behind the version.
    for line in ["POST /api/balance HTTP/1.1 x", "POST /api/balance HTTP/1.1 HTTP/1.0"] {
        let text = format!("{}{BODY}{HIDDEN}", head(line, LENGTH));
        let vector = Vector::new(format!("line: {line}"), text, REFUSED);
        all.push(vector.replica(BOTH_OR_REFUSED));
    }
    // Field values may hold bytes beyond ASCII, and edge networks send them.
    for (name, value) in [("Latin 1", "M\u{fc}nchen"), ("UTF-8", "M\u{c3}\u{bc}nchen")] {
        let fields = format!("X-City: {value}\r\n{LENGTH}");
        let text = format!("{}{BODY}{HIDDEN}", head(POST, &fields));
        let vector = Vector::new(format!("a value in {name}"), text, BOTH);
        all.push(vector.replica(BOTH_OR_REFUSED));
    }
    // HAProxy makes one of two equal ones.
    let head = head(POST, LENGTH).replace("Host: x\r\n", "Host: x\r\nHost: x\r\n");
    let vector = Vector::new("host: two equal", format!("{head}{BODY}{HIDDEN}"), "*2 | !");
    all.push(vector.replica("42 | !"));
    all
}

/// Vectors on which a replica's server library may hang, left to itself. HAProxy reads them as
/// HTTP/1.1, and so does whoever stands behind it.
pub(super) fn later_versions() -> Vec<Vector> {
    let vector = |line: &&str| {
        let text = format!("{}{BODY}{HIDDEN}", head(line, LENGTH));
        let vector = Vector::new(format!("line: {line}"), text, "*2 | !");
        vector.replica(REFUSED).costly(true)
    };
    LATER.iter().map(vector).collect()
}
