//! The database: a pool of sessions that keep their prepared statements, and how a piece of work
//! runs: it gets a connection, marks its [`Deadline`] as sent, runs, and reports to [`Health`].
//!
//! This module knows no table, and no other module opens a connection.

mod cut;
mod deadline;
mod dedicated;
mod error;
mod health;
mod host;
mod limits;
mod observed;
mod primary;
mod probe;
mod session;
mod target;
mod tls;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

pub use deadline::{Deadline, GivenUp};
pub use dedicated::Dedicated;
pub use error::{Effect, Error, Stage, explain, is_passing};
pub use health::{Health, Trouble};
pub use limits::Limits;
pub use observed::{Observed, Oldest};
pub use probe::Probe;
use session::Opening;
pub use session::{Manager, Params, Session};
pub use target::Target;

/// What the database has answered, or the driver's error.
pub type FromDatabase<T> = Result<T, postgres::Error>;

/// Makes a value of a row: of the columns that have the names of fields, and of what else is given.
macro_rules! from_row {
    ($row:expr => $type:ident { $($field:ident),+ $(; $($other:tt)+)? }) => {
        $type { $($field: $row.get(stringify!($field)),)+ $($($other)+)? }
    };
}
pub(crate) use from_row;

/// How long a thread waits for a connection before it looks at its deadline and the health again.
const SLICE: Duration = Duration::from_millis(100);
/// The pause before a thread looks at the health again while the probe has not succeeded yet.
const TRY_PAUSE: Duration = Duration::from_millis(5);
/// The pool's pause between two tries to connect is at most half of this.
const POOL_PATIENCE: Duration = Duration::from_secs(1);
/// A connection unused for this long is checked before it is used.
const IDLE: Duration = Duration::from_millis(100);

/// A pool of connections to the database, shared by many threads.
pub struct Db {
    pool: r2d2::Pool<Manager>,
    health: Arc<Health>,
    waiting: AtomicUsize,
    opening: Arc<Mutex<Opening>>,
}

/// A snapshot of how the connections of a pool are used.
#[derive(Clone, Copy, Debug)]
pub struct PoolState {
    /// Connections that a thread holds.
    pub in_use: u32,
    /// Open connections that no thread holds.
    pub idle: u32,
    /// The largest number of connections that the pool may open.
    pub max: u32,
    /// Threads that wait for a connection.
    pub waiting: usize,
}

/// Why a pool has no open connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// No try to connect has failed; the time since a connection was first asked for.
    UnderWay(Duration),
    /// The last try to connect failed, for this reason.
    Refused(String),
}

impl Db {
    /// Makes a pool of at most `size` connections; this cannot fail. Connections are opened in the
    /// background when a thread first needs one, and the pool tries again while the database is
    /// away. One unused for `unused_max` is closed, to free its place in the server or a pooler.
    pub fn open(manager: Manager, size: u32, unused_max: Duration, health: Arc<Health>) -> Db {
        let builder = r2d2::Pool::builder().max_size(size).connection_timeout(POOL_PATIENCE);
        let builder = builder.min_idle(Some(0)).idle_timeout(Some(unused_max)).max_lifetime(None);
        // The caller checks the connection it gets, so a check does not count as waiting for one.
        let builder = builder.test_on_check_out(false);
        // The manager itself notes why it could not connect.
        let builder = builder.error_handler(Box::new(r2d2::NopErrorHandler));
        let opening = Arc::clone(&manager.opening);
        let pool = builder.build_unchecked(manager);
        Db { pool, health, waiting: AtomicUsize::new(0), opening }
    }

    /// The health that this pool updates, and consults before it lends a connection.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Returns at once, without asking the database.
    pub fn pool_state(&self) -> PoolState {
        let r2d2::State { connections, idle_connections: idle, .. } = self.pool.state();
        PoolState {
            in_use: connections.saturating_sub(idle),
            idle,
            max: self.pool.max_size(),
            waiting: self.waiting.load(Ordering::Relaxed),
        }
    }

    /// Why the pool has no open connection; None if it has one. Each call makes an empty pool open
    /// a connection, and makes any pool keep one idle. Does not wait for the server.
    pub fn lack(&self) -> Option<Lack> {
        self.drop_those_that_may_have_ended();
        if self.pool.state().connections == 0 {
            let now = Instant::now();
            let asked = *self.opening.lock().asked.get_or_insert(now);
            // The first call makes the pool try to connect in the background until it succeeds.
            if asked != now || self.pool.get_timeout(TRY_PAUSE).is_err() {
                let failure = self.opening.lock().last_failure.clone();
                return Some(failure.map_or(Lack::UnderWay(asked.elapsed()), Lack::Refused));
            }
        }
        self.opening.lock().asked = None;
        None
    }

