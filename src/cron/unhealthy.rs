//! The jobs that somebody should look at: one answer for whoever watches this from outside.

use serde::Serialize;

use super::job::Jobs;
use crate::db::{Deadline, Error, Params};

/// The health of all enabled jobs at one instant.
#[derive(Clone, Debug)]
pub struct JobsHealth {
    /// How many jobs are enabled.
    pub enabled: i64,
    /// Whether everything is paused: then no job is late.
    pub paused: bool,
    /// How many jobs are unhealthy.
    pub unhealthy: i64,
    /// Those of them whose names come first, at most [`UNHEALTHY_MAX`].
    pub first: Vec<UnhealthyJob>,
}

/// A job that somebody should look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnhealthyJob {
    /// The job's name.
    pub name: String,
    /// The most urgent that is true: `overdue`, it still runs more than 5 s after its time was
    /// over; `late`, it has been due for longer than it may; `missed`, its last slot was not run;
    /// `failing`, its last run that succeeded, failed or took too long did not succeed.
    pub reason: String,
}

/// The most jobs that are named.
pub const UNHEALTHY_MAX: i64 = 100;
/// The longest, in seconds, that a job may be due which has no limit of its own.
const LATE_SECONDS: i32 = 300;

/// Judges each enabled job by its row, its open run and its last finished run, which the index of
/// jobs and tokens finds. Only where that one says nothing of the function, such as a run of a
/// replica that was shut down, are up to a hundred before it read. A run whose time is over has 5 s
/// to return, or a monitor would hear of each that ends in time.
const UNHEALTHY: &str = "\
with clock as materialized (
    select clock_timestamp() as now
), pause as materialized (
    select exists (
        select from cron_pause, clock where until is null or until > clock.now
    ) as is_on
), judged as materialized (
    select name, case
        when holder is not null and exists (
            select from cron_runs run where run.id = run_id
                and clock.now - run.started_at > make_interval(secs => run.max_seconds + 5)
        ) then 'overdue'
        when not pause.is_on
            and clock.now - locked_until > make_interval(secs => coalesce(start_within_seconds,
            case when job_group is null or not exists (
                select from cron_jobs other where other.job_group = job.job_group
                    and other.holder is not null and other.id <> job.id
            ) then $1::integer end)) then 'late'
        when last.outcome = 'missed' then 'missed'
        when last.outcome in ('failed', 'timed_out') then 'failing'
        when last.outcome <> 'succeeded' and (
            select outcome <> 'succeeded' from (
                select outcome from cron_runs
                where job_id = job.id and finished_at is not null order by token desc limit 100
            ) as recent
            where outcome in ('succeeded', 'failed', 'timed_out') limit 1
        ) then 'failing'
    end as reason
    from clock, pause, cron_jobs job
    left join lateral (
        select outcome from cron_runs
        where job_id = job.id and finished_at is not null order by token desc limit 1
    ) last on true
    where enabled
), unhealthy as (
    select name, reason from judged where reason is not null order by name limit $2
)
select pause.is_on, unhealthy.name, unhealthy.reason,
    (select count(*) from judged) as enabled,
    (select count(reason) from judged) as all_unhealthy
from pause left join unhealthy on true order by unhealthy.name";

impl Jobs {
    /// Judges all enabled jobs.
    ///
    /// # Errors
    /// When the database is away, refuses the query, or does not answer by the deadline.
    pub fn health(&self, deadline: &Deadline) -> Result<JobsHealth, Error> {
        let params: Params<'_> = &[&LATE_SECONDS, &UNHEALTHY_MAX];
        let rows = self.db.run(deadline, |session| session.query(UNHEALTHY, params))?;
        let unhealthy = |row: &postgres::Row| {
            let name = row.get::<_, Option<String>>("name")?;
            Some(UnhealthyJob { name, reason: row.get("reason") })
        };
        Ok(JobsHealth {
            enabled: rows[0].get("enabled"),
            paused: rows[0].get("is_on"),
            unhealthy: rows[0].get("all_unhealthy"),
            first: rows.iter().filter_map(unhealthy).collect(),
        })
    }
}
