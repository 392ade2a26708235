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

mod claim;
mod clock;
mod end;
mod mend;
mod offer;
mod start;
mod tell;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use log::warn;
use postgres::Row;

pub(super) use claim::Claimed;
pub(super) use clock::Clock;
pub use end::Outcome;
pub(super) use end::{End, Ended, Written};
pub(super) use start::Start;
pub(super) use tell::News;

use crate::db::{FromDatabase, Session};
use crate::metrics::Metrics;

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

/// What a renewal has found of a run that still belongs to this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Renewal {
    /// False when the lease was not renewed, because somebody has locked the row.
    pub(super) is_renewed: bool,
    /// Whether somebody asks to stop the run.
    pub(super) is_stopped: bool,
}

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

impl Leases {
    /// Holds the lease of a run until the transaction ends. False when the lease has run out, but
    /// can still be renewed; none when the job is not this process's own any more.
    pub(super) fn hold(session: &mut Session, run: &Claimed) -> FromDatabase<Option<bool>> {
        let row = session.query_opt(HOLD, &[&run.job_id, &run.token, &run.holder])?;
        Ok(row.map(|row| row.get("is_alive")))
    }

    /// Renews the leases of these runs, and keeps the new checkpoint of each that has one. Returns,
    /// by the ids of their jobs, those that still belong to this process; a run that is missing has
    /// lost its lease.
    pub(super) fn renew(
        &self,
        session: &mut Session,
        runs: &[&Claimed],
        checkpoints: &[Option<Arc<str>>],
    ) -> FromDatabase<BTreeMap<i64, Renewal>> {
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
