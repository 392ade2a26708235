//! HTTP: from the listening socket to a [`Call`], from a [`Reply`] to bytes.
//!
//! ```text
//!              front (tiny_http)                        handlers
//!  client ───▶ accept loop, a thread a connection ─┐   route ▶ command ▶ SQL ▶ reply
//!                   ▲                              ▼            ▲
//!  keeper ──────────┘ nudges, rebuilds           inbox ───▶ workers (fixed)
//!                                                  ▲
//!  watch ──────────────────────────────────────────┘ deadlines, health when all are busy
//! ```
//!
//! What people see is in `page`: the dashboard and the documentation page, each one answer, made of
//! the files beside it. They ask the same routes as everybody else.

mod call;
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
mod reply;
mod route;
mod self_check;
mod users;
mod watch;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use log::{error, info, warn};

pub use call::{BODY_BYTES_MAX, Call, request_id};
pub use cron::{read_job_change, read_run_filter};
pub use handlers::{Api, Readiness, read_change};
pub use problem::Problem;
pub use reply::Reply;
pub use route::{NoRoute, Route};
pub use self_check::self_check;

use crate::db::{Attempt, Pulse};
use crate::metrics::Metrics;
use front::Source;
use inbox::Inbox;
use keeper::Keeper;
use route::TEMPLATES;
use watch::Watch;

/// Makes an answer; may block for the database until the attempt is over.
pub type Handler = Arc<dyn Fn(&Call, &Arc<Attempt>) -> Reply + Send + Sync>;

/// How a server is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads that call the handler.
    pub workers: usize,
    /// The longest a request may wait from its arrival until it is sent to the database.
    pub request_timeout: Duration,
    /// The value of `X-Served-By`.
    pub replica_name: String,
}

/// A listening socket, bound and not yet served.
pub struct Listener(TcpListener);

/// A running server. Its threads go on until [`Server::drain`].
pub struct Server {
    inbox: Arc<Inbox>,
    listener: TcpListener,
}

/// A proxy that looks at `/health/ready` several times a second has seen it fail by then.
const DOOR_NOTICES: Duration = Duration::from_millis(1_000);
/// Between two looks whether all is answered.
const DRAIN_TICK: Duration = Duration::from_millis(10);

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
        let Options { workers, request_timeout, replica_name } = options;
        metrics.requests.have_workers(*workers);
        TEMPLATES.iter().for_each(|(method, route)| metrics.requests.expect(method, route));
        let inbox = Inbox::new(source, *workers, *request_timeout, replica_name, metrics);
        let inbox = Arc::new(inbox);
        for index in 0..*workers {
            let (inbox, handler) = (Arc::clone(&inbox), Arc::clone(&handler));
            let name = format!("worker-{index}");
            thread::Builder::new().name(name).spawn(move || work(&inbox, index, &handler))?;
        }
        let watch = Watch { inbox: Arc::clone(&inbox), pulse, handler };
        thread::Builder::new().name("watch".to_owned()).spawn(move || watch.run())?;
        let mut keeper = Keeper::new(Arc::clone(&inbox), listener.try_clone()?)?;
        thread::Builder::new().name("keeper".to_owned()).spawn(move || keeper.run())?;
        Ok(Server { inbox, listener })
    }
}

impl Server {
    /// Ends the service: answers what has arrived and what arrives while proxies notice that the
    /// replica is not ready any more, then refuses new connections. Takes at most `grace`; false
    /// when requests were left unanswered.
    pub fn drain(self, grace: Duration) -> bool {
        let until = Instant::now() + grace;
        self.inbox.close_connections();
        thread::sleep(DOOR_NOTICES.min(grace / 4));
        self.inbox.end_listening();
        front::stop_listening(&self.listener);
        info!("event=listening_ended hint=\"what has arrived is still answered\"");
        let mut quiet = 0;
        while quiet < 3 && Instant::now() < until {
            thread::sleep(DRAIN_TICK);
            quiet = if self.inbox.is_empty() { quiet + 1 } else { 0 };
        }
        self.inbox.end();
        if quiet == 0 {
            warn!("event=requests_left_unanswered grace_ms={}", grace.as_millis());
        }
        quiet > 0
    }
}

fn work(inbox: &Arc<Inbox>, index: usize, handler: &Handler) {
    while let Some(exchange) = inbox.next(index) {
        let _busy = inbox.metrics.requests.worker_busy();
        let call = || handler(&exchange.call, &exchange.attempt);
        let reply = panic::catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
            let Call { method, target, request_id, .. } = &exchange.call;
            error!(
                "event=handler_panicked request_id={request_id} method={method:?} path={target:?}"
            );
            Problem::internal().into()
        });
        exchange.answer(&reply, inbox);
    }
}

#[cfg(test)]
mod properties;
