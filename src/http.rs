//! HTTP: from the listening socket to a [`Command`], from a [`Reply`] to bytes.
//!
//! ```text
//!            accept (tiny_http)              dispatch                         handlers
//!  client ──▶ a thread a connection ──▶ Call ──▶ Command ──▶ lane ──▶ worker ──▶ SQL ──▶ Reply
//!    ▲                                                                │
//!    └────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A connection has one request in hand at a time (`connections`), and ends with one that leaves
//! in doubt where the next begins (`refusal`). A request is read as a whole, and refused if it is
//! wrong, before it waits for anything (`route`, `access`, `command`). Of those that change one
//! user's balance, and of the sets that change several, a few are worked on at once, the others
//! wait in a lane (`lanes`), and cost nobody else anything. Each has a deadline that a thread of
//! its own keeps (`deadlines`); what may block on a client is done aside from the workers
//! (`aside`).
//!
//! Around it: the accept loop is kept alive (`accept_guard`), no more connections are let through
//! than can be borne (`room`, `capacity`), and those that are of no use are ended (`sweep`).
//!
//! What people see is in `page`: the dashboard, the pages of a job, a run and a user, and the
//! documentation, each one answer, made of the files beside it. They ask the same routes as
//! everybody else.

mod accept;
mod accept_guard;
mod access;
mod aside;
mod call;
mod capacity;
mod command;
mod connections;
mod cron;
mod deadlines;
mod dispatch;
mod handlers;
mod input;
mod job_set;
mod lanes;
mod ledger;
mod media;
mod page;
mod pause;
mod problem;
mod readiness;
mod refusal;
mod reply;
mod request;
mod room;
mod route;
mod runs;
mod schedules;
mod self_check;
mod sets;
mod settings;
mod sockets;
mod sweep;
mod users;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use log::{info, warn};

pub use access::Access;
pub use call::{Call, request_id};
pub use capacity::Capacity;
pub use command::{Command, read_change};
pub use handlers::Api;
pub use problem::Problem;
pub use readiness::Readiness;
pub use reply::Reply;
pub use route::{NoRoute, ROUTES, Reach, Route};
pub use runs::read_run_filter;
pub use self_check::self_check;
pub use sets::read_set;
pub use settings::read_job_change;

use crate::db::{Deadline, Health};
use crate::logger::Seldom;
use crate::metrics::Metrics;
use crate::shutdown::{Phase, Signal, spawn_vital};
use accept::AcceptLoop;
use accept_guard::AcceptGuard;
use deadlines::Deadlines;
use dispatch::Dispatch;
use room::Room;
use sockets::Sockets;

/// What a server serves: [`Api`], or something simpler in a test.
pub trait Application: Send + Sync {
    /// Whether this may be asked for now, and the name of the token that it needed and came with.
    /// Waits for nothing.
    ///
    /// # Errors
    /// Why it may not.
    fn check(&self, route: &Route, call: &Call) -> Result<Option<Arc<str>>, Problem>;

    /// Does what is asked for; may block for the database until the deadline is over.
    fn answer(&self, asked: &Asked<'_>) -> Reply;
}

/// What somebody asks for.
pub struct Asked<'a> {
    /// What it is.
    pub command: &'a Command,
    /// The request that it was read from.
    pub call: &'a Call,
    /// The deadline, and whether it was sent to the database.
    pub deadline: &'a Deadline,
}

/// How a server is run.
#[derive(Clone)]
pub struct ServerOptions {
    /// Threads that call the application.
    pub workers: usize,
    /// Connections to the database that they share.
    pub connections: usize,
    /// The longest a request may wait from its arrival until it is sent to the database.
    pub request_timeout: Duration,
    /// How many requests may wait for a worker; beyond, they are told to come again.
    pub parked_max: usize,
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
    dispatch: Arc<Dispatch>,
    listener: TcpListener,
    threads: Vec<JoinHandle<()>>,
}

/// As many requests as may wait by default. A connection has one of them, and with the usual limits
/// of Linux there are fewer connections: so a crowd whose connections were let in is worked off.
pub const PARKED_MAX: usize = 32_768;
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
        accept::listen(addr).map(Listener)
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
        options: &ServerOptions,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
        application: Arc<dyn Application>,
    ) -> io::Result<Server> {
        let listener = self.0;
        let source = AcceptLoop::build(listener.try_clone()?)?;
        let sockets = Sockets::of_port(listener.local_addr()?.port());
        metrics.requests.have_workers(options.workers);
        ROUTES.iter().for_each(|route| metrics.requests.expect(route.method, route.path));
        let dispatch = Arc::new(Dispatch::new(source, sockets, options, metrics, application));
        let mut threads = Vec::new();
        for index in 0..options.workers {
            let dispatch = Arc::clone(&dispatch);
            let work = move || {
                while let Some(request) = dispatch.next(index) {
                    let _busy = dispatch.metrics.requests.worker_busy();
                    dispatch.work(&request);
                }
            };
            threads.push(spawn_vital(&format!("worker-{index}"), STACK_BYTES, work)?);
        }
        let mut deadlines = Deadlines::new(Arc::clone(&dispatch), health);
        threads.push(spawn_vital("deadlines", STACK_BYTES, move || deadlines.run())?);
        let listened = listener.try_clone()?;
        let mut guard = AcceptGuard::new(Arc::clone(&dispatch), listened, options.capacity)?;
        let mut room = Room {
            dispatch: Arc::clone(&dispatch),
            listener: listener.try_clone()?,
            capacity: options.capacity,
            logged: Seldom::default(),
        };
        threads.push(spawn_vital("room", STACK_BYTES, move || room.run())?);
        let guard = spawn_vital("guard", STACK_BYTES, move || guard.run())?;
        dispatch.set_guard_thread(guard.thread().clone());
        threads.push(guard);
        Ok(Server { dispatch, listener, threads })
    }
}

impl Server {
    /// Ends the service: answers what has arrived and what arrives while proxies notice that the
    /// replica is not ready any more, then refuses new connections. Takes at most `grace`; false
    /// when requests were left unanswered.
    pub fn drain(self, grace: Duration) -> bool {
        let (until, shutdown) = (Instant::now() + grace, self.dispatch.shutdown.clone());
        shutdown.begin();
        thread::sleep(DOOR_NOTICES.min(grace / 4));
        shutdown.advance(Phase::Closed);
        self.dispatch.wake_all();
        accept::stop_listening(&self.listener);
        info!("event=listening_ended hint=\"what has arrived is still answered\"");
        let mut quiet = 0;
        while quiet < 3 && Instant::now() < until {
            thread::sleep(DRAIN_TICK);
            quiet = if self.dispatch.is_empty() { quiet + 1 } else { 0 };
        }
        shutdown.advance(Phase::Ended);
        self.dispatch.wake_all();
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

#[cfg(test)]
mod properties;
