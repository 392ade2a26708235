//! `Content-Length` in every spelling.

use super::vector::{
    BODY, BOTH, BOTH_OR_REFUSED, Expected, HIDDEN, POST, REFUSED, Vector, chunked, head,
};

/// Values that are no length: `#` is the right number.
const MALFORMED: &[(&str, &str)] = &[
    ("plus", "+#"),
    ("minus", "-#"),
    ("plus minus", "+-#"),
    ("minus zero", "-0"),
    ("plus behind a zero", "0+#"),
    ("a blank inside", "0 #"),
    ("a blank behind the sign", "+ #"),
    ("two numbers", "# #"),
    ("a tab inside", "0\t#"),
    ("hex", "0x#"),
    ("hex, upper case", "0X#"),
    ("hex digits", "#a"),
    ("octal", "0o#"),
    ("binary", "0b11100"),
    ("a comma behind", "#,"),
    ("a comma before", ",#"),
    ("a comma alone", ","),
    ("a list of different ones", "#, 5"),
    ("a list that begins with another", "5, #"),
    ("a list with a signed one", "#, +#"),
    ("a semicolon", "#;"),
    ("a parameter", "#;q=1"),
    ("an underscore", "0_#"),
    ("a dot", "#."),
    ("a fraction", "#.0"),
    ("an exponent", "#e0"),
    ("an exponent, upper case", "#E0"),
    ("quotes", "\"#\""),
    ("single quotes", "'#'"),
    ("a suffix", "#L"),
    ("a unit", "# bytes"),
    ("percent", "%32%38"),
    ("a percent blank", "#%20"),
    ("a word", "chunked"),
    ("not a number", "NaN"),
    ("infinity", "Infinity"),
    ("a colon", ": #"),
    ("equals", "=#"),
    ("brackets", "(#)"),
    ("a comment", "# (bytes)"),
    ("a star", "*"),
    ("nothing", ""),
    ("blanks", "   "),
    ("NUL before", "\0#"),
    ("NUL behind", "#\0"),
    ("NUL inside", "0\0#"),
    ("a control character", "\u{1}#"),
    ("DEL", "#\u{7f}"),
    ("a backspace", "9\u{8}#"),
    ("a blank of Latin 1", "\u{a0}#"),
    ("NEL behind", "#\u{85}"),
    ("a blank of UTF-8", "\u{c2}\u{a0}#"),
    ("a byte order mark", "\u{ef}\u{bb}\u{bf}#"),
    ("full-width digits", "\u{ef}\u{bc}\u{92}\u{ef}\u{bc}\u{98}"),
    ("Arabic digits", "\u{d9}\u{a2}\u{d9}\u{a8}"),
    ("a superscript", "\u{b2}"),
    ("a bare CR inside", "0\r#"),
    ("a fold inside", "0\r\n #"),
];

/// Lines that the server library trims before a replica sees them. It reads what follows alike, and
/// the door lets none of them pass.
const TRIMMED: &[(&str, &str)] = &[
    ("a vertical tab before", "Content-Length: \u{b}#\r\n"),
    ("a vertical tab behind", "Content-Length: #\u{b}\r\n"),
    ("a form feed before", "Content-Length: \u{c}#\r\n"),
    ("a form feed behind", "Content-Length: #\u{c}\r\n"),
    ("a bare CR before the name", "\rContent-Length: #\r\n"),
];

/// Values that are one length, or may be taken as one.
const LEGAL: &[(&str, &str, Expected, Expected)] = &[
    ("a zero before", "0#", BOTH, "4"),
    ("eight zeros before", "00000000#", BOTH, "4"),
    ("blanks around", "   #   ", BOTH, "4"),
    ("tabs around", "\t#\t", BOTH, "4"),
    ("fifty blanks before", "                                                   #", BOTH, "4"),
    ("a list of equal ones", "#, #", BOTH_OR_REFUSED, "4 | !"),
    ("a list of equal ones, no blank", "#,#", BOTH_OR_REFUSED, "4 | !"),
    ("a list of three", "#, #, #", BOTH_OR_REFUSED, "4 | !"),
    ("a bare CR before", "\r#", BOTH_OR_REFUSED, "4 | !"),
    ("a bare CR behind", "#\r", BOTH_OR_REFUSED, "4 | !"),
    ("a fold before", "\r\n #", BOTH_OR_REFUSED, "4 | !"),
    ("a fold behind", "#\r\n ", BOTH_OR_REFUSED, "4 | !"),
];

