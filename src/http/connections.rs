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
use super::sockets::Socket;

/// Requests that may wait behind the one in hand. Beyond it none of them is answered, and their
/// connection ends.
const BEHIND_MAX: usize = 1_000;
/// How long a body that is not sent is waited for, at its end and in the middle.
const BODY_PATIENCE: Duration = Duration::from_secs(30);
/// How long a client that was refused may go on to send before its connection is cut.
const LINGER: Duration = Duration::from_secs(2);
/// How long what a client had sent may take to a worker, where its socket was not seen as a whole.
const UNSEEN_MEMORY: Duration = Duration::from_secs(5);
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
    /// Those with this address on which nothing more can be sent.
    spent: Vec<Socket>,
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
    /// Its last answer said that it ends.
    Leaving(Instant),
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
    /// Nobody will answer it.
    Never(Client),
}

impl Arrival {
    /// The client, if it is its connection's turn. One that nobody will answer is dropped, which
    /// must not be done under a lock.
    pub(super) fn turn(self) -> Option<Client> {
        match self {
            Arrival::Now(client) => return Some(client),
            Arrival::Later => {}
            Arrival::Never(client) => client.discard(),
        }
        None
    }
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
    /// Whether nothing more can be sent on the connection: who comes now with its address, and can
    /// be sent something, has a new one.
    pub(super) fn is_over(&self, peer: SocketAddr) -> bool {
        self.0.get(&peer).is_some_and(Connection::is_over)
    }

    /// A new connection has the address of one that is over: what waited in that, to be dropped.
    /// None while requests of that one may still come; the new one must end then.
    pub(super) fn begin_anew(
        &mut self,
        peer: SocketAddr,
        new: &Socket,
    ) -> Option<VecDeque<Client>> {
        let connection = self.0.get_mut(&peer).filter(|connection| connection.is_over())?;
        if connection.has_gone() {
            return Some(self.forget(peer));
        }
        connection.spent.push(new.clone());
        None
    }

    pub(super) fn arrive(&mut self, client: Client) -> Arrival {
        let now = Instant::now();
        let connection = self.0.entry(client.peer()).or_insert_with(|| Connection {
            stage: Stage::Free,
            heard: now,
            behind: VecDeque::new(),
            spent: Vec::new(),
            overfull: false,
        });
        connection.heard = now;
        match connection.stage {
            Stage::Free => {
                connection.stage = Stage::InHand;
                Arrival::Now(client)
            }
            Stage::Cut(_) => Arrival::Never(client),
            Stage::Ended(_) => connection.hold(client),
            _ if connection.is_over() => connection.hold(client),
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
        self.set(peer, Stage::Leaving(Instant::now()));
    }

    /// The connection itself says that it ends, on this socket, if it does.
    pub(super) fn tell(&mut self, peer: SocketAddr, socket: &Socket) {
        match self.0.get_mut(&peer) {
            Some(it) if matches!(it.stage, Stage::Leaving(_) | Stage::Ended(_)) => {
                socket.end_sending();
                it.spent.push(socket.clone());
            }
            _ => {}
        }
    }

    /// Whether the connection is leaving.
    pub(super) fn is_leaving(&self, peer: SocketAddr) -> bool {
        self.0.get(&peer).is_some_and(|found| matches!(found.stage, Stage::Leaving(_)))
    }

    /// The request in hand is refused, and with it whatever follows.
    pub(super) fn end(&mut self, peer: SocketAddr) {
        self.set(peer, Stage::Ended(Instant::now()));
    }

    /// Nothing can be read from the connection that has ended, nor from its socket, where that is
    /// known: what waited behind, to be dropped.
    pub(super) fn cut(&mut self, peer: SocketAddr, socket: Option<&Socket>) -> VecDeque<Client> {
        let Some(connection) = self.0.get_mut(&peer) else { return VecDeque::new() };
        let is_its_own = connection.spent.is_empty()
            || socket.is_none_or(|socket| connection.spent.contains(socket));
        if !is_its_own || !matches!(connection.stage, Stage::Leaving(_) | Stage::Ended(_)) {
            // A new one has its address by now.
            return VecDeque::new();
        }
        connection.stage = Stage::Cut(Instant::now());
        std::mem::take(&mut connection.behind)
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

    /// Forgets the connections that a look at the descriptors, begun then, did not find, and of
    /// which no request can come any more. What waited in them is to be dropped, but not here: the
    /// library may wait for something.
    pub(super) fn keep(
        &mut self,
        begun: Instant,
        is_open: impl Fn(SocketAddr) -> bool,
    ) -> Vec<Client> {
        let gone = self.0.extract_if(|peer, connection| {
            let is_over = match connection.stage {
                Stage::InHand | Stage::Reading(_) => false,
                Stage::Free => true,
                Stage::Leaving(_) | Stage::Ended(_) | Stage::Cut(_) => connection.has_gone(),
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
            Stage::Leaving(since) if since.elapsed() > LINGER => Some(Overdue::Farewell),
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
    fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Cut(_)) || !self.spent.is_empty()
    }

    /// Whether no request of a connection that is over can come any more.
    fn has_gone(&self) -> bool {
        let seen = !self.spent.is_empty() && self.spent.iter().all(Socket::was_whole);
        match self.stage {
            Stage::Leaving(since) | Stage::Ended(since) | Stage::Cut(since) if !seen => {
                since.elapsed() > UNSEEN_MEMORY
            }
            _ => self.spent.iter().all(Socket::is_closed),
        }
    }

    /// Dropping what has an unread body waits for the body: that is for when the connection is cut.
    fn hold(&mut self, client: Client) -> Arrival {
        if !client.has_unread_body() {
            return Arrival::Never(client);
        }
        self.behind.push_back(client);
        Arrival::Later
    }
}
