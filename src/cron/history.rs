//! Reads the runs that have ended, newest first.

use std::time::Duration;

use chrono::{DateTime, Utc};
use log::warn;

use super::job::Jobs;
use super::run::RecordedRun;
use crate::db::{Db, Deadline, Error, Session};
use crate::metrics::Metrics;

/// Selects runs of the history. All conditions that are given have to hold.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Only runs of the job with this name.
    pub job: Option<String>,
    /// Only runs on the replica with this name.
    pub server: Option<String>,
    /// Only runs with this outcome, as [`super::Outcome::name`] writes it.
    pub outcome: Option<String>,
    /// Only runs that ended at this instant or later.
    pub from: Option<DateTime<Utc>>,
    /// Only runs that ended before this instant.
    pub to: Option<DateTime<Utc>>,
    /// Only runs with a smaller id than this: the last id of a page, to read the next page.
    pub before: Option<i64>,
    /// The most runs of a page.
    pub limit: i64,
}

/// The ids rise with the starts of the runs. So the runs that ended before `$7` have smaller ids
/// than one that started after it, and those above need not be read. One that started a day after
/// it is looked for, in case the database's clock was set back.
const HISTORY: &str = "\
select id as run_id, job, function, nullif(server, '') as server, outcome, attempt, scheduled_at,
    started_at, finished_at, detail,
    greatest(0, extract(epoch from finished_at - started_at))::float8 as seconds
from cron_runs
where id < least($1, (
        select id from cron_runs
        where finished_at >= $7::timestamptz + interval '1 day'
            and started_at >= $7::timestamptz + interval '1 day'
        order by finished_at limit 1
    ))
    and finished_at is not null
    and ($2::text is null or job = $2)
    and ($3::text is null or server = $3)
    and ($4::text is null or outcome = $4)
    and ($6::timestamptz is null or finished_at >= $6)
    and ($7::timestamptz is null or finished_at < $7)
order by id desc limit $5::bigint + 1";

/// When each job last succeeded, in seconds since 1970; null if it has not lately. Only its last
/// thousand runs are read, so that a job without a recent success costs no more than others. The
/// name is not compared by `=`: then the planner would take the order from the primary key, and
/// read all jobs' runs to find those of a rare job.
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

/// The longest wait for a connection to read the last successes.
const CONNECTION_WAIT: Duration = Duration::from_secs(1);

/// Sets the metric of last successes, once: only the history knows those before this process.
pub(super) fn read_last_successes(db: &Db, metrics: &Metrics) {
    let read = |session: &mut Session| session.query(LAST_SUCCESSES, &[]);
    match db.run(&Deadline::within(CONNECTION_WAIT), read) {
        Ok(rows) => {
            for row in &rows {
                let (job, at): (&str, Option<f64>) = (row.get("name"), row.get("at"));
                metrics.runs.know(job);
                at.into_iter().for_each(|at| metrics.runs.succeeded(job, at));
            }
        }
        Err(error) => warn!("event=last_successes_not_read reason={:?}", error.reason()),
    }
}

impl Jobs {
    /// Reads the runs that the filter selects, those with the largest ids first: a page of them,
    /// and one more if another page follows.
    ///
    /// # Errors
    /// When the database is away, refuses the query, or does not answer by the deadline.
    pub fn runs(&self, deadline: &Deadline, filter: &Filter) -> Result<Vec<RecordedRun>, Error> {
        let Filter { job, server, outcome, from, to, before, limit } = filter;
        let before = before.unwrap_or(i64::MAX);
        self.db.run(deadline, |session| {
            let rows = session.query(HISTORY, &[&before, job, server, outcome, limit, from, to])?;
            Ok(rows.iter().map(RecordedRun::of).collect())
        })
    }
}
