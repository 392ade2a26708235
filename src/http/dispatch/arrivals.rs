//! The arrival of requests at their connections, and the end of connections. A client may open a
//! new connection from the port of one that is over, so a request can be doubtful: see
//! `connections`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::super::accept::{Client, NotReady};
use super::super::connections::{Arrival, Settled};
use super::super::request::Request;
use super::super::sockets::Socket;
use super::Dispatch;

/// The most threads that find out where doubtful requests belong.
pub(super) const DOUBTS_MAX: usize = 16;
/// If the old connection has not gone after this long, the new one from the same address is ended,
/// because what has arrived may belong to the old one.
const DOUBT_MAX: Duration = Duration::from_millis(700);
const DOUBT_TICK: Duration = Duration::from_millis(1);

/// What a worker has found at the accept loop.
pub(super) enum Found {
    /// To be worked on.
    Request(Arc<Request>),
    /// The client has to be waited for, or refused.
    Unready(Client, NotReady),
    /// Nothing whose turn has come.
    Other(Arrival),
}

impl Dispatch {
    /// What the worker has to do for this client, if anything. Other workers wait meanwhile: so
    /// nothing is done here that takes time.
    pub(super) fn take(&self, client: Client, worker: usize) -> Option<Found> {
        let found = match self.arrive(client) {
            Arrival::Later => return None,
            Arrival::Now(mut client) => match client.read() {
                Ok(call) => {
                    let request = self.request(client, call);
                    let mut state = self.state.lock();
                    let request = state.arrive(request)?;
                    self.is_busy(&mut state, worker, Some(&request));
                    return Some(Found::Request(request));
                }
                Err(reason) => Found::Unready(client, reason),
            },
            arrival => Found::Other(arrival),
        };
        self.is_busy(&mut self.state.lock(), worker, None);
        Some(found)
    }

    pub(super) fn arrive(&self, client: Client) -> Arrival {
        self.note_arrival();
        self.state.lock().connections.arrive(client)
    }

    pub(super) fn note_arrival(&self) {
        self.arrivals.fetch_add(1, Ordering::SeqCst);
        if self.guard_rests.swap(false, Ordering::SeqCst) {
            self.wake_guard();
        }
    }

    /// Deals with what has arrived.
    pub(super) fn bring(self: &Arc<Dispatch>, arrival: Arrival) {
        match arrival {
            Arrival::Now(client) => self.admit(client),
            Arrival::Later => {}
            Arrival::Never(client) => client.discard(),
            Arrival::Doubtful(peer) => self.find_out(peer),
        }
    }

    /// Starts a thread to settle the doubtful requests from this address, unless one does so.
    fn find_out(self: &Arc<Dispatch>, peer: SocketAddr) {
        if self.state.lock().connections.ask(peer) {
            let dispatch = Arc::clone(self);
            let settle = move |peer| dispatch.settle(peer, DOUBT_MAX);
            if self.doubts.run("doubt", peer, settle).is_err() {
                self.settle(peer, Duration::ZERO);
            }
        }
    }

    /// Decides to which connection each doubtful request belongs; waits at most for `limit`.
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
                return self.admit(client);
            }
        }
    }

    /// Notes that an answer said that its connection ends. The guard ends it soon, because the
    /// client may wait for that (RFC 9112, 9.6).
    pub(in super::super) fn let_go(&self, peer: SocketAddr) {
        let mut state = self.state.lock();
        state.connections.leave(peer);
        state.leaving.push(peer);
    }

    /// Notes that nothing that follows on this connection is worked on.
    pub(in super::super) fn end_connection(&self, peer: SocketAddr) {
        self.state.lock().connections.end(peer);
    }

    /// Notes that an ended connection can be read no more, and discards what waited there.
    pub(in super::super) fn cut_connection(self: &Arc<Dispatch>, socket: &Socket) {
        let behind = self.state.lock().connections.cut(socket);
        behind.into_iter().for_each(Client::discard);
        self.find_out(socket.peer);
    }

    /// Notes that the socket of an ended connection was not found. `client` is discarded once the
    /// connection has gone.
    pub(in super::super) fn lose_connection(
        self: &Arc<Dispatch>,
        peer: SocketAddr,
        client: Option<Client>,
    ) {
        self.state.lock().connections.lose(peer, client);
        self.find_out(peer);
    }
}
