//! The loop: a fixed number of connections, on each the next request after the answer before.

use std::io;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Token};

use crate::client::{Answer, Connection, SCRATCH_BYTES, Target};
use crate::outcome::Failure;
use crate::progress::Progress;

/// After a failure without an answer: a server that is gone is not hammered.
const FAILURE_PAUSE: Duration = Duration::from_millis(100);
/// How often pauses and limits are checked.
const CHECK_PAUSE: Duration = Duration::from_millis(50);
const EVENTS_MAX: usize = 1_024;

/// What is to be sent, and who is told what became of it.
pub(super) trait Script {
    /// Puts the next request for connection `number` into `request`; false when there is none
    /// any more.
    fn next(&mut self, number: usize, now: Instant, request: &mut Vec<u8>) -> bool;

    /// The request last given for connection `number`, due at `due`, has come to an end.
    fn ended(
        &mut self,
        number: usize,
        due: Instant,
        now: Instant,
        result: Result<&Answer<'_>, Failure>,
    );

    /// How far things are, on one line.
    fn so_far(&self) -> String;
}

/// What the loop itself has to tell.
pub(super) struct Ran {
    /// Connections made after the first of each.
    pub(super) reopened: u64,
}

struct Loop<'a, S> {
    poll: Poll,
    targets: &'a [Target],
    lines: Vec<Line>,
    limit: Duration,
    script: &'a mut S,
    scratch: Vec<u8>,
    running: usize,
    opened: u64,
}

/// One connection after another, with one request at a time.
struct Line {
    connection: Option<Connection>,
    phase: Phase,
    /// When the request under way could have left.
    due: Instant,
    request: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Asking,
    /// Nothing is under way until this moment.
    Pausing(Instant),
    Ended,
}

/// Runs `script` over `connections`, in turns over `targets`, until it has no more requests and
/// each one sent is answered or `limit` old.
///
/// # Errors
/// The system does not let this process poll.
pub(super) fn run<S: Script>(
    targets: &[Target],
    connections: usize,
    limit: Duration,
    script: &mut S,
    progress: &mut Progress,
) -> Result<Ran, String> {
    let polling = |error| format!("polling the connections failed: {error}");
    let begin = Instant::now();
    let line =
        || Line { connection: None, phase: Phase::Pausing(begin), due: begin, request: Vec::new() };
    let mut this = Loop {
        poll: Poll::new().map_err(polling)?,
        targets,
        lines: (0..connections).map(|_| line()).collect(),
        limit,
        script,
        scratch: vec![0; SCRATCH_BYTES],
        running: connections,
        opened: 0,
    };
    let mut events = Events::with_capacity(EVENTS_MAX);
    let mut next_check = begin;
    while this.running > 0 {
        let now = Instant::now();
        if now >= next_check {
            this.check(now);
            next_check = now + CHECK_PAUSE;
            progress.show(|| this.script.so_far());
        }
        match this.poll.poll(&mut events, Some(CHECK_PAUSE)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(polling(error)),
            _ => events.iter().for_each(|event| this.notice(event)),
        }
    }
    Ok(Ran { reopened: this.opened.saturating_sub(connections as u64) })
}

impl<S: Script> Loop<'_, S> {
    fn begin(&mut self, number: usize, now: Instant) {
        let line = &mut self.lines[number];
        if !self.script.next(number, now, &mut line.request) {
            line.connection = None;
            line.phase = Phase::Ended;
            self.running -= 1;
            return;
        }
        line.due = now;
        match line.connection {
            Some(_) => self.send(number),
            None => self.connect(number),
        }
    }

    fn connect(&mut self, number: usize) {
        let address = self.targets[number % self.targets.len()].address();
        match Connection::open(address, self.poll.registry(), Token(number)) {
            Ok(connection) => {
                let line = &mut self.lines[number];
                (line.connection, line.phase) = (Some(connection), Phase::Connecting);
                self.opened += 1;
            }
            Err(error) => self.fail(number, Failure::not_connected(&error.to_string())),
        }
    }

    fn send(&mut self, number: usize) {
        let line = &mut self.lines[number];
        line.phase = Phase::Asking;
        let Some(connection) = &mut line.connection else {
            return;
        };
        if let Err(failure) = connection.send(&line.request) {
            self.fail(number, failure);
        }
    }

    fn fail(&mut self, number: usize, failure: Failure) {
        let (line, now) = (&mut self.lines[number], Instant::now());
        line.connection = None;
        line.phase = Phase::Pausing(now + FAILURE_PAUSE);
        self.script.ended(number, line.due, now, Err(failure));
    }

    fn notice(&mut self, event: &Event) {
        let Token(number) = event.token();
        let line = &mut self.lines[number];
        let Some(connection) = &mut line.connection else {
            return;
        };
        if line.phase == Phase::Connecting {
            return match connection.established() {
                Ok(true) => self.send(number),
                Ok(false) => {}
                Err(error) => self.fail(number, Failure::not_connected(&error.to_string())),
            };
        }
        if event.is_writable()
            && let Err(failure) = connection.send(&line.request)
        {
            return self.fail(number, failure);
        }
        let (script, due) = (&mut *self.script, line.due);
        let read = connection.receive(&mut self.scratch, |answer| {
            let now = Instant::now();
            script.ended(number, due, now, Ok(answer));
            (now, answer.closes)
        });
        match read {
            Ok(None) => {}
            Ok(Some((now, closes))) => {
                // The end may have come together with the answer: it will not be told again.
                if (closes || event.is_read_closed())
                    && let Some(connection) = line.connection.take()
                {
                    connection.reset();
                }
                self.begin(number, now);
            }
            Err(failure) => self.fail(number, failure),
        }
    }

    fn check(&mut self, now: Instant) {
        for number in 0..self.lines.len() {
            let line = &self.lines[number];
            match line.phase {
                Phase::Pausing(until) if until <= now => self.begin(number, now),
                Phase::Connecting | Phase::Asking if now - line.due >= self.limit => {
                    let received = line.connection.as_ref().map_or(0, Connection::received_bytes);
                    self.fail(number, Failure::timed_out(self.limit.as_secs(), received));
                }
                _ => {}
            }
        }
    }
}
