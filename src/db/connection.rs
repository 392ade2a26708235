//! One connection: how it is opened, what it may take, which statements it has prepared, and how
//! a dead one is noticed before it is used.

use std::fs::File;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};

use postgres::fallible_iterator::FallibleIterator;
use postgres::types::ToSql;
use postgres::{Client, NoTls, Row, Statement};
use r2d2::ManageConnection;
use r2d2_postgres::PostgresConnectionManager;

use super::error::{Error, explain};

type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// The longest a statement, or its wait for a lock, may take. In milliseconds on the session, so
/// never zero, which would mean "no limit".
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    statement: Duration,
    lock: Duration,
}

impl Limits {
    const STATEMENT: Duration = Duration::from_secs(10);
    const LOCK: Duration = Duration::from_secs(5);

    /// Limits shorter than a request's whole deadline: a statement that had not to wait to be sent
    /// is refused by the database ("not applied") before its request is given up as unknown.
    pub fn for_requests(deadline: Duration) -> Limits {
        Limits {
            statement: Limits::STATEMENT.min(deadline * 9 / 10),
            lock: Limits::LOCK.min(deadline * 8 / 10),
        }
    }

    /// This limit for a statement, and a shorter one for its wait for a lock, so that the error
    /// tells which it was.
    pub fn within(limit: Duration) -> Limits {
        Limits { statement: limit, lock: limit * 4 / 5 }
    }
}

/// `database` with this program's own bounds, wherever the URL is silent. A host that vanishes
/// without a word would otherwise hold a statement for a quarter of an hour.
pub fn parameters(database: &postgres::Config, replica_name: &str) -> postgres::Config {
    let mut config = database.clone();
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(2));
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(Duration::from_secs(5));
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_idle(Duration::from_secs(5));
        config.keepalives_interval(Duration::from_secs(2));
        config.keepalives_retries(3);
    }
    if config.get_application_name().is_none() {
        config.application_name(&format!("balanced {replica_name}"));
    }
    config
}

/// Opens one connection outside of the pool, without any limits of this program's.
///
/// # Errors
/// What the driver says, or the system.
pub fn open(config: &postgres::Config) -> Result<Client, Error> {
    guarded(|| config.connect(NoTls))
}

/// Opens one connection outside of the pool.
///
/// # Errors
/// As of [`open`].
pub(super) fn connect(config: &postgres::Config, limits: Limits) -> Result<Session, Error> {
    Session::new(open(config)?, limits)
}

/// The driver panics where the system has no descriptor left for it, and takes down whose thread
/// it is: the pool would wait for that connection for ever.
fn guarded(connect: impl FnOnce() -> Result<Client, postgres::Error>) -> Result<Client, Error> {
    let spare: io::Result<Vec<File>> =
        (0..DESCRIPTORS_TO_CONNECT).map(|_| File::open("/dev/null")).collect();
    spare.map(drop).map_err(|error| Error::unsent(format!("cannot connect: {error}")))?;
    match panic::catch_unwind(AssertUnwindSafe(connect)) {
        Ok(result) => result.map_err(not_connected),
        Err(_) => Err(Error::unsent("cannot connect: the driver has panicked")),
    }
}

fn not_connected(error: postgres::Error) -> Error {
    Error::unsent(format!("cannot connect: {}", explain(&error)))
}

/// A connection with the statements it has prepared.
pub struct Session {
    client: Client,
    statements: Vec<(&'static str, Statement)>,
    opened: Instant,
    used: Instant,
    forgotten: bool,
}

/// What the driver needs to open one: a socket, and those of its event loop.
const DESCRIPTORS_TO_CONNECT: usize = 6;
/// A connection unused for this long is looked at before it is used.
const IDLE: Duration = Duration::from_millis(100);
/// How long that look takes at least; the driver's clock makes a millisecond of it.
const LOOK: Duration = Duration::from_nanos(1);

impl Session {
    fn new(mut client: Client, limits: Limits) -> Result<Session, Error> {
        let Limits { statement, lock } = limits;
        let settings = format!(
            "set statement_timeout = {}; set lock_timeout = {}; \
             set idle_in_transaction_session_timeout = {}",
            statement.as_millis().max(1),
            lock.as_millis().max(1),
            statement.as_millis().max(1),
        );
        client.batch_execute(&settings).map_err(not_connected)?;
        let now = Instant::now();
        Ok(Session { client, statements: Vec::new(), opened: now, used: now, forgotten: false })
    }

    /// All rows of a statement: one round trip, and one more the first time on a connection.
    ///
    /// # Errors
    /// What the database or the driver says.
    pub fn query(
        &mut self,
        sql: &'static str,
        params: Params<'_>,
    ) -> Result<Vec<Row>, postgres::Error> {
        let statement = self.prepared(sql)?;
        self.client.query(&statement, params)
    }

    /// The row of a statement that gives at most one.
    ///
    /// # Errors
    /// What the database or the driver says.
    pub fn query_opt(
        &mut self,
        sql: &'static str,
        params: Params<'_>,
    ) -> Result<Option<Row>, postgres::Error> {
        let statement = self.prepared(sql)?;
        self.client.query_opt(&statement, params)
    }

    /// The driver has no cache of its own: it prepares a text anew each time.
    fn prepared(&mut self, sql: &'static str) -> Result<Statement, postgres::Error> {
        if let Some((_, statement)) =
            self.statements.iter().find(|(text, _)| std::ptr::eq(*text, sql))
        {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql)?;
        self.statements.push((sql, statement.clone()));
        Ok(statement)
    }

    /// When it was opened.
    pub(super) fn opened(&self) -> Instant {
        self.opened
    }

    /// Notes that the connection has just worked.
    pub(super) fn used_now(&mut self) {
        self.used = Instant::now();
    }

    /// The pool is not to lend this connection again.
    pub(super) fn forget(&mut self) {
        self.forgotten = true;
    }

    pub(super) fn is_usable(&self) -> bool {
        !self.forgotten && !self.client.is_closed()
    }

    /// Reads what the socket holds, without a round trip. The driver learns of the server's end
    /// only when it waits for the socket, be it for a moment; so a connection that was idle waits
    /// that moment, and one that has just worked does not.
    fn is_open(&mut self) -> bool {
        let fine = self.used.elapsed() < IDLE
            || self.client.notifications().timeout_iter(LOOK).next().is_ok();
        fine && self.is_usable()
    }
}

/// What the pool asks for connections.
#[derive(Debug)]
pub struct Manager {
    inner: PostgresConnectionManager<NoTls>,
    limits: Limits,
}

impl Manager {
    /// Connections with these parameters and limits.
    pub fn new(config: postgres::Config, limits: Limits) -> Manager {
        Manager { inner: PostgresConnectionManager::new(config, NoTls), limits }
    }
}

impl ManageConnection for Manager {
    type Connection = Session;
    type Error = Error;

    fn connect(&self) -> Result<Session, Error> {
        Session::new(guarded(|| self.inner.connect())?, self.limits)
    }

    fn is_valid(&self, session: &mut Session) -> Result<(), Error> {
        if session.is_open() {
            return Ok(());
        }
        // A closed connection cannot say why: asking it for anything gives the driver's error.
        session.client.simple_query("").map(drop).map_err(Error::from)
    }

    fn has_broken(&self, session: &mut Session) -> bool {
        !session.is_usable()
    }
}
