//! The state of every job. One query reads it from the rows that the replicas write, so that each
//! replica gives the same answer.

mod counts;
mod last_run;
mod tries;

use chrono::{DateTime, Utc};
use postgres::Row;
use serde::Serialize;

use super::conditions::conditions_of_a_job;
use super::job::Jobs;
use super::job::settings::Settings;
use super::name::Name;
use super::pause::{self, Pause};
use super::schedule::Schedule;
use crate::db::{Deadline, Error, Params};
use crate::timestamp;
pub use counts::{CONDITIONS, Conditions, Counts, STATES};
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
    /// Jobs that [`Conditions`] counts under one of these names.
    pub conditions: Option<Vec<String>>,
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
    /// How many jobs there is something to say of, whether they were asked for or not.
    pub conditions: Conditions,
    /// The jobs that were asked for, sorted by name.
    pub jobs: Vec<Job>,
}

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
    end as state, enabled, overdue, missed, failing, retrying
    from clock cross join cron_jobs job
    ",
            conditions_of_a_job!(),
            "
    where ",
            $known,
            "
), counts as (
    select count(*) filter (where state = 'running') as running,
        count(*) filter (where state = 'waiting') as waiting,
        count(*) filter (where state = 'due') as due,
        count(*) filter (where state = 'paused') as paused,
        count(*) filter (where state = 'stalled') as stalled,
        count(*) filter (where enabled and failing) as all_failing,
        count(*) filter (where overdue) as all_overdue,
        count(*) filter (where enabled and missed) as all_missed,
        count(*) filter (where retrying) as all_retrying
    from known
), asked_for as (
    select id, state, overdue, failing is true as failing, retrying from known where ",
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
    asked_for.retrying, asked_for.overdue, asked_for.failing,
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
        and ($5::text[] is null or enabled and failing and 'failing' = any ($5)
            or overdue and 'overdue' = any ($5) or enabled and missed and 'missed' = any ($5)
            or retrying and 'retrying' = any ($5))
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
        let JobFilter { after, name, states, conditions, limit } = filter;
        self.read(deadline, STATUS, &[after, name, states, limit, conditions])
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
            Ok(Status {
                now,
                served_by: self.server.clone(),
                pause: pause::read(&rows[0]),
                counts: Counts::of(&rows[0]),
                conditions: Conditions::of(&rows[0]),
                jobs,
            })
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

/// Rounds to three decimal places.
pub(super) fn to_millis(number: f64) -> f64 {
    (number * 1_000.0).round() / 1_000.0
}
