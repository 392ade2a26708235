//! The last run of a job, as the list of jobs shows it.

use postgres::Row;

use super::to_millis;
use crate::cron::run::RunEnd;

/// The last run of a job that has ended.
pub type LastRun = RunEnd;

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
