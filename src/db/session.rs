//! One session: its settings, its prepared statements, and the check before use that finds a
//! session that is dead, or that a pooler has mixed with another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::debug;
use parking_lot::Mutex;
use postgres::error::SqlState;
use postgres::types::ToSql;
use postgres::{Client, Row, SimpleQueryMessage, Statement};
use r2d2::ManageConnection;

use super::FromDatabase;
use super::error::Error;
use super::limits::{Limits, set_mark};
use super::target::Target;
use crate::random;
use crate::shutdown::Signal;

/// The parameters of a statement, in the order of their numbers.
pub type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A connection and the statements that were prepared on it.
pub struct Session {
    client: Client,
    statements: Vec<(&'static str, Statement)>,
    answers: Vec<(&'static str, bool)>,
    mark: u64,
    proven: bool,
    opened: Instant,
    used: Instant,
    forgotten: bool,
}

const MARK: &str = "select current_setting('balanced.session', true)";

impl Session {
    pub(super) fn open(target: &Target, limits: Limits) -> Result<Session, Error> {
        // Taken before the server says whether it takes changes, which may end at any time after.
        let opened = Instant::now();
        let mark = random::bits();
        let client = target.open(limits, mark)?;
        let used = Instant::now();
        Ok(Session {
            client,
            statements: Vec::new(),
            answers: Vec::new(),
            mark,
            proven: false,
            opened,
            used,
            forgotten: false,
        })
    }

    /// Tests, once for each session, whether a pooler runs its statements in others, or theirs in
    /// it. It opens a second session and looks at its own mark, lets the second set its mark during
    /// a transaction of this one, and then looks at both marks.
    ///
    /// # Errors
    /// Those of the database and the driver; [`Error::mixed`] if sessions are mixed for certain.
    pub(super) fn prove(&mut self, target: &Target, limits: Limits) -> Result<(), Error> {
        if self.proven {
            return Ok(());
        }
        let mut other = Session::open(target, limits)?;
        // A pooler that lends the last returned connection first has given this one's to the other.
        self.look_at_the_mark()?;
        // A pooler in statement mode refuses a transaction.
        self.client.batch_execute("begin").map_err(|error| match error.code() {
            Some(&SqlState::PROTOCOL_VIOLATION) => Error::mixed(),
            _ => Error::from(error),
        })?;
        let marked = other.client.batch_execute(&set_mark(other.mark));
        self.client.batch_execute("commit").map_err(Error::from)?;
        marked.map_err(Error::from)?;
        // Twice, because a pooler may first lend the connection that was unused for longest.
        other.look_at_the_mark()?;
        other.look_at_the_mark()?;
        self.look_at_the_mark()?;
        self.proven = true;
        Ok(())
    }

    /// Returns all rows: one round trip, and one more when `sql` is first used on this connection.
    ///
    /// # Errors
    /// Those of the database and the driver.
    pub fn query(&mut self, sql: &'static str, params: Params<'_>) -> FromDatabase<Vec<Row>> {
        let statement = self.prepared(sql)?;
        self.client.query(&statement, params)
    }

    /// Returns the row of a statement that gives at most one; more rows are an error.
    ///
    /// # Errors
    /// Those of the database and the driver.
    pub fn query_opt(
        &mut self,
        sql: &'static str,
        params: Params<'_>,
    ) -> FromDatabase<Option<Row>> {
        let statement = self.prepared(sql)?;
        self.client.query_opt(&statement, params)
    }

    /// Returns the row of a statement that gives exactly one; any other number is an error.
    ///
    /// # Errors
    /// Those of the database and the driver.
    pub fn query_one(&mut self, sql: &'static str, params: Params<'_>) -> FromDatabase<Row> {
        let statement = self.prepared(sql)?;
        self.client.query_one(&statement, params)
    }

    /// The yes or no of a statement that gives one row. It is asked once for each session: whoever
    /// changes what it is about starts the replicas again.
    ///
    /// # Errors
    /// Those of the database and the driver.
    pub fn ask_once(&mut self, sql: &'static str) -> FromDatabase<bool> {
        if let Some((_, answer)) = self.answers.iter().find(|(asked, _)| std::ptr::eq(*asked, sql))
        {
            return Ok(*answer);
        }
        let answer = self.query_one(sql, &[])?.get(0);
        self.answers.push((sql, answer));
        Ok(answer)
    }

    /// Runs `work` in one transaction, which costs two more round trips: it is committed if `work`
    /// returns `Ok`, else rolled back. If `work` panics, the connection is not used again.
    ///
    /// # Errors
    /// That of `work`, or those of the database and the driver at the begin and the commit.
    pub fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Session) -> FromDatabase<T>,
    ) -> FromDatabase<T> {
        self.transaction_if(|_| true, work)
    }

