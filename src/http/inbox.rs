//! The inbox: what waits for a worker, and what each worker has in hand.
//!
//! Workers take clients straight from the front, so that a request wakes one thread and not two.
//! Only while all workers are busy does the watch take in what arrives: so each request's time
//! counts from its arrival, and what needs no database is answered while every worker is stuck. A
//! worker that comes free takes what waits here first.

mod look;
mod upkeep;

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::aside::Aside;
use super::connections::{Arrival, Connections, Settled};
use super::exchange::Exchange;
use super::front::{Body, Client, NoClient, Source};
use super::problem::Problem;
use super::sockets::{Socket, Sockets};
use crate::db::Outcome;
use crate::metrics::Metrics;
use crate::shutdown::{Phase, Signal};

/// Threads that read bodies and refuse requests.
const ASIDE_MAX: usize = 64;
/// Threads that find out whether a connection is a new one.
const DOUBTS_MAX: usize = 16;
/// A new connection whose client's earlier one has not gone after this long is ended: what has come
/// may be of the earlier one.
const DOUBT_MAX: Duration = Duration::from_millis(700);
const DOUBT_TICK: Duration = Duration::from_millis(1);
/// Between two looks for requests once no connection is accepted any more.
const LAST_TICK: Duration = Duration::from_millis(5);

pub(super) struct Inbox {
    state: Mutex<State>,
    /// Signalled when the last idle worker has found work, and at the end.
    all_busy: Condvar,
    keeper: OnceLock<Thread>,
    keeper_rests: AtomicBool,
    arrivals: AtomicU64,
    /// More connections are open than there is room for in the long run.
    is_crowded: AtomicBool,
    /// New connections are not let through.
    holds_back: AtomicBool,
    /// Descriptors that are no connection's.
    beside: AtomicUsize,
    request_timeout: Duration,
    pub(super) aside: Arc<Aside>,
    doubts: Arc<Aside>,
    pub(super) sockets: Sockets,
    pub(super) shutdown: Signal,
    pub(super) replica_name: String,
    pub(super) metrics: Arc<Metrics>,
}

struct State {
    /// The last one accepts; the accept loops of those before it are dead, and their connections
    /// live on.
    sources: Vec<Arc<Source>>,
    source_died: bool,
    /// The clients of all sources but the last.
    old_clients: Vec<HashSet<SocketAddr>>,
    connections: Connections,
    /// Clients whose connections are to be ended.
    leaving: Vec<SocketAddr>,
    workers: Vec<Worker>,
    waiting: VecDeque<Arc<Exchange>>,
}

#[derive(Clone)]
enum Worker {
    /// Waits at this source.
    Idle(Arc<Source>),
    Busy(Option<Arc<Exchange>>),
}

impl Inbox {
    pub(super) fn new(
        source: Source,
        sockets: Sockets,
        options: &super::Options,
        metrics: Arc<Metrics>,
    ) -> Inbox {
        let state = State {
            sources: vec![Arc::new(source)],
            source_died: false,
            old_clients: Vec::new(),
            connections: Connections::default(),
            leaving: Vec::new(),
            workers: vec![Worker::Busy(None); options.workers],
            waiting: VecDeque::new(),
        };
        Inbox {
            state: Mutex::new(state),
            all_busy: Condvar::new(),
            keeper: OnceLock::new(),
            keeper_rests: AtomicBool::new(false),
            arrivals: AtomicU64::new(0),
            is_crowded: AtomicBool::new(false),
            holds_back: AtomicBool::new(false),
            beside: AtomicUsize::new(0),
            request_timeout: options.request_timeout,
            aside: Aside::at_most(ASIDE_MAX),
            doubts: Aside::at_most(DOUBTS_MAX),
            sockets,
            shutdown: options.shutdown.clone(),
            replica_name: options.replica_name.clone(),
            metrics,
        }
    }

