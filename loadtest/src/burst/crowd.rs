//! N connections, all open at the same time, nothing sent on any of them.
//!
//! A listener holds a bounded number of connections that it has not accepted yet (4096 at most on
//! a usual Linux); beyond it the kernel drops attempts without a word and they are repeated a
//! second later. So few are under way at once, and failing is only said after honest attempts.
//!
//! Beyond some 14,000 connections to one address (half of the usual local ports) the kernel's
//! search for a free port makes each slower: 19,000 took 24 s where 10,000 took 0.3 s.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Token};

use crate::client::Connection;
use crate::outcome::Failure;
use crate::progress::Progress;
use crate::report::grouped;

/// Connections under way at once: fits the smallest usual backlog, 128.
const UNDER_WAY_MAX: usize = 128;
/// How often a connection is tried, with a pause that doubles from the first one on.
const ATTEMPTS_MAX: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// One attempt: the kernel repeats what was dropped after 1, 3 and 7 s.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(10);
/// All of them together.
const OPENING_LIMIT: Duration = Duration::from_secs(60);
/// After the last connection: time for the other side to accept it, or to end one.
const SETTLE: Duration = Duration::from_millis(100);
/// How often attempts are checked for their limits.
const CHECK_PAUSE: Duration = Duration::from_millis(50);
const EVENTS_MAX: usize = 1_024;

/// The connections by number, and the poll they are registered with.
pub(super) struct Crowd {
    poll: Poll,
    addresses: Vec<SocketAddr>,
    places: Vec<Place>,
    /// Places to be tried now.
    queue: VecDeque<usize>,
    under_way: usize,
    open: usize,
    lost: usize,
    repeated: u64,
    took: Duration,
}

struct Place {
    state: State,
    attempts: u32,
}

enum State {
    Queued,
    /// Queued again from this moment on.
    Pausing(Instant),
    /// Under way since this moment.
    Connecting(Connection, Instant),
    Open(Connection),
    /// Not to be had.
    Lost(Failure),
}

impl Crowd {
    /// Opens `count` connections, in turns over `addresses`; each is registered under its number.
    ///
    /// # Errors
    /// The system does not let this process poll.
    pub(super) fn open(
        addresses: Vec<SocketAddr>,
        count: usize,
        progress: &mut Progress,
    ) -> io::Result<Crowd> {
        let mut crowd = Crowd {
            poll: Poll::new()?,
            addresses,
            places: (0..count).map(|_| Place { state: State::Queued, attempts: 0 }).collect(),
            queue: (0..count).collect(),
            under_way: 0,
            open: 0,
            lost: 0,
            repeated: 0,
            took: Duration::ZERO,
        };
        crowd.fill(progress)?;
        Ok(crowd)
    }

    /// How many are open.
    pub(super) fn open_count(&self) -> usize {
        self.open
    }

    /// Attempts that had to be repeated.
    pub(super) fn repeated(&self) -> u64 {
        self.repeated
    }

    /// From the first attempt until the last connection was open.
    pub(super) fn took(&self) -> Duration {
        self.took
    }

    /// The poll and the connections by number; in place of one that could not be had, why.
    pub(super) fn into_parts(self) -> (Poll, Vec<Result<Connection, Failure>>) {
        let limit = OPENING_LIMIT.as_secs();
        let connections = self.places.into_iter().map(|place| match place.state {
            State::Open(connection) => Ok(connection),
            State::Lost(failure) => Err(failure),
            _ => Err(Failure::not_connected(&format!("not within {limit} s"))),
        });
        (self.poll, connections.collect())
    }

    fn fill(&mut self, progress: &mut Progress) -> io::Result<()> {
        let begin = Instant::now();
        let mut events = Events::with_capacity(EVENTS_MAX);
        let (mut next_check, mut complete_since) = (begin + CHECK_PAUSE, None);
        loop {
            while self.under_way < UNDER_WAY_MAX
                && let Some(number) = self.queue.pop_front()
            {
                self.attempt(number);
            }
            match self.poll.poll(&mut events, Some(CHECK_PAUSE)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => events.iter().for_each(|event| self.notice(event)),
            }
            let now = Instant::now();
            if now >= next_check {
                self.check_limits(now);
                next_check = now + CHECK_PAUSE;
            }
            if self.open + self.lost < self.places.len() {
                complete_since = None;
            } else if now - *complete_since.get_or_insert(now) >= SETTLE {
                self.took = complete_since.unwrap_or(now) - begin;
                return Ok(());
            }
            if now - begin >= OPENING_LIMIT {
                self.took = now - begin;
                return Ok(());
            }
            let (open, all) = (self.open as u64, self.places.len() as u64);
            progress.show(|| format!("opening: {} of {}", grouped(open), grouped(all)));
        }
    }

