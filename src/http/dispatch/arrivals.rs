//! To which connection a client belongs that has just come, and the end of connections: a client may
//! come back from the port of one that is over.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::super::accept::Client;
use super::super::connections::{Arrival, Settled};
use super::super::sockets::Socket;
use super::Dispatch;

/// Threads that find out whether a connection is a new one.
pub(super) const DOUBTS_MAX: usize = 16;
/// A new connection whose client's earlier one has not gone after this long is ended: what has come
/// may be of the earlier one.
const DOUBT_MAX: Duration = Duration::from_millis(700);
const DOUBT_TICK: Duration = Duration::from_millis(1);

impl Dispatch {
    /// Notes a client that has just come.
    pub(super) fn arrive(&self, client: Client) -> Arrival {
        self.note_arrival();
        self.state.lock().connections.arrive(client)
    }

    pub(super) fn note_arrival(&self) {
        self.arrivals.fetch_add(1, Ordering::SeqCst);
        if self.guard_rests.swap(false, Ordering::SeqCst) {
            self.wake_keeper();
        }
    }

    /// The client, if it is its connection's turn.
    pub(super) fn turn(self: &Arc<Dispatch>, arrival: Arrival) -> Option<Client> {
        match arrival {
            Arrival::Now(client) => return Some(client),
            Arrival::Later => {}
            Arrival::Never(client) => client.discard(),
            Arrival::Doubtful(peer) => self.find_out(peer),
        }
        None
    }

    /// Has it found out to which connection the doubtful clients with this address belong.
    fn find_out(self: &Arc<Dispatch>, peer: SocketAddr) {
        if self.state.lock().connections.ask(peer) {
            let dispatch = Arc::clone(self);
            let settle = move |peer| dispatch.settle(peer, DOUBT_MAX);
            if self.doubts.run("doubt", peer, settle).is_err() {
                self.settle(peer, Duration::ZERO);
            }
        }
    }

    /// Finds out to which connection each doubtful client with this address belongs.
    fn settle(self: &Arc<Dispatch>, peer: SocketAddr, limit: Duration) {
        let until = Instant::now() + limit;
        loop {
            let count = self.state.lock().connections.doubtful(peer);
            if count == 0 {
                return;
            }
            let new = self.sockets.of(peer).filter(Socket::can_send);
            let must = Instant::now() >= until;
            let settled = self.state.lock().connections.settle(peer, count, new.as_ref(), must);
            let Some(Settled { first, dropped }) = settled else {
                thread::sleep(DOUBT_TICK);
                continue;
            };
            if first.is_none() {
                new.iter().for_each(Socket::end);
            }
            dropped.into_iter().for_each(Client::discard);
            if let Some(client) = first {
                return self.admit(client).into_iter().for_each(|request| self.park(request));
            }
        }
    }

    /// The connection was told that it ends with this answer, and is ended soon: a client may wait
    /// for that (RFC 9112, 9.6).
    pub(in super::super) fn let_go(&self, peer: SocketAddr) {
        let mut state = self.state.lock();
        state.connections.leave(peer);
        state.leaving.push(peer);
    }

    /// Nothing that follows on this connection counts.
    pub(in super::super) fn end_connection(&self, peer: SocketAddr) {
        self.state.lock().connections.end(peer);
    }

    /// Nothing can be read any more from the connection that has ended, with this socket.
    pub(in super::super) fn cut_connection(self: &Arc<Dispatch>, socket: &Socket) {
        let behind = self.state.lock().connections.cut(socket);
        behind.into_iter().for_each(Client::discard);
        self.find_out(socket.peer);
    }

    /// The socket of a connection that has ended was not found, and this client's is to be dropped
    /// when it has gone.
    pub(in super::super) fn lose_connection(
        self: &Arc<Dispatch>,
        peer: SocketAddr,
        client: Option<Client>,
    ) {
        self.state.lock().connections.lose(peer, client);
        self.find_out(peer);
    }
}
