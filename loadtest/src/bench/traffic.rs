//! The loop: a fixed number of connections, on each one request at a time. The script says when
//! the next one is due: at once (a closed loop), or at an instant of its own (an open one).

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
    /// What is to be done with connection `number`: a request to be sent is put into `request`.
    fn next(&mut self, number: usize, free: Free, request: &mut Vec<u8>) -> Next;

    /// When the next request is due, where one can be awaited.
    fn next_due(&self) -> Option<Instant> {
        None
    }

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

/// Of the connections that have nothing to do.
#[derive(Clone, Copy)]
pub(super) struct Free {
    pub(super) now: Instant,
    /// Since when there has always been one.
    pub(super) since: Instant,
}

/// What a connection does next.
pub(super) enum Next {
    /// The request was due at this instant: now or before.
    Send(Instant),
    /// None is due yet.
    Wait,
    /// There is none any more.
    End,
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
    /// The lines that are free, by target; the last one that came is the first to go, so no more
    /// connections are opened than are needed.
    free: Vec<Vec<usize>>,
    free_since: Instant,
    /// Whose turn it is.
    turn: usize,
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
    /// When the request under way could, or should, have left.
    due: Instant,
    request: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Free,
    Connecting,
    Asking,
    /// Nothing is under way until this moment.
    Pausing(Instant),
    Ended,
}

/// Runs `script` over `connections`, in turns over `targets`, until it has no more requests and
/// each one is answered or was due `limit` ago.
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
    let line = || Line { connection: None, phase: Phase::Free, due: begin, request: Vec::new() };
    let of_target = |target| (target..connections).step_by(targets.len()).rev().collect();
    let mut this = Loop {
        poll: Poll::new().map_err(polling)?,
        targets,
        lines: (0..connections).map(|_| line()).collect(),
        free: (0..targets.len()).map(of_target).collect(),
        free_since: begin,
        turn: 0,
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
        this.begin(now);
        // The poll's clock ticks in milliseconds and rounds up: a request leaves that much late.
        let due = this.script.next_due().filter(|_| this.has_free());
        let pause = due.map_or(CHECK_PAUSE, |due| {
            due.saturating_duration_since(Instant::now()).min(CHECK_PAUSE)
        });
        match this.poll.poll(&mut events, Some(pause)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(polling(error)),
            _ => events.iter().for_each(|event| this.notice(event)),
        }
    }
    Ok(Ran { reopened: this.opened.saturating_sub(connections as u64) })
}

impl<S: Script> Loop<'_, S> {
    /// Sends what is due for as long as connections are free.
    fn begin(&mut self, now: Instant) {
        while let Some(number) = self.take_free() {
            let line = &mut self.lines[number];
            let free = Free { now, since: self.free_since };
            match self.script.next(number, free, &mut line.request) {
                Next::Wait => return self.put_free(number, self.free_since),
                Next::End => {
                    line.connection = None;
                    line.phase = Phase::Ended;
                    self.running -= 1;
                }
                Next::Send(due) if now.saturating_duration_since(due) >= self.limit => {
                    self.script.ended(number, due, now, Err(Failure::not_sent(self.limit)));
                    self.put_free(number, self.free_since);
                }
                Next::Send(due) => {
                    line.due = due;
                    self.turn = number % self.targets.len() + 1;
                    match line.connection {
                        Some(_) => self.send(number),
                        None => self.connect(number),
                    }
                }
            }
        }
    }

    fn has_free(&self) -> bool {
        self.free.iter().any(|free| !free.is_empty())
    }

    /// In turns over the targets that have one.
    fn take_free(&mut self) -> Option<usize> {
        let targets = self.free.len();
        let mut turns = (self.turn..self.turn + targets).map(|turn| turn % targets);
        turns.find_map(|target| self.free[target].pop())
    }

    fn put_free(&mut self, number: usize, now: Instant) {
        if !self.has_free() {
            self.free_since = now;
        }
        self.lines[number].phase = Phase::Free;
        self.free[number % self.targets.len()].push(number);
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
        if line.phase == Phase::Free {
            // Nothing was asked: the server has ended it, and the next request opens a new one.
            if event.is_read_closed() || event.is_readable() && connection.spoke_early() {
                line.connection = None;
            }
            return;
        }
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
                self.put_free(number, now);
                self.begin(now);
            }
            Err(failure) => self.fail(number, failure),
        }
    }

    fn check(&mut self, now: Instant) {
        for number in 0..self.lines.len() {
            let line = &self.lines[number];
            match line.phase {
                Phase::Pausing(until) if until <= now => self.put_free(number, now),
                Phase::Connecting | Phase::Asking if now - line.due >= self.limit => {
                    let received = line.connection.as_ref().map_or(0, Connection::received_bytes);
                    self.fail(number, Failure::timed_out(self.limit.as_secs(), received));
                }
                _ => {}
            }
        }
    }
}
