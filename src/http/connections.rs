//! The open connections as their requests show them: which has a request in hand, and what waits
//! behind it.
//!
//! The server library reads on while a request is worked on. Here each connection has one request
//! in hand at a time, as RFC 9112 (9.3.2) asks for whatever is not safe, and after one that leaves
//! in doubt where the next begins, nothing that follows is ever worked on.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::front::Client;

/// Requests that may wait behind the one in hand. Beyond it none of them is answered, and their
/// connection ends.
const BEHIND_MAX: usize = 1_000;
/// How long a body that is not sent is waited for, at its end and in the middle.
const BODY_PATIENCE: Duration = Duration::from_secs(30);
/// How long a client that was refused may go on to send before its connection is cut.
const LINGER: Duration = Duration::from_secs(2);
/// How long what a client had sent may take to a worker.
const REFUSAL_MEMORY: Duration = Duration::from_secs(60);
/// How long a connection may be open without a request.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(75);

/// By the client's address.
#[derive(Default)]
pub(super) struct Connections(HashMap<SocketAddr, Connection>);

struct Connection {
    stage: Stage,
    /// When its last request came.
    heard: Instant,
    behind: VecDeque<Client>,
    /// More came than may wait: none of it is worked on.
    overfull: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its last request is answered.
    Free,
    /// A worker has its request, or it waits for one.
    InHand,
    /// Its body is read, aside from the workers, since then.
    Reading(Instant),
    /// Its last answer said that it ends; `told` once the connection itself says so, too.
    Leaving { since: Instant, told: bool },
    /// It was refused, and nothing that follows counts.
    Ended(Instant),
    /// Nothing can be read from it any more, since then; but what was read is still on its way.
    Cut(Instant),
}

/// What is to be done with a client that has just come.
pub(super) enum Arrival {
    /// It is its connection's turn.
    Now(Client),
    /// It waits behind another.
    Later,
    /// Its connection has ended, unless it is a new one with the same address.
    Doubtful(Client),
    /// Nobody will answer it.
    Never(Client),
}

/// What is to be done with a connection that takes too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// Whoever reads its body is to find its end.
    Body,
    /// It ends, unless it is a new one with the same address.
    Farewell,
    /// It ends.
    Everything,
}

impl Connections {
    pub(super) fn arrive(&mut self, client: Client) -> Arrival {
        let now = Instant::now();
        let connection = self.0.entry(client.peer()).or_insert_with(|| Connection {
            stage: Stage::Free,
            heard: now,
            behind: VecDeque::new(),
            overfull: false,
        });
        connection.heard = now;
        match connection.stage {
            Stage::Free => {
                connection.stage = Stage::InHand;
                Arrival::Now(client)
            }
            Stage::Leaving { told: true, .. } | Stage::Cut(_) => Arrival::Doubtful(client),
            Stage::Ended(_) => connection.hold(client),
            _ => {
                connection.overfull |= connection.behind.len() >= BEHIND_MAX;
                if connection.overfull {
                    return connection.hold(client);
                }
                connection.behind.push_back(client);
                Arrival::Later
            }
        }
    }

    /// Nobody will answer this one, whose connection has ended.
    pub(super) fn hold(&mut self, client: Client) -> Arrival {
        match self.0.get_mut(&client.peer()) {
            Some(Connection { stage: Stage::Cut(_), .. }) | None => Arrival::Never(client),
            Some(connection) => connection.hold(client),
        }
    }

    /// The request in hand is answered: the next of its connection, if one waits.
    pub(super) fn next(&mut self, peer: SocketAddr) -> Option<Client> {
        let connection = self.0.get_mut(&peer)?;
        if connection.stage != Stage::InHand {
            return None;
        }
        if connection.overfull {
            connection.stage = Stage::Ended(Instant::now());
            return None;
        }
        let next = connection.behind.pop_front();
        if next.is_none() {
            connection.stage = Stage::Free;
        }
        next
    }

    /// The body of the request in hand is read from now on, by somebody else than a worker.
    pub(super) fn read_body(&mut self, peer: SocketAddr) {
        self.set(peer, Stage::Reading(Instant::now()));
    }

    /// The body is here; false when it was given up before.
    pub(super) fn have_body(&mut self, peer: SocketAddr) -> bool {
        let found = self.0.get_mut(&peer);
        let reads = found.filter(|connection| matches!(connection.stage, Stage::Reading(_)));
        reads.map(|connection| connection.stage = Stage::InHand).is_some()
    }

    /// The answer to the request in hand says that the connection ends.
    pub(super) fn leave(&mut self, peer: SocketAddr) {
        self.set(peer, Stage::Leaving { since: Instant::now(), told: false });
    }

