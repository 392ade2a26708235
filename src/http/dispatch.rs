//! Brings requests to workers, and back to their clients.
//!
//! Workers take clients straight from the accept loop, so that a request wakes one thread and not
//! two. Only while all workers are busy does the watch over the deadlines take in what arrives: so
//! each request's time counts from its arrival, and what needs no database is answered while every
//! worker is stuck. What cannot be worked on yet waits in its lane; a worker that comes free takes
//! from there first.

mod answers;
mod arrivals;
mod look;
mod traffic;
mod upkeep;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::Application;
use super::accept::{AcceptLoop, Client, NoClient, NotReady};
use super::aside::Aside;
use super::connections::Connections;
use super::lanes::{InHandMax, Lanes};
use super::problem::Problem;
use super::request::{Request, actor};
use super::sockets::Sockets;
use crate::db::Effect;
use crate::metrics::Metrics;
use crate::shutdown::{Phase, Signal};
use arrivals::Found;
use traffic::{Traffic, Worker};

/// How many requests that change one user's balance are worked on at once. While the first commits,
/// the second already waits for the row in the database, and the third is on its way there: with
/// one or two, a replica applies 0.57 or 0.87 as many changes of one user a second, and with four
/// no more than with three.
const IN_HAND_MAX: usize = 3;
/// Threads that read bodies and refuse requests; and as many that read bodies for known tokens.
const ASIDE_MAX: usize = 64;
/// Between two looks for requests once no connection is accepted any more.
const LAST_TICK: Duration = Duration::from_millis(5);

pub(super) struct Dispatch {
    state: Mutex<Traffic>,
    /// Signalled when the last idle worker has found work, and at the end.
    all_busy: Condvar,
    guard: OnceLock<Thread>,
    guard_rests: AtomicBool,
    arrivals: AtomicU64,
    /// More connections are open than there is room for in the long run.
    is_crowded: AtomicBool,
    /// New connections are not let through.
    holds_back: AtomicBool,
    /// Descriptors that are no connection's.
    beside: AtomicUsize,
    request_timeout: Duration,
    pub(super) aside: Arc<Aside>,
    bodies: Arc<Aside>,
    doubts: Arc<Aside>,
    pub(super) sockets: Sockets,
    pub(super) shutdown: Signal,
    pub(super) replica_name: String,
    pub(super) metrics: Arc<Metrics>,
    application: Arc<dyn Application>,
}

impl Dispatch {
    pub(super) fn new(
        source: AcceptLoop,
        sockets: Sockets,
        options: &super::ServerOptions,
        metrics: Arc<Metrics>,
        application: Arc<dyn Application>,
    ) -> Dispatch {
        let state = Traffic {
            sources: vec![Arc::new(source)],
            accept_loop_is_dead: false,
            old_clients: Vec::new(),
            connections: Connections::default(),
            leaving: Vec::new(),
            workers: vec![Worker::Busy(None); options.workers],
            in_memory: VecDeque::new(),
            unwanted: Vec::new(),
            lanes: Lanes::new(in_hand_max(options), options.parked_max),
        };
        Dispatch {
            state: Mutex::new(state),
            all_busy: Condvar::new(),
            guard: OnceLock::new(),
            guard_rests: AtomicBool::new(false),
            arrivals: AtomicU64::new(0),
            is_crowded: AtomicBool::new(false),
            holds_back: AtomicBool::new(false),
            beside: AtomicUsize::new(0),
            request_timeout: options.request_timeout,
            aside: Aside::at_most(ASIDE_MAX),
            bodies: Aside::at_most(ASIDE_MAX),
            doubts: Aside::at_most(arrivals::DOUBTS_MAX),
            sockets,
            shutdown: options.shutdown.clone(),
            replica_name: options.replica_name.clone(),
            metrics,
            application,
        }
    }

    /// Waits for the next request of this worker, whose last one is answered; none at the end.
    pub(super) fn next(self: &Arc<Dispatch>, worker: usize) -> Option<Arc<Request>> {
        loop {
            let source = {
                let mut state = self.state.lock();
                state.put_down(worker);
                if let Some(request) = state.take() {
                    state.workers[worker] = Worker::Busy(Some(Arc::clone(&request)));
                    return Some(request);
                }
                let source = state.source();
                state.workers[worker] = Worker::Idle(Arc::clone(&source));
                source
            };
            match self.wait_at(&source, worker) {
                Some(Found::Request(request)) => return Some(request),
                Some(Found::Unready(client, reason)) => self.set_aside(client, reason),
                Some(Found::Other(arrival)) => self.bring(arrival),
                None if self.shutdown.has_reached(Phase::Ended) => return None,
                None => self.is_busy(&mut self.state.lock(), worker, None),
            }
        }
    }

