//! The error of the database: what went wrong, and whether the change can have happened.

use std::fmt;
use std::io::ErrorKind;

use postgres::error::{Severity, SqlState};

use crate::config::chain;

/// Whether a failed piece of work can have changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It changed nothing: it was not sent, or the database refused it with an error.
    NotApplied,
    /// It may have been applied: the connection broke, or the deadline passed, after sending.
    Unknown,
}

/// How far the work had come when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing was sent.
    Unsent,
    /// The database refused the work with an error, and changed nothing.
    Refused,
    /// The work was sent, and no answer came that says whether it was applied.
    Unanswered,
}

/// A failed piece of work: how far it had come, and why it failed.
#[derive(Debug)]
pub struct Error {
    stage: Stage,
    reason: String,
    /// The SQLSTATE, if the server refused the work.
    code: Option<SqlState>,
    /// Whether a pooler has mixed the session with another one.
    mixed: bool,
    /// Whether no server listened at the address.
    nobody: bool,
}

impl Error {
    /// The work was given up before anything was sent; `reason` is for the log.
    pub fn unsent(reason: impl Into<String>) -> Error {
        let reason = reason.into();
        Error { stage: Stage::Unsent, reason, code: None, mixed: false, nobody: false }
    }

    pub(super) fn not_connected(error: &postgres::Error) -> Error {
        let reason = format!("cannot connect: {}", explain(error));
        let nobody = [ErrorKind::ConnectionRefused, ErrorKind::NotFound];
        let nobody = system_error(error).is_some_and(|error| nobody.contains(&error.kind()));
        Error { code: error.code().cloned(), nobody, ..Error::unsent(reason) }
    }

    /// A pooler has mixed this session with another: its statements may run in the other session,
    /// or the other's in this one.
    pub(super) fn mixed() -> Error {
        let reason = "a pooler between here and the database mixes sessions: let it pool by \
                      session (PgBouncer: pool_mode = session), or leave it out";
        Error { mixed: true, ..Error::unsent(reason) }
    }

    /// How far the work had come; [`Error::effect`] follows from this.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether the work can have changed anything: only unanswered work can.
    pub fn effect(&self) -> Effect {
        match self.stage {
            Stage::Unsent | Stage::Refused => Effect::NotApplied,
            Stage::Unanswered => Effect::Unknown,
        }
    }

    /// Whether the same work may succeed later, because the cause is temporary. Otherwise the
    /// database refuses the work itself, or its owner forbids it, and a later try fails, too.
    pub fn is_passing(&self) -> bool {
        self.breaks_connection() || self.code.as_ref().is_some_and(is_passing)
    }

    /// Whether the server cancelled the statement because it took too long; the next may succeed.
    pub fn is_too_long(&self) -> bool {
        self.code == Some(SqlState::QUERY_CANCELED)
    }

    /// The reason, for the log only: clients must not see it.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether the connection must not be used again after this error of a statement: it has
    /// broken, its server takes no changes any more, or a prepared statement of the session is
    /// missing or is not what it was.
    pub(super) fn breaks_connection(&self) -> bool {
        let of_the_session = [
            SqlState::READ_ONLY_SQL_TRANSACTION,
            SqlState::INVALID_SQL_STATEMENT_NAME,
            SqlState::DUPLICATE_PSTATEMENT,
            SqlState::PROTOCOL_VIOLATION,
            SqlState::FEATURE_NOT_SUPPORTED,
        ];
        let of_the_session = self.code.as_ref().is_some_and(|code| of_the_session.contains(code));
        self.stage != Stage::Refused || of_the_session
    }

    /// Whether no server answered, or one that is starting or stopping.
    pub(super) fn is_of_a_server_that_is_away(&self) -> bool {
        self.code.as_ref().is_none_or(|code| *code == SqlState::CANNOT_CONNECT_NOW)
    }

    /// Whether no server listens at the address, so that it must have ended.
    pub(super) fn is_not_listening(&self) -> bool {
        self.nobody
    }

    /// Whether the server refuses the statement itself, and not because of its state. Class 55
    /// counts as the former: some providers refuse functions with it.
    pub(super) fn refuses_the_statement(&self) -> bool {
        let of_the_moment = ["08", "25", "40", "53", "57", "58", "XX"];
        let class = self.code.as_ref().map(|code| &code.code()[..2]);
        self.stage == Stage::Refused && class.is_none_or(|class| !of_the_moment.contains(&class))
    }

    /// Whether a running server refused the login.
    pub(super) fn is_of_the_login(&self) -> bool {
        self.stage == Stage::Unsent && !self.is_of_a_server_that_is_away()
    }

    pub(super) fn is_of_mixed_sessions(&self) -> bool {
        self.mixed
    }

    /// Whether the user lacks a right that the statement needs.
    pub(super) fn is_of_rights(&self) -> bool {
        self.stage == Stage::Refused && self.code == Some(SqlState::INSUFFICIENT_PRIVILEGE)
    }

    pub(super) fn is_of_a_demoted_server(&self) -> bool {
        self.code == Some(SqlState::READ_ONLY_SQL_TRANSACTION)
    }
}

impl From<postgres::Error> for Error {
    fn from(error: postgres::Error) -> Error {
        let stage = match error.as_db_error() {
            // A FATAL message can follow a commit, when a backend that waits for a standby is told
            // to end. An ERROR says that the statement was rolled back.
            Some(refusal) if refusal.parsed_severity() == Some(Severity::Error) => Stage::Refused,
            None if is_wrong_type(&error) => Stage::Refused,
            None if is_broken_pipe(&error) => Stage::Unsent,
            _ => Stage::Unanswered,
        };
        Error { stage, code: error.code().cloned(), ..Error::unsent(explain(&error)) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Error {}

/// Whether the cause is a passing state of the connection, the transaction, the resources, the
/// locks or the server, by the class of the SQLSTATE (PostgreSQL's manual, appendix A).
pub fn is_passing(code: &SqlState) -> bool {
    ["08", "25", "40", "53", "55", "57", "58", "XX"].contains(&&code.code()[..2])
}

/// The driver refuses a parameter of a wrong type before it sends anything.
fn is_wrong_type(error: &postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<postgres::types::WrongType>())
}

/// The write itself failed, so the server lacks the message's end and cannot have committed.
fn is_broken_pipe(error: &postgres::Error) -> bool {
    system_error(error).is_some_and(|cause| cause.kind() == ErrorKind::BrokenPipe)
}

pub(super) fn system_error(error: &postgres::Error) -> Option<&std::io::Error> {
    std::error::Error::source(error).and_then(|source| source.downcast_ref())
}

/// The database's message with its SQLSTATE, or the driver's with its causes, on one line.
pub fn explain(error: &postgres::Error) -> String {
    match error.as_db_error() {
        Some(refusal) => format!("{} ({})", refusal.message(), refusal.code().code()),
        None => chain(error),
    }
}
