//! One attack on a connection of its own: what is sent, what is heard, whether that is right.

use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::vector::{Expected, Reader, Vector};

/// How long a body is kept back.
const MOMENT: Duration = Duration::from_millis(100);
/// More answers than any attack has requests.
const ANSWERS_MAX: usize = 40;
/// A client that ends its half takes the silence of this time for all that is said to it.
const QUIET: Duration = Duration::from_secs(1);
/// Asks for the connection's end in a way that everybody understands.
const PROBE: &str = "GET /health/live HTTP/1.1\r\nHost: x\r\nX-Request-Id: probe-iiii\r\n\
    Connection: close\r\n\r\n";

/// Who is attacked, and how long a silent one is waited for.
pub(super) struct Target {
    pub(super) addr: SocketAddr,
    pub(super) reader: Reader,
    pub(super) patience: Duration,
}

/// How an attack's bytes are handed to the system.
#[derive(Clone, Copy, Debug)]
pub(super) enum Delivery {
    Whole,
    InPieces,
    /// The body when an answer has come, or none came in a moment.
    HeadFirst,
}

pub(super) struct Heard {
    pub(super) answers: Vec<Answer>,
    end: End,
}

#[derive(Debug, PartialEq)]
enum End {
    Ended,
    /// The probe was answered: nothing was left in the connection.
    Probed,
    /// Neither an answer nor an end.
    Silent,
    Strange(String),
}

pub(super) struct Answer {
    status: u16,
    id: String,
    closes: bool,
    body: String,
}

impl Answer {
    /// Whether it tells of a change that was made.
    pub(super) fn tells_a_change(&self) -> bool {
        self.status < 300 && self.body.starts_with("{\"userId\":1,\"balance\":")
    }
}

/// Sends the attack of this number, and listens until all is said.
pub(super) fn attack(
    target: &Target,
    vector: &Vector,
    (number, delivery): (usize, Delivery),
) -> Heard {
    let stream = TcpStream::connect(target.addr).expect("a connection");
    stream.set_write_timeout(Some(target.patience)).expect("a socket");
    stream.set_nodelay(true).expect("a socket");
    // Who has ended the connection takes no more, and may have said why.
    let _ = send(&stream, &vector.bytes(number), delivery);
    let open = alternatives(vector.expected(target.reader)).filter(|(_, ends)| !ends);
    let until_probe = open.map(|(classes, _)| classes.len()).min();
    let mut connection = BufReader::new(stream);
    let mut heard = Heard { answers: Vec::new(), end: End::Ended };
    if vector.is_half_closed {
        end_half_when_quiet(&mut connection, vector, &mut heard);
    }
    connection.get_ref().set_read_timeout(Some(target.patience)).expect("a socket");
    while heard.answers.len() < ANSWERS_MAX {
        match next(&mut connection, vector, &heard) {
            Ok(Some(answer)) if answer.id == format!("probe-{number:04}") => {
                heard.end = End::Probed;
                return heard;
            }
            Ok(Some(answer)) => heard.answers.push(answer),
            Ok(None) => return heard,
            Err(error) => {
                heard.end = match error.kind() {
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => End::Ended,
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => End::Silent,
                    _ => End::Strange(error.to_string()),
                };
                return heard;
            }
        }
        let mut stream = connection.get_ref();
        if heard.answers.last().is_some_and(|answer| answer.closes) {
            // A server may wait for its client to take leave, so that its answer is not lost.
            let _ = stream.shutdown(Shutdown::Write);
        } else if Some(heard.answers.len()) == until_probe && !vector.is_half_closed {
            let _ = stream.write_all(PROBE.replace("iiii", &format!("{number:04}")).as_bytes());
        }
    }
    heard.end = End::Strange("answers without an end".to_owned());
    heard
}

/// Hears what is answered to whole messages first: a server may give up a request whose client has
/// ended its half.
fn end_half_when_quiet(connection: &mut BufReader<TcpStream>, vector: &Vector, heard: &mut Heard) {
    connection.get_ref().set_read_timeout(Some(QUIET)).expect("a socket");
    while connection.fill_buf().is_ok_and(|bytes| !bytes.is_empty()) {
        match next(connection, vector, heard) {
            Ok(Some(answer)) => heard.answers.push(answer),
            _ => break,
        }
    }
    let _ = connection.get_ref().shutdown(Shutdown::Write);
}

/// The next answer that is not "100 Continue", where that was asked for.
fn next(
    from: &mut BufReader<TcpStream>,
    vector: &Vector,
    heard: &Heard,
) -> io::Result<Option<Answer>> {
    let is_head = vector.is_head() && heard.answers.is_empty();
    loop {
        match read_answer(from, is_head)? {
            Some(answer) if answer.status == 100 && vector.expects_continue() => {}
            answer => return Ok(answer),
        }
    }
}

