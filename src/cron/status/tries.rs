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
    /// Whether somebody has asked to stop the open run.
    pub stop_requested: bool,
    /// Why no try begins although the job is due or stalled; none if one does, as soon as a replica
    /// takes it.
    pub waits_for: Option<WaitsFor>,
    /// When the holder of the open run last renewed its lease; none when no run is open.
    #[serde(serialize_with = "timestamp::as_text_or_null")]
    pub last_seen_at: Option<DateTime<Utc>>,
}

/// What has to come before a job that is due can run.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "reason", rename_all = "lowercase")]
pub enum WaitsFor {
    /// The end of the pause of everything.
    Pause,
    /// The end of the run of another job of its group.
    Group {
        /// The name of that job.
        job: String,
    },
    /// A replica whose build has its function; that of the replica that answered has not.
    Function,
}

impl Tries {
    pub(super) fn of(row: &Row, function_known: bool) -> Tries {
        let next_attempt_at = next_attempt_at(row);
        let waits = next_attempt_at.and(row.get("attempt"));
        let is_held: bool = row.get("is_held");
        Tries {
            attempt: row.get::<_, Option<i32>>("run_attempt").or(waits),
            next_attempt_at,
            failing: row.get("failing"),
            overdue: row.get("overdue"),
            stop_requested: row.get("stop_requested"),
            waits_for: waits_for(row, function_known),
            last_seen_at: is_held.then(|| row.get("written_at")),
        }
    }
}

/// None when the job does not wait for another try of its slot.
pub(super) fn next_attempt_at(row: &Row) -> Option<DateTime<Utc>> {
    let waits = !row.get::<_, bool>("is_held") && row.get::<_, Option<bool>>("retrying")?;
    waits.then(|| row.get("locked_until"))
}

fn waits_for(row: &Row, function_known: bool) -> Option<WaitsFor> {
    if !row.get::<_, bool>("enabled") || !["due", "stalled"].contains(&row.get("state")) {
        return None;
    }
    let is_paused = row.get::<_, Option<&str>>("reason").is_some();
    let runs: Option<String> = row.get("group_runs");
    let group = runs.map(|job| WaitsFor::Group { job });
    // What every replica says comes before what this one does.
    let first = if is_paused { Some(WaitsFor::Pause) } else { group };
    first.or((!function_known).then_some(WaitsFor::Function))
}
