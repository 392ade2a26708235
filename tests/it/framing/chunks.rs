//! `Transfer-Encoding` in every spelling, chunks, extensions and trailers.

use super::vector::{
    BODY, BOTH, BOTH_OR_REFUSED, Expected, HIDDEN, POST, REFUSED, Vector, chunked, head,
};

/// Codings that nobody here reads, and spellings of none.
const UNREAD: &[(&str, &str)] = &[
    ("a letter before", "Transfer-Encoding: xchunked\r\n"),
    ("a letter behind", "Transfer-Encoding: chunkedx\r\n"),
    ("a part", "Transfer-Encoding: chunk\r\n"),
    ("chunked twice", "Transfer-Encoding: chunked, chunked\r\n"),
    ("gzip first", "Transfer-Encoding: gzip, chunked\r\n"),
    ("gzip last", "Transfer-Encoding: chunked, gzip\r\n"),
    ("gzip alone", "Transfer-Encoding: gzip\r\n"),
    ("deflate", "Transfer-Encoding: deflate\r\n"),
    ("unknown first", "Transfer-Encoding: cow, chunked\r\n"),
    ("unknown last", "Transfer-Encoding: chunked, cow\r\n"),
    ("identity", "Transfer-Encoding: identity\r\n"),
    ("identity first", "Transfer-Encoding: identity, chunked\r\n"),
    ("identity last", "Transfer-Encoding: chunked, identity\r\n"),
    ("empty", "Transfer-Encoding:\r\n"),
    ("a comma", "Transfer-Encoding: ,\r\n"),
    ("quoted", "Transfer-Encoding: \"chunked\"\r\n"),
    ("single quotes", "Transfer-Encoding: 'chunked'\r\n"),
    ("a parameter", "Transfer-Encoding: chunked;q=1\r\n"),
    ("a semicolon", "Transfer-Encoding: chunked;\r\n"),
    ("a blank inside", "Transfer-Encoding: chun ked\r\n"),
    ("two words", "Transfer-Encoding: chunked chunked\r\n"),
    ("a colon", "Transfer-Encoding: : chunked\r\n"),
    ("two colons", "Transfer-Encoding:: chunked\r\n"),
    ("NUL behind", "Transfer-Encoding: chunked\0\r\n"),
    ("NUL before", "Transfer-Encoding: \0chunked\r\n"),
    ("a blank of Latin 1", "Transfer-Encoding: \u{a0}chunked\r\n"),
    ("NEL behind", "Transfer-Encoding: chunked\u{85}\r\n"),
    ("a Kelvin sign", "Transfer-Encoding: chun\u{e2}\u{84}\u{aa}ed\r\n"),
    ("a fold inside", "Transfer-Encoding: chun\r\n ked\r\n"),
    ("a blank before the colon", "Transfer-Encoding : chunked\r\n"),
    ("a tab before the colon", "Transfer-Encoding\t: chunked\r\n"),
    ("NUL in the name", "Transfer\0Encoding: chunked\r\n"),
    ("a vertical tab in the name", "Transfer-Encoding\u{b}: chunked\r\n"),
    ("a bare LF before the colon", "Transfer-Encoding\n: chunked\r\n"),
    ("no colon", "Transfer-Encoding chunked\r\n"),
    ("two fields, one unknown", "Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n"),
    ("two fields, the first unknown", "Transfer-Encoding: cow\r\nTransfer-Encoding: chunked\r\n"),
    ("two fields, one identity", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
    ("two fields, both chunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
];

/// The same, but the server library trims them before a replica sees them.
const TRIMMED: &[(&str, &str)] = &[
    ("a vertical tab before", "Transfer-Encoding: \u{b}chunked\r\n"),
    ("a vertical tab behind", "Transfer-Encoding: chunked\u{b}\r\n"),
    ("a form feed before", "Transfer-Encoding: \u{c}chunked\r\n"),
    ("a bare CR before the name", "\rTransfer-Encoding: chunked\r\n"),
];

/// Spellings of chunked.
const READ: &[(&str, &str, Expected)] = &[
    ("plain", "Transfer-Encoding: chunked\r\n", BOTH),
    ("a capital", "Transfer-Encoding: Chunked\r\n", BOTH),
    ("capitals", "Transfer-Encoding: CHUNKED\r\n", BOTH),
    ("mixed", "tRANSFER-eNCODING: cHUNKED\r\n", BOTH),
    ("no blank", "Transfer-Encoding:chunked\r\n", BOTH),
    ("blanks", "Transfer-Encoding:   chunked   \r\n", BOTH),
    ("tabs", "Transfer-Encoding:\tchunked\t\r\n", BOTH),
    ("TE beside", "TE: trailers\r\nTransfer-Encoding: chunked\r\n", BOTH),
    ("a comma before", "Transfer-Encoding: , chunked\r\n", BOTH_OR_REFUSED),
    ("a comma behind", "Transfer-Encoding: chunked,\r\n", BOTH_OR_REFUSED),
    ("a fold before", "Transfer-Encoding:\r\n chunked\r\n", BOTH_OR_REFUSED),
    ("a bare CR behind", "Transfer-Encoding: chunked\r\r\n", BOTH_OR_REFUSED),
    ("an empty one", "Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n", BOTH_OR_REFUSED),
    ("behind a bare LF", "X: y\nTransfer-Encoding: chunked\r\n", BOTH_OR_REFUSED),
];

/// Lines of a chunk's size; the change is 1c bytes long.
const SIZES: &[(&str, &str, Expected)] = &[
    ("lower case", "1c\r\n", BOTH),
    ("upper case", "1C\r\n", BOTH),
    ("a zero before", "01c\r\n", BOTH),
    ("fourteen zeros before", "000000000000001c\r\n", BOTH),
    ("minus", "-1c\r\n", REFUSED),
    ("0x", "0x1c\r\n", REFUSED),
    ("0X", "0X1C\r\n", REFUSED),
    ("an h behind", "1ch\r\n", REFUSED),
    ("an underscore", "1_c\r\n", REFUSED),
    ("a dot", "1c.0\r\n", REFUSED),
    ("a comma", "1c,\r\n", REFUSED),
    ("a colon", "1c:\r\n", REFUSED),
    ("quotes", "\"1c\"\r\n", REFUSED),
    ("a blank inside", "1 c\r\n", REFUSED),
    ("a fold before", "\r\n 1c\r\n", REFUSED),
    ("an empty line before", "\r\n1c\r\n", REFUSED),
    ("empty", "\r\n", REFUSED),
    ("NUL behind", "1c\0\r\n", REFUSED),
    ("NUL before", "\x001c\r\n", REFUSED),
    ("a byte of Latin 1", "1c\u{a0}\r\n", REFUSED),
    ("full-width digits", "\u{ef}\u{bc}\u{91}c\r\n", REFUSED),
    ("a letter beyond f", "1g\r\n", REFUSED),
    ("a word", "chunk\r\n", REFUSED),
    ("2^64 more", "1000000000000001c\r\n", REFUSED),
    ("2^68 more", "10000000000000001c\r\n", REFUSED),
    ("a bare CR behind", "1c\r", REFUSED),
    ("CR twice", "1c\r\r\n", REFUSED),
    ("an extension without a name", "1c;\r\n", BOTH_OR_REFUSED),
    ("an extension", "1c;a\r\n", BOTH),
    ("an extension with a value", "1c;a=b\r\n", BOTH),
    ("two extensions", "1c;a=b;c=d\r\n", BOTH),
    ("a quoted extension", "1c;a=\"b;c\"\r\n", BOTH),
    ("an escaped quote", "1c;a=\"b\\\"c\"\r\n", BOTH),
    ("an open quote", "1c;a=\"b\r\n", BOTH_OR_REFUSED),
    ("blanks in an extension", "1c ; a = b\r\n", BOTH_OR_REFUSED),
    ("a blank behind", "1c \r\n", BOTH_OR_REFUSED),
    ("a tab behind", "1c\t\r\n", BOTH_OR_REFUSED),
    ("a size as an extension", "1c;5\r\n", BOTH_OR_REFUSED),
    ("an extension with a bare CR", "1c;a\rb\r\n", REFUSED),
    ("an extension with NUL", "1c;a\0b\r\n", BOTH_OR_REFUSED),
];

/// Lines of a size that the server library trims, or reads as any program reads a number. The door
/// lets none of them pass.
const SIZES_TRIMMED: &[(&str, &str)] = &[
    ("plus", "+1c\r\n"),
    ("a blank before", " 1c\r\n"),
    ("a tab before", "\t1c\r\n"),
    ("a vertical tab before", "\u{b}1c\r\n"),
    ("a vertical tab behind", "1c\u{b}\r\n"),
    ("a form feed behind", "1c\u{c}\r\n"),
];

/// Trailers, each with its end.
const TRAILERS: &[(&str, &str, Expected)] = &[
    ("one", "X-A: b\r\n", BOTH),
    ("two", "X-A: b\r\nX-B: c\r\n", BOTH),
    ("a length", "Content-Length: #\r\n", BOTH),
    ("a huge length", "Content-Length: 18446744073709551644\r\n", BOTH_OR_REFUSED),
    ("a coding", "Transfer-Encoding: chunked\r\n", BOTH_OR_REFUSED),
    ("a host", "Host: y\r\n", BOTH),
    ("an id", "X-Request-Id: other\r\n", BOTH),
    ("a word on the connection", "Connection: close\r\n", BOTH_OR_REFUSED),
    ("a request line", "GET /health/live HTTP/1.1\r\n", REFUSED),
    ("a request line with a colon", "GET http://x/ HTTP/1.1\r\n", REFUSED),
    ("a blank before the colon", "X-A : b\r\n", REFUSED),
    ("no name", ": b\r\n", REFUSED),
    ("no colon", "X-A\r\n", REFUSED),
    ("a fold first", " X-A: b\r\n", REFUSED),
    ("NUL in a name", "X\0A: b\r\n", REFUSED),
];

/// Whole bodies.
const BODIES: &[(&str, &str, Expected)] = &[
    ("nothing behind the data", "1c\r\n@0\r\n\r\n", "!"),
    ("a bare CR behind the data", "1c\r\n@\r0\r\n\r\n", "!"),
    ("two bytes behind the data", "1c\r\n@xx0\r\n\r\n", "!"),
    ("the size is one less", "1b\r\n@\r\n0\r\n\r\n", "!"),
    ("the size is two more", "1e\r\n@\r\n0\r\n\r\n", "!"),
    ("no last chunk", "1c\r\n@\r\n", "!"),
    ("an empty line for the last chunk", "1c\r\n@\r\n\r\n", "!"),
    ("no empty line at the end", "1c\r\n@\r\n0\r\n", "!"),
    ("an x behind the last chunk", "1c\r\n@\r\n0\r\nx\r\n", "!"),
    ("CR twice at the end", "1c\r\n@\r\n0\r\n\r\r\n", "!"),
    ("a minus before the last chunk", "1c\r\n@\r\n-0\r\n\r\n", "!"),
    ("0x0 for the last chunk", "1c\r\n@\r\n0x0\r\n\r\n", "!"),
    ("zeros for the last chunk", "1c\r\n@\r\n000\r\n\r\n", "22"),
    ("2^64 for the last chunk", "1c\r\n@\r\n10000000000000000\r\n\r\n", "!"),
    ("an extension at the last chunk", "1c\r\n@\r\n0;a=b\r\n\r\n", "22"),
    ("the last chunk first", "0\r\n\r\n1c\r\n@\r\n0\r\n\r\n", "4!"),
];

/// Bare line feeds: HAProxy takes them for the end of a line as RFC 9112 (2.2) lets it in a head,
/// and passes the body on with a length; a replica must not.
const LINE_FEEDS: &[(&str, &str)] = &[
    ("behind the size", "1c\n@\r\n0\r\n\r\n"),
    ("behind the data", "1c\r\n@\n0\r\n\r\n"),
    ("behind data that ends with CR", "1d\r\n@\r\n0\r\n\r\n"),
    ("behind an extension", "1c;a\n@\r\n0\r\n\r\n"),
    ("behind the last chunk", "1c\r\n@\r\n0\n\r\n"),
    ("at the end", "1c\r\n@\r\n0\r\n\n"),
    ("behind a trailer", "1c\r\n@\r\n0\r\nX-A: b\n\r\n"),
    ("everywhere", "1c\n@\n0\n\n"),
];

pub(super) fn vectors() -> Vec<Vector> {
    let mut all = Vec::new();
    for (name, fields) in UNREAD {
        all.extend(unread(name, fields));
    }
    for (name, fields) in TRIMMED {
        let [read, overlooked, before, behind] = unread(name, fields);
        all.extend([read.replica(BOTH_OR_REFUSED), overlooked, before, behind]);
    }
    for (name, fields, expected) in READ {
        let text = format!("{}{}{HIDDEN}", head(POST, fields), chunked(BODY));
        all.push(Vector::new(format!("coding: {name}"), text, expected));
        let inside = if *expected == BOTH { "4" } else { "4 | !" };
        let text = format!("{}{}", head(POST, fields), chunked(HIDDEN));
        all.push(Vector::new(format!("coding over the hidden one: {name}"), text, inside));
    }
    for (name, line, expected) in SIZES {
        let body = format!("{line}{BODY}\r\n0\r\n\r\n");
        all.push(sent(&format!("size: {name}"), &body, expected));
    }
    for (name, line) in SIZES_TRIMMED {
        let body = format!("{line}{BODY}\r\n0\r\n\r\n");
        all.push(sent(&format!("size: {name}"), &body, REFUSED).replica(BOTH_OR_REFUSED));
    }
    for (name, body, expected) in BODIES {
        all.push(sent(&format!("chunks: {name}"), &body.replace('@', BODY), expected));
    }
    for (name, body) in LINE_FEEDS {
        let name = format!("bare LF in chunks: {name}");
        let vector = sent(&name, &body.replace('@', BODY), BOTH_OR_REFUSED);
        all.push(vector.replica(REFUSED));
    }
    // What reads a body in chunks needs not read trailers: it then refuses and ends. The door finds
    // a bad one when it hands the request on, and knows all the same where the next begins.
    for (name, line, expected) in TRAILERS {
        let line = line.replace('#', &HIDDEN.len().to_string());
        let body = format!("1c\r\n{BODY}\r\n0\r\n{line}\r\n");
        let replica = if *expected == BOTH { BOTH_OR_REFUSED } else { expected };
        let door = if *expected == REFUSED { "52 | !" } else { expected };
        all.push(sent(&format!("trailer: {name}"), &body, door).replica(replica));
    }
    long(&mut all);
    broken_off(&mut all);
    all
}

/// Where the coding is read after all, the hidden request follows the body; where it is
/// overlooked, it follows the head; and beside a length either may end early.
fn unread(name: &str, fields: &str) -> [Vector; 4] {
    let whole = format!("0\r\n\r\n{HIDDEN}");
    let length = format!("Content-Length: {}\r\n", whole.len());
    let chunks = format!("{}{HIDDEN}", chunked(BODY));
    [
        ("coding", fields, chunks.as_str()),
        ("coding overlooked", fields, HIDDEN),
        ("coding before a length", &format!("{fields}{length}"), &whole),
        ("coding behind a length", &format!("{length}{fields}"), &whole),
    ]
    .map(|(how, fields, body)| {
        Vector::new(format!("{how}: {name}"), format!("{}{body}", head(POST, fields)), REFUSED)
    })
}

fn sent(name: &str, body: &str, expected: Expected) -> Vector {
    let head = head(POST, "Transfer-Encoding: chunked\r\n");
    Vector::new(name, format!("{head}{body}{HIDDEN}"), expected)
}

/// Much of what may be repeated without an end.
fn long(all: &mut Vec<Vector>) {
    let end = format!("\r\n{BODY}\r\n0\r\n\r\n");
    for count in [100, 2_000] {
        let body = format!("{}1c{end}", "0".repeat(count));
        all.push(sent(&format!("size: {count} zeros before"), &body, BOTH_OR_REFUSED));
        let body = format!("1c{}{end}", " ".repeat(count));
        all.push(sent(&format!("size: {count} blanks behind"), &body, BOTH_OR_REFUSED));
    }
    for count in [500, 5_000, 40_000] {
        let body = format!("1c;{}{end}", "a".repeat(count));
        all.push(sent(&format!("an extension of {count} bytes"), &body, BOTH_OR_REFUSED));
        let trailers = "X-A: b\r\n".repeat(count / 8);
        let body = format!("1c\r\n{BODY}\r\n0\r\n{trailers}\r\n");
        all.push(sent(&format!("trailers of {count} bytes"), &body, BOTH_OR_REFUSED));
    }
    let (first, rest) = BODY.split_at(20);
    let single: String = first.chars().map(|c| format!("1\r\n{c}\r\n")).collect();
    all.push(sent("chunks: many of one byte", &format!("{single}{}", chunked(rest)), BOTH));
    for bytes in [1_024, 1_025, 5_000] {
        let body = format!("{bytes:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(bytes));
        let expected = if bytes == 1_024 { "42" } else { "42 | !" };
        all.push(sent(&format!("chunks: a body of {bytes} bytes"), &body, expected));
    }
    let body = format!("{}0\r\n\r\n", "1\r\nx\r\n".repeat(1_025));
    all.push(sent("chunks: 1,025 of one byte", &body, "42 | !"));
}

/// Bodies that end with the connection's half.
fn broken_off(all: &mut Vec<Vector>) {
    let head = head(POST, "Transfer-Encoding: chunked\r\n");
    for (name, body) in [
        ("in the size", "1c"),
        ("behind the size", "1c\r\n"),
        ("in the data", "1c\r\n{\"userId\":1"),
        ("behind the data", "1c\r\n@"),
        ("behind the chunk", "1c\r\n@\r\n"),
        ("in the last chunk", "1c\r\n@\r\n0\r\n"),
        ("in a trailer", "1c\r\n@\r\n0\r\nX-A: b\r\n"),
        ("in a chunk of 2^32 more", "10000001c\r\n@\r\n0\r\n\r\n~"),
        ("in a chunk of 2^63 more", "800000000000001c\r\n@\r\n0\r\n\r\n~"),
        ("in a chunk of 2^64 - 1", "ffffffffffffffff\r\n@\r\n0\r\n\r\n~"),
        ("in a chunk of 2^31", "80000000\r\n@\r\n0\r\n\r\n~"),
    ] {
        let body = body.replace('@', BODY).replace('~', HIDDEN);
        let vector = Vector::new(format!("broken off {name}"), format!("{head}{body}"), REFUSED);
        all.push(vector.half_closed());
    }
}
