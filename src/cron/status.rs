//! The state of every job. One query reads it from the rows that the replicas write, so that each
//! replica gives the same answer.

mod last_run;
mod tries;

use chrono::{DateTime, Utc};
use postgres::Row;
use serde::Serialize;

use super::job::Jobs;
use super::job::settings::Settings;
use super::name::Name;
use super::pause::{self, Pause};
use super::schedule::Schedule;
use crate::db::{Deadline, Error, Params};
use crate::timestamp;
pub use last_run::LastRun;
pub use tries::{Tries, WaitsFor};

/// Which jobs are asked for: those that meet all that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Jobs whose names come after this text.
    pub after: Option<String>,
    /// Jobs whose names contain this text.
    pub name: Option<String>,
    /// Jobs in one of these states.
    pub states: Option<Vec<String>>,
    /// The most jobs of a page; all if it is not given.
    pub limit: Option<i64>,
}

/// Jobs, as one statement has read them.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The instant at which they were read, by the database's clock.
    #[serde(serialize_with = "timestamp::as_text")]
    pub now: DateTime<Utc>,
    /// The name of the replica that answered.
    pub served_by: String,
    /// The pause that holds, so that no job is claimed; none if none does.
    pub pause: Option<Pause>,
    /// How many jobs are in each state, whether they were asked for or not.
    pub counts: Counts,
    /// The jobs that were asked for, sorted by name.
    pub jobs: Vec<Job>,
}

/// The number of jobs by [`Job::state`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Jobs that a replica runs, and whose lease has not run out.
    pub running: i64,
    /// Jobs whose next slot is in the future.
    pub waiting: i64,
    /// Jobs whose slot has passed, and that no replica has claimed yet.
    pub due: i64,
    /// Jobs that do not run until they are enabled.
    pub paused: i64,
    /// Jobs whose lease has run out, and that no replica has taken over yet.
    pub stalled: i64,
}

/// The values of [`Job::state`].
pub const STATES: [&str; 5] = ["running", "waiting", "due", "paused", "stalled"];

/// A job and its runs. Its instants are by the database's clock.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// The job's name, which is unique.
    pub name: String,
    /// What people have set.
    #[serde(flatten)]
    pub settings: Settings,
    /// Whether the build of the replica that answered has that function.
    pub function_known: bool,
    /// `running`, `waiting`, `due`, `paused` or `stalled` at [`Status::now`], as [`Counts`] says.
    pub state: String,
    /// The name of the replica that has the open run; none when no run is open.
    pub server: Option<String>,
    /// The id of the open run; none when no run is open.
    pub run_id: Option<i64>,
    /// The slot that the open run is for, or the instant at which somebody asked for it.
    #[serde(serialize_with = "timestamp::as_text_or_null")]
    pub scheduled_at: Option<DateTime<Utc>>,
    /// When the open run started.
    #[serde(serialize_with = "timestamp::as_text_or_null")]
    pub started_at: Option<DateTime<Utc>>,
    /// Seconds since the open run started, rounded to milliseconds.
    pub elapsed_seconds: Option<f64>,
    /// How much of the open run is done, from 0 to 1.
    pub progress: Option<f64>,
    /// When the job is due next; while a run is open, the first slot after now. None when paused.
    #[serde(serialize_with = "timestamp::as_text_or_null")]
    pub next_run_at: Option<DateTime<Utc>>,
    /// What became of the tries to run it.
    #[serde(flatten)]
    pub tries: Tries,
    /// The last run that has ended; none if the history has none.
    pub last_run: Option<LastRun>,
    /// Names the present settings; [`super::Precondition::Tagged`] is compared with it.
    #[serde(skip)]
    pub settings_tag: String,
}

