//! How long the parts of a session's work may take, and what else a session is pinned to.

use std::time::Duration;

/// The longest time of a statement, of its wait for a lock, and of a pause in a transaction.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    statement: Option<Duration>,
    lock: Duration,
    idle: Duration,
}

impl Limits {
    const STATEMENT: Duration = Duration::from_secs(10);
    const LOCK: Duration = Duration::from_secs(5);
    /// The system may stop a process for a moment between two statements of a transaction.
    const IDLE_MIN: Duration = Duration::from_secs(1);
    /// A migration waits for a locked table in steps of 5 s, so that the program can end between
    /// two of them. Its statements have no limit, because they may take long.
    pub const FOR_MIGRATIONS: Limits =
        Limits { statement: None, lock: Duration::from_secs(5), idle: Duration::from_secs(60) };

    /// Limits shorter than a request's `deadline`: a statement that is sent without a wait is
    /// cancelled by the database ("not applied") before its request is given up as unknown.
    pub fn for_requests(deadline: Duration) -> Limits {
        let statement = Limits::STATEMENT.min(deadline * 9 / 10);
        let lock = Limits::LOCK.min(deadline * 8 / 10);
        Limits { statement: Some(statement), lock, idle: statement.max(Limits::IDLE_MIN) }
    }

    /// `limit` for a statement, and a shorter one for its wait for a lock, so that the error tells
    /// which of the two took too long.
    pub fn within(limit: Duration) -> Limits {
        let idle = limit.max(Limits::IDLE_MIN);
        Limits { statement: Some(limit), lock: limit * 4 / 5, idle }
    }

    /// The settings of a session, sent in one message before any other statement, so that those of
    /// its role or its database cannot weaken what this program promises. A stronger
    /// `synchronous_commit` stays. `mark` distinguishes the session.
    pub(super) fn pinned(&self, mark: u64) -> String {
        // PostgreSQL takes a limit of zero for "no limit".
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

/// The statement that gives a session its mark.
pub(super) fn set_mark(mark: u64) -> String {
    format!("select set_config('balanced.session', '{mark:016x}', false)")
}
