//! Leases: every write to a lease or to an open run, each of them one statement.
//!
//! ```text
//!            offer                claim         end (the next slot, or another try of the same)
//!  waiting ────────▶ due, offered ────────▶ running ──────────────────────────────▶ waiting
//!                       ▲                   │  ▲ │
//!                       │                   └──┘ │ end (cancelled, abandoned: the same slot)
//!                       │                  renew │
//!                       └────────────────────────┴── or the lease runs out: claim takes over
//! ```
//!
//! A claim adds 1 to the job's fencing token and writes the holder. Renewing a lease and ending a
//! run compare both, and never ask whether the lease has run out. So a holder that has lost its
//! lease changes nothing, however late it wakes; and one whose lease has run out keeps the job if
//! nobody has taken it over. A step of a run holds the lease in its own transaction.
//!
//! Only the database compares the instants of a lease; it is sent intervals, in seconds. Fencing
//! tokens: M. Kleppmann, "How to do distributed locking", 2016.

mod clock;
mod end;
mod mend;
mod offer;
mod start;
mod tell;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use log::warn;
use postgres::Row;
use postgres::error::SqlState;

pub(super) use clock::Clock;
pub use end::Outcome;
pub(super) use end::{End, Ended, Written};
pub(super) use start::Start;
pub(super) use tell::News;

use super::job::settings::Arguments;
use crate::db::Session;
use crate::metrics::Metrics;
use crate::random;

/// Writes the leases of one replica.
pub(super) struct Leases {
    /// The replica's name, as people see it. A holder is this name and a nonce.
    pub(super) server: String,
    /// How long a lease lasts after a claim or a renewal.
    pub(super) term: Duration,
    /// An offer that nobody claimed for this long is made again, so that the handicaps count again.
    pub(super) offer_age_max: Duration,
    /// The names of the functions of this build.
    pub(super) functions: Vec<String>,
}

/// A run whose replica let the lease run out. It is now closed.
#[derive(Clone, Debug)]
pub(super) struct Orphan {
    pub(super) job: String,
    pub(super) run_id: i64,
    pub(super) server: String,
    /// Whether somebody had asked to stop it: then it is `stopped`, else `abandoned`.
    pub(super) is_stopped: bool,
}

/// A job that this process has claimed, and the run that the claim opened.
#[derive(Clone, Debug, Default)]
pub(super) struct Claimed {
    pub(super) job_id: i64,
    pub(super) job: String,
    pub(super) function: String,
    pub(super) arguments: Arguments,
    pub(super) token: i64,
    /// The holder in the job's row, different for each claim. The token alone is not enough: a
    /// promoted standby may lack the last claim, and give its token out again.
    pub(super) holder: String,
    pub(super) run_id: i64,
    pub(super) schedule: String,
    pub(super) slot: DateTime<Utc>,
    /// True when somebody asked for this run, so that it is not for the slot.
    pub(super) is_requested: bool,
    /// 1 for the first try of the slot.
    pub(super) attempt: i32,
    /// The longest that the run may take; none for any time.
    pub(super) time_max: Option<Duration>,
    pub(super) start: Start,
    /// What an earlier run of the same slot, or of the same request, has kept to go on from.
    pub(super) checkpoint: Option<String>,
    /// The run of the holder before, whose lease had run out, if this claim is a takeover.
    pub(super) taken_from: Option<Orphan>,
}

/// What a renewal has found of a run that still belongs to this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Renewal {
    /// False when the lease was not renewed, because somebody has locked the row.
    pub(super) is_renewed: bool,
    /// Whether somebody asks to stop the run.
    pub(super) is_stopped: bool,
}

