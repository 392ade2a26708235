//! One session: what it is pinned to, which statements it has prepared, and how a dead one, or one
//! that a pooler has mixed up with another, is noticed before it is used.

use std::time::{Duration, Instant};

use postgres::error::SqlState;
use postgres::types::ToSql;
use postgres::{Client, Row, SimpleQueryMessage, Statement};
use r2d2::ManageConnection;

use super::error::Error;
use super::target::Target;
use crate::random;
use crate::shutdown::Signal;

type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// The longest a statement, its wait for a lock, or a pause in a transaction may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    statement: Option<Duration>,
    lock: Duration,
    idle: Duration,
}

impl Limits {
    const STATEMENT: Duration = Duration::from_secs(10);
    const LOCK: Duration = Duration::from_secs(5);
    /// Between two statements of a transaction a process may be held up by others for a moment.
    const IDLE_MIN: Duration = Duration::from_secs(1);
    /// A table that somebody else holds is waited for in steps, so that the program can end
    /// between; what is done to it may take long.
    pub const FOR_MIGRATIONS: Limits =
        Limits { statement: None, lock: Duration::from_secs(5), idle: Duration::from_secs(60) };

    /// Limits shorter than a request's whole deadline: a statement that had not to wait to be sent
    /// is refused by the database ("not applied") before its request is given up as unknown.
    pub fn for_requests(deadline: Duration) -> Limits {
        let statement = Limits::STATEMENT.min(deadline * 9 / 10);
        let lock = Limits::LOCK.min(deadline * 8 / 10);
        Limits { statement: Some(statement), lock, idle: statement.max(Limits::IDLE_MIN) }
    }

    /// This limit for a statement, and a shorter one for its wait for a lock, so that the error
    /// tells which it was.
    pub fn within(limit: Duration) -> Limits {
        let idle = limit.max(Limits::IDLE_MIN);
        Limits { statement: Some(limit), lock: limit * 4 / 5, idle }
    }

    /// Whatever a session would inherit from its role or its database, its promises rest on this:
    /// one message, sent before any other. A stronger `synchronous_commit` stays. The session's
    /// own mark tells it from every other.
    pub(super) fn pinned(&self, mark: u64) -> String {
        // A limit of zero would mean "none".
        let millis = |limit: Duration| limit.as_millis().max(1);
        format!(
            "set statement_timeout = {}; set lock_timeout = {}; \
             set idle_in_transaction_session_timeout = {}; \
             set default_transaction_isolation = 'read committed'; set timezone = 'UTC'; \
             set jit = off; {}; select set_config('synchronous_commit', 'on', false) \
             where current_setting('synchronous_commit') in ('off', 'local', 'remote_write')",
            self.statement.map_or(0, millis),
            millis(self.lock),
            millis(self.idle),
            set_mark(mark),
        )
    }
}

/// A connection with the statements it has prepared.
pub struct Session {
    client: Client,
    statements: Vec<(&'static str, Statement)>,
    mark: u64,
    proven: bool,
    opened: Instant,
    used: Instant,
    forgotten: bool,
}

const MARK: &str = "select current_setting('balanced.session', true)";

fn set_mark(mark: u64) -> String {
    format!("select set_config('balanced.session', '{mark:016x}', false)")
}

impl Session {
    /// Opens one.
    ///
    /// # Errors
    /// As of [`Target::open`].
    pub(super) fn open(target: &Target, limits: Limits) -> Result<Session, Error> {
        // Before the server was asked whether it takes changes: it may cease to at any time after.
        let opened = Instant::now();
        let mark = random::bits();
        let client = target.open(limits, mark)?;
        let used = Instant::now();
        Ok(Session {
            client,
            statements: Vec::new(),
            mark,
            proven: false,
            opened,
            used,
            forgotten: false,
        })
    }

