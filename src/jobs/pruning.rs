//! Jobs that delete rows that are no longer needed, a thousand in each step.

use super::{Pace, Params};
use crate::cron::Failure;

const ROWS_A_STEP: i64 = 1_000;
const LINES_A_STEP: i64 = 10_000;

/// Clients are promised that a key is kept for 24 hours.
const KEYS: &str = "\
with old as (
    select user_id, key from idempotency_keys
    where created_at < now() - interval '24 hours'
    order by created_at limit $1
), gone as (
    delete from idempotency_keys using old
    where idempotency_keys.user_id = old.user_id and idempotency_keys.key = old.key
    returning 1
)
select count(*) from gone";

/// Keys of new users are kept as long as those of changes.
const CREATION_KEYS: &str = "\
with old as (
    select key from creation_keys
    where created_at < now() - interval '24 hours'
    order by created_at limit $1
), gone as (
    delete from creation_keys using old where creation_keys.key = old.key returning 1
)
select count(*) from gone";

/// And so are those of sets.
const SET_KEYS: &str = "\
with old as (
    select key from set_keys
    where created_at < now() - interval '24 hours'
    order by created_at limit $1
), gone as (
    delete from set_keys using old where set_keys.key = old.key returning 1
)
select count(*) from gone";

/// A job's last run stays, however old, so that the status can show it. A run goes with its lines;
/// where so many runs have more lines than `$3`, so many lines go first, and then the step is done
/// again.
const RUNS: &str = "\
with old as (
    select id from cron_runs run
    where finished_at < now() - make_interval(days => $2)
        and (
            exists (
                select from cron_runs later
                where later.job_id = run.job_id and later.token > run.token
                    and later.finished_at is not null
            )
            or not exists (select from cron_jobs where id = run.job_id)
        )
    order by finished_at limit $1
), spare as (
    select run_id, number from old join cron_run_lines on run_id = old.id limit $3
), silenced as (
    delete from cron_run_lines line using spare
    where line.run_id = spare.run_id and line.number = spare.number
), gone as (
    delete from cron_runs using old
    where cron_runs.id = old.id and (select count(*) from spare) < $3
    returning 1
)
select (select count(*) from gone) as gone,
    (select count(*) from old) = $1 or (select count(*) from spare) = $3 as goes_on";

/// Who changed what of a job is kept as long as runs are.
const JOB_CHANGES: &str = "\
with old as (
    select id from cron_job_changes
    where changed_at < now() - make_interval(days => $2)
    order by changed_at limit $1
), gone as (
    delete from cron_job_changes using old where cron_job_changes.id = old.id returning 1
)
select count(*) from gone";

/// Deletes idempotency keys older than a day: those of changes, of new users, and of sets.
pub(super) fn idempotency_keys(pace: &Pace<'_>) -> Result<String, Failure> {
    let gone = in_steps(pace, KEYS, &[&ROWS_A_STEP])?;
    let gone = gone + in_steps(pace, CREATION_KEYS, &[&ROWS_A_STEP])?;
    let gone = gone + in_steps(pace, SET_KEYS, &[&ROWS_A_STEP])?;
    Ok(format!("keys older than 24 hours that were deleted: {gone}"))
}

/// Deletes runs that ended more than `days` days ago, except each job's last one, and what people
/// changed of jobs before.
pub(super) fn runs(pace: &Pace<'_>, days: u32) -> Result<String, Failure> {
    let days = i32::try_from(days).unwrap_or(i32::MAX);
    let mut gone = 0;
    loop {
        let row = pace
            .context
            .step(|session| session.query_one(RUNS, &[&ROWS_A_STEP, &days, &LINES_A_STEP]))?;
        gone += row.get::<_, i64>("gone");
        if !row.get::<_, bool>("goes_on") {
            break;
        }
    }
    in_steps(pace, JOB_CHANGES, &[&ROWS_A_STEP, &days])?;
    Ok(format!("runs older than {days} days that were deleted: {gone}"))
}

fn in_steps(pace: &Pace<'_>, sql: &'static str, params: Params<'_>) -> Result<i64, Failure> {
    let mut gone = 0;
    loop {
        let now_gone: i64 =
            pace.context.step(|session| Ok(session.query_one(sql, params)?.get(0)))?;
        gone += now_gone;
        if now_gone < ROWS_A_STEP {
            return Ok(gone);
        }
    }
}
