//! Reads one run, and what it has said, while it goes on or later.

use chrono::{DateTime, Utc};
use postgres::Row;
use serde::Serialize;

use super::job::Jobs;
use super::status::to_millis;
use crate::db::{Deadline, Error, from_row};
use crate::timestamp;

/// What everybody who lists a run tells of it. Its instants are by the database's clock.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunEnd {
    /// Unique. A run that starts later has a larger id.
    pub run_id: i64,
    /// The name of the replica that runs it or ran it; none if its slot was missed.
    pub server: Option<String>,
    /// As [`super::Outcome::name`] writes it; none while it is open.
    pub outcome: Option<String>,
    /// When a replica claimed the job.
    #[serde(serialize_with = "timestamp::as_text")]
    pub started_at: DateTime<Utc>,
    /// When the end was written, which for an abandoned run may be long after it stopped; none
    /// while it is open.
    #[serde(serialize_with = "timestamp::as_text_or_null")]
    pub finished_at: Option<DateTime<Utc>>,
    /// From `started_at` to `finished_at`, or to now while it is open, rounded to milliseconds.
    pub duration_seconds: f64,
    /// The function's result, or why the run did not succeed; none while it is open.
    pub detail: Option<String>,
}

/// A run as the history has it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedRun {
    /// The name of the job, which may be deleted by now.
    pub job: String,
    /// The name of the function that the run calls.
    pub function: String,
    /// Which try of its slot this is: 1 for the first.
    pub attempt: i32,
    /// The slot that the run is for, or the instant at which somebody asked for it.
    #[serde(serialize_with = "timestamp::as_text")]
    pub scheduled_at: DateTime<Utc>,
    /// When and where it runs or ran, and how it ended.
    #[serde(flatten)]
    pub end: RunEnd,
}

/// A run, open or ended, with what only the page of one run tells.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// What the history has of it, or will have.
    #[serde(flatten)]
    pub recorded: RecordedRun,
    /// `running`, `stalled` (its lease has run out, and nobody has taken the job over) or `ended`.
    pub state: String,
    /// How much is done, from 0 to 1, as the last renewal told it.
    pub progress: f64,
    /// Whether somebody has asked to stop it, and it has not ended yet.
    pub stop_requested: bool,
    /// The length of the last checkpoint that this run has kept, in bytes; none without one.
    pub checkpoint_bytes: Option<i32>,
    /// How many lines its log has.
    pub lines: i64,
    /// How many lines were dropped because the log would have been too long.
    pub lines_dropped: i64,
}

/// A part of the log of a run.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Log {
    /// The lines that follow the one that was named, in the order of their numbers.
    pub lines: Vec<RunLine>,
    /// How many lines of the whole run were dropped because the log would have been too long.
    pub dropped: i64,
    /// The number after which to ask for what comes; none if there is no more, nor will be.
    pub next: Option<i32>,
    /// Whether the run goes on, so that more lines may come.
    pub is_open: bool,
}

/// One line of the log of a run.
#[derive(Clone, Debug, Serialize)]
pub struct RunLine {
    /// 1, 2, 3 … within its run.
    pub number: i32,
    /// When the function said it, by the database's clock.
    #[serde(serialize_with = "timestamp::as_text")]
    pub at: DateTime<Utc>,
    /// At most 1,000 characters, none of them a control character.
    pub line: String,
}

const RUN: &str = "\
select run.id as run_id, run.job, run.function, nullif(run.server, '') as server, run.outcome,
    run.attempt, run.scheduled_at, run.started_at, run.finished_at, run.detail, run.progress,
    (job.stop_run = run.id) is true as stop_requested, run.checkpoint_bytes, log.lines,
    log.lines_dropped,
    case
        when run.finished_at is not null then 'ended'
        when job.locked_until >= clock_timestamp() then 'running'
        else 'stalled'
    end as state,
    greatest(0, extract(epoch from coalesce(run.finished_at, clock_timestamp()) - run.started_at)
        )::float8 as seconds
from cron_runs run
left join cron_jobs job on job.id = run.job_id and job.run_id = run.id
cross join lateral (
    select count(*) as lines, coalesce(max(number), 0) - count(*) as lines_dropped
    from cron_run_lines where run_id = run.id
) as log
where run.id = $1";

/// A run that has said nothing since still gives one row, of nulls, so that it differs from a run
/// that does not exist.
const LOG: &str = "\
select run.finished_at is null as is_open, log.dropped, page.number, page.said_at, page.line
from cron_runs run
cross join lateral (
    select coalesce(max(number), 0) - count(*) as dropped from cron_run_lines where run_id = run.id
) as log
left join lateral (
    select number, said_at, line from cron_run_lines
    where run_id = run.id and number > $2 order by number limit $3::bigint + 1
) as page on true
where run.id = $1
order by page.number";

impl Jobs {
    /// Reads one run; none if the history has none of this id.
    ///
    /// # Errors
    /// When the database is away, refuses the query, or does not answer by the deadline.
    pub fn run(&self, deadline: &Deadline, run_id: i64) -> Result<Option<Run>, Error> {
        let row = self.db.run(deadline, |session| session.query_opt(RUN, &[&run_id]))?;
        Ok(row.map(|row| {
            from_row!(row => Run { state, stop_requested, checkpoint_bytes, lines, lines_dropped;
                recorded: RecordedRun::of(&row), progress: to_millis(row.get("progress")),
            })
        }))
    }

    /// Reads at most `limit` lines of a run that follow the one with the number `after`; none if
    /// the history has no run of this id.
    ///
    /// # Errors
    /// As of [`Jobs::run`].
    pub fn log(
        &self,
        deadline: &Deadline,
        run_id: i64,
        after: i32,
        limit: i64,
    ) -> Result<Option<Log>, Error> {
        let rows =
            self.db.run(deadline, |session| session.query(LOG, &[&run_id, &after, &limit]))?;
        let Some(first) = rows.first() else { return Ok(None) };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let (is_open, is_all) = (first.get("is_open"), rows.len() <= limit);
        let lines: Vec<RunLine> = rows.iter().take(limit).filter_map(line).collect();
        let last = lines.last().map_or(after, |line| line.number);
        let next = (is_open || !is_all).then_some(last);
        Ok(Some(Log { lines, dropped: first.get("dropped"), next, is_open }))
    }
}

impl RecordedRun {
    pub(super) fn of(row: &Row) -> RecordedRun {
        let duration_seconds = to_millis(row.get("seconds"));
        let end = from_row!(row => RunEnd {
            run_id, server, outcome, started_at, finished_at, detail; duration_seconds
        });
        from_row!(row => RecordedRun { job, function, attempt, scheduled_at; end })
    }
}

fn line(row: &Row) -> Option<RunLine> {
    let number = row.get::<_, Option<_>>("number")?;
    Some(RunLine { number, at: row.get("said_at"), line: row.get("line") })
}