fn send(mut stream: &TcpStream, bytes: &[u8], delivery: Delivery) -> io::Result<()> {
    match delivery {
        Delivery::Whole => stream.write_all(bytes),
        Delivery::InPieces => {
            bytes.chunks(9.max(bytes.len() / 64)).try_for_each(|piece| stream.write_all(piece))
        }
        Delivery::HeadFirst => {
            let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
            let (head, body) = bytes.split_at(end.map_or(0, |end| end + 4));
            stream.write_all(head)?;
            stream.set_read_timeout(Some(MOMENT))?;
            let _ = stream.peek(&mut [0]);
            stream.write_all(body)
        }
    }
}

/// The next answer, read strictly; none at the end of the connection.
fn read_answer(from: &mut BufReader<TcpStream>, is_head: bool) -> io::Result<Option<Answer>> {
    let Some(line) = read_line(from)? else {
        return Ok(None);
    };
    let strange = |what: &str| io::Error::new(ErrorKind::InvalidData, what.to_owned());
    let status = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "));
    let status = status.and_then(|rest| rest.split(' ').next()?.parse().ok());
    let mut answer = Answer {
        status: status.ok_or_else(|| strange(&format!("no status line: {line:?}")))?,
        id: String::new(),
        closes: false,
        body: String::new(),
    };
    let mut length = None;
    loop {
        let line = read_line(from)?.ok_or_else(|| strange("a head without an end"))?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(": ").ok_or_else(|| strange(&line))?;
        match name.to_ascii_lowercase().as_str() {
            "x-request-id" => answer.id = value.to_owned(),
            "connection" => answer.closes = value.eq_ignore_ascii_case("close"),
            "content-length" if length.is_some() => return Err(strange("two lengths")),
            "content-length" => length = Some(value.parse().map_err(|_| strange(value))?),
            "transfer-encoding" => return Err(strange("a coding")),
            _ => {}
        }
    }
    // HAProxy's own page for what it cannot read has its body also for HEAD.
    let has_page = is_head && from.buffer().starts_with(b"<html>");
    if answer.status >= 200 && !is_head || has_page {
        let mut body = vec![0; length.ok_or_else(|| strange("no length"))?];
        from.read_exact(&mut body)?;
        answer.body = String::from_utf8_lossy(&body).into_owned();
    }
    Ok(Some(answer))
}

/// A line without its CRLF; none at the end.
fn read_line(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    let line = String::from_utf8_lossy(&line).into_owned();
    match line.strip_suffix("\r\n") {
        Some(line) => Ok(Some(line.to_owned())),
        None => Err(io::Error::new(ErrorKind::InvalidData, format!("no line: {line:?}"))),
    }
}

/// The classes of the answers, and whether the connection must end behind them.
fn alternatives(expected: Expected) -> impl Iterator<Item = (&'static str, bool)> {
    expected.split(" | ").map(|text| match text.strip_suffix('!') {
        Some(classes) => (classes, true),
        None => (text, false),
    })
}

impl Heard {
    /// Whether this is one of the expected.
    pub(super) fn is(&self, expected: Expected) -> bool {
        alternatives(expected).any(|(classes, ends)| self.is_one(classes, ends))
    }

    fn is_one(&self, classes: &str, ends: bool) -> bool {
        let classed = self.answers.iter().zip(classes.bytes());
        let alike = classed
            .into_iter()
            .all(|(answer, class)| class == b'*' || u16::from(class - b'0') == answer.status / 100);
        let (heard, expected) = (self.answers.len(), classes.len());
        let has_ended = self.end == End::Ended;
        alike
            && match ends {
                true => {
                    let refusals = self.answers.iter().skip(expected);
                    let mut refusals = refusals.map(|answer| answer.status >= 400);
                    has_ended
                        && (expected..=expected + 1).contains(&heard)
                        && refusals.all(|refuses| refuses)
                }
                // An answer may say that it is the last.
                false => match self.answers.last() {
                    Some(last) if heard < expected => has_ended && last.closes,
                    _ => heard == expected && (has_ended || self.end == End::Probed),
                },
            }
    }

    /// Whether none of its answers is another's.
    pub(super) fn is_of(&self, number: usize) -> bool {
        let number = format!("{number:04}");
        self.answers.iter().all(|answer| match answer.id.split_once('-') {
            Some(("outer" | "hidden" | "good", own)) => own == number,
            Some((other, _)) => other != "innocent",
            None => true,
        })
    }
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Answer { status, id, closes, body } in &self.answers {
            let close = if *closes { ", close" } else { "" };
            let body: String = body.chars().take(100).collect();
            writeln!(f, "    heard {status} ({id}{close}) {body:?}")?;
        }
        write!(f, "    then {:?}", self.end)
    }
}
