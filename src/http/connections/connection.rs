//! One connection as its requests show it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::super::accept::Client;
use super::super::sockets::Socket;
use super::Arrival;

/// If we did not see both descriptors of a socket, its last requests may take this long to arrive.
const UNSEEN_MEMORY: Duration = Duration::from_millis(500);

pub(super) struct Connection {
    pub(super) stage: Stage,
    /// When its last request arrived.
    pub(super) heard: Instant,
    pub(super) behind: VecDeque<Client>,
    /// Sockets from this address on which we send nothing more.
    pub(super) ended_sockets: Vec<Socket>,
    /// Requests that arrived after its end: they belong to it, or to a new connection.
    pub(super) doubtful: VecDeque<Client>,
    /// Whether a thread is already finding out where the doubtful requests belong.
    pub(super) is_being_settled: bool,
    /// Whether more than [`super::BEHIND_MAX`] requests came: then none that waits is worked on.
    pub(super) overfull: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Every request is answered.
    Free,
    /// A worker has a request of it, or the request waits for a worker.
    InHand,
    /// Since this instant a thread that is not a worker reads its request's body.
    Reading(Instant),
    /// The last answer, at this instant, said that the connection ends.
    Leaving(Instant),
    /// At this instant a request was refused; what follows is not worked on.
    Ended(Instant),
    /// Since this instant nothing can be read from it, but what was read before may still arrive.
    Cut(Instant),
}

/// What to do with a connection that takes too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Overdue {
    /// It has never sent a request: answer 408 and end it.
    Silent,
    /// Its body takes too long: shut down reading, so that the reading thread returns.
    Body,
    /// Its last answer said that it ends, but its sending side is open: shut that down.
    EndSending,
    /// End it in both directions.
    Everything,
}

impl Connection {
    pub(super) fn new(stage: Stage) -> Connection {
        Connection {
            stage,
            heard: Instant::now(),
            behind: VecDeque::new(),
            ended_sockets: Vec::new(),
            doubtful: VecDeque::new(),
            is_being_settled: false,
            overfull: false,
        }
    }

    /// Whether we can send nothing more on it.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Cut(_)) || !self.ended_sockets.is_empty()
    }

    /// Whether a request that arrives now may belong to a new connection from this address: this
    /// one has ended, and its socket may be closed.
    pub(super) fn may_be_another(&self) -> bool {
        let has_ended = matches!(self.stage, Stage::Ended(_)) || self.is_over();
        has_ended && !self.ended_sockets.iter().any(Socket::is_open)
    }

    /// Whether no request of this connection, which is over, can arrive any more.
    pub(super) fn has_gone(&self) -> bool {
        let seen =
            !self.ended_sockets.is_empty() && self.ended_sockets.iter().all(Socket::was_whole);
        match self.stage {
            Stage::Leaving(since) | Stage::Ended(since) | Stage::Cut(since) if !seen => {
                since.elapsed() > UNSEEN_MEMORY
            }
            _ => self.ended_sockets.iter().all(Socket::is_closed),
        }
    }

    /// Handles a request that nobody will answer. To drop one with an unread body means to wait for
    /// the body, so it is kept until the connection is cut.
    pub(super) fn hold(&mut self, client: Client) -> Arrival {
        if !client.has_unread_body() {
            return Arrival::Never(client);
        }
        self.behind.push_back(client);
        Arrival::Later
    }
}