/// Lines that are, or hide, a length: `#` is the right number.
const LINES: &[(&str, &str, Expected, Expected)] = &[
    ("no blank", "Content-Length:#\r\n", BOTH, "4"),
    ("lower case", "content-length: #\r\n", BOTH, "4"),
    ("upper case", "CONTENT-LENGTH: #\r\n", BOTH, "4"),
    ("mixed case", "cOnTeNt-LeNgTh:#\r\n", BOTH, "4"),
    ("a blank before the colon", "Content-Length : #\r\n", REFUSED, REFUSED),
    ("a tab before the colon", "Content-Length\t: #\r\n", REFUSED, REFUSED),
    ("NUL before the colon", "Content-Length\0: #\r\n", REFUSED, REFUSED),
    ("NUL before the name", "\0Content-Length: #\r\n", REFUSED, REFUSED),
    ("a vertical tab in the name", "Content-Length\u{b}: #\r\n", REFUSED, REFUSED),
    ("a bare CR before the colon", "Content-Length\r: #\r\n", REFUSED, REFUSED),
    ("a bare LF before the colon", "Content-Length\n: #\r\n", REFUSED, REFUSED),
    ("a byte of Latin 1 in the name", "Content-Length\u{a0}: #\r\n", REFUSED, REFUSED),
    ("no colon", "Content-Length #\r\n", REFUSED, REFUSED),
    ("equals for the colon", "Content-Length=#\r\n", REFUSED, REFUSED),
    ("a blank in the name", "Content Length: #\r\n", REFUSED, REFUSED),
    ("two colons", "Content-Length:: #\r\n", REFUSED, REFUSED),
    ("twice, equal", "Content-Length: #\r\nContent-Length: #\r\n", BOTH_OR_REFUSED, "4 | !"),
    ("twice, other case", "Content-Length: #\r\ncontent-length: #\r\n", BOTH_OR_REFUSED, "4 | !"),
    ("twice, one padded", "Content-Length: #\r\nContent-Length: 0#\r\n", BOTH_OR_REFUSED, "4 | !"),
    ("twice, the first differs", "Content-Length: 5\r\nContent-Length: #\r\n", REFUSED, REFUSED),
    ("twice, the second differs", "Content-Length: #\r\nContent-Length: 5\r\n", REFUSED, REFUSED),
    ("twice, the first is 0", "Content-Length: 0\r\nContent-Length: #\r\n", REFUSED, REFUSED),
    ("twice, the second is 0", "Content-Length: #\r\nContent-Length: 0\r\n", REFUSED, REFUSED),
    ("twice, one signed", "Content-Length: #\r\nContent-Length: +#\r\n", REFUSED, REFUSED),
    ("twice, the first signed", "Content-Length: +#\r\nContent-Length: #\r\n", REFUSED, REFUSED),
    ("twice, one empty", "Content-Length: #\r\nContent-Length:\r\n", REFUSED, REFUSED),
    ("twice, the first empty", "Content-Length:\r\nContent-Length: #\r\n", REFUSED, REFUSED),
    ("behind a bare LF", "X: y\nContent-Length: #\r\n", BOTH_OR_REFUSED, "4 | !"),
    ("ended by a bare LF", "Content-Length: #\nX: y\r\n", BOTH_OR_REFUSED, "4 | !"),
];

/// Lines that a strict reader does not take for a length; a hidden request follows the head.
const NO_LENGTH: &[(&str, &str, Expected)] = &[
    ("behind a bare CR", "X: y\rContent-Length: #\r\n", "42 | !"),
    ("an underscore in the name", "Content_Length: #\r\n", "42"),
    ("another name before", "X-Content-Length: #\r\n", "42"),
    ("another name behind", "Content-Length-X: #\r\n", "42"),
    ("none", "", "42"),
];

pub(super) fn vectors() -> Vec<Vector> {
    let mut all = Vec::new();
    for (name, value) in MALFORMED {
        all.extend(pair(name, &format!("Content-Length: {value}\r\n"), REFUSED, REFUSED));
    }
    for (name, value, around, inside) in LEGAL {
        all.extend(pair(name, &format!("Content-Length: {value}\r\n"), around, inside));
    }
    for (name, lines, around, inside) in LINES {
        all.extend(pair(name, lines, around, inside));
    }
    for (name, lines) in TRIMMED {
        let [around, inside] = pair(name, lines, REFUSED, REFUSED);
        all.extend([around.replica(BOTH_OR_REFUSED), inside.replica("4 | !")]);
    }
    for (name, lines, expected) in NO_LENGTH {
        let fields = lines.replace('#', &HIDDEN.len().to_string());
        let text = format!("{}{HIDDEN}", head(POST, &fields));
        all.push(Vector::new(format!("no length: {name}"), text, expected));
    }
    // The server library trims such a line into a field of its own.
    for (name, blank) in [("a blank", " "), ("a tab", "\t")] {
        let fields = format!("X: y\r\n{blank}Content-Length: {}\r\n", HIDDEN.len());
        let text = format!("{}{HIDDEN}", head(POST, &fields));
        let vector = Vector::new(format!("no length: folded by {name}"), text, "42 | !");
        all.push(vector.replica("42 | 4 | !"));
    }
    huge(&mut all);
    repeated(&mut all);
    all.push(limit(1_024, "42"));
    all.push(limit(1_025, "42 | !"));
    all.push(limit(9_999, "42 | !"));
    all
}

