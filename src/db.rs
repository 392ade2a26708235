//! The database: a pool whose connections keep their prepared statements, and the rule by which a
//! piece of work reaches it: wait for a connection, say "sent", run, tell the health.
//!
//! Nothing here knows a table. Nobody else opens a connection.

mod cut;
mod deadline;
mod dedicated;
mod error;
mod health;
mod host;
mod primary;
mod probe;
mod session;
mod target;
mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use log::debug;
use parking_lot::Mutex;

pub use deadline::{Deadline, GivenUp};
pub use dedicated::Dedicated;
pub use error::{Effect, Error, Stage, explain, is_passing};
pub use health::{Health, Trouble};
pub use probe::Probe;
pub use session::{Limits, Manager, Session};
pub use target::Target;

/// How long one wait for a connection lasts before the attempt is looked at again.
const SLICE: Duration = Duration::from_millis(100);
/// Between two looks whether the way to the database was tried: for a moment, at the start.
const TRY_PAUSE: Duration = Duration::from_millis(5);
/// Bounds the pool's own pause between two tries to connect at half of this.
const POOL_PATIENCE: Duration = Duration::from_secs(1);
/// A connection unused for this long is looked at before it is used.
const IDLE: Duration = Duration::from_millis(100);

/// The way to the database that requests share.
pub struct Db {
    pool: r2d2::Pool<Manager>,
    health: Arc<Health>,
    waiting: AtomicUsize,
    opening: Opening,
}

/// How the connections of a pool are used at a moment.
#[derive(Clone, Copy, Debug)]
pub struct PoolState {
    /// Connections that are lent.
    pub in_use: u32,
    /// Open ones that are not.
    pub idle: u32,
    /// The most there can be.
    pub max: u32,
    /// Who waits for one.
    pub waiting: usize,
}

/// Why a pool has no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The first has been asked for so long ago, and no try has failed.
    UnderWay(Duration),
    /// The last try failed, and so it was said.
    Refused(String),
}

impl Db {
    /// A pool of at most `size` connections. Never fails: connections are made in the background
    /// once somebody asks, and tried for as long as the database is away. One that is unused for
    /// as long as `unused_max` is closed, for others who share the server or a pooler.
    pub fn open(manager: Manager, size: u32, unused_max: Duration, health: Arc<Health>) -> Db {
        let builder = r2d2::Pool::builder().max_size(size).connection_timeout(POOL_PATIENCE);
        let builder = builder.min_idle(Some(0)).idle_timeout(Some(unused_max)).max_lifetime(None);
        // Whoever gets a connection looks at it: not for as long as somebody waits for one.
        let builder = builder.test_on_check_out(false);
        let opening = Opening::default();
        let builder = builder.error_handler(Box::new(opening.clone()));
        let builder = builder.connection_customizer(Box::new(opening.clone()));
        let pool = builder.build_unchecked(manager);
        Db { pool, health, waiting: AtomicUsize::new(0), opening }
    }

    /// Whether statements return, and why not.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// How the connections are used now. Never waits for the database.
    pub fn pool_state(&self) -> PoolState {
        let r2d2::State { connections, idle_connections: idle, .. } = self.pool.state();
        PoolState {
            in_use: connections.saturating_sub(idle),
            idle,
            max: self.pool.max_size(),
            waiting: self.waiting.load(Ordering::Relaxed),
        }
    }

    /// Why there is no connection at all; none as soon as there is one. Whoever asks has one
    /// opened if there is none, and one that nobody uses kept. Does not wait for the server.
    pub fn lack(&self) -> Option<Lack> {
        self.drop_those_that_may_have_ended();
        if self.pool.state().connections > 0 {
            *self.opening.asked.lock() = None;
            return None;
        }
        let asked = *self.opening.asked.lock();
        if asked.is_none() {
            *self.opening.asked.lock() = Some(Instant::now());
            // From now on the pool tries until it has one.
            if self.pool.get_timeout(TRY_PAUSE).is_ok() {
                *self.opening.asked.lock() = None;
                return None;
            }
        }
        let time = asked.map_or(Duration::ZERO, |asked| asked.elapsed());
        let failure = self.opening.last_failure.lock().clone();
        Some(failure.map_or(Lack::UnderWay(time), Lack::Refused))
    }

    /// The pool counts a connection until somebody finds it dead. What was lent and given back
    /// counts as used.
    fn drop_those_that_may_have_ended(&self) {
        while let Some(mut session) = self.pool.try_get() {
            if session.is_usable() && !self.health.may_have_ended(session.opened()) {
                return;
            }
            session.forget();
        }
    }

    /// Runs `work` on a connection, for `deadline`.
    ///
    /// # Errors
    /// As of [`Db::connection`] and [`Connection::run`].
    pub fn run<T>(
        &self,
        deadline: &Deadline,
        work: impl FnMut(&mut Session) -> Result<T, postgres::Error>,
    ) -> Result<T, Error> {
        self.connection(deadline)?.run(deadline, work)
    }

    /// Waits for a connection.
    ///
    /// # Errors
    /// [`Effect::NotApplied`]: the database is away or silent, or the attempt is over.
    pub fn connection(&self, deadline: &Deadline) -> Result<Connection<'_>, Error> {
        Ok(Connection { session: Some(self.session(deadline)?), db: self })
    }

    /// One that is open, and still what it was opened as.
    fn session(&self, deadline: &Deadline) -> Result<r2d2::PooledConnection<Manager>, Error> {
        loop {
            let mut session = self.free_session(deadline)?;
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
        let _waiting = Waiting::new(&self.waiting);
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

/// One who waits for a connection, for as long as this lives.
struct Waiting<'a>(&'a AtomicUsize);

impl Waiting<'_> {
    fn new(waiting: &AtomicUsize) -> Waiting<'_> {
        waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection lent by the pool; it goes back by its drop.
pub struct Connection<'a> {
    /// None once it broke, until the next work: a broken one keeps its place in the pool for as
    /// long as it is held.
    session: Option<r2d2::PooledConnection<Manager>>,
    db: &'a Db,
}

impl Connection<'_> {
    /// Runs `work`, for `deadline`; again on another connection where this one is found dead before
    /// anything was sent, and once more where it leads to a server that takes no changes any more,
    /// or has forgotten what was prepared.
    ///
    /// # Errors
    /// [`Effect::NotApplied`] when the attempt was given up before, or the database refused the
    /// work with an error; [`Effect::Unknown`] when the connection broke after sending.
    pub fn run<T>(
        &mut self,
        deadline: &Deadline,
        mut work: impl FnMut(&mut Session) -> Result<T, postgres::Error>,
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

/// What is known of the pool's tries to open a connection. The probe reports an unreachable
/// database, once; the pool's many tries add nothing.
#[derive(Clone, Debug, Default)]
struct Opening {
    /// When one was asked for where there was none, if none was opened since.
    asked: Arc<Mutex<Option<Instant>>>,
    /// Why the last try failed, if it did.
    last_failure: Arc<Mutex<Option<String>>>,
}

impl r2d2::HandleError<Error> for Opening {
    fn handle_error(&self, error: Error) {
        debug!("event=pool_connection_lost reason={:?}", error.reason());
        *self.last_failure.lock() = Some(error.reason().to_owned());
    }
}

impl r2d2::CustomizeConnection<Session, Error> for Opening {
    fn on_acquire(&self, _: &mut Session) -> Result<(), Error> {
        *self.last_failure.lock() = None;
        *self.asked.lock() = None;
        Ok(())
    }
}
