//! Leases: every write to a lease or to an open run, each of them one statement.
//!
//! ```text
//!            offer                claim                    end (finished: the next slot)
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

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use log::warn;
use postgres::Row;
use postgres::error::SqlState;

pub(super) use clock::Clock;
pub use end::Outcome;
pub(super) use end::{End, Ended};

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

/// A run whose replica let the lease run out. It is now closed as `abandoned`.
#[derive(Clone, Debug)]
pub(super) struct Orphan {
    pub(super) job: String,
    pub(super) run_id: i64,
    pub(super) server: String,
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
    /// The seconds from the slot, or from the request, to the start, by the database's clock.
    pub(super) late_seconds: f64,
    /// The run of the holder before, whose lease had run out, if this claim is a takeover.
    pub(super) taken_from: Option<Orphan>,
}

/// Claims one job, closes the run that its last holder left open, and opens a new run. `opened`
/// counts the rows of `closed`, so that PostgreSQL closes first. If it inserted first, the index
/// that allows only one open run per job would refuse the new run. It passes by the jobs of a group
/// of which another one has a holder, and claims nothing while everything is paused.
const CLAIM: &str = "\
with picked as (
    select id, name, function, arguments, token, schedule, slot, requested_at from cron_jobs
    where enabled and locked_until < now() and function = any ($1)
        and offered_at <= now() - make_interval(secs => $2) and id <> all ($6)
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
    insert into cron_runs (job_id, job, function, token, server, scheduled_at, started_at)
    select id, name, function, token + 1, $4, coalesce(requested_at, slot), clock_timestamp()
    from picked where (select count(*) from closed) >= 0
    returning id as run_id, job_id, token, started_at, scheduled_at
), claimed as (
    update cron_jobs
    set token = opened.token, holder = $3, run_id = opened.run_id, offered_at = null,
        locked_until = clock_timestamp() + make_interval(secs => $5)
    from opened where cron_jobs.id = opened.job_id
    returning 1
)
select picked.id, name, function, arguments, opened.token, run_id, schedule, slot,
    requested_at is not null as is_requested,
    greatest(0, extract(epoch from started_at - scheduled_at))::float8 as late,
    (select id from closed) as closed_id, (select server from closed) as closed_server
from picked join opened on opened.job_id = picked.id";

/// Locks the job's row until a step's transaction ends. Until then nobody can take the job over,
/// whatever clocks and delays do: each statement that changes the token or the holder first locks
/// the row `for update`. This lock does not wait for a renewal.
const HOLD: &str = "\
select locked_until > clock_timestamp() as is_alive from cron_jobs
where id = $1 and token = $2 and holder = $3
for key share";

/// Renews those leases that nobody has taken over, even if they have run out. It skips a row that
/// somebody else has locked: the replica would lose its other leases if it waited for that row.
const RENEW: &str = "\
with sign as (
    select * from unnest($1::bigint[], $2::bigint[], $3::text[]) as sign (job_id, token, holder)
), own as (
    select id from cron_jobs join sign
        on id = job_id and cron_jobs.token = sign.token and cron_jobs.holder = sign.holder
), free as (
    select cron_jobs.id from cron_jobs join sign
        on id = job_id and cron_jobs.token = sign.token and cron_jobs.holder = sign.holder
    for no key update of cron_jobs skip locked
), renewed as (
    update cron_jobs
    set locked_until = clock_timestamp() + make_interval(secs => $4), offered_at = null
    from free where cron_jobs.id = free.id
    returning cron_jobs.id
)
select own.id, renewed.id is not null as renewed
from own left join renewed on renewed.id = own.id";

/// Writes the progress of runs into the history. It is not part of the renewal, so that a rule that
/// somebody has added to the history's table cannot cost a lease.
const WRITE_PROGRESS: &str = "\
with told as (
    select * from unnest($1::bigint[], $2::bigint[], $3::float8[]) as told (run_id, token, done)
), open as (
    select id, done from cron_runs join told on id = run_id and cron_runs.token = told.token
    where finished_at is null and progress <> done
    for update of cron_runs skip locked
)
update cron_runs set progress = open.done from open where cron_runs.id = open.id";

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

    /// Renews the leases of these runs. Returns, by the ids of their jobs, those that still belong
    /// to this process; false when a lease was not renewed, because somebody has locked the row. A
    /// run that is missing from the result has lost its lease.
    pub(super) fn renew(
        &self,
        session: &mut Session,
        runs: &[&Claimed],
    ) -> Answer<BTreeMap<i64, bool>> {
        let sign = |run: &&Claimed| (run.job_id, run.token, run.holder.clone());
        let (jobs, tokens, holders): (Vec<_>, Vec<_>, Vec<_>) = runs.iter().map(sign).collect();
        let term = self.term.as_secs_f64();
        let rows = session.query(RENEW, &[&jobs, &tokens, &holders, &term])?;
        Ok(rows.iter().map(|row| (row.get("id"), row.get("renewed"))).collect())
    }

    /// Writes the progress of these runs, each from 0 to 1.
    pub(super) fn tell(session: &mut Session, runs: &[(&Claimed, f64)]) -> Answer<()> {
        let progress = |(run, done): &(&Claimed, f64)| (run.run_id, run.token, *done);
        let (ids, tokens, done): (Vec<_>, Vec<_>, Vec<_>) = runs.iter().map(progress).collect();
        session.query(WRITE_PROGRESS, &[&ids, &tokens, &done]).map(drop)
    }
}

impl Orphan {
    /// Logs and counts that this replica has closed the run without taking the job over.
    pub(super) fn tell(&self, metrics: &Metrics) {
        let Orphan { job, run_id: run, server: from_server } = self;
        warn!(
            "event=run_abandoned job={job} run={run} from_server={from_server} reason=\"its lease \
             ran out\""
        );
        metrics.runs.abandoned(job);
    }
}

fn claimed(row: &Row, holder: String) -> Claimed {
    let job: String = row.get("name");
    let orphan = |(run_id, server)| Orphan { job: job.clone(), run_id, server };
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
        is_requested: row.get("is_requested"),
        late_seconds: row.get("late"),
        taken_from: closed.map(orphan),
        job,
    }
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