/// The length covers the change, and the hidden request follows; or it covers the hidden request,
/// which runs where the length is overlooked.
fn pair(name: &str, lines: &str, around: Expected, inside: Expected) -> [Vector; 2] {
    let fields = lines.replace('#', &BODY.len().to_string());
    let text = format!("{}{BODY}{HIDDEN}", head(POST, &fields));
    let around = Vector::new(format!("length: {name}"), text, around);
    let fields = lines.replace('#', &HIDDEN.len().to_string());
    let text = format!("{}{HIDDEN}", head(POST, &fields));
    [around, Vector::new(format!("length over the hidden one: {name}"), text, inside)]
}

/// Numbers that wrap around, or lose their upper half, in one or another width.
fn huge(all: &mut Vec<Vector>) {
    let mut numbers = vec![99_999, 99_999_999_999, 1 << 24, 10_u128.pow(30)];
    for bits in [16, 31, 32, 33, 53, 63, 64, 65, 96] {
        numbers.extend([(1_u128 << bits) - 1, 1 << bits, (1 << bits) + 5]);
    }
    for number in numbers {
        let name = format!("huge length: {number}");
        let fields = format!("Content-Length: {number}\r\n");
        let text = format!("{}{BODY}{HIDDEN}", head(POST, &fields));
        all.push(Vector::new(name, text, REFUSED).costly(is_endless(number)));
    }
    wrapped(all);
    let digits = format!("Content-Length: {}\r\n", "9".repeat(1_000));
    let text = format!("{}{BODY}{HIDDEN}", head(POST, &digits));
    all.push(Vector::new("huge length: a thousand digits", text, REFUSED));
    let zeros = format!("Content-Length: {}28\r\n", "0".repeat(1_000));
    let text = format!("{}{BODY}{HIDDEN}", head(POST, &zeros));
    all.push(Vector::new("length: a thousand zeros before", text, BOTH_OR_REFUSED));
    // Nobody may make room for what is only announced.
    let fields = "Content-Length: 70368744177664\r\n";
    let text = format!("{}{BODY}", head(POST, fields));
    let vector = Vector::new("huge length: 64 TiB, and the end", text, REFUSED);
    all.push(vector.half_closed().costly(true));
}

/// A length that can be read, and is more than there may be memory for.
fn is_endless(number: u128) -> bool {
    (1 << 30..1 << 64).contains(&number)
}

/// Numbers that a reader in 64 bits takes for a small one. Each passes another careless check for
/// an overflow: of the product, of the sum, or of the sign.
fn wrapped(all: &mut Vec<Vector>) {
    // A hidden request whose own length nobody has the bytes for holds a thread, once it is read.
    let endless = HIDDEN.replace("Content-Length: 28", "Content-Length: 99999999999");
    let two_to_64 = 1_u128 << 64;
    for (how, over) in [
        ("2^64", two_to_64),
        ("2^65", two_to_64 * 2),
        ("10 * 2^64", two_to_64 * 10),
        ("2^64, then four digits", two_to_64 * 10_000),
        ("2^64, then ten digits", two_to_64 * 10_000_000_000),
        ("2^32", 1 << 32),
    ] {
        for (what, length, body) in [
            ("the hidden one", HIDDEN.len(), HIDDEN),
            ("an endless one", endless.len(), &endless),
            ("the change", BODY.len(), &format!("{BODY}{HIDDEN}")),
            ("nothing", 0, HIDDEN),
        ] {
            let name = format!("huge length: {how} over {what}");
            let number = over + length as u128;
            let text = format!("{}{body}", head(POST, &format!("Content-Length: {number}\r\n")));
            let is_costly = is_endless(number) || what == "an endless one";
            all.push(Vector::new(name, text, REFUSED).costly(is_costly));
        }
    }
}

/// Both framings in one message, in both orders.
fn repeated(all: &mut Vec<Vector>) {
    let body = chunked(BODY);
    let whole = format!("0\r\n\r\n{HIDDEN}");
    let coding = "Transfer-Encoding: chunked\r\n";
    for (what, length, body, answered) in [
        ("the length ends early", 4, format!("{body}{HIDDEN}"), "! | 2!"),
        ("the length is right", body.len(), format!("{body}{HIDDEN}"), "! | 2!"),
        ("the length is 0", 0, format!("{body}{HIDDEN}"), "! | 2!"),
        ("the length covers the hidden one", whole.len(), whole, "! | 4!"),
    ] {
        let length = format!("Content-Length: {length}\r\n");
        for (order, fields) in
            [("last", format!("{coding}{length}")), ("first", format!("{length}{coding}"))]
        {
            let text = format!("{}{body}", head(POST, &fields));
            all.push(Vector::new(format!("both, length {order}: {what}"), text, answered));
        }
    }
}

/// A body about as long as the longest that is read.
fn limit(length: usize, expected: Expected) -> Vector {
    let head = head(POST, &format!("Content-Length: {length}\r\n"));
    let text = format!("{head}{}{HIDDEN}", "x".repeat(length));
    Vector::new(format!("length: a body of {length} bytes"), text, expected)
}
