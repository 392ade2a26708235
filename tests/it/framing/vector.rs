//! One message that a strict reader refuses, or reads in one way only.

/// What the message carries: a change of the victim, 28 bytes. `iiii` becomes the attack's number
/// when it is sent, so that the ledger tells which attack ran what.
pub(super) const BODY: &str = r#"{"userId":1,"amount":-1iiii}"#;
/// A whole request that must run only where it is a message of its own.
pub(super) const HIDDEN: &str = "POST /api/balance HTTP/1.1\r\nHost: x\r\n\
    X-Request-Id: hidden-iiii\r\nContent-Length: 28\r\n\r\n{\"userId\":1,\"amount\":-2iiii}";
/// A request that nobody can misread, to stand in front of a bad one.
pub(super) const GOOD: &str = "POST /api/balance HTTP/1.1\r\nHost: x\r\n\
    X-Request-Id: good-iiii\r\nContent-Length: 28\r\n\r\n{\"userId\":1,\"amount\":-3iiii}";
pub(super) const POST: &str = "POST /api/balance HTTP/1.1";

/// Answers that are right, as alternatives: a digit is an answer of this class, `*` one of any
/// class. With `!` behind them there is at most one more, a refusal, and the server then ends the
/// connection; without it the connection may go on, and nothing is left in it.
pub(super) type Expected = &'static str;
/// The message and the hidden request behind it.
pub(super) const BOTH: Expected = "22";
/// The message is malformed: nothing of it runs, nor what follows.
pub(super) const REFUSED: Expected = "!";
/// A server may be lenient or strict here (RFC 9112), as long as it reads what follows alike.
pub(super) const BOTH_OR_REFUSED: Expected = "22 | !";

#[derive(Clone, Copy)]
pub(super) enum Reader {
    Door,
    Replica,
}

pub(super) struct Vector {
    pub(super) name: String,
    text: String,
    door: Expected,
    replica: Expected,
    /// The client ends its half behind a message that is not complete: nobody may wait for more.
    pub(super) is_half_closed: bool,
    /// The server library of a replica may keep a connection for ever over it. The door lets none
    /// of these pass; a replica is sent a few, apart from the others.
    pub(super) is_costly: bool,
}

impl Vector {
    pub(super) fn new(name: impl Into<String>, text: String, expected: Expected) -> Vector {
        let (door, replica) = (expected, expected);
        let (is_half_closed, is_costly) = (false, false);
        Vector { name: name.into(), text, door, replica, is_half_closed, is_costly }
    }

    /// The replica alone may do something else.
    pub(super) fn replica(self, replica: Expected) -> Vector {
        Vector { replica, ..self }
    }

    pub(super) fn half_closed(self) -> Vector {
        Vector { is_half_closed: true, ..self }
    }

    pub(super) fn costly(self, is_costly: bool) -> Vector {
        Vector { is_costly, ..self }
    }

    pub(super) fn expected(&self, reader: Reader) -> Expected {
        match reader {
            Reader::Door => self.door,
            Reader::Replica => self.replica,
        }
    }

    /// The bytes of the attack of this number. A character up to U+00FF is the byte of its number:
    /// tables of text can hold bytes that are no UTF-8.
    pub(super) fn bytes(&self, number: usize) -> Vec<u8> {
        let text = self.text.replace("iiii", &format!("{number:04}"));
        text.chars().map(|c| u8::try_from(u32::from(c)).expect("a byte")).collect()
    }

    pub(super) fn is_head(&self) -> bool {
        self.text.starts_with("HEAD ")
    }

    /// Whether its client asked for "100 Continue".
    pub(super) fn expects_continue(&self) -> bool {
        self.text.contains("Expect")
    }
}

/// A head of these lines, each with its own end.
pub(super) fn head(request_line: &str, fields: &str) -> String {
    format!("{request_line}\r\nHost: x\r\nX-Request-Id: outer-iiii\r\n{fields}\r\n")
}

/// A body in one chunk, whole; none is the last chunk alone.
pub(super) fn chunked(body: &str) -> String {
    match body.len() {
        0 => "0\r\n\r\n".to_owned(),
        length => format!("{length:x}\r\n{body}\r\n0\r\n\r\n"),
    }
}