    /// Without this the pool counts a dead connection as open until a thread takes it. Taking a
    /// connection and giving it back also makes the pool keep it for another `unused_max`.
    fn drop_those_that_may_have_ended(&self) {
        while let Some(mut session) = self.pool.try_get() {
            if session.is_usable() && !self.health.may_have_ended(session.opened()) {
                return;
            }
            session.forget();
        }
    }

    /// Runs `work` on a connection of the pool, within `deadline`.
    ///
    /// # Errors
    /// Those of [`Db::connection`] and [`Connection::run`].
    pub fn run<T>(
        &self,
        deadline: &Deadline,
        work: impl FnMut(&mut Session) -> FromDatabase<T>,
    ) -> Result<T, Error> {
        self.connection(deadline)?.run(deadline, work)
    }

    /// Waits for a connection, until `deadline` is over.
    ///
    /// # Errors
    /// [`Effect::NotApplied`]: the database is away or silent, or the deadline is over.
    pub fn connection(&self, deadline: &Deadline) -> Result<Connection<'_>, Error> {
        Ok(Connection { session: Some(self.session(deadline)?), db: self })
    }

    /// Waits for a session that is open, not mixed with another, and not of a demoted server.
    fn session(&self, deadline: &Deadline) -> Result<r2d2::PooledConnection<Manager>, Error> {
        loop {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            let free = self.free_session(deadline);
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            let mut session = free?;
            let looked = match self.health.may_be_demoted(session.opened()) {
                true => Err(Error::unsent("the server takes no changes any more")),
                false => session.look(IDLE),
            };
            let Err(error) = looked else { return Ok(session) };
            session.forget();
            if error.is_of_mixed_sessions() {
                self.health.unfit(error.reason());
            }
        }
    }

    fn free_session(&self, deadline: &Deadline) -> Result<r2d2::PooledConnection<Manager>, Error> {
        loop {
            let lets_through = self.health.lets_through(deadline);
            if !lets_through.map_err(|trouble| Error::unsent(trouble.to_string()))? {
                thread::sleep(TRY_PAUSE.min(deadline.patience()));
            } else if let Ok(session) = self.pool.get_timeout(SLICE.min(deadline.patience())) {
                return Ok(session);
            }
            if deadline.is_over() {
                let reason = match self.lack() {
                    Some(Lack::Refused(reason)) => reason,
                    _ => "no connection came free in time".to_owned(),
                };
                return Err(Error::unsent(reason));
            }
        }
    }
}

/// A connection that the pool has lent; dropping it gives the connection back.
pub struct Connection<'a> {
    /// None after the connection broke, until the next work: a broken connection that is held would
    /// keep its place in the pool.
    session: Option<r2d2::PooledConnection<Manager>>,
    db: &'a Db,
}

impl Connection<'_> {
    /// Runs `work` within `deadline`. Runs it again on another connection if this one is dead
    /// before anything was sent; and once more if the server takes no changes any more, or has lost
    /// the session's prepared statements.
    ///
    /// # Errors
    /// [`Effect::NotApplied`] if the work was given up before, or the database refused it with an
    /// error; [`Effect::Unknown`] if the connection broke after sending.
    pub fn run<T>(
        &mut self,
        deadline: &Deadline,
        mut work: impl FnMut(&mut Session) -> FromDatabase<T>,
    ) -> Result<T, Error> {
        let mut refusals = 0;
        loop {
            let session = match &mut self.session {
                Some(session) => session,
                none => none.insert(self.db.session(deadline)?),
            };
            deadline.send().map_err(|GivenUp| Error::unsent("the request was given up"))?;
            let result = work(session).map_err(Error::from);
            self.db.health.returned();
            match result {
                Ok(done) => {
                    session.used_now();
                    return Ok(done);
                }
                Err(error) if error.breaks_connection() => {
                    session.forget();
                    if error.is_of_a_demoted_server() {
                        self.db.health.demoted(session.opened());
                    }
                    self.session = None;
                    let untouched = error.stage() != Stage::Unanswered;
                    refusals += usize::from(error.stage() == Stage::Refused);
                    if !untouched || refusals > 1 || deadline.unsend().is_err() {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}
