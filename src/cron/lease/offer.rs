//! What is due: offered to all replicas at one instant, unless the database's clock has jumped.
//!
//! A jump forward ends leases whose holders are alive. So a poll brings the database's instant of
//! the poll before, and the time that has passed here since; while a jump may be the reason, and in
//! a replica's first half lease, it offers no job that has a holder. The holder learns of the jump
//! by its own polls, and renews.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use postgres::Row;

use super::{Answer, Leases, Orphan};
use crate::db::Session;

/// The database's clock, as this replica's polls have seen it.
#[derive(Clone, Copy, Debug)]
pub(in crate::cron) struct Seen {
    /// What it showed at the last poll.
    at: DateTime<Utc>,
    /// Here, when that was known: not before the database read its clock.
    known: Instant,
    /// Here, when the first poll was answered.
    first: Instant,
    /// Here, when the last jump forward was found out.
    jumped: Option<Instant>,
}

/// What a poll has found.
#[derive(Debug)]
pub(in crate::cron) struct Offers {
    /// Jobs due and free, at most [`DUE_COUNTED_MAX`].
    pub(in crate::cron) due: i64,
    /// For how long the oldest of them has been offered.
    pub(in crate::cron) oldest: Duration,
    /// Due jobs whose functions this build does not know, each `job function`: left to others.
    pub(in crate::cron) unknown: Vec<String>,
    /// Jobs that perhaps nobody would take over from a dead replica: paused, or unknown here.
    pub(in crate::cron) orphaned: Vec<i64>,
    pub(in crate::cron) seen: Seen,
    /// By how many seconds the database's clock has jumped since the poll before; below 0 when it
    /// was set back.
    pub(in crate::cron) jump: Option<f64>,
}

const DUE_COUNTED_MAX: i64 = 100;
/// In seconds: a tenth of the shortest lease there can be. No holder relies on the last tenth of
/// its lease, so a jump of less does no harm.
const JUMP_MIN: f64 = 0.3;
/// In seconds.
const SET_BACK_MIN: f64 = 1.0;

/// Stamps what is due and free. Rows that somebody has locked are left for the next time: one of
/// them must not keep all the others from being run.
///
/// A row that has a holder is stamped only a whole term of its lease after a jump forward, and half
/// of one after this replica's start.
const OFFER: &str = "\
with clock as materialized (
    select coalesce(extract(epoch from now() - $4::timestamptz)::float8 - $5, 0) as ahead
), expired as materialized (
    select id, enabled, function, locked_until,
        ahead > greatest(0.3, lease_seconds(cron_jobs) / 10) as may_be_by_a_jump,
        $6 > lease_seconds(cron_jobs) and $7 > lease_seconds(cron_jobs) / 2 as has_rested
    from cron_jobs cross join clock
    where holder is not null and locked_until < now()
        and (not enabled or (enabled and offered_at is null))
), over as (
    select * from expired where has_rested and not may_be_by_a_jump
), due as (
    select id from cron_jobs
    where enabled and locked_until < now() and function = any ($1)
        and (offered_at is null or offered_at < now() - make_interval(secs => $2)
            or offered_at > now() + interval '1 second')
        and (holder is null or offered_at is not null or id in (select id from over))
    for update skip locked
), offered as (
    update cron_jobs set offered_at = now() from due where cron_jobs.id = due.id
    returning 1
), earlier as (
    select offered_at from cron_jobs
    where enabled and locked_until < now() and function = any ($1)
        and offered_at >= now() - make_interval(secs => $2) and offered_at <= now()
    order by offered_at limit $3
)
select now() as at, ahead,
    exists (select from expired where may_be_by_a_jump) as ends_leases,
    (select count(*) from offered) + (select count(*) from earlier) as due,
    coalesce((select extract(epoch from now() - min(offered_at)) from earlier), 0)::float8
        as oldest,
    array(
        select name || ' ' || function from cron_jobs
        where enabled and offered_at is null and locked_until < now() and function <> all ($1)
        order by locked_until limit 10
    ) as unknown,
    array(
        select id from over where not enabled or function <> all ($1)
        order by locked_until limit 10
    ) as orphaned
from clock";

/// Closes the run that a dead replica left open, and frees its job.
const FREE: &str = "\
with orphaned as (
    select id, run_id from cron_jobs
    where id = $1 and holder is not null and locked_until < now()
        and exists (select from cron_runs where id = run_id for update skip locked)
    for update skip locked
), closed as (
    update cron_runs
    set outcome = 'abandoned', finished_at = clock_timestamp(),
        detail = 'the lease of ' || server || ' ran out'
    from orphaned where cron_runs.id = orphaned.run_id
    returning cron_runs.id, job, server
), freed as (
    update cron_jobs set holder = null, run_id = null, offered_at = null,
        requested_at = case when enabled then requested_at end
    from orphaned where cron_jobs.id = orphaned.id
)
select id, job, server from closed";

impl Leases {
    /// Offers what is due and free, and tells what there is to claim.
    pub(in crate::cron) fn offer(
        &self,
        session: &mut Session,
        last: Option<Seen>,
    ) -> Answer<Offers> {
        let since = |then: Instant| then.elapsed().as_secs_f64();
        let age_max = self.offer_age_max.as_secs_f64();
        let at = last.map(|last| last.at);
        // Before it is sent: less than passes between the two looks at the database's clock.
        let passed = last.map_or(0.0, |last| since(last.known));
        let rested = last.and_then(|last| last.jumped).map_or(f64::INFINITY, since);
        let running = last.map_or(0.0, |last| since(last.first));
        let row = session.query_one(
            OFFER,
            &[&self.functions, &age_max, &DUE_COUNTED_MAX, &at, &passed, &rested, &running],
        )?;
        Ok(self.offers(&row, last))
    }

    fn offers(&self, row: &Row, last: Option<Seen>) -> Offers {
        let (known, ahead): (_, f64) = (Instant::now(), row.get("ahead"));
        let harmless = JUMP_MIN.max(self.term.as_secs_f64() / 10.0);
        let forward = (ahead > harmless || row.get("ends_leases")).then_some(ahead);
        let seen = Seen {
            at: row.get("at"),
            known,
            first: last.map_or(known, |last| last.first),
            jumped: forward.map(|_| known).or(last.and_then(|last| last.jumped)),
        };
        Offers {
            due: row.get("due"),
            oldest: Duration::try_from_secs_f64(row.get("oldest")).unwrap_or_default(),
            unknown: row.get("unknown"),
            orphaned: row.get("orphaned"),
            seen,
            jump: forward.or((ahead < -SET_BACK_MIN).then_some(ahead)),
        }
    }

    /// Closes the run that a dead replica left open, and frees its job, which nobody takes over.
    pub(in crate::cron) fn free(
        &self,
        session: &mut Session,
        job_id: i64,
    ) -> Answer<Option<Orphan>> {
        let row = session.query_opt(FREE, &[&job_id])?;
        Ok(row.map(|row| Orphan {
            job: row.get("job"),
            run_id: row.get("id"),
            server: row.get("server"),
        }))
    }
}

impl Seen {
    /// What the database's clock shows now, unless it has jumped since the last poll.
    pub(in crate::cron) fn now(&self) -> DateTime<Utc> {
        self.at + self.known.elapsed()
    }
}
