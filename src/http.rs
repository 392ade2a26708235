//! HTTP: from the listening socket to a [`Call`], from a [`Reply`] to bytes.
//!
//! ```text
//!              front (tiny_http)                        handlers
//!  client ───▶ accept loop, a thread a connection ─┐   route ▶ command ▶ SQL ▶ reply
//!                   ▲                              ▼            ▲
//!  keeper, room ────┘ nudges, rebuilds, sweeps   inbox ───▶ workers (fixed)
//!                                                  ▲  │
//!  watch ──────────────────────────────────────────┘  └────▶ aside (few): slow bodies, refusals
//!    deadlines, health when all are busy
//! ```
//!
//! A connection has one request in hand at a time (`connections`), and ends with one that leaves
//! in doubt where the next begins (`refusal`). How many there can be stands in `capacity`.
//!
//! What people see is in `page`: the dashboard and the documentation page, each one answer, made of
//! the files beside it. They ask the same routes as everybody else.

mod aside;
mod call;
mod capacity;
mod connections;
mod cron;
mod denials;
mod exchange;
mod front;
mod handlers;
mod inbox;
mod input;
mod keeper;
mod page;
mod problem;
mod refusal;
mod reply;
mod room;
mod route;
mod self_check;
mod sockets;
mod sweep;
mod users;
mod watch;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use log::{error, info, warn};

pub use call::{BODY_BYTES_MAX, Call, request_id};
pub use capacity::Capacity;
pub use cron::{read_job_change, read_run_filter};
pub use handlers::{Api, Readiness, read_change};
pub use problem::Problem;
pub use reply::Reply;
pub use route::{NoRoute, Route};
pub use self_check::self_check;

use crate::db::{Attempt, Pulse};
use crate::metrics::Metrics;
use crate::shutdown::{Phase, Signal, spawn_vital};
use exchange::Exchange;
use front::Source;
use inbox::Inbox;
use keeper::Keeper;
use room::Room;
use route::TEMPLATES;
use sockets::Sockets;
use watch::Watch;

/// Makes an answer; may block for the database until the attempt is over.
pub type Handler = Arc<dyn Fn(&Call, &Arc<Attempt>) -> Reply + Send + Sync>;

/// How a server is run.
#[derive(Clone)]
pub struct Options {
    /// Threads that call the handler.
    pub workers: usize,
    /// The longest a request may wait from its arrival until it is sent to the database.
    pub request_timeout: Duration,
    /// The value of `X-Served-By`.
    pub replica_name: String,
    /// How many connections can be borne.
    pub capacity: Capacity,
    /// Tells the server's threads how far the end has come.
    pub shutdown: Signal,
}

/// A listening socket, bound and not yet served.
pub struct Listener(TcpListener);

/// A running server. Its threads go on until [`Server::drain`].
pub struct Server {
    inbox: Arc<Inbox>,
    listener: TcpListener,
    threads: Vec<JoinHandle<()>>,
}

/// A proxy that looks at `/health/ready` several times a second has seen it fail by then.
const DOOR_NOTICES: Duration = Duration::from_millis(1_000);
/// Between two looks whether all is answered, or all threads have returned.
const DRAIN_TICK: Duration = Duration::from_millis(10);
const STACK_BYTES: usize = 2 << 20;

impl Listener {
    /// Takes the address.
    ///
    /// # Errors
    /// What the system says, such as "address in use".
    pub fn bind(addr: SocketAddr) -> io::Result<Listener> {
        front::listen(addr).map(Listener)
    }

    /// Where it listens; the port that was found when port 0 was asked for.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Serves with these threads, and counts what it does.
    ///
    /// # Errors
    /// When the system has no thread or descriptor left.
    pub fn serve(
        self,
        options: &Options,
        pulse: Arc<Pulse>,
        metrics: Arc<Metrics>,
        handler: Handler,
    ) -> io::Result<Server> {
        let listener = self.0;
        let source = Source::build(listener.try_clone()?)?;
        let sockets = Sockets::of_port(listener.local_addr()?.port());
        metrics.requests.have_workers(options.workers);
        TEMPLATES.iter().for_each(|(method, route)| metrics.requests.expect(method, route));
        let inbox = Arc::new(Inbox::new(source, sockets, options, metrics));
        let mut threads = Vec::new();
        for index in 0..options.workers {
            let (inbox, handler) = (Arc::clone(&inbox), Arc::clone(&handler));
            let work = move || work(&inbox, index, &handler);
            threads.push(spawn_vital(&format!("worker-{index}"), STACK_BYTES, work)?);
        }
        let watch = Watch::new(Arc::clone(&inbox), pulse, handler);
        threads.push(spawn_vital("watch", STACK_BYTES, move || watch.run())?);
        let listened = listener.try_clone()?;
        let mut keeper = Keeper::new(Arc::clone(&inbox), listened, options.capacity)?;
        let mut room = Room {
            inbox: Arc::clone(&inbox),
            listener: listener.try_clone()?,
            capacity: options.capacity,
            told: None,
        };
        threads.push(spawn_vital("room", STACK_BYTES, move || room.run())?);
        let keeper = spawn_vital("keeper", STACK_BYTES, move || keeper.run())?;
        inbox.has_keeper(keeper.thread().clone());
        threads.push(keeper);
        Ok(Server { inbox, listener, threads })
    }
}

impl Server {
    /// Ends the service: answers what has arrived and what arrives while proxies notice that the
    /// replica is not ready any more, then refuses new connections. Takes at most `grace`; false
    /// when requests were left unanswered.
    pub fn drain(self, grace: Duration) -> bool {
        let (until, shutdown) = (Instant::now() + grace, self.inbox.shutdown.clone());
        shutdown.begin();
        thread::sleep(DOOR_NOTICES.min(grace / 4));
        shutdown.advance(Phase::Closed);
        self.inbox.wake_all();
        front::stop_listening(&self.listener);
        info!("event=listening_ended hint=\"what has arrived is still answered\"");
        let mut quiet = 0;
        while quiet < 3 && Instant::now() < until {
            thread::sleep(DRAIN_TICK);
            quiet = if self.inbox.is_empty() { quiet + 1 } else { 0 };
        }
        shutdown.advance(Phase::Ended);
        self.inbox.wake_all();
        if quiet == 0 {
            warn!("event=requests_left_unanswered grace_ms={}", grace.as_millis());
        }
        join(self.threads, until);
        quiet > 0
    }
}

/// Waits for the threads to return; one that is stuck in the driver is left behind.
fn join(mut threads: Vec<JoinHandle<()>>, until: Instant) {
    while !threads.is_empty() && Instant::now() < until {
        threads.retain(|thread| !thread.is_finished());
        thread::sleep(DRAIN_TICK);
    }
}

fn work(inbox: &Arc<Inbox>, index: usize, handler: &Handler) {
    while let Some(exchange) = inbox.next(index) {
        let _busy = inbox.metrics.requests.worker_busy();
        let reply = reply_to(&exchange, handler);
        exchange.answer(&reply, inbox);
    }
}

/// What the handler makes of the request; a panic of its costs this answer and nothing else.
fn reply_to(exchange: &Exchange, handler: &Handler) -> Reply {
    let call = || handler(&exchange.call, &exchange.attempt);
    panic::catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        let Call { method, target, request_id, .. } = &exchange.call;
        error!("event=handler_panicked request_id={request_id} method={method:?} path={target:?}");
        Problem::internal().into()
    })
}

#[cfg(test)]
mod properties;
