//! The lease: every write to a lease and to an open run, each one statement.
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
//! A claim adds 1 to the job's fencing token and writes the holder. Renewing and ending are guarded
//! by both and by nothing else: a holder which lost its lease, however late it wakes, changes
//! nothing, and one whose lease has run out keeps the job, and records its end, if nobody has taken
//! it over. A step of a run holds the lease in its own transaction.
//!
//! Instants are compared by the database alone; what goes there are intervals, in seconds.
//! Fencing tokens: M. Kleppmann, "How to do distributed locking", 2016.

mod clock;
mod end;
mod mend;
mod offer;

use std::time::Duration;

use chrono::{DateTime, Utc};
use log::warn;
use postgres::Row;
use postgres::error::SqlState;

pub(super) use clock::Clock;
pub use end::Outcome;
pub(super) use end::{End, Ended};

use crate::db::Session;
use crate::metrics::Metrics;

/// One replica's way to write leases.
pub(super) struct Leases {
    /// The replica's name, as people see it.
    pub(super) server: String,
    /// How long a claim or a renewal holds.
    pub(super) term: Duration,
    /// An offer that nobody took for this long is made anew, so that late replicas start level.
    pub(super) offer_age_max: Duration,
    /// The functions that this build knows.
    pub(super) functions: Vec<String>,
}

/// A run that a replica left open when its lease ran out, closed now as abandoned.
#[derive(Clone, Debug)]
pub(super) struct Orphan {
    pub(super) job: String,
    pub(super) run_id: i64,
    pub(super) server: String,
}

/// A job taken by this process.
#[derive(Clone, Debug, Default)]
pub(super) struct Claimed {
    pub(super) job_id: i64,
    pub(super) job: String,
    pub(super) function: String,
    pub(super) token: i64,
    /// As the row has it. Each claim has a value of its own: a promoted standby may have forgotten
    /// one, and give its token again.
    pub(super) holder: String,
    pub(super) run_id: i64,
    pub(super) schedule: String,
    pub(super) slot: DateTime<Utc>,
    /// The run is not for the slot: somebody asked for it.
    pub(super) is_requested: bool,
    /// How late the run starts after its slot, in seconds, by the database's clock.
    pub(super) late_seconds: f64,
    /// The run whose lease had run out, if this is a takeover.
    pub(super) taken_from: Option<Orphan>,
}

/// The jobs that a claim leaves alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leave<'a> {
    /// Those that this process still works at, whoever has their leases.
    pub(super) held: &'a [i64],
    /// So many of the oldest offers.
    pub(super) first: i64,
}

/// A lease that is this process's own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    pub(super) job_id: i64,
    pub(super) token: i64,
    /// False when somebody else has locked the row at this moment.
    pub(super) renewed: bool,
}

/// Takes one job, closes the run that its last holder left open, and opens the new one. The order
/// is forced: `opened` has to count what `closed` did, else the insert could come first and meet
/// the index that allows one open run a job.
const CLAIM: &str = "\
with picked as (
    select id, name, function, token, schedule, slot, requested_at from cron_jobs
    where enabled and locked_until < now() and function = any ($1)
        and offered_at <= now() - make_interval(secs => $2) and id <> all ($6)
        and (run_id is null
            or exists (select from cron_runs where cron_runs.id = run_id for update skip locked)
            or not exists (select from cron_runs where cron_runs.id = run_id))
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
select picked.id, name, function, opened.token, run_id, schedule, slot,
    requested_at is not null as is_requested,
    greatest(0, extract(epoch from started_at - scheduled_at))::float8 as late,
    (select id from closed) as closed_id, (select server from closed) as closed_server
from picked join opened on opened.job_id = picked.id";

/// Holds a lease for the rest of a transaction, in which a step of its run is made: as long as it
/// lasts nobody can take the job, whatever clocks and delays do. Everything that changes the token
/// or the holder locks the row `for update` first; this does not wait for a renewal.
const HOLD: &str = "\
select locked_until > clock_timestamp() as is_alive from cron_jobs
where id = $1 and token = $2 and holder = $3
for key share";

/// Renews the leases of a replica that nobody has taken, be they alive or not. A row that somebody
/// else has locked is left for the next time, so that it does not cost the replica its other
/// leases.
const RENEW: &str = "\
with sign as (
    select * from unnest($1::bigint[], $2::bigint[], $3::text[]) as sign (job_id, token, holder)
), own as (
    select id, cron_jobs.token from cron_jobs join sign
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
select own.id, own.token, renewed.id is not null as renewed
from own left join renewed on renewed.id = own.id";

/// Tells how much of some runs is done. No part of their renewal: somebody's rule for the history
/// must not cost a lease.
const TELL: &str = "\
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
    /// Takes the job whose offer is the oldest of those that are not left, if that is as old as the
    /// handicap. None also when another replica was faster.
    pub(super) fn claim(
        &self,
        session: &mut Session,
        handicap: Duration,
        leave: Leave<'_>,
        nonce: u64,
    ) -> Answer<Option<Claimed>> {
        let (handicap, term) = (handicap.as_secs_f64(), self.term.as_secs_f64());
        let holder = format!("{}#{nonce:016x}", self.server);
        let Leave { held, first } = leave;
        let params: &[&(dyn postgres::types::ToSql + Sync)] =
            &[&self.functions, &handicap, &holder, &self.server, &term, &held, &first];
        match session.query_opt(CLAIM, params) {
            Ok(row) => Ok(row.map(|row| claimed(&row, holder))),
            Err(error) if is_somebody_faster(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Holds the lease of a run until the transaction's end; false when it has ended, and none
    /// when it is another's. One that has ended may still be renewed.
    pub(super) fn hold(&self, session: &mut Session, run: &Claimed) -> Answer<Option<bool>> {
        let row = session.query_opt(HOLD, &[&run.job_id, &run.token, &run.holder])?;
        Ok(row.map(|row| row.get("is_alive")))
    }

    /// Renews the leases of these runs; the answer has those that are this process's own. The
    /// others are lost.
    pub(super) fn renew(&self, session: &mut Session, runs: &[&Claimed]) -> Answer<Vec<Own>> {
        let jobs: Vec<i64> = runs.iter().map(|run| run.job_id).collect();
        let tokens: Vec<i64> = runs.iter().map(|run| run.token).collect();
        let holders: Vec<&str> = runs.iter().map(|run| &*run.holder).collect();
        let term = self.term.as_secs_f64();
        let rows = session.query(RENEW, &[&jobs, &tokens, &holders, &term])?;
        let own = |row: &Row| Own {
            job_id: row.get("id"),
            token: row.get("token"),
            renewed: row.get("renewed"),
        };
        Ok(rows.iter().map(own).collect())
    }

    /// Tells how much of these runs is done.
    pub(super) fn tell(session: &mut Session, runs: &[(&Claimed, f64)]) -> Answer<()> {
        let ids: Vec<i64> = runs.iter().map(|(run, _)| run.run_id).collect();
        let tokens: Vec<i64> = runs.iter().map(|(run, _)| run.token).collect();
        let done: Vec<f64> = runs.iter().map(|(_, done)| *done).collect();
        session.query(TELL, &[&ids, &tokens, &done]).map(drop)
    }
}

impl Orphan {
    /// Logs and counts that this replica has closed it without taking the job over.
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

/// The index that allows one open run a job has refused the second.
fn is_somebody_faster(error: &postgres::Error) -> bool {
    let refusal = error.as_db_error();
    refusal.is_some_and(|refusal| {
        *refusal.code() == SqlState::UNIQUE_VIOLATION
            && refusal.constraint() == Some("one_open_run_a_job")
    })
}