    /// What this worker has to do next, if a request comes before this thread is woken. Once no
    /// connection is accepted any more nobody waits here for long, so that the drain can tell
    /// whether all is answered.
    fn wait_at(self: &Arc<Dispatch>, source: &AcceptLoop, worker: usize) -> Option<Found> {
        let take = |client| self.take(client, worker);
        let is_over = || self.shutdown.has_reached(Phase::Closed);
        if is_over() {
            self.shutdown.wait_for_phase(Phase::Ended, LAST_TICK);
            return source.next_now(take).ok().flatten().flatten();
        }
        match source.next(is_over, take) {
            Ok(found) => Some(found),
            Err(NoClient::Woken) => None,
            Err(NoClient::Dead(reason)) => {
                self.note_death(source, &reason.to_string());
                None
            }
        }
    }

    /// The worker waits for no request now, and has this one in hand, or looks for one.
    fn is_busy(&self, state: &mut Traffic, worker: usize, request: Option<&Arc<Request>>) {
        state.workers[worker] = Worker::Busy(request.cloned());
        if state.idle() == 0 {
            self.all_busy.notify_one();
        }
    }

    /// Leaves a client's request, whose connection has no other in hand, to the workers.
    fn admit(self: &Arc<Dispatch>, mut client: Client) {
        match client.read() {
            Ok(call) => self.park(self.request(client, call)),
            Err(reason) => self.set_aside(client, reason),
        }
    }

    /// Gives a client that has to be waited for a thread of its own, so that it holds no worker.
    fn set_aside(self: &Arc<Dispatch>, client: Client, reason: NotReady) {
        match reason {
            NotReady::Slow => self.read_aside(client),
            NotReady::Refused(problem) => self.refuse(client, problem),
        }
    }

    /// Who may not ask is refused before the body is read. Requests with a known token have threads
    /// of their own, because anybody can keep the others waiting for bodies.
    fn read_aside(self: &Arc<Dispatch>, client: Client) {
        let threads = match actor(&client.head(), &*self.application) {
            Ok(Some(_)) => &self.bodies,
            Ok(None) => &self.aside,
            Err(problem) => return self.refuse(client, problem),
        };
        let (dispatch, peer) = (Arc::clone(self), client.peer());
        let begun = threads.run_in_turn("body", client, move |mut client| {
            dispatch.state.lock().connections.read_body(peer);
            match client.read_slowly(|| dispatch.sockets.of(peer)) {
                Ok(call) if dispatch.state.lock().connections.have_body(peer) => {
                    dispatch.park(dispatch.request(client, call));
                }
                // What was read to its end was cut off by the sweep.
                Ok(_) => dispatch.refuse_here(client, Problem::incomplete_body()),
                Err(problem) => dispatch.refuse_here(client, problem),
            }
        });
        if let Err(client) = begun {
            // More wait than threads can come free for.
            self.refuse(client, Problem::database_unavailable(Effect::NotApplied));
        }
    }

    fn request(&self, client: Client, call: super::Call) -> Arc<Request> {
        Arc::new(Request::new(client, call, self.request_timeout, &*self.application))
    }

    /// A request of this connection was answered: the next one's turn has come.
    pub(super) fn answered(self: &Arc<Dispatch>, peer: SocketAddr) {
        let next = self.state.lock().connections.next(peer);
        next.into_iter().for_each(|client| self.admit(client));
    }

    /// Leaves a request to the workers.
    pub(super) fn park(&self, request: Arc<Request>) {
        self.state.lock().park(request);
    }

    /// Whether no request is in hand or waits, between its arrival and its answer. Only once no
    /// connection is accepted any more.
    pub(super) fn is_empty(self: &Arc<Dispatch>) -> bool {
        let sources = self.state.lock().sources.clone();
        for source in &sources {
            while let Ok(Some(arrival)) = source.next_of_all(|client| self.arrive(client)) {
                self.bring(arrival);
            }
        }
        let state = self.state.lock();
        state.waiting() == 0 && state.connections.are_quiet() && self.is_idle_aside()
    }

    /// Whether no thread waits for a client.
    pub(super) fn is_idle_aside(&self) -> bool {
        self.aside.is_idle() && self.bodies.is_idle()
    }

    /// Wakes every thread of the server, to see how far the end has come.
    pub(super) fn wake_all(&self) {
        let state = self.state.lock();
        for source in &state.sources {
            state.workers.iter().for_each(|_| source.wake());
        }
        self.all_busy.notify_all();
        self.wake_guard();
    }

    /// Whether answers end their connections.
    pub(super) fn is_closing(&self) -> bool {
        self.is_crowded.load(Ordering::Relaxed) || self.shutdown.has_begun()
    }
}

/// One user leaves half of the workers and of the connections to the others, and all sets together
/// leave three quarters.
fn in_hand_max(options: &super::ServerOptions) -> InHandMax {
    let all = options.workers.min(options.connections);
    InHandMax { user: (all / 2).clamp(1, IN_HAND_MAX), sets: (all / 4).max(1) }
}