/// Claims one job, closes the run that its last holder left open, and opens a new run. A try that
/// was begun goes on by its number; a slot that is past its deadline is not begun by this. `opened`
/// counts the rows of `closed`, so that PostgreSQL closes first. If it inserted first, the index
/// that allows only one open run per job would refuse the new run. It passes by the jobs of a group
/// of which another one has a holder, and claims nothing while everything is paused.
///
/// A checkpoint counts only for the slot, or the request, that it was written for, and only if the
/// run before called the same function.
const CLAIM: &str = "\
with picked as (
    select id, name, function, arguments, token, schedule, slot, requested_at, tried_at,
        max_seconds, start_within_seconds, catch_up,
        case when tried_at = coalesce(requested_at, slot) and attempt > 0 then attempt end as tried,
        requested_at is null and now() > slot + make_interval(secs => start_within_seconds)
            as is_past_deadline,
        case when tried_at = coalesce(requested_at, slot) and exists (
            select from cron_runs before where before.job_id = cron_jobs.id
                and before.token = cron_jobs.token and before.function = cron_jobs.function
        ) then checkpoint end as checkpoint
    from cron_jobs
    where enabled and locked_until < now() and function = any ($1)
        and offered_at <= now() - make_interval(secs => $2) and id <> all ($6)
        and (stop_run = run_id) is not true and (run_id is null
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
        (job_id, job, function, token, server, scheduled_at, started_at, attempt)
    select id, name, function, token + 1, $4, coalesce(requested_at, slot), clock_timestamp(),
        coalesce(tried, 1)
    from picked where (select count(*) from closed) >= 0
    returning id as run_id, job_id, token, started_at, scheduled_at, attempt
), claimed as (
    update cron_jobs
    set token = opened.token, holder = $3, run_id = opened.run_id, offered_at = null,
        locked_until = clock_timestamp() + make_interval(secs => $5), attempt = opened.attempt,
        tried_at = case
            when tried is null and is_past_deadline then picked.tried_at else scheduled_at end,
        checkpoint = picked.checkpoint
    from opened join picked on picked.id = job_id where cron_jobs.id = job_id
    returning 1
)
select picked.id, name, function, arguments, opened.token, run_id, schedule, slot, picked.checkpoint,
    requested_at is not null as is_requested, attempt, max_seconds, started_at,
    greatest(0, extract(epoch from started_at - scheduled_at))::float8 as late,
    tried is null and requested_at is null as is_first, catch_up = 'one' as catches_up,
    start_within_seconds, is_past_deadline is true as is_past_deadline,
    (select id from closed) as closed_id, (select server from closed) as closed_server
from picked join opened on opened.job_id = picked.id";

/// Locks the job's row until a step's transaction ends. Until then nobody can take the job over,
/// whatever clocks and delays do: each statement that changes the token or the holder first locks
/// the row `for update`. This lock does not wait for a renewal.
const HOLD: &str = "\
select locked_until > clock_timestamp() as is_alive from cron_jobs
where id = $1 and token = $2 and holder = $3
for key share";

/// Renews those leases that nobody has taken over, even if they have run out, and keeps the newest
/// checkpoints. It skips a row that somebody else has locked: the replica would lose its other
/// leases if it waited for that row.
const RENEW: &str = "\
with sign as (
    select * from unnest($1::bigint[], $2::bigint[], $3::text[], $5::text[])
        as sign (job_id, token, holder, checkpoint)
), own as (
    select id, (stop_run = run_id) is true as is_stopped from cron_jobs join sign
        on id = job_id and cron_jobs.token = sign.token and cron_jobs.holder = sign.holder
), free as (
    select cron_jobs.id, sign.checkpoint from cron_jobs join sign
        on id = job_id and cron_jobs.token = sign.token and cron_jobs.holder = sign.holder
    for no key update of cron_jobs skip locked
), renewed as (
    update cron_jobs
    set locked_until = clock_timestamp() + make_interval(secs => $4), offered_at = null,
        checkpoint = coalesce(free.checkpoint, cron_jobs.checkpoint)
    from free where cron_jobs.id = free.id
    returning cron_jobs.id
)
select own.id, is_stopped, renewed.id is not null as renewed
from own left join renewed on renewed.id = own.id";

type Answer<T> = Result<T, postgres::Error>;