    /// Whether something between here and the database, such as a pooler by transactions, lets
    /// this session's statements run in others, and theirs in this one: beside another session, and
    /// after that one has marked itself anew while this one was in a transaction.
    ///
    /// # Errors
    /// What the database or the driver says; also [`Error::mixed`], which leaves no doubt.
    pub(super) fn prove(&mut self, target: &Target, limits: Limits) -> Result<(), Error> {
        let mut other = Session::open(target, limits)?;
        // A pooler that lends the connection that came back last has given it to the other.
        self.look_at_the_mark()?;
        // A pooler by statements refuses this.
        self.client.batch_execute("begin").map_err(|error| match error.code() {
            Some(&SqlState::PROTOCOL_VIOLATION) => Error::mixed(),
            _ => Error::from(error),
        })?;
        let marked = other.client.batch_execute(&set_mark(other.mark));
        self.client.batch_execute("commit").map_err(Error::from)?;
        marked.map_err(Error::from)?;
        // Twice: whichever connection of the pool comes next, this one's or the longest unused.
        other.look_at_the_mark()?;
        other.look_at_the_mark()?;
        self.look_at_the_mark()?;
        self.proven = true;
        Ok(())
    }

    pub(super) fn is_proven(&self) -> bool {
        self.proven
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

    /// The row of a statement that gives one.
    ///
    /// # Errors
    /// What the database or the driver says.
    pub fn query_one(
        &mut self,
        sql: &'static str,
        params: Params<'_>,
    ) -> Result<Row, postgres::Error> {
        let statement = self.prepared(sql)?;
        self.client.query_one(&statement, params)
    }

    /// Runs `work` in one transaction, which takes effect as a whole if it is `Ok`: two round trips
    /// more. The connection is of no more use if `work` panics.
    ///
    /// # Errors
    /// What `work` says, or the database or the driver of the beginning and the end.
    pub fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Session) -> Result<T, postgres::Error>,
    ) -> Result<T, postgres::Error> {
        self.client.batch_execute("begin")?;
        let forgotten = std::mem::replace(&mut self.forgotten, true);
        let done = work(self);
        let end = if done.is_ok() { "commit" } else { "rollback" };
        let ended = self.client.batch_execute(end);
        self.forgotten = forgotten || ended.is_err();
        let done = done?;
        ended.map(|()| done)
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

    /// When it began to be opened.
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

    /// Looks at a session that was idle for so long: whether it is open, and still this one. The
    /// driver learns of the server's end only when it waits for it.
    ///
    /// # Errors
    /// What the driver says of a connection that has ended, or [`Error::mixed`].
    pub(super) fn look(&mut self, idle: Duration) -> Result<(), Error> {
        if self.used.elapsed() < idle && self.is_usable() {
            return Ok(());
        }
        self.look_at_the_mark()?;
        self.used_now();
        Ok(())
    }

    fn look_at_the_mark(&mut self) -> Result<(), Error> {
        let answer = self.client.simple_query(MARK)?;
        let own = format!("{:016x}", self.mark);
        let is_own = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => row.get(0) == Some(&own),
            _ => false,
        };
        if answer.iter().any(is_own) { Ok(()) } else { Err(Error::mixed()) }
    }
}

/// What the pool asks for connections.
pub struct Manager {
    target: Target,
    limits: Limits,
    turn: Option<Signal>,
}

impl Manager {
    /// Connections to this database, with these limits.
    pub fn new(target: Target, limits: Limits) -> Manager {
        Manager { target, limits, turn: None }
    }

    /// The same, once this signal is given: what others cannot do without comes first.
    pub fn behind(self, turn: Signal) -> Manager {
        Manager { turn: Some(turn), ..self }
    }
}

impl ManageConnection for Manager {
    type Connection = Session;
    type Error = Error;

    fn connect(&self) -> Result<Session, Error> {
        self.turn.iter().for_each(Signal::wait);
        Session::open(&self.target, self.limits)
    }

    fn is_valid(&self, session: &mut Session) -> Result<(), Error> {
        session.look(Duration::ZERO)
    }

    fn has_broken(&self, session: &mut Session) -> bool {
        !session.is_usable()
    }
}