    /// The same, but what `work` has done is rolled back, too, unless it `stays`.
    ///
    /// # Errors
    /// As of [`Session::transaction`].
    pub fn transaction_if<T>(
        &mut self,
        stays: impl FnOnce(&T) -> bool,
        work: impl FnOnce(&mut Session) -> FromDatabase<T>,
    ) -> FromDatabase<T> {
        self.client.batch_execute("begin")?;
        let forgotten = std::mem::replace(&mut self.forgotten, true);
        let done = work(self);
        let end = if done.as_ref().is_ok_and(stays) { "commit" } else { "rollback" };
        let ended = self.client.batch_execute(end);
        self.forgotten = forgotten || ended.is_err();
        let done = done?;
        ended.map(|()| done)
    }

    /// The driver keeps no prepared statements: it would prepare the same text each time.
    fn prepared(&mut self, sql: &'static str) -> FromDatabase<Statement> {
        if let Some((_, statement)) =
            self.statements.iter().find(|(text, _)| std::ptr::eq(*text, sql))
        {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql)?;
        self.statements.push((sql, statement.clone()));
        Ok(statement)
    }

    /// When opening began, before the server was asked anything.
    pub(super) fn opened(&self) -> Instant {
        self.opened
    }

    /// Notes that the connection has just worked.
    pub(super) fn used_now(&mut self) {
        self.used = Instant::now();
    }

    /// Tells the pool not to lend this connection again.
    pub(super) fn forget(&mut self) {
        self.forgotten = true;
    }

    pub(super) fn is_usable(&self) -> bool {
        !self.forgotten && !self.client.is_closed()
    }

    /// Checks a session that was unused for at least `idle`: it must be open, and not mixed with
    /// another. The driver learns that the server has gone only when it waits for an answer.
    ///
    /// # Errors
    /// That of the driver if the connection has ended, or [`Error::mixed`].
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

/// Opens and checks the connections of a pool.
pub struct Manager {
    target: Target,
    limits: Limits,
    turn: Option<Signal>,
    pub(super) opening: Arc<Mutex<Opening>>,
}

/// What is known of a pool's tries to connect.
#[derive(Default)]
pub(super) struct Opening {
    /// When a connection was first asked for; None once one was opened.
    pub(super) asked: Option<Instant>,
    /// Why the last try failed; None if it succeeded.
    pub(super) last_failure: Option<String>,
}

impl Manager {
    /// Connections go to `target`, and their sessions have these limits.
    pub fn new(target: Target, limits: Limits) -> Manager {
        Manager { target, limits, turn: None, opening: Arc::default() }
    }

    /// Opens no connection before `turn` begins, so that more important ones are opened first.
    pub fn behind(self, turn: Signal) -> Manager {
        Manager { turn: Some(turn), ..self }
    }
}

impl ManageConnection for Manager {
    type Connection = Session;
    type Error = Error;

    fn connect(&self) -> Result<Session, Error> {
        self.turn.iter().for_each(Signal::wait);
        let session = Session::open(&self.target, self.limits).inspect_err(|error| {
            // At level debug only: the probe reports an unreachable database once, and a pool tries
            // often.
            debug!("event=pool_connection_lost reason={:?}", error.reason());
            self.opening.lock().last_failure = Some(error.reason().to_owned());
        })?;
        *self.opening.lock() = Opening::default();
        Ok(session)
    }

    fn is_valid(&self, session: &mut Session) -> Result<(), Error> {
        session.look(Duration::ZERO)
    }

    fn has_broken(&self, session: &mut Session) -> bool {
        !session.is_usable()
    }
}
