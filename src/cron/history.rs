//! Runs that have ended, newest first.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use log::warn;
use serde::Serialize;

use super::status::to_millis;
use crate::db::{Db, Deadline, Error, Session};
use crate::metrics::Metrics;
use crate::timestamp;

/// One run that has ended.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FinishedRun {
    /// Rises with the start.
    pub run_id: i64,
    /// The job's name, which may be deleted by now.
    pub job: String,
    /// What was called.
    pub function: String,
    /// Where it ran.
    pub server: String,
    /// `succeeded`, `failed`, `cancelled` or `abandoned`.
    pub outcome: String,
    /// The slot it was for.
    #[serde(serialize_with = "timestamp::as_text")]
    pub scheduled_at: DateTime<Utc>,
    /// When it started.
    #[serde(serialize_with = "timestamp::as_text")]
    pub started_at: DateTime<Utc>,
    /// When it ended; of an abandoned run, when it was found to be.
    #[serde(serialize_with = "timestamp::as_text")]
    pub finished_at: DateTime<Utc>,
    /// From one to the other.
    pub duration_seconds: f64,
    /// Its result, or why it did not come to its end.
    pub detail: Option<String>,
}

/// Which runs, and how many.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Of this job.
    pub job: Option<String>,
    /// On this replica.
    pub server: Option<String>,
    /// With this outcome.
    pub outcome: Option<String>,
    /// With a smaller id than this.
    pub before: Option<i64>,
    /// The most rows.
    pub limit: i64,
}

/// Reads the history.
pub struct History {
    db: Arc<Db>,
}

const HISTORY: &str = "\
select id, job, function, server, outcome, scheduled_at, started_at, finished_at, detail,
    greatest(0, extract(epoch from finished_at - started_at))::float8 as seconds
from cron_runs
where id < $1 and finished_at is not null
    and ($2::text is null or job = $2)
    and ($3::text is null or server = $3)
    and ($4::text is null or outcome = $4)
order by id desc limit $5";

/// Every job, and when it last succeeded: in its last thousand runs, so that one which has not for
/// long costs no more than others. The name is not compared by `=`: the primary key alone would
/// give the order then, and the planner would read everybody's runs to find those of a rare job.
const LAST_SUCCESSES: &str = "\
select name, (
    select extract(epoch from finished_at)::float8
    from (
        select job, id, outcome, finished_at from cron_runs
        where job >= name and job <= name order by job desc, id desc limit 1000
    ) as recent
    where outcome = 'succeeded' order by job desc, id desc limit 1
) as at
from cron_jobs order by name";

/// The longest that reading them waits for a connection.
const CONNECTION_WAIT: Duration = Duration::from_secs(1);

/// Counts them, once: what was counted before this process is known to the history alone.
pub(super) fn read_last_successes(db: &Db, metrics: &Metrics) {
    match db.run(&Deadline::within(CONNECTION_WAIT), last_successes) {
        Ok(jobs) => {
            for (job, at) in jobs {
                metrics.runs.know(&job);
                at.into_iter().for_each(|at| metrics.runs.succeeded(&job, at));
            }
        }
        Err(error) => warn!("event=last_successes_not_read reason={:?}", error.reason()),
    }
}

/// Every job, and when it last succeeded, in seconds since 1970, if it has lately.
fn last_successes(session: &mut Session) -> Result<Vec<(String, Option<f64>)>, postgres::Error> {
    let rows = session.query(LAST_SUCCESSES, &[])?;
    Ok(rows.iter().map(|row| (row.get("name"), row.get("at"))).collect())
}

impl History {
    /// The history kept in this database.
    pub fn new(db: Arc<Db>) -> History {
        History { db }
    }

    /// A page of it.
    ///
    /// # Errors
    /// A fault of the database.
    pub fn page(&self, deadline: &Deadline, filter: &Filter) -> Result<Vec<FinishedRun>, Error> {
        let Filter { job, server, outcome, before, limit } = filter;
        let before = before.unwrap_or(i64::MAX);
        self.db.run(deadline, |session| {
            let rows = session.query(HISTORY, &[&before, job, server, outcome, limit])?;
            Ok(rows.iter().map(run).collect())
        })
    }
}

fn run(row: &postgres::Row) -> FinishedRun {
    FinishedRun {
        run_id: row.get("id"),
        job: row.get("job"),
        function: row.get("function"),
        server: row.get("server"),
        outcome: row.get("outcome"),
        scheduled_at: row.get("scheduled_at"),
        started_at: row.get("started_at"),
        finished_at: row.get("finished_at"),
        duration_seconds: to_millis(row.get("seconds")),
        detail: row.get("detail"),
    }
}