impl Leases {
    /// Claims the job with the oldest offer that is not skipped, if the offer is at least as old as
    /// the handicap. None if there is no such job, or if another replica was faster. Skips the jobs
    /// whose functions this process still runs (`held`), even if their leases are lost, and the
    /// `refused` oldest offers.
    pub(super) fn claim(
        &self,
        session: &mut Session,
        handicap: Duration,
        held: &[i64],
        refused: i64,
    ) -> Answer<Option<Claimed>> {
        let (handicap, term) = (handicap.as_secs_f64(), self.term.as_secs_f64());
        let holder = format!("{}#{:016x}", self.server, random::bits());
        let params: &[&(dyn postgres::types::ToSql + Sync)] =
            &[&self.functions, &handicap, &holder, &self.server, &term, &held, &refused];
        match session.query_opt(CLAIM, params) {
            Ok(row) => Ok(row.map(|row| claimed(&row, holder))),
            Err(error) if is_somebody_faster(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Holds the lease of a run until the transaction ends. False when the lease has run out, but
    /// can still be renewed; none when the job is not this process's own any more.
    pub(super) fn hold(session: &mut Session, run: &Claimed) -> Answer<Option<bool>> {
        let row = session.query_opt(HOLD, &[&run.job_id, &run.token, &run.holder])?;
        Ok(row.map(|row| row.get("is_alive")))
    }

    /// Renews the leases of these runs, and keeps the new checkpoint of each that has one. Returns,
    /// by the ids of their jobs, those that still belong to this process. A run that is missing from
    /// the result has lost its lease.
    pub(super) fn renew(
        &self,
        session: &mut Session,
        runs: &[&Claimed],
        checkpoints: &[Option<Arc<str>>],
    ) -> Answer<BTreeMap<i64, Renewal>> {
        let sign = |run: &&Claimed| (run.job_id, run.token, run.holder.clone());
        let (jobs, tokens, holders): (Vec<_>, Vec<_>, Vec<_>) = runs.iter().map(sign).collect();
        let checkpoints: Vec<Option<&str>> = checkpoints.iter().map(Option::as_deref).collect();
        let term = self.term.as_secs_f64();
        let rows = session.query(RENEW, &[&jobs, &tokens, &holders, &term, &checkpoints])?;
        let renewal = |row: &Row| Renewal {
            is_renewed: row.get("renewed"),
            is_stopped: row.get("is_stopped"),
        };
        Ok(rows.iter().map(|row| (row.get("id"), renewal(row))).collect())
    }
}

impl Orphan {
    /// Logs and counts that this replica has closed the run without taking the job over.
    pub(super) fn tell(&self, metrics: &Metrics) {
        let Orphan { job, run_id: run, server: from_server, is_stopped } = self;
        if *is_stopped {
            warn!(
                "event=run_stopped job={job} run={run} from_server={from_server} reason=\"somebody \
                 asked to stop it, and its lease ran out\""
            );
            return metrics.runs.closed(job, Outcome::Stopped.name());
        }
        warn!(
            "event=run_abandoned job={job} run={run} from_server={from_server} reason=\"its lease \
             ran out\""
        );
        metrics.runs.closed(job, Outcome::Abandoned.name());
    }
}

fn claimed(row: &Row, holder: String) -> Claimed {
    let job: String = row.get("name");
    let orphan = |(run_id, server)| Orphan { job: job.clone(), run_id, server, is_stopped: false };
    let closed = row.get::<_, Option<i64>>("closed_id").zip(row.get("closed_server"));
    Claimed {
        job_id: row.get("id"),
        function: row.get("function"),
        arguments: Arguments::kept(row.get("arguments")),
        token: row.get("token"),
        holder,
        run_id: row.get("run_id"),
        schedule: row.get("schedule"),
        slot: row.get("slot"),
        checkpoint: row.get("checkpoint"),
        is_requested: row.get("is_requested"),
        attempt: row.get("attempt"),
        time_max: row.get::<_, Option<i32>>("max_seconds").map(seconds),
        start: Start::of(row),
        taken_from: closed.map(orphan),
        job,
    }
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
