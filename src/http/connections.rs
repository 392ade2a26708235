//! The state of each connection: whether it has a request in hand, and which requests wait behind
//! it. A request in hand is being read, waits for a worker, or is worked on.
//!
//! The server library reads on while a request is worked on (pipelining). Here each connection has
//! one request in hand at a time, as RFC 9112 (9.3.2) demands for methods that are not safe. After
//! a request of which we do not know where it ends, nothing on its connection is worked on.
//!
//! A connection is known by its client's address and port. When it has ended, its client may open a
//! new one from the same port, while requests of the old one are still on their way from the
//! library. A request that may belong to either is called doubtful.

mod connection;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::accept::Client;
use super::sockets::Socket;
pub(super) use connection::Overdue;
use connection::{Connection, Stage};

/// How many requests may wait behind the one in hand. If more come, none that waits is answered,
/// and the connection ends.
const BEHIND_MAX: usize = 1_000;
/// How long a body may take to arrive.
const BODY_PATIENCE: Duration = Duration::from_secs(30);
/// How long a client may keep its connection open after the last answer before we end it.
const LINGER: Duration = Duration::from_secs(2);
/// How long a connection may be open without a request.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(75);

/// All connections, by the client's address and port.
#[derive(Default)]
pub(super) struct Connections(HashMap<SocketAddr, Connection>);

/// What to do with a request that has just arrived.
pub(super) enum Arrival {
    /// Work on it now: its connection has no other in hand.
    Now(Client),
    /// Nothing: it is kept, behind another request or until its connection is cut.
    Later,
    /// Find out whether it belongs to an ended connection or to a new one from the same address:
    /// [`Connections::settle`].
    Doubtful(SocketAddr),
    /// Discard it without an answer: its connection has ended.
    Never(Client),
}

/// What [`Connections::settle`] has decided.
pub(super) struct Settled {
    /// The first request of the new connection, to be worked on.
    pub(super) first: Option<Client>,
    /// To be discarded, but not under a lock: the library may wait for their bodies.
    pub(super) dropped: VecDeque<Client>,
}

impl Connections {
    /// Whether the caller must find out where the doubtful requests from this address belong. True
    /// for one caller only, and once the connection is over.
    pub(super) fn ask(&mut self, peer: SocketAddr) -> bool {
        let Some(connection) = self.0.get_mut(&peer) else { return false };
        let is_open = connection.doubtful.is_empty() || !connection.is_over();
        !is_open && !std::mem::replace(&mut connection.is_being_settled, true)
    }

    /// How many doubtful requests from this address there are. If there are none,
    /// [`Connections::ask`] can be true again.
    pub(super) fn doubtful(&mut self, peer: SocketAddr) -> usize {
        let Some(connection) = self.0.get_mut(&peer) else { return 0 };
        let count = connection.doubtful.len();
        connection.is_being_settled = count > 0;
        count
    }

    /// Decides where the doubtful requests belong; the first `count` arrived before `new` was
    /// looked for. They belong to the new connection once no request of the old one can arrive any
    /// more, and to the old one if there is no new one. `None` while that is unknown. If it `must`
    /// be decided all the same, nobody answers them, and the caller ends the new connection.
    pub(super) fn settle(
        &mut self,
        peer: SocketAddr,
        count: usize,
        new: Option<&Socket>,
        must: bool,
    ) -> Option<Settled> {
        let connection = self.0.get_mut(&peer)?;
        match new {
            Some(_) if connection.has_gone() => {
                let behind = std::mem::take(&mut connection.doubtful);
                let dropped = std::mem::take(&mut connection.behind);
                let overfull = connection.overfull;
                *connection = Connection { behind, overfull, ..Connection::new(Stage::InHand) };
                return Some(Settled { first: connection.behind.pop_front(), dropped });
            }
            Some(_) if !must => return None,
            _ => connection.ended_sockets.extend(new.cloned()),
        }
        let is_cut = matches!(connection.stage, Stage::Cut(_));
        let some = connection.doubtful.drain(..count);
        let (waiting, dropped): (VecDeque<Client>, _) =
            some.partition(|client| !is_cut && client.has_unread_body());
        connection.behind.extend(waiting);
        Some(Settled { first: None, dropped })
    }