/// Counts the jobs that meet the first condition by state, and reads those of them that meet the
/// second, all of one instant. A row without a name says that there is none.
macro_rules! status_of {
    ($known:literal, $asked_for:literal) => {
        concat!(
            "\
with clock as materialized (
    select clock_timestamp() as now
), known as materialized (
    select id, name, case
        when holder is not null and locked_until >= clock.now then 'running'
        when holder is not null then 'stalled'
        when not enabled then 'paused'
        when locked_until >= clock.now then 'waiting'
        else 'due'
    end as state
    from clock, cron_jobs where ",
            $known,
            "
), counts as (
    select count(*) filter (where state = 'running') as running,
        count(*) filter (where state = 'waiting') as waiting,
        count(*) filter (where state = 'due') as due,
        count(*) filter (where state = 'paused') as paused,
        count(*) filter (where state = 'stalled') as stalled
    from known
), asked_for as (
    select id, state from known where ",
            $asked_for,
            "
)
select clock.now, counts.*, reason, since, until, paused_by, asked_for.state,
    job.name, job.function, job.arguments, job.schedule, job.enabled, job.description, job.owner,
    job.max_seconds, job.retries, job.retry_after_seconds, job.start_within_seconds,
    job.catch_up, job.job_group, job.slot, job.requested_at,
    (job.stop_run = job.run_id) is true as stop_requested,
    case when asked_for.state = 'due' then (
        select other.name from cron_jobs other
        where other.job_group = job.job_group and other.holder is not null
    ) end as group_runs,
    job.attempt, job.locked_until, job.written_at, run.attempt as run_attempt,
    job.attempt > 1 and job.tried_at = coalesce(job.requested_at, job.slot) as is_tried_again,
    (clock.now - run.started_at > make_interval(secs => run.max_seconds + 5.0)) is true as overdue,
    last.outcome is distinct from 'succeeded' and (
        select outcome in ('failed', 'timed_out') from (
            select outcome from cron_runs
            where job_id = job.id and finished_at is not null
            order by token desc limit 100
        ) as recent
        where outcome in ('succeeded', 'failed', 'timed_out') limit 1
    ) is true as failing,
    settings_tag(job.*) as settings_tag, job.holder is not null as is_held,
    run.id as run_id, run.server, run.scheduled_at, run.started_at, run.progress,
    greatest(0, extract(epoch from clock.now - run.started_at))::float8 as elapsed,
    last.id as last_id, nullif(last.server, '') as last_server, last.outcome as last_outcome,
    last.started_at as last_started_at, last.finished_at as last_finished_at,
    greatest(0, extract(epoch from last.finished_at - last.started_at))::float8
        as last_seconds,
    last.detail as last_detail
from clock cross join counts
left join cron_pause on until is null or until > clock.now
left join asked_for on true
left join cron_jobs job on job.id = asked_for.id
left join cron_runs run on run.id = job.run_id
left join lateral (
    select * from cron_runs
    where job_id = job.id and finished_at is not null
    order by token desc limit 1
) last on true
order by job.name"
        )
    };
}
const STATUS: &str = status_of!(
    "true",
    "($1::text is null or name > $1)
        and ($2::text is null or position($2 in name) > 0)
        and ($3::text[] is null or state = any ($3))
    order by name limit $4::bigint + 1"
);
const STATUS_OF_ONE: &str = status_of!("name = $1", "true");

impl Jobs {
    /// Reads the jobs that are asked for, and counts all, with one statement: a page of them, and
    /// one more if another page follows.
    ///
    /// # Errors
    /// When the database is away, refuses the query, or does not answer by the deadline.
    pub fn status(&self, deadline: &Deadline, filter: &JobFilter) -> Result<Status, Error> {
        let JobFilter { after, name, states, limit } = filter;
        self.read(deadline, STATUS, &[after, name, states, limit])
    }

    /// Reads one job; none if there is no job of this name.
    ///
    /// # Errors
    /// As of [`Jobs::status`].
    pub fn one(&self, deadline: &Deadline, name: &Name) -> Result<Option<Job>, Error> {
        Ok(self.read(deadline, STATUS_OF_ONE, &[&name.as_str()])?.jobs.pop())
    }

    fn read(
        &self,
        deadline: &Deadline,
        sql: &'static str,
        params: Params<'_>,
    ) -> Result<Status, Error> {
        self.db.run(deadline, |session| {
            let rows = session.query(sql, params)?;
            let now = rows[0].get("now");
            let jobs = rows.iter().filter_map(|row| self.job(row, now)).collect();
            let (pause, counts) = (pause::read(&rows[0]), counts(&rows[0]));
            Ok(Status { now, served_by: self.server.clone(), pause, counts, jobs })
        })
    }

    fn job(&self, row: &Row, now: DateTime<Utc>) -> Option<Job> {
        let name: String = row.get::<_, Option<_>>("name")?;
        let settings = Settings::of(row);
        let function_known = self.functions.contains(&settings.function);
        let started_at: Option<DateTime<Utc>> = row.get("started_at");
        Some(Job {
            name,
            function_known,
            settings,
            state: row.get("state"),
            server: row.get("server"),
            run_id: row.get("run_id"),
            scheduled_at: row.get("scheduled_at"),
            started_at,
            elapsed_seconds: started_at.and(row.get::<_, Option<f64>>("elapsed")).map(to_millis),
            progress: row.get::<_, Option<f64>>("progress").map(to_millis),
            next_run_at: next_run_at(row, now),
            tries: Tries::of(row, function_known),
            last_run: LastRun::of(row),
            settings_tag: row.get("settings_tag"),
        })
    }
}

fn next_run_at(row: &Row, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    if !row.get::<_, bool>("enabled") {
        return None;
    }
    let slot: DateTime<Utc> = row.get("slot");
    let asked_for: Option<DateTime<Utc>> = row.get("requested_at");
    if !row.get::<_, bool>("is_held") {
        return tries::next_attempt_at(row).or(asked_for).or(Some(slot));
    }
    let schedule = Schedule::parse_kept(row.get("schedule")).ok()?;
    match asked_for {
        Some(_) => schedule.after_request(slot, now),
        None => schedule.after(slot, now),
    }
}

fn counts(row: &Row) -> Counts {
    Counts {
        running: row.get("running"),
        waiting: row.get("waiting"),
        due: row.get("due"),
        paused: row.get("paused"),
        stalled: row.get("stalled"),
    }
}

/// Rounds to three decimal places.
pub(super) fn to_millis(number: f64) -> f64 {
    (number * 1_000.0).round() / 1_000.0
}