    /// Waits for the next request of this worker; none at the end.
    pub(super) fn next(self: &Arc<Inbox>, worker: usize) -> Option<Arc<Exchange>> {
        loop {
            let source = {
                let mut state = self.state.lock();
                state.workers[worker] = Worker::Busy(None);
                if let Some(exchange) = state.take_waiting() {
                    state.workers[worker] = Worker::Busy(Some(Arc::clone(&exchange)));
                    return Some(exchange);
                }
                let source = state.source();
                state.workers[worker] = Worker::Idle(Arc::clone(&source));
                source
            };
            let client = self.wait_at(&source);
            if client.is_none() && self.shutdown.has_reached(Phase::Ended) {
                return None;
            }
            let exchange = client.and_then(|client| self.admit(client));
            let mut state = self.state.lock();
            state.workers[worker] = Worker::Busy(exchange.clone());
            if state.idle() == 0 {
                self.all_busy.notify_one();
            }
            if exchange.is_some() {
                return exchange;
            }
        }
    }

    /// The next client that may be worked on, if one comes before this thread is woken. Once no
    /// connection is accepted any more nobody waits here for long, so that the drain can tell
    /// whether all is answered.
    fn wait_at(self: &Arc<Inbox>, source: &Source) -> Option<Client> {
        let is_over = || self.shutdown.has_reached(Phase::Closed);
        let arrival = if is_over() {
            self.shutdown.wait_for_phase(Phase::Ended, LAST_TICK);
            source.next_now(|client| self.arrive(client)).unwrap_or_default()
        } else {
            match source.next(is_over, |client| self.arrive(client)) {
                Ok(arrival) => Some(arrival),
                Err(NoClient::Woken) => None,
                Err(NoClient::Dead(reason)) => {
                    self.note_death(source, &reason.to_string());
                    None
                }
            }
        };
        arrival.and_then(|arrival| self.turn(arrival))
    }

    /// Notes a client that has just come.
    fn arrive(&self, client: Client) -> Arrival {
        self.note_arrival();
        self.state.lock().connections.arrive(client)
    }

    fn note_arrival(&self) {
        self.arrivals.fetch_add(1, Ordering::SeqCst);
        if self.keeper_rests.swap(false, Ordering::SeqCst) {
            self.wake_keeper();
        }
    }

    /// The client, if it is its connection's turn.
    fn turn(self: &Arc<Inbox>, arrival: Arrival) -> Option<Client> {
        match arrival {
            Arrival::Now(client) => return Some(client),
            Arrival::Later => {}
            Arrival::Never(client) => client.discard(),
            Arrival::Doubtful(peer) => self.find_out(peer),
        }
        None
    }

    /// Has it found out to which connection the doubtful clients with this address belong.
    fn find_out(self: &Arc<Inbox>, peer: SocketAddr) {
        if self.state.lock().connections.ask(peer) {
            let inbox = Arc::clone(self);
            let settle = move |peer| inbox.settle(peer, DOUBT_MAX);
            if self.doubts.run("doubt", peer, settle).is_err() {
                self.settle(peer, Duration::ZERO);
            }
        }
    }

