//! The one error of the database: what went wrong and, above all, whether the change can have
//! happened.

use std::fmt;
use std::io::ErrorKind;

use postgres::error::{Severity, SqlState};

use crate::config::chain;

/// What is known of a change whose attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing was sent, or the database refused it with an error.
    NotApplied,
    /// The connection broke, or the deadline passed, after sending.
    Unknown,
}

/// How far the work had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing was sent.
    Unsent,
    /// The database refused it with an error.
    Refused,
    /// It was sent, and no word came back that could be trusted.
    Unanswered,
}

/// What the connection is good for after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connection {
    Usable,
    Broken,
    /// The server takes no changes any more, for as long as the connection lives.
    Demoted,
    /// What answers is not the session that was opened.
    Mixed,
}

/// The database did not do what it was asked.
#[derive(Debug)]
pub struct Error {
    stage: Stage,
    reason: String,
    connection: Connection,
    /// Of the server's refusal.
    code: Option<SqlState>,
    /// Nobody listened.
    nobody: bool,
}

impl Error {
    /// Given up before anything was sent.
    pub fn unsent(reason: impl Into<String>) -> Error {
        let reason = reason.into();
        Error {
            stage: Stage::Unsent,
            reason,
            connection: Connection::Usable,
            code: None,
            nobody: false,
        }
    }

    /// No connection could be opened.
    pub(super) fn not_connected(error: &postgres::Error) -> Error {
        let reason = format!("cannot connect: {}", explain(error));
        let nobody = [ErrorKind::ConnectionRefused, ErrorKind::NotFound];
        let nobody = system_error(error).is_some_and(|error| nobody.contains(&error.kind()));
        Error { code: error.code().cloned(), nobody, ..Error::unsent(reason) }
    }

    /// The thread that was to send the work, or had sent it, ended without a word.
    pub fn unanswered(reason: impl Into<String>) -> Error {
        Error { stage: Stage::Unanswered, connection: Connection::Broken, ..Error::unsent(reason) }
    }

    /// A session is not what it was opened as: its statements would run in another's, or another's
    /// in it.
    pub(super) fn mixed() -> Error {
        let reason = "a pooler between here and the database mixes sessions: let it pool by \
                      session (PgBouncer: pool_mode = session), or leave it out";
        Error { connection: Connection::Mixed, ..Error::unsent(reason) }
    }

    /// How far the work had come.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether the change can have happened.
    pub fn effect(&self) -> Effect {
        match self.stage {
            Stage::Unsent | Stage::Refused => Effect::NotApplied,
            Stage::Unanswered => Effect::Unknown,
        }
    }

    /// Whether the same work may succeed later: what was in the way is of the moment. Else it is
    /// refused by what it is, or by a rule of the database's owner, and will be again.
    pub fn is_passing(&self) -> bool {
        let passing = self.code.as_ref().is_some_and(is_passing);
        self.stage != Stage::Refused || self.breaks_connection() || passing
    }

    /// Whether the statement took longer than it may, which says nothing of the next one.
    pub fn is_too_long(&self) -> bool {
        self.code == Some(SqlState::QUERY_CANCELED)
    }

    /// What to write into the log; never for users.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether the connection is of no more use.
    pub(super) fn breaks_connection(&self) -> bool {
        self.connection != Connection::Usable
    }

    /// Whether nobody answered, or a server that is about to start or to end.
    pub(super) fn is_of_a_server_that_is_away(&self) -> bool {
        self.code.as_ref().is_none_or(|code| *code == SqlState::CANNOT_CONNECT_NOW)
    }

    /// Whether nobody listens there: the server has ended.
    pub(super) fn is_of_nobody(&self) -> bool {
        self.nobody
    }

    /// Whether the server has refused the statement for what it asks, not for the moment: some
    /// providers answer with codes that elsewhere are of the moment.
    pub(super) fn is_of_the_statement(&self) -> bool {
        let of_the_moment = ["08", "25", "40", "53", "57", "58", "XX"];
        let class = self.code.as_ref().map(|code| &code.code()[..2]);
        self.stage == Stage::Refused && class.is_none_or(|class| !of_the_moment.contains(&class))
    }

    /// Whether a server that is there lets nobody in.
    pub(super) fn is_of_the_login(&self) -> bool {
        self.stage == Stage::Unsent && !self.is_of_a_server_that_is_away()
    }

    /// Whether sessions are mixed up.
    pub(super) fn is_of_mixed_sessions(&self) -> bool {
        self.connection == Connection::Mixed
    }

    /// Whether the server takes no changes any more.
    pub(super) fn is_of_a_demoted_server(&self) -> bool {
        self.connection == Connection::Demoted
    }
}

impl From<postgres::Error> for Error {
    fn from(error: postgres::Error) -> Error {
        let reason = explain(&error);
        if is_wrong_type(&error) {
            return Error { stage: Stage::Refused, ..Error::unsent(reason) };
        }
        let Some(refusal) = error.as_db_error() else {
            let stage = if is_broken_pipe(&error) { Stage::Unsent } else { Stage::Unanswered };
            return Error { stage, connection: Connection::Broken, ..Error::unsent(reason) };
        };
        // A FATAL message can follow a commit (a backend told to end while its commit waits for
        // a standby); an ERROR says that the statement was rolled back.
        let refused = refusal.parsed_severity() == Some(Severity::Error);
        let demoted = *refusal.code() == SqlState::READ_ONLY_SQL_TRANSACTION;
        // What the session had prepared is not there, or is not what it was.
        let forgetful = [
            SqlState::INVALID_SQL_STATEMENT_NAME,
            SqlState::DUPLICATE_PSTATEMENT,
            SqlState::PROTOCOL_VIOLATION,
            SqlState::FEATURE_NOT_SUPPORTED,
        ];
        let connection = match (demoted, refused && !forgetful.contains(refusal.code())) {
            (true, _) => Connection::Demoted,
            (false, true) => Connection::Usable,
            (false, false) => Connection::Broken,
        };
        let stage = if refused { Stage::Refused } else { Stage::Unanswered };
        Error { stage, connection, code: Some(refusal.code().clone()), ..Error::unsent(reason) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Error {}

/// A refusal by the state of the connection, the transaction, the resources, the locks or the
/// server itself: the classes of PostgreSQL's error codes (its manual, appendix A).
pub fn is_passing(code: &SqlState) -> bool {
    ["08", "25", "40", "53", "55", "57", "58", "XX"].contains(&&code.code()[..2])
}

/// A parameter that the statement cannot take: refused by the driver before anything is sent.
fn is_wrong_type(error: &postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<postgres::types::WrongType>())
}

/// The write itself failed, so the message's end, and with it the order to commit, was not taken.
fn is_broken_pipe(error: &postgres::Error) -> bool {
    system_error(error).is_some_and(|cause| cause.kind() == ErrorKind::BrokenPipe)
}

pub(super) fn system_error(error: &postgres::Error) -> Option<&std::io::Error> {
    std::error::Error::source(error).and_then(|source| source.downcast_ref())
}

/// What the database or the driver said, on one line.
pub fn explain(error: &postgres::Error) -> String {
    match error.as_db_error() {
        Some(refusal) => format!("{} ({})", refusal.message(), refusal.code().code()),
        None => chain(error),
    }
}
