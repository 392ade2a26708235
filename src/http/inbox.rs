//! The inbox: what waits for a worker, and what each worker has in hand.
//!
//! Workers take clients straight from the front, so that a request wakes one thread and not two.
//! Only while all workers are busy does the watch take in what arrives: so each request's time
//! counts from its arrival, and what needs no database is answered while every worker is stuck. A
//! worker that comes free takes what waits here first.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use log::{debug, error, warn};
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::exchange::Exchange;
use super::front::{Body, Client, NoClient, Source};
use super::problem::Problem;
use super::reply::Reply;
use super::route::{Route, label};
use crate::db::Attempt;
use crate::metrics::Metrics;

/// Threads that only read or write a socket.
const SMALL_STACK_BYTES: usize = 128 * 1024;

pub(super) struct Inbox {
    state: Mutex<State>,
    /// Signalled when the last idle worker has found work, and at the end.
    all_busy: Condvar,
    /// Signalled when the keeper has a reason not to rest.
    stirred: Condvar,
    keeper_rests: AtomicBool,
    arrivals: AtomicU64,
    closing: AtomicBool,
    request_timeout: Duration,
    pub(super) replica_name: String,
    pub(super) metrics: Arc<Metrics>,
}

struct State {
    /// The last one accepts; the accept loops of those before it are dead, and their connections
    /// may live on.
    sources: Vec<Arc<Source>>,
    source_died: bool,
    /// No accept loop is wanted any more.
    listening_over: bool,
    workers: Vec<Worker>,
    waiting: VecDeque<Arc<Exchange>>,
    ended: bool,
}

#[derive(Clone)]
enum Worker {
    /// Waits at the source of this index.
    Idle(usize),
    Busy(Option<Arc<Exchange>>),
}

/// What a look at the inbox found.
pub(super) struct Findings {
    /// To be answered whatever the workers do.
    pub(super) in_memory: Vec<Arc<Exchange>>,
    /// Those that may not wait any longer, oldest first.
    pub(super) hopeless: Vec<Arc<Exchange>>,
    /// Whether the inbox must be looked at again soon.
    pub(super) crowded: bool,
}

impl Inbox {
    pub(super) fn new(
        source: Source,
        workers: usize,
        request_timeout: Duration,
        replica_name: &str,
        metrics: Arc<Metrics>,
    ) -> Inbox {
        let state = State {
            sources: vec![Arc::new(source)],
            source_died: false,
            listening_over: false,
            workers: vec![Worker::Busy(None); workers],
            waiting: VecDeque::new(),
            ended: false,
        };
        Inbox {
            state: Mutex::new(state),
            all_busy: Condvar::new(),
            stirred: Condvar::new(),
            keeper_rests: AtomicBool::new(false),
            arrivals: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            request_timeout,
            replica_name: replica_name.to_owned(),
            metrics,
        }
    }

