//! Changes of balances.

use prometheus::{IntCounter, IntCounterVec, Result};

use super::Families;

/// What a client was told of its change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was applied.
    Changed,
    /// The balance did not cover it.
    InsufficientFunds,
    /// The balance would have left 64 bits.
    OutOfRange,
    /// Nobody has the user's id.
    UserNotFound,
    /// The key stands for another amount.
    KeyReused,
    /// The database did not take it.
    NotApplied,
    /// It may or may not have been applied.
    Unknown,
    /// What an earlier request with the same key was told.
    Replayed,
}

/// Counts changes as clients were told of them, each request once.
pub struct Changes {
    by_outcome: IntCounterVec,
    replayed: IntCounter,
}

const OUTCOMES: [Change; 7] = [
    Change::Changed,
    Change::InsufficientFunds,
    Change::OutOfRange,
    Change::UserNotFound,
    Change::KeyReused,
    Change::NotApplied,
    Change::Unknown,
];

impl Changes {
    pub(super) fn new(families: &Families<'_>) -> Result<Changes> {
        let by_outcome = families.counters(
            "balance_changes_total",
            "Changes of balances by what the client was told, replayed results left out.",
            &["outcome"],
        )?;
        for outcome in OUTCOMES {
            by_outcome.with_label_values(&[outcome.label()]);
        }
        let replayed = families.counter(
            "balance_changes_replayed_total",
            "Requests that were told the result of an earlier one with the same key.",
        )?;
        Ok(Changes { by_outcome, replayed })
    }

    /// A client is about to be told this.
    pub fn told(&self, change: Change) {
        match change {
            Change::Replayed => self.replayed.inc(),
            outcome => self.by_outcome.with_label_values(&[outcome.label()]).inc(),
        }
    }
}

impl Change {
    fn label(self) -> &'static str {
        match self {
            Change::Changed => "changed",
            Change::InsufficientFunds => "insufficient_funds",
            Change::OutOfRange => "out_of_range",
            Change::UserNotFound => "user_not_found",
            Change::KeyReused => "idempotency_key_reused",
            Change::NotApplied => "not_applied",
            Change::Unknown => "unknown",
            Change::Replayed => "replayed",
        }
    }
}