    pub(super) fn arrive(&mut self, client: Client) -> Arrival {
        let peer = client.peer();
        let connection = self.0.entry(peer).or_insert_with(|| Connection::new(Stage::Free));
        connection.heard = Instant::now();
        if connection.may_be_another() {
            connection.overfull |= connection.doubtful.len() >= BEHIND_MAX;
            if connection.overfull {
                return connection.hold(client);
            }
            connection.doubtful.push_back(client);
            return Arrival::Doubtful(peer);
        }
        match connection.stage {
            Stage::Free => {
                connection.stage = Stage::InHand;
                Arrival::Now(client)
            }
            Stage::Cut(_) => Arrival::Never(client),
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

    /// Notes that the request in hand is answered, and returns the next of its connection, if any.
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

    /// Notes that a thread that is not a worker now reads the body of the request in hand.
    pub(super) fn read_body(&mut self, peer: SocketAddr) {
        self.set(peer, Stage::Reading(Instant::now()));
    }

    /// Notes that the body has arrived; false if the request was given up before.
    pub(super) fn have_body(&mut self, peer: SocketAddr) -> bool {
        let found = self.0.get_mut(&peer);
        let reads = found.filter(|connection| matches!(connection.stage, Stage::Reading(_)));
        reads.map(|connection| connection.stage = Stage::InHand).is_some()
    }

    /// Notes that the answer to the request in hand says that the connection ends.
    pub(super) fn leave(&mut self, peer: SocketAddr) {
        self.set(peer, Stage::Leaving(Instant::now()));
    }

    /// Shuts down sending on this socket if its connection is to end, so that the client sees it.
    pub(super) fn tell(&mut self, socket: &Socket) {
        match self.0.get_mut(&socket.peer) {
            Some(it) if matches!(it.stage, Stage::Leaving(_) | Stage::Ended(_)) => {
                socket.end_sending();
                it.ended_sockets.push(socket.clone());
            }
            _ => {}
        }
    }

    pub(super) fn is_leaving(&self, peer: SocketAddr) -> bool {
        self.0.get(&peer).is_some_and(|found| matches!(found.stage, Stage::Leaving(_)))
    }

    /// Notes that the request in hand is refused; what follows it is not worked on.
    pub(super) fn end(&mut self, peer: SocketAddr) {
        self.set(peer, Stage::Ended(Instant::now()));
    }

    /// Notes that an ended connection can be read no more; returns what waited, to be discarded.
    pub(super) fn cut(&mut self, socket: &Socket) -> VecDeque<Client> {
        match self.0.get_mut(&socket.peer) {
            Some(it)
                if matches!(it.stage, Stage::Leaving(_) | Stage::Ended(_))
                    && (it.ended_sockets.is_empty() || it.ended_sockets.contains(socket)) =>
            {
                it.stage = Stage::Cut(Instant::now());
                std::mem::take(&mut it.behind)
            }
            // A new connection has its address by now.
            _ => VecDeque::new(),
        }
    }

    /// Notes that the socket of an ended connection was not found: the client has disconnected, or
    /// the system did not let us look. `client` is kept until [`Connections::keep`] finds it gone.
    pub(super) fn lose(&mut self, peer: SocketAddr, client: Option<Client>) {
        if let Some(connection) = self.0.get_mut(&peer) {
            connection.behind.extend(client);
            if matches!(connection.stage, Stage::Leaving(_) | Stage::Ended(_)) {
                connection.stage = Stage::Cut(Instant::now());
            }
        }
    }

    /// Whether no request is in hand and none is doubtful.
    pub(super) fn are_quiet(&self) -> bool {
        let quiet = |connection: &Connection| {
            !matches!(connection.stage, Stage::InHand | Stage::Reading(_))
                && connection.doubtful.is_empty()
        };
        self.0.values().all(quiet)
    }

    /// Forgets the connections that a look at the descriptors, begun at `begun`, did not find, once
    /// no request of theirs can arrive any more. Returns what waited in those, to be discarded.
    pub(super) fn keep(
        &mut self,
        begun: Instant,
        is_open: impl Fn(SocketAddr) -> bool,
    ) -> VecDeque<Client> {
        let mut left = VecDeque::new();
        self.0.retain(|peer, connection| {
            let in_hand = matches!(connection.stage, Stage::InHand | Stage::Reading(_));
            if in_hand || connection.heard >= begun || is_open(*peer) {
                return true;
            }
            left.append(&mut connection.behind);
            let is_needed = !connection.doubtful.is_empty() || !connection.has_gone();
            connection.stage != Stage::Free && is_needed
        });
        left
    }

    /// Whether the connection takes too long, and what to do then. `open_since` is when a look
    /// first found it, which counts if it has never sent a request. Once it is to be ended, its
    /// requests are not worked on.
    pub(super) fn overdue(
        &mut self,
        peer: SocketAddr,
        open_since: Instant,
        socket: impl FnOnce() -> Option<Socket>,
    ) -> Option<Overdue> {
        let is_silent = open_since.elapsed() > SILENCE_MAX;
        let Some(connection) = self.0.get_mut(&peer) else {
            let silent = || Connection::new(Stage::Ended(Instant::now()));
            return is_silent.then(|| self.0.insert(peer, silent())).map(|_| Overdue::Silent);
        };
        if connection.is_over() {
            let socket = socket()?;
            if !connection.ended_sockets.contains(&socket) {
                // This is a new connection, which has not sent a request yet.
                let is_silent = is_silent && connection.doubtful.is_empty();
                return is_silent
                    .then(|| connection.ended_sockets.push(socket))
                    .map(|()| Overdue::Silent);
            }
        }
        let overdue = match connection.stage {
            Stage::Free if connection.heard.elapsed() > SILENCE_MAX => Some(Overdue::Everything),
            Stage::Reading(since) if since.elapsed() > BODY_PATIENCE => Some(Overdue::Body),
            Stage::Leaving(since) if since.elapsed() > LINGER => match connection.is_over() {
                true => Some(Overdue::Everything),
                false => Some(Overdue::EndSending),
            },
            Stage::Ended(since) if since.elapsed() > LINGER => Some(Overdue::Everything),
            _ => None,
        };
        if matches!(overdue, Some(Overdue::Body | Overdue::Everything)) {
            connection.stage = Stage::Ended(Instant::now());
        }
        overdue
    }

    fn set(&mut self, peer: SocketAddr, stage: Stage) {
        if let Some(connection) = self.0.get_mut(&peer) {
            connection.stage = stage;
        }
    }
}
