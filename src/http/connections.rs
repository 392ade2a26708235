//! The open connections as their requests show them: which has a request in hand, and what waits
//! behind it.
//!
//! The server library reads on while a request is worked on. Here each connection has one request
//! in hand at a time, as RFC 9112 (9.3.2) asks for whatever is not safe, and after one that leaves
//! in doubt where the next begins, nothing that follows is ever worked on.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::accept::Client;
use super::sockets::Socket;

/// Requests that may wait behind the one in hand. Beyond it none of them is answered, and their
/// connection ends.
const BEHIND_MAX: usize = 1_000;
/// How long a body that is not sent is waited for, at its end and in the middle.
const BODY_PATIENCE: Duration = Duration::from_secs(30);
/// How long a client that was refused may go on to send before its connection is cut.
const LINGER: Duration = Duration::from_secs(2);
/// How long what a client had sent may take to a worker, where its socket was not seen as a whole.
const UNSEEN_MEMORY: Duration = Duration::from_millis(500);
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
    /// Came when it had ended: of this connection, or of a new one.
    doubtful: VecDeque<Client>,
    /// Somebody finds out about the doubtful ones.
    is_asked_about: bool,
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
    /// It waits until it is known whether its connection is a new one with the address of one that
    /// is over: [`Connections::settle`].
    Doubtful(SocketAddr),
    /// Nobody will answer it.
    Never(Client),
}

/// What has become of doubtful clients.
pub(super) struct Settled {
    /// The first of the new connection.
    pub(super) first: Option<Client>,
    /// Not to be dropped under a lock: the library may wait for something.
    pub(super) dropped: VecDeque<Client>,
}

/// What is to be done with a connection that takes too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// It has never brought a request: it is told so, and ends.
    Silent,
    /// Whoever reads its body is to find its end.
    Body,
    /// It has not been told that it ends.
    Farewell,
    /// It ends.
    Everything,
}

impl Connections {
    /// Whether somebody is to find out about the doubtful clients with this address: true once, for
    /// a connection that is over.
    pub(super) fn ask(&mut self, peer: SocketAddr) -> bool {
        let Some(connection) = self.0.get_mut(&peer) else { return false };
        let is_open = connection.doubtful.is_empty() || !connection.is_over();
        !is_open && !std::mem::replace(&mut connection.is_asked_about, true)
    }

    /// How many doubtful clients with this address wait. Where none does, [`Connections::ask`] is
    /// true again.
    pub(super) fn doubtful(&mut self, peer: SocketAddr) -> usize {
        let Some(connection) = self.0.get_mut(&peer) else { return 0 };
        let count = connection.doubtful.len();
        connection.is_asked_about = count > 0;
        count
    }

    /// Whose are the doubtful clients, of which the first `count` were there when `new` was looked
    /// for? The new connection's, once no request of the old one can come any more; the old one's,
    /// if there is no new one. None while that cannot be told, unless it `must` be: then nobody
    /// answers them, and the new connection is to end.
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
            _ => connection.spent.extend(new.cloned()),
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
    pub(super) fn tell(&mut self, socket: &Socket) {
        match self.0.get_mut(&socket.peer) {
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

    /// Nothing can be read from the connection that has ended: what waited behind, to be dropped.
    pub(super) fn cut(&mut self, socket: &Socket) -> VecDeque<Client> {
        match self.0.get_mut(&socket.peer) {
            Some(it)
                if matches!(it.stage, Stage::Leaving(_) | Stage::Ended(_))
                    && (it.spent.is_empty() || it.spent.contains(socket)) =>
            {
                it.stage = Stage::Cut(Instant::now());
                std::mem::take(&mut it.behind)
            }
            // A new one has its address by now.
            _ => VecDeque::new(),
        }
    }

    /// The socket of a connection that has ended was not found: its client has gone, or the system
    /// has not let us look. What waits there is dropped once no look finds it.
    pub(super) fn lose(&mut self, peer: SocketAddr, client: Option<Client>) {
        if let Some(connection) = self.0.get_mut(&peer) {
            connection.behind.extend(client);
            if matches!(connection.stage, Stage::Leaving(_) | Stage::Ended(_)) {
                connection.stage = Stage::Cut(Instant::now());
            }
        }
    }

    /// Whether no request is in hand, nor waits behind one.
    pub(super) fn are_quiet(&self) -> bool {
        let quiet = |connection: &Connection| {
            !matches!(connection.stage, Stage::InHand | Stage::Reading(_))
                && connection.doubtful.is_empty()
        };
        self.0.values().all(quiet)
    }

    /// Forgets the connections that a look at the descriptors, begun then, did not find, and of
    /// which no request can come any more. Gives what waited in those that were not found.
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

    /// Whether the connection takes too long for what it is at: then nothing that follows counts.
    /// `open_since` is when a look first found it, for one that has never sent a
    /// request.
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
            if !connection.spent.contains(&socket) {
                // A new one, which has brought nothing yet.
                let is_silent = is_silent && connection.doubtful.is_empty();
                return is_silent.then(|| connection.spent.push(socket)).map(|()| Overdue::Silent);
            }
        }
        let overdue = match connection.stage {
            Stage::Free if connection.heard.elapsed() > SILENCE_MAX => Some(Overdue::Everything),
            Stage::Reading(since) if since.elapsed() > BODY_PATIENCE => Some(Overdue::Body),
            Stage::Leaving(since) if since.elapsed() > LINGER => match connection.is_over() {
                true => Some(Overdue::Everything),
                false => Some(Overdue::Farewell),
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

impl Connection {
    fn new(stage: Stage) -> Connection {
        Connection {
            stage,
            heard: Instant::now(),
            behind: VecDeque::new(),
            spent: Vec::new(),
            doubtful: VecDeque::new(),
            is_asked_about: false,
            overfull: false,
        }
    }

    /// Whether nothing more can be sent on it.
    fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Cut(_)) || !self.spent.is_empty()
    }

    /// Whether a client that comes now may have a new connection with its address: it has ended,
    /// and its socket may have, too.
    fn may_be_another(&self) -> bool {
        let has_ended = matches!(self.stage, Stage::Ended(_)) || self.is_over();
        has_ended && !self.spent.iter().any(Socket::is_open)
    }

    /// Whether no request of it, which is over, can come any more.
    fn has_gone(&self) -> bool {
        let seen = !self.spent.is_empty() && self.spent.iter().all(Socket::was_whole);
        match self.stage {
            Stage::Leaving(since) | Stage::Ended(since) | Stage::Cut(since) if !seen => {
                since.elapsed() > UNSEEN_MEMORY
            }
            _ => self.spent.iter().all(Socket::is_closed),
        }
    }

    /// Nobody will answer this one. Dropping what has an unread body waits for the body: that is
    /// for when the connection is cut.
    fn hold(&mut self, client: Client) -> Arrival {
        if !client.has_unread_body() {
            return Arrival::Never(client);
        }
        self.behind.push_back(client);
        Arrival::Later
    }
}
