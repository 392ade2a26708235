//! The one statement that takes a due job.

use std::time::Duration;

use chrono::{DateTime, Utc};
use postgres::Row;
use postgres::error::SqlState;

use super::{FromDatabase, Leases, Orphan, Start};
use crate::cron::job::settings::Arguments;
use crate::db::{Params, Session, from_row};
use crate::random;

/// A job that this process has claimed, and the run that the claim opened.
#[derive(Clone, Debug, Default)]
pub(in crate::cron) struct Claimed {
    pub(in crate::cron) job_id: i64,
    pub(in crate::cron) job: String,
    pub(in crate::cron) function: String,
    pub(in crate::cron) arguments: Arguments,
    pub(in crate::cron) token: i64,
    /// The holder in the job's row, different for each claim. The token alone is not enough: a
    /// promoted standby may lack the last claim, and give its token out again.
    pub(in crate::cron) holder: String,
    pub(in crate::cron) run_id: i64,
    pub(in crate::cron) schedule: String,
    pub(in crate::cron) slot: DateTime<Utc>,
    /// True when somebody asked for this run, so that it is not for the slot.
    pub(in crate::cron) is_requested: bool,
    /// 1 for the first try of the slot.
    pub(in crate::cron) attempt: i32,
    /// The longest that the run may take; none for any time.
    pub(in crate::cron) time_max: Option<Duration>,
    pub(in crate::cron) start: Start,
    /// What an earlier run of the same slot, or of the same request, has kept to go on from.
    pub(in crate::cron) checkpoint: Option<String>,
    /// The run of the holder before, whose lease had run out, if this claim is a takeover.
    pub(in crate::cron) taken_from: Option<Orphan>,
}

/// Claims one job, closes the run that its last holder left open, and opens a new run. A try that
/// was begun goes on by its number; a slot that is past its deadline is not begun by this. For how
/// long this replica had to leave the job to others, `$2`, makes no slot late. `opened`
/// counts the rows of `closed`, so that PostgreSQL closes first. If it inserted first, the index
/// that allows only one open run per job would refuse the new run.
///
/// It passes by the jobs of a group of which another one has a holder, and claims nothing while
/// everything is paused. It compares ages of offers, not instants: for an instant PostgreSQL reads
/// and sorts all offers before it, which can be thousands, and for an age it takes the oldest.
///
/// A checkpoint counts only for the slot, or the request, that it was written for, and only if the
/// run before called the same function.
const CLAIM: &str = "\
with picked as (
    select id, name, function, arguments, token, schedule, slot, requested_at, tried_at,
        max_seconds, start_within_seconds, catch_up,
        case when tried_at = coalesce(requested_at, slot) and attempt > 0 then attempt end as tried,
        requested_at is null
            and now() > slot + make_interval(secs => start_within_seconds + $2::float8)
            as is_past_deadline,
        case when tried_at = coalesce(requested_at, slot) and function = (
            select before.function from cron_runs before
            where before.job_id = cron_jobs.id and before.token = cron_jobs.token
        ) then checkpoint end as checkpoint
    from cron_jobs
    where enabled and locked_until < now() and function = any ($1)
        and offered_at is not null and now() - offered_at >= make_interval(secs => $2)
        and id <> all ($6) and (stop_run = run_id) is not true
        and (run_id is null
            or exists (select from cron_runs where cron_runs.id = run_id for update skip locked)
            or not exists (select from cron_runs where cron_runs.id = run_id))
        and (job_group is null or not exists (
            select from cron_jobs other where other.job_group = cron_jobs.job_group
                and other.holder is not null and other.id <> cron_jobs.id))
        and not exists (select from cron_pause where until is null or until > now())
    order by offered_at, id offset $7 limit 1
    for update skip locked
), closed as (
    update cron_runs
    set outcome = 'abandoned', finished_at = clock_timestamp(),
        detail = 'the lease of ' || server || ' ran out, and ' || $4 || ' took over'
    where job_id = (select id from picked) and finished_at is null
    returning id, server
), opened as (
    insert into cron_runs
        (job_id, job, function, token, server, scheduled_at, started_at, attempt, max_seconds)
    select id, name, function, token + 1, $4, coalesce(requested_at, slot), clock_timestamp(),
        coalesce(tried, 1), max_seconds
    from picked where (select count(*) from closed) >= 0
    returning id as run_id, job_id, token, started_at, scheduled_at, attempt
), claimed as (
    update cron_jobs
    set token = opened.token, holder = $3, run_id = opened.run_id, offered_at = null,
        locked_until = clock_timestamp() + make_interval(secs => $5),
        attempt = opened.attempt,
        tried_at = case
            when tried is null and is_past_deadline then picked.tried_at else scheduled_at end,
        checkpoint = picked.checkpoint
    from opened join picked on picked.id = job_id where cron_jobs.id = job_id
    returning 1
)
select picked.id, name, function, arguments, opened.token, run_id, schedule, slot,
    picked.checkpoint,
    requested_at is not null as is_requested, attempt, max_seconds,
    started_at - make_interval(secs => $2) as judged_at,
    greatest(0, extract(epoch from started_at - scheduled_at))::float8 as late,
    tried is null and requested_at is null as is_first, catch_up = 'one' as catches_up,
    start_within_seconds, is_past_deadline is true as is_past_deadline,
    (select id from closed) as closed_id, (select server from closed) as closed_server
from picked join opened on opened.job_id = picked.id";

impl Leases {
    /// Claims the job with the oldest offer that is not skipped, if the offer is at least as old as
    /// the handicap. None if there is no such job, or if another replica was faster. Skips the jobs
    /// whose functions this process still runs (`held`), even if their leases are lost, and the
    /// `refused` oldest offers.
    pub(in crate::cron) fn claim(
        &self,
        session: &mut Session,
        handicap: Duration,
        held: &[i64],
        refused: i64,
    ) -> FromDatabase<Option<Claimed>> {
        let (handicap, term) = (handicap.as_secs_f64(), self.term.as_secs_f64());
        let holder = format!("{}#{:016x}", self.server, random::bits());
        let params: Params<'_> =
            &[&self.functions, &handicap, &holder, &self.server, &term, &held, &refused];
        match session.query_opt(CLAIM, params) {
            Ok(row) => Ok(row.map(|row| claimed(&row, holder))),
            Err(error) if is_somebody_faster(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn claimed(row: &Row, holder: String) -> Claimed {
    let job: String = row.get("name");
    let orphan = |(run_id, server)| Orphan { job: job.clone(), run_id, server, is_stopped: false };
    let closed = row.get::<_, Option<i64>>("closed_id").zip(row.get("closed_server"));
    from_row!(row => Claimed {
        function, token, run_id, schedule, slot, checkpoint, is_requested, attempt;
        job_id: row.get("id"),
        arguments: Arguments::kept(row.get("arguments")),
        holder,
        time_max: row.get::<_, Option<i32>>("max_seconds").map(seconds),
        start: Start::of(row),
        taken_from: closed.map(orphan),
        job,
    })
}

/// The table has no number of seconds below 0.
fn seconds(number: i32) -> Duration {
    Duration::from_secs(u64::from(number.unsigned_abs()))
}

/// True when another replica has just opened a run of this job, or of another one of its group: the
/// indexes allow only one.
fn is_somebody_faster(error: &postgres::Error) -> bool {
    let refusal = error.as_db_error();
    refusal.is_some_and(|refusal| {
        *refusal.code() == SqlState::UNIQUE_VIOLATION
            && matches!(refusal.constraint(), Some("one_open_run_a_job" | "one_run_a_group"))
    })
}
