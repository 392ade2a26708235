//! Why the migrations are not applied.

use std::fmt;

use postgres::error::SqlState;

use crate::db::{explain, is_passing};

/// Why the schema is not as the program needs it.
#[derive(Debug)]
pub enum Fault {
    /// No connection could be opened; another try may succeed. The probe logs the reason.
    Away(String),
    /// The database stopped the work for a passing reason; another try may succeed.
    Unreachable(String),
    /// Another try would fail in the same way, so an operator must act.
    Refused(String),
    /// The program was told to end before all was done.
    Stopped,
}

pub(super) fn unreachable(error: &postgres::Error) -> Fault {
    Fault::Unreachable(explain(error))
}

/// Another try may succeed after a lost connection or a passing refusal, and on a standby, which
/// may be promoted; after any other refusal it would not.
pub(super) fn refused(error: &postgres::Error, what: &str) -> Fault {
    if error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) {
        return Fault::Unreachable(
            "the database is read-only, and its schema is not as this program needs it: name the \
             primary in DATABASE_URL, or all hosts with target_session_attrs=read-write"
                .to_owned(),
        );
    }
    match error.as_db_error() {
        Some(refusal) if !is_passing(refusal.code()) => {
            Fault::Refused(format!("{what}: {}", explain(error)))
        }
        _ => unreachable(error),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Away(reason) | Fault::Unreachable(reason) => {
                write!(f, "the database cannot be used: {reason}")
            }
            Fault::Refused(reason) => f.write_str(reason),
            Fault::Stopped => f.write_str("told to end before the migrations were applied"),
        }
    }
}

impl std::error::Error for Fault {}