    /// Finds out to which connection each doubtful client with this address belongs.
    fn settle(self: &Arc<Inbox>, peer: SocketAddr, limit: Duration) {
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
                return self.admit(client).into_iter().for_each(|exchange| self.put(exchange));
            }
        }
    }

    /// A client's request, if it can be worked on now. The others are given a thread of their
    /// own, so that a body holds no worker.
    fn admit(self: &Arc<Inbox>, mut client: Client) -> Option<Arc<Exchange>> {
        match client.body() {
            Ok(Body::Here) => match client.read(|| None) {
                Ok(call) => return Some(self.exchange(client, call)),
                Err(problem) => self.refuse(client, problem),
            },
            Ok(Body::ToBeRead) => self.read_aside(client),
            Err(problem) => self.refuse(client, problem),
        }
        None
    }

    fn read_aside(self: &Arc<Inbox>, client: Client) {
        let (inbox, peer) = (Arc::clone(self), client.peer());
        self.state.lock().connections.read_body(peer);
        let begun = self.aside.run_in_turn("body", client, move |mut client| {
            match client.read(|| inbox.sockets.of(peer)) {
                Ok(call) if inbox.state.lock().connections.have_body(peer) => {
                    inbox.put(inbox.exchange(client, call));
                }
                // What was read to its end was cut off by the sweep.
                Ok(_) => inbox.refuse_here(client, Problem::incomplete_body()),
                Err(problem) => inbox.refuse_here(client, problem),
            }
        });
        if let Err(client) = begun {
            // More wait than threads can come free for.
            self.refuse(client, Problem::database_unavailable(Outcome::NotApplied));
        }
    }

    fn exchange(&self, client: Client, call: super::Call) -> Arc<Exchange> {
        Arc::new(Exchange::new(client, call, self.request_timeout))
    }

    /// A request of this connection was answered: the next one's turn has come.
    pub(super) fn answered(self: &Arc<Inbox>, peer: SocketAddr) {
        loop {
            let Some(client) = self.state.lock().connections.next(peer) else { return };
            if let Some(exchange) = self.admit(client) {
                return self.put(exchange);
            }
        }
    }

    /// The connection was told that it ends with this answer, and is ended soon: a client may wait
    /// for that (RFC 9112, 9.6).
    pub(super) fn let_go(&self, peer: SocketAddr) {
        let mut state = self.state.lock();
        state.connections.leave(peer);
        state.leaving.push(peer);
    }

    /// Nothing that follows on this connection counts.
    pub(super) fn end_connection(&self, peer: SocketAddr) {
        self.state.lock().connections.end(peer);
    }

    /// Nothing can be read any more from the connection that has ended, with this socket.
    pub(super) fn cut_connection(self: &Arc<Inbox>, socket: &Socket) {
        let behind = self.state.lock().connections.cut(socket);
        behind.into_iter().for_each(Client::discard);
        self.find_out(socket.peer);
    }

    /// The socket of a connection that has ended was not found, and this client's is to be dropped
    /// when it has gone.
    pub(super) fn lose_connection(self: &Arc<Inbox>, peer: SocketAddr, client: Option<Client>) {
        self.state.lock().connections.lose(peer, client);
        self.find_out(peer);
    }

    /// Leaves a request to the workers.
    pub(super) fn put(&self, exchange: Arc<Exchange>) {
        self.state.lock().put(exchange);
    }

    /// Whether no request is in hand or waits, between its arrival and its answer. Only once no
    /// connection is accepted any more.
    pub(super) fn is_empty(self: &Arc<Inbox>) -> bool {
        let sources = self.state.lock().sources.clone();
        for source in &sources {
            while let Ok(Some(arrival)) = source.next_of_all(|client| self.arrive(client)) {
                let exchange = self.turn(arrival).and_then(|client| self.admit(client));
                exchange.into_iter().for_each(|exchange| self.put(exchange));
            }
        }
        let state = self.state.lock();
        state.waiting.is_empty() && state.connections.are_quiet() && self.aside.is_idle()
    }

    /// Wakes every thread of the server, to see how far the end has come.
    pub(super) fn wake_all(&self) {
        let state = self.state.lock();
        for source in &state.sources {
            state.workers.iter().for_each(|_| source.wake());
        }
        self.all_busy.notify_all();
        self.wake_keeper();
    }

    /// Whether answers end their connections.
    pub(super) fn is_closing(&self) -> bool {
        self.is_crowded.load(Ordering::Relaxed) || self.shutdown.has_begun()
    }
}

impl Worker {
    fn waits_at(&self, source: &Arc<Source>) -> bool {
        matches!(self, Worker::Idle(at) if Arc::ptr_eq(at, source))
    }
}

impl State {
    fn source(&self) -> Arc<Source> {
        Arc::clone(&self.sources[self.sources.len() - 1])
    }

    fn idle(&self) -> usize {
        self.workers.iter().filter(|worker| matches!(worker, Worker::Idle(_))).count()
    }

    fn has_old_clients(&self) -> bool {
        self.old_clients.iter().any(|clients| !clients.is_empty())
    }

    fn take_waiting(&mut self) -> Option<Arc<Exchange>> {
        loop {
            let exchange = self.waiting.pop_front()?;
            if !exchange.is_answered() {
                return Some(exchange);
            }
        }
    }

    fn put(&mut self, exchange: Arc<Exchange>) {
        self.waiting.push_back(exchange);
        if self.idle() > 0 {
            self.source().wake();
        }
    }
}