    /// The connection itself says so now; false when it is not leaving.
    pub(super) fn tell(&mut self, peer: SocketAddr) -> bool {
        match self.0.get_mut(&peer).map(|connection| &mut connection.stage) {
            Some(Stage::Leaving { told, .. }) => {
                *told = true;
                true
            }
            _ => false,
        }
    }

    /// Whether the connection is leaving.
    pub(super) fn is_leaving(&self, peer: SocketAddr) -> bool {
        self.0.get(&peer).is_some_and(|found| matches!(found.stage, Stage::Leaving { .. }))
    }

    /// A new connection has the address of one that has ended: what waited in that, to be dropped.
    pub(super) fn begin_anew(&mut self, peer: SocketAddr) -> VecDeque<Client> {
        match self.0.get(&peer).map(|found| found.stage) {
            Some(Stage::Leaving { told: true, .. } | Stage::Cut(_)) => self.forget(peer),
            _ => VecDeque::new(),
        }
    }

    /// The request in hand is refused, and with it whatever follows.
    pub(super) fn end(&mut self, peer: SocketAddr) {
        self.set(peer, Stage::Ended(Instant::now()));
    }

    /// Nothing can be read from the connection any more: what waited behind, to be dropped.
    pub(super) fn cut(&mut self, peer: SocketAddr) -> VecDeque<Client> {
        self.set(peer, Stage::Cut(Instant::now()));
        self.0.get_mut(&peer).map(|found| std::mem::take(&mut found.behind)).unwrap_or_default()
    }

    /// The library has let go of the connection: what waited behind, to be dropped.
    pub(super) fn forget(&mut self, peer: SocketAddr) -> VecDeque<Client> {
        self.0.remove(&peer).map(|connection| connection.behind).unwrap_or_default()
    }

    /// Whether no request is in hand, nor waits behind one.
    pub(super) fn are_quiet(&self) -> bool {
        let quiet = |connection: &Connection| {
            !matches!(connection.stage, Stage::InHand | Stage::Reading(_))
        };
        self.0.values().all(quiet)
    }

    /// Forgets the connections that a look at the descriptors, begun then, did not find. While
    /// `any_kept` of those that have ended, one that was refused is remembered: a request of it
    /// may still come. What waited in a forgotten one is to be dropped, but not here: the library
    /// may wait for something.
    pub(super) fn keep(
        &mut self,
        begun: Instant,
        any_kept: bool,
        is_open: impl Fn(SocketAddr) -> bool,
    ) -> Vec<Client> {
        let gone = self.0.extract_if(|peer, connection| {
            let is_over = match connection.stage {
                Stage::InHand | Stage::Reading(_) => false,
                Stage::Free | Stage::Leaving { .. } => true,
                Stage::Ended(since) | Stage::Cut(since) => {
                    !any_kept || since.elapsed() > REFUSAL_MEMORY
                }
            };
            is_over && connection.heard < begun && !is_open(*peer)
        });
        gone.flat_map(|(_, connection)| connection.behind).collect()
    }

    /// Whether the connection takes too long for what it is at: then nothing that follows counts.
    /// `open_since` is when a look first found it, for one that has never sent a request.
    pub(super) fn overdue(&mut self, peer: SocketAddr, open_since: Instant) -> Option<Overdue> {
        let found = self.0.get(&peer);
        let stage = found.map_or(Stage::Free, |connection| connection.stage);
        let heard = found.map_or(open_since, |connection| connection.heard);
        let overdue = match stage {
            Stage::Free if heard.elapsed() > SILENCE_MAX => Some(Overdue::Everything),
            Stage::Reading(since) if since.elapsed() > BODY_PATIENCE => Some(Overdue::Body),
            Stage::Leaving { since, .. } if since.elapsed() > LINGER => Some(Overdue::Farewell),
            Stage::Ended(since) if since.elapsed() > LINGER => Some(Overdue::Everything),
            _ => None,
        };
        if matches!(overdue, Some(Overdue::Body | Overdue::Everything)) {
            self.end(peer);
        }
        overdue
    }

    /// Whether a request of the connection was ever seen.
    pub(super) fn knows(&self, peer: SocketAddr) -> bool {
        self.0.contains_key(&peer)
    }

    fn set(&mut self, peer: SocketAddr, stage: Stage) {
        if let Some(connection) = self.0.get_mut(&peer) {
            connection.stage = stage;
        }
    }
}

impl Connection {
    /// Dropping what has an unread body waits for the body: that is for when the connection is cut.
    fn hold(&mut self, client: Client) -> Arrival {
        if !client.has_unread_body() {
            return Arrival::Never(client);
        }
        self.behind.push_back(client);
        Arrival::Later
    }
}
