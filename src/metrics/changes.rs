//! Metrics of balance changes.

use prometheus::{
    IntCounter, IntCounterVec, Registry, Result, register_int_counter_vec_with_registry,
    register_int_counter_with_registry,
};

/// Counts changes by what their clients were told; each request counts once, also one for a set.
pub struct Changes {
    by_outcome: IntCounterVec,
    /// Requests that are told the result of an earlier one with the same key.
    pub replayed: IntCounter,
}

/// What a client can be told of its change: `changed`, or the `outcome` or `code` of the problem. A
/// request that is refused for its form is not counted as a change.
const OUTCOMES: [&str; 8] = [
    "changed",
    "insufficient_funds",
    "amount_out_of_range",
    "user_not_found",
    "idempotency_key_reused",
    "not_applied",
    "unknown",
    "internal",
];

impl Changes {
    pub(super) fn new(registry: &Registry) -> Result<Changes> {
        let by_outcome = register_int_counter_vec_with_registry!(
            "balance_changes_total",
            "Changes of balances, and sets of them, by what the client was told, replayed results \
             left out.",
            &["outcome"],
            registry
        )?;
        for outcome in OUTCOMES {
            by_outcome.with_label_values(&[outcome]);
        }
        let replayed = register_int_counter_with_registry!(
            "balance_changes_replayed_total",
            "Requests that were told the result of an earlier one with the same key.",
            registry
        )?;
        Ok(Changes { by_outcome, replayed })
    }

    /// Counts a change just before its client is told `outcome`; an unknown outcome is ignored.
    pub fn told(&self, outcome: &str) {
        if OUTCOMES.contains(&outcome) {
            self.by_outcome.with_label_values(&[outcome]).inc();
        }
    }
}
