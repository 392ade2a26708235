//! The last run of a job, as the list of jobs shows it.

use chrono::{DateTime, Utc};
use postgres::Row;
use serde::Serialize;

use super::to_millis;
use crate::timestamp;

/// How the last run of a job ended.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastRun {
    /// The id of the run, as the history shows it.
    pub run_id: i64,
    /// The name of the replica that ran it; none if its slot was missed.
    pub server: Option<String>,
    /// As [`super::Outcome::name`] writes it.
    pub outcome: String,
    /// When a replica claimed the job.
    #[serde(serialize_with = "timestamp::as_text")]
    pub started_at: DateTime<Utc>,
    /// When the end was written.
    #[serde(serialize_with = "timestamp::as_text")]
    pub finished_at: DateTime<Utc>,
    /// From `started_at` to `finished_at`, rounded to milliseconds.
    pub duration_seconds: f64,
    /// The function's result, or why the run did not succeed.
    pub detail: Option<String>,
}

impl LastRun {
    pub(super) fn of(row: &Row) -> Option<LastRun> {
        Some(LastRun {
            run_id: row.get::<_, Option<_>>("last_id")?,
            server: row.get("last_server"),
            outcome: row.get("last_outcome"),
            started_at: row.get("last_started_at"),
            finished_at: row.get("last_finished_at"),
            duration_seconds: to_millis(row.get("last_seconds")),
            detail: row.get("last_detail"),
        })
    }
}
