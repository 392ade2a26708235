//! What the status tells of the tries of a job.

use chrono::{DateTime, Utc};
use postgres::Row;
use serde::Serialize;

use crate::timestamp;

/// The tries of a job, and what became of them. Its instants are by the database's clock.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tries {
    /// Which try of its slot runs, or waits to be run: 1 for the first. None when no run is open
    /// and no slot is tried again.
    pub attempt: Option<i32>,
    /// When the slot is tried again; none when it is not.
    #[serde(serialize_with = "timestamp::as_text_or_null")]
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// Whether the last run failed or took too long; runs that were cancelled, abandoned or stopped
    /// and slots that were missed say nothing about that. Looks at the last 100 runs.
    pub failing: bool,
    /// Whether the open run has gone on for more than 5 s longer than it may.
    pub overdue: bool,
    /// When the holder of the open run last renewed its lease; none when no run is open.
    #[serde(serialize_with = "timestamp::as_text_or_null")]
    pub last_seen_at: Option<DateTime<Utc>>,
}

impl Tries {
    pub(super) fn of(row: &Row) -> Tries {
        let next_attempt_at = next_attempt_at(row);
        let waits = next_attempt_at.and(row.get("attempt"));
        let is_held: bool = row.get("is_held");
        Tries {
            attempt: row.get::<_, Option<i32>>("run_attempt").or(waits),
            next_attempt_at,
            failing: row.get("failing"),
            overdue: row.get("overdue"),
            last_seen_at: is_held.then(|| row.get("written_at")),
        }
    }
}

/// None when the job does not wait for another try of its slot.
pub(super) fn next_attempt_at(row: &Row) -> Option<DateTime<Utc>> {
    let (is_held, enabled): (bool, bool) = (row.get("is_held"), row.get("enabled"));
    let waits = !is_held && enabled && row.get::<_, Option<bool>>("is_tried_again") == Some(true);
    waits.then(|| row.get("locked_until"))
}