    fn attempt(&mut self, number: usize) {
        let address = self.addresses[number % self.addresses.len()];
        self.places[number].attempts += 1;
        match Connection::open(address, self.poll.registry(), Token(number)) {
            Ok(connection) => {
                self.places[number].state = State::Connecting(connection, Instant::now());
                self.under_way += 1;
            }
            Err(error) => self.repeat(number, &error.to_string()),
        }
    }

    fn notice(&mut self, event: &Event) {
        let Token(number) = event.token();
        let state = std::mem::replace(&mut self.places[number].state, State::Queued);
        let mut connection = match state {
            State::Connecting(connection, since) => match connection.established() {
                Ok(false) => {
                    self.places[number].state = State::Connecting(connection, since);
                    return;
                }
                Ok(true) => {
                    self.under_way -= 1;
                    connection
                }
                Err(error) => {
                    self.under_way -= 1;
                    return self.repeat(number, &error.to_string());
                }
            },
            State::Open(connection) => {
                self.open -= 1;
                connection
            }
            other => {
                self.places[number].state = other;
                return;
            }
        };
        let heard = event.is_readable() || event.is_read_closed() || event.is_error();
        if heard && connection.spoke_early() {
            let reason = "the other side spoke or ended the connection before anything was sent";
            return self.repeat(number, reason);
        }
        self.places[number].state = State::Open(connection);
        self.open += 1;
    }

    /// Pauses before the next attempt, or gives the place up.
    fn repeat(&mut self, number: usize, reason: &str) {
        let place = &mut self.places[number];
        if place.attempts < ATTEMPTS_MAX {
            let pause = FIRST_PAUSE * 2_u32.pow(place.attempts - 1);
            place.state = State::Pausing(Instant::now() + pause);
            self.repeated += 1;
        } else {
            let attempts = format!("{reason}, {ATTEMPTS_MAX} times");
            place.state = State::Lost(Failure::not_connected(&attempts));
            self.lost += 1;
        }
    }

    fn check_limits(&mut self, now: Instant) {
        for number in 0..self.places.len() {
            match self.places[number].state {
                State::Pausing(until) if until <= now => {
                    self.places[number].state = State::Queued;
                    self.queue.push_back(number);
                }
                State::Connecting(_, since) if now - since >= ATTEMPT_LIMIT => {
                    self.under_way -= 1;
                    let limit = ATTEMPT_LIMIT.as_secs();
                    self.repeat(number, &format!("not connected within {limit} s"));
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use socket2::{Domain, Socket, Type};

    use super::*;

    fn bound_socket() -> (Socket, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        (socket, address)
    }

    fn open(address: SocketAddr, count: usize) -> Crowd {
        Crowd::open(vec![address], count, &mut Progress::new()).unwrap()
    }

    #[test]
    fn a_full_backlog_and_an_early_end_are_survived() {
        let (socket, address) = bound_socket();
        // Room for two that are not accepted: the third tries again a second later, and by then
        // the end of the first has been seen.
        socket.listen(1).unwrap();
        thread::spawn(move || {
            let listener = TcpListener::from(socket);
            drop(listener.accept());
            listener.incoming().collect::<Vec<_>>()
        });
        let crowd = open(address, 6);
        assert_eq!(crowd.open_count(), 6);
        assert!(crowd.repeated() >= 1, "{}", crowd.repeated());
        assert!(crowd.into_parts().1.into_iter().all(|connection| connection.is_ok()));
    }

    #[test]
    fn a_connection_is_given_up_after_honest_attempts() {
        // Bound, so that nobody else gets the port, but not listening: refused.
        let (_socket, address) = bound_socket();
        let crowd = open(address, 2);
        assert_eq!((crowd.open_count(), crowd.repeated()), (0, 8));
        for connection in crowd.into_parts().1 {
            let text = connection.err().map(|failure| failure.to_string()).unwrap_or_default();
            assert!(text.starts_with("not connected (Connection refused"), "{text}");
            assert!(text.ends_with("5 times)"), "{text}");
        }
    }
}
