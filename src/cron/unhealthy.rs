//! The jobs that somebody should look at: one answer for whoever watches this from outside.

use serde::Serialize;

use super::conditions::conditions_of_a_job;
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

/// Judges each enabled job.
const UNHEALTHY: &str = concat!(
    "\
with clock as materialized (
    select clock_timestamp() as now
), pause as materialized (
    select exists (
        select from cron_pause, clock where until is null or until > clock.now
    ) as is_on
), judged as materialized (
    select name, case
        when overdue then 'overdue'
        when not pause.is_on
            and clock.now - locked_until > make_interval(secs => coalesce(start_within_seconds,
            case when job_group is null or not exists (
                select from cron_jobs other where other.job_group = job.job_group
                    and other.holder is not null and other.id <> job.id
            ) then $1::integer end)) then 'late'
        when missed then 'missed'
        when failing then 'failing'
    end as reason
    from clock cross join pause cross join cron_jobs job
    ",
    conditions_of_a_job!(),
    "
    where enabled
), unhealthy as (
    select name, reason from judged where reason is not null order by name limit $2
)
select pause.is_on, unhealthy.name, unhealthy.reason,
    (select count(*) from judged) as enabled,
    (select count(reason) from judged) as all_unhealthy
from pause left join unhealthy on true order by unhealthy.name"
);

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