    /// Waits for the next request of this worker; none at the end.
    pub(super) fn next(self: &Arc<Inbox>, worker: usize) -> Option<Arc<Exchange>> {
        loop {
            let source = {
                let mut state = self.state.lock();
                state.workers[worker] = Worker::Busy(None);
                if let Some(exchange) = state.waiting.pop_front() {
                    state.workers[worker] = Worker::Busy(Some(Arc::clone(&exchange)));
                    return Some(exchange);
                }
                if state.ended {
                    return None;
                }
                state.workers[worker] = Worker::Idle(state.sources.len() - 1);
                state.source()
            };
            let exchange = match source.next() {
                Ok(client) => self.admit(client),
                Err(NoClient::Woken) => None,
                Err(NoClient::Dead(reason)) => {
                    self.state.lock().note_death(&source, &reason.to_string(), &self.stirred);
                    None
                }
            };
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

    /// A client's request, if it can be worked on now. The others are given a thread of their
    /// own, so that a body holds no worker.
    fn admit(self: &Arc<Inbox>, client: Client) -> Option<Arc<Exchange>> {
        self.arrivals.fetch_add(1, Ordering::Relaxed);
        if self.keeper_rests.swap(false, Ordering::Relaxed) {
            self.stirred.notify_one();
        }
        let problem = match client.body() {
            Body::Here => return self.read(client),
            Body::ToBeRead => {
                let inbox = Arc::clone(self);
                aside("slow-body", move || {
                    if let Some(exchange) = inbox.read(client) {
                        inbox.state.lock().put(exchange);
                    }
                });
                return None;
            }
            Body::TooLarge => Problem::body_too_large(),
            Body::Chunked => Problem::length_required(),
            Body::Malformed => {
                let rule = "`Content-Length` must be one whole number";
                Problem::invalid_request("Content-Length", rule)
            }
        };
        self.refuse_body(client, problem.into());
        None
    }

    fn refuse_body(self: &Arc<Inbox>, client: Client, reply: Reply) {
        let (arrived, call, inbox) = (Instant::now(), client.head(), Arc::clone(self));
        let client = client.not_to_be_dropped();
        aside("refused-body", move || {
            let route = label(&Route::parse(&call.method, call.path()));
            let (status, time) = (reply.status(), arrived.elapsed());
            inbox.metrics.requests.answered(&call.method, route, status, time);
            client.refuse_body(&reply, &call.request_id, &inbox.replica_name);
        });
    }

    fn read(&self, mut client: Client) -> Option<Arc<Exchange>> {
        match client.read() {
            Ok(call) => Some(Arc::new(Exchange::new(client, call, self.request_timeout))),
            Err(error) => {
                debug!("event=body_unreadable reason={:?}", error.to_string());
                None
            }
        }
    }

    /// Waits until all workers are busy, at most for `limit`.
    pub(super) fn rest_while_idle(&self, limit: Duration) {
        let mut state = self.state.lock();
        if state.idle() > 0 && !state.ended {
            self.all_busy.wait_for(&mut state, limit);
        }
    }

    /// Takes in what no worker is free to take, and finds what must be answered now: `lost` says
    /// whether a request may not wait any longer.
    pub(super) fn look(self: &Arc<Inbox>, lost: impl Fn(&Attempt) -> bool) -> Findings {
        let mut state = self.state.lock();
        let in_memory = self.take_in(&mut state);
        let lost = |exchange: &Arc<Exchange>| {
            !exchange.is_in_memory() && !exchange.is_answered() && lost(&exchange.attempt)
        };
        let in_hand = state.workers.iter().filter_map(|worker| match worker {
            Worker::Busy(exchange) => exchange.as_ref(),
            Worker::Idle(_) => None,
        });
        let mut hopeless: Vec<_> = in_hand.filter(|exchange| lost(exchange)).cloned().collect();
        let (gone, waiting) = state.waiting.drain(..).partition(&lost);
        state.waiting = waiting;
        hopeless.extend::<VecDeque<_>>(gone);
        hopeless.sort_by_key(|exchange| exchange.attempt.begun());
        let crowded = state.idle() == 0 || !state.waiting.is_empty() || state.sources.len() > 1;
        self.metrics.requests.wait(state.waiting.len());
        Findings { in_memory, hopeless, crowded }
    }

    /// All under one lock, so that no worker goes to wait at its source in between.
    fn take_in(self: &Arc<Inbox>, state: &mut MutexGuard<'_, State>) -> Vec<Arc<Exchange>> {
        let mut in_memory = Vec::new();
        let last = state.sources.len() - 1;
        for (index, source) in state.sources.clone().iter().enumerate() {
            if index == last && state.idle() > 0 {
                break;
            }
            loop {
                match source.next_now() {
                    Ok(Some(client)) => match self.admit(client) {
                        Some(exchange) if exchange.is_in_memory() => in_memory.push(exchange),
                        Some(exchange) => state.put(exchange),
                        None => {}
                    },
                    Ok(None) => break,
                    Err(reason) => state.note_death(source, &reason.to_string(), &self.stirred),
                }
            }
            // A wake-up is taken for "nothing here" above: those who wait at an old source, and
            // should not, are woken again at each look.
            let waits_here = |worker: &&Worker| matches!(worker, Worker::Idle(at) if *at == index);
            if index < last {
                state.workers.iter().filter(waits_here).for_each(|_| source.wake());
            }
        }
        in_memory
    }

    /// Waits until a request arrives or the accept loop is known to be dead, at most for `limit`.
    pub(super) fn rest_until_stirred(&self, limit: Duration) {
        let mut state = self.state.lock();
        if !state.source_died && !state.listening_over {
            self.keeper_rests.store(true, Ordering::Relaxed);
            self.stirred.wait_for(&mut state, limit);
            self.keeper_rests.store(false, Ordering::Relaxed);
        }
    }

    /// How many requests have arrived so far.
    pub(super) fn arrivals(&self) -> u64 {
        self.arrivals.load(Ordering::Relaxed)
    }

    /// Whether the accept loop is known to have ended.
    pub(super) fn source_died(&self) -> bool {
        self.state.lock().source_died
    }

    /// Notes that the accept loop does not answer.
    pub(super) fn accept_loop_is_silent(&self) {
        let mut state = self.state.lock();
        let source = state.source();
        state.note_death(&source, "it does not answer", &self.stirred);
    }

    /// Goes on with a new accept loop; the connections of the old one are served as before.
    pub(super) fn replace_source(&self, source: Source) {
        let mut state = self.state.lock();
        state.source_died = false;
        let old = state.source();
        state.sources.push(Arc::new(source));
        state.workers.iter().for_each(|_| old.wake());
    }

    /// The accept loop is about to end on purpose.
    pub(super) fn end_listening(&self) {
        self.state.lock().listening_over = true;
        self.stirred.notify_all();
    }

    /// Whether an accept loop is wanted.
    pub(super) fn is_listening(&self) -> bool {
        !self.state.lock().listening_over
    }

    /// From now on every answer ends its connection.
    pub(super) fn close_connections(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Whether answers end their connections.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Whether no request is in hand or waits.
    pub(super) fn is_empty(&self) -> bool {
        let state = self.state.lock();
        let free = |worker: &Worker| !matches!(worker, Worker::Busy(Some(_)));
        state.waiting.is_empty() && state.workers.iter().all(free)
    }

    /// Ends the workers, the watch and the keeper, each after what it has in hand.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        for source in &state.sources {
            state.workers.iter().for_each(|_| source.wake());
        }
        self.all_busy.notify_all();
        self.stirred.notify_all();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state.lock().ended
    }
}

impl State {
    fn source(&self) -> Arc<Source> {
        Arc::clone(&self.sources[self.sources.len() - 1])
    }

    fn idle(&self) -> usize {
        self.workers.iter().filter(|worker| matches!(worker, Worker::Idle(_))).count()
    }

    fn put(&mut self, exchange: Arc<Exchange>) {
        self.waiting.push_back(exchange);
        if self.idle() > 0 {
            self.source().wake();
        }
    }

    fn note_death(&mut self, source: &Arc<Source>, reason: &str, stirred: &Condvar) {
        if Arc::ptr_eq(&self.source(), source) && !self.source_died && !self.listening_over {
            self.source_died = true;
            warn!("event=accept_loop_ended reason={reason:?} hint=\"a new one is built\"");
            stirred.notify_all();
        }
    }
}

/// Runs what may block on a client in a thread of its own.
pub(super) fn aside(name: &str, work: impl FnOnce() + Send + 'static) {
    let builder = thread::Builder::new().name(name.to_owned()).stack_size(SMALL_STACK_BYTES);
    let started: io::Result<thread::JoinHandle<()>> = builder.spawn(work);
    if let Err(error) = started {
        let reason = error.to_string();
        error!("event=no_thread_left thread={name} reason={reason:?}");
    }
}
