//! Everything is sent before anything is read; then every answer is read.

use std::io;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Token};

use super::crowd::Crowd;
use crate::client::{Connection, Request, SCRATCH_BYTES, Target};
use crate::history::History;
use crate::outcome::{Change, Failure, Outcome};
use crate::progress::Progress;
use crate::report::{Tally, grouped};

const EVENTS_MAX: usize = 4_096;
/// The longest wait for an answer between two looks at the clock.
const POLL_PAUSE: Duration = Duration::from_millis(100);

/// What came of a volley.
pub(super) struct Shots {
    /// All outcomes.
    pub(super) tally: Tally,
    /// What each success said the balance was, in the order of arrival.
    pub(super) balances: Vec<i64>,
    /// From the moment of sending until the last answer, or the end of patience.
    pub(super) took: Duration,
    /// From the moment of sending until the last request was handed to the kernel.
    pub(super) writing: Duration,
}

/// One change, to be sent on every connection of a crowd.
pub(super) struct Volley {
    change: Change,
    /// By target: they differ in the `Host` header.
    requests: Vec<Vec<u8>>,
    limit: Duration,
}

/// The volley under way.
struct Flight<'a> {
    volley: &'a Volley,
    go: Instant,
    /// By number; nothing once its outcome is known.
    connections: Vec<Option<Connection>>,
    missing: usize,
    scratch: Vec<u8>,
    tally: Tally,
    balances: Vec<i64>,
    history: Option<&'a mut History>,
    last: Instant,
}

impl Volley {
    /// Lays the requests out; all answers must be there within `limit` of the sending.
    pub(super) fn prepare(
        targets: &[Target],
        token: Option<&str>,
        change: Change,
        limit: Duration,
    ) -> Volley {
        let lay_out = |target| {
            let mut bytes = Vec::new();
            Request::new(target, token, "POST", "/api/balance").write_change(
                &mut bytes,
                b"",
                change.user_id,
                change.amount,
            );
            bytes
        };
        Volley { change, requests: targets.iter().map(lay_out).collect(), limit }
    }

    /// Sends on every connection, then reads until every outcome is known or time is up.
    ///
    /// # Errors
    /// The system does not let this process poll any more.
    pub(super) fn fire(
        &self,
        crowd: Crowd,
        progress: &mut Progress,
        history: Option<&mut History>,
    ) -> io::Result<Shots> {
        let (mut poll, crowd) = crowd.into_parts();
        let (count, now) = (crowd.len(), Instant::now());
        let mut flight = Flight {
            volley: self,
            go: now,
            connections: Vec::with_capacity(count),
            missing: count,
            scratch: vec![0; SCRATCH_BYTES],
            tally: Tally::with_capacity(count),
            balances: Vec::with_capacity(count),
            history,
            last: now,
        };
        for connection in crowd {
            match connection {
                Ok(connection) => flight.connections.push(Some(connection)),
                Err(failure) => {
                    flight.connections.push(None);
                    flight.settle(&Err(failure));
                }
            }
        }
        flight.send_all();
        let writing = flight.go.elapsed();
        let mut events = Events::with_capacity(EVENTS_MAX);
        let end = flight.go + self.limit;
        while flight.missing > 0 && Instant::now() < end {
            let pause = end.saturating_duration_since(Instant::now()).min(POLL_PAUSE);
            match poll.poll(&mut events, Some(pause)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => events.iter().for_each(|event| flight.notice(event)),
            }
            progress.show(|| flight.so_far());
        }
        flight.give_up();
        let took = flight.last - flight.go;
        Ok(Shots { tally: flight.tally, balances: flight.balances, took, writing })
    }
}

impl Flight<'_> {
    fn send_all(&mut self) {
        self.go = Instant::now();
        for number in 0..self.connections.len() {
            self.send(number);
        }
    }

    /// Hands over what the kernel takes; nothing to do once all of it is out.
    fn send(&mut self, number: usize) {
        let request = &self.volley.requests[number % self.volley.requests.len()];
        let Some(connection) = &mut self.connections[number] else {
            return;
        };
        if let Err(failure) = connection.send(request) {
            self.connections[number] = None;
            self.settle(&Err(failure));
        }
    }

    fn notice(&mut self, event: &Event) {
        let Token(number) = event.token();
        if event.is_writable() {
            self.send(number);
        }
        let Some(connection) = &mut self.connections[number] else {
            return;
        };
        let (change, tally, history) = (self.volley.change, &mut self.tally, &mut self.history);
        let read = connection.receive(&mut self.scratch, |answer| {
            tally.add_server(answer.served_by);
            if let Some(history) = history {
                history.change(number, self.go, change, Some(answer));
            }
            Outcome::judge(change, answer)
        });
        let result = match read {
            Ok(None) => return,
            Ok(Some(result)) => {
                // Read in full: the port may be used again at once.
                if let Some(connection) = self.connections[number].take() {
                    connection.reset();
                }
                result
            }
            Err(failure) => {
                self.connections[number] = None;
                Err(failure)
            }
        };
        self.settle(&result);
    }

    fn settle(&mut self, result: &Result<Outcome, Failure>) {
        self.last = Instant::now();
        self.missing -= 1;
        if let (Some(history), Err(Failure { status: None, .. })) = (&mut self.history, result) {
            history.change(self.missing, self.go, self.volley.change, None);
        }
        if let Ok(Outcome::Succeeded(balance)) = result {
            self.balances.push(*balance);
        }
        self.tally.add(result, self.last - self.go);
    }

    fn give_up(&mut self) {
        let seconds = self.volley.limit.as_secs();
        for number in 0..self.connections.len() {
            if let Some(connection) = self.connections[number].take() {
                let received_bytes = connection.received_bytes();
                self.settle(&Err(Failure::timed_out(seconds, received_bytes)));
            }
        }
    }

    fn so_far(&self) -> String {
        let (all, missing) = (self.connections.len() as u64, self.missing as u64);
        format!(
            "{:.1} s: {} of {} answered: {} succeeded, {} refused, {} failed",
            self.go.elapsed().as_secs_f64(),
            grouped(all - missing),
            grouped(all),
            grouped(self.tally.succeeded()),
            grouped(self.tally.refused()),
            grouped(self.tally.failed()),
        )
    }
}
