//! Offers due jobs to all replicas: each job gets one instant from which every handicap counts.
//!
//! A jump of the database's clock forward ends leases whose holders are alive. So a replica offers
//! a job that has a holder only if its own polls cover the whole length of that lease, and show no
//! jump within it. The holder notices the jump by its own polls, and renews.

use std::time::{Duration, Instant};

use super::clock::{Clock, Jump};
use super::end::{next_slot, tell_last};
use super::{FromDatabase, Leases, Orphan};
use crate::cron::pause::{self, Pause};
use crate::db::{Params, Session};

/// What a poll has found in the database.
#[derive(Debug)]
pub(in crate::cron) struct Offers {
    /// How many jobs are due and free; of those offered before, at most
    /// [`EARLIER_OFFERS_COUNTED_MAX`].
    pub(in crate::cron) due: i64,
    /// The age of the oldest offer; zero when all offers are new.
    pub(in crate::cron) oldest: Duration,
    /// Due jobs whose function this build lacks, each as `job function`. Other builds run them.
    pub(in crate::cron) unknown: Vec<String>,
    /// Ids of jobs of dead replicas that may never be taken over: paused, unknown to this build, or
    /// with a run that somebody asked to stop.
    pub(in crate::cron) orphaned: Vec<i64>,
    pub(in crate::cron) jump: Jump,
    /// True when there may be more to write than one poll may.
    pub(in crate::cron) is_cut: bool,
    /// Why nothing may be claimed at present; none when it may.
    pub(in crate::cron) pause: Option<Pause>,
}

const EARLIER_OFFERS_COUNTED_MAX: i64 = 100;
/// The most rows that one poll writes: a renewal, or the end of a run, has to wait for it.
const PIECE_MAX: i64 = 500;
/// Writes the instant of the offer into each job that is due and free. It skips rows that somebody
/// has locked, because one such row must not keep the other jobs from being run.
///
/// Of a group it offers the job that is due for longest, while none of the group has a holder or an
/// offer of the last 10 s: whoever made that one may be gone, or somebody may have locked the row.
/// Two offers in a group do no harm, since the index `one_run_a_group` allows one holder only.
///
/// An offer is taken back while everything is paused, and while another job of its group runs. If
/// it stayed, the handicaps would be over once the job may run, and one replica would take all.
///
/// `now() - locked_until` keeps PostgreSQL from the index of all due jobs, which it would read from
/// its beginning for each group.
///
/// A holder does not rely on the last tenth of its lease, and the shortest lease is 3 s. So a jump
/// of less than a tenth does no harm.
const OFFER: &str = "\
with pause as materialized (
    select reason, since, until, paused_by from cron_pause where until is null or until > now()
), edge as materialized (
    select case when exists (select from pause) then 'infinity'
        else now() - make_interval(secs => $2) end as at
), over as materialized (
    select id, not enabled or function <> all ($1) or (stop_run = run_id) is true as is_orphaned
    from cron_jobs
    where holder is not null and locked_until < now()
        and (not enabled or offered_at is null)
        and now() - (
            select expected
            from unnest($4::float8[], $5::timestamptz[]) as known (age, expected)
            where age >= lease_seconds(cron_jobs) order by age limit 1
        ) <= make_interval(secs => greatest(0.3, lease_seconds(cron_jobs) / 10))
), alone as (
    select id from cron_jobs
    where enabled and offered_at is null and locked_until < now() and function = any ($1)
        and (job_group is null or holder is not null)
        and (holder is null or id in (select id from over where not is_orphaned))
        and not exists (select from pause)
    order by locked_until limit $6
    for update skip locked
), taken as materialized (
    select job_group from cron_jobs where holder is not null and job_group is not null
    union all
    select job_group from cron_jobs
    where offered_at between now() - interval '10 seconds' and now() + interval '1 second'
        and job_group is not null
), groups as materialized (
    select distinct job_group from cron_jobs
    where enabled and offered_at is null and locked_until < now() and job_group is not null
        and function = any ($1) and job_group not in (select job_group from taken)
        and not exists (select from pause)
    limit $6
), first as (
    select id from groups cross join lateral (
        select id from cron_jobs
        where job_group = groups.job_group and enabled and offered_at is null
            and now() - locked_until > interval '0' and function = any ($1)
        order by locked_until, id limit 1
        for update skip locked
    ) as longest
), stale as (
    select id, job_group is null and (stop_run = run_id) is not true as may_be_taken from cron_jobs
    where enabled and locked_until < now() and id = any (array(
        (select id from cron_jobs
        where offered_at < (select at from edge) and function = any ($1) limit $6)
        union all
        (select id from cron_jobs
        where offered_at > now() + interval '1 second' and function = any ($1) limit $6)
    ))
    for update skip locked
), crowded as (
    select id from cron_jobs job
    where offered_at is not null and job_group is not null and exists (
        select from cron_jobs other where other.job_group = job.job_group
            and other.holder is not null and other.id <> job.id
    )
    limit $6
    for update skip locked
), due as (
    select id, now() as at from alone
    union all
    select id, now() from first
    union all
    select id, case when may_be_taken and not exists (select from pause) then now() end
    from stale
    union all
    select id, null from crowded
    limit $6
), offered as (
    update cron_jobs set offered_at = due.at from due where cron_jobs.id = due.id
    returning offered_at
), earlier as (
    select offered_at from cron_jobs
    where enabled and locked_until < now() and function = any ($1)
        and offered_at is not null and offered_at + interval '0' <= now()
        and offered_at + interval '0' >= (select at from edge)
    order by offered_at limit $3
)
select now() as at, (select count(*) from offered) >= $6 as is_cut,
    (select count(offered_at) from offered) + (select count(*) from earlier) as due,
    coalesce((select extract(epoch from now() - min(offered_at)) from earlier), 0)::float8
        as oldest,
    array(
        select name || ' ' || function
        from (
            select name, function from cron_jobs
            where enabled and offered_at is null and locked_until < now()
                and (job_group is null or function <> all ($1))
            order by locked_until limit $6
        ) as job
        where function <> all ($1) limit 10
    ) as unknown,
    array(
        select id from over where is_orphaned order by random() limit 10
    ) as orphaned,
    reason, since, until, paused_by
from (values (1)) as one left join pause on true";

/// What the next slot of a job is computed from.
const ORPHAN: &str = "\
select schedule, slot, requested_at is not null as is_requested, clock_timestamp() as now
from cron_jobs where id = $1";

/// Closes the run that a dead replica left open, and removes the holder from its job. If somebody
/// asked to stop that run, the job goes on with its next slot, if the schedule is still the one
/// from which that was computed; none if the schedule names no further instant.
const FREE: &str = "\
with orphaned as (
    select id, run_id, (stop_run = run_id) is true as is_stopped,
        case when $3::timestamptz is null then job_settings(cron_jobs)::text end as before
    from cron_jobs
    where id = $1 and holder is not null and locked_until < now()
        and ((stop_run = run_id) is not true or schedule = $2)
        and (exists (select from cron_runs where cron_runs.id = run_id for update skip locked)
            or not exists (select from cron_runs where cron_runs.id = run_id))
    for update skip locked
), closed as (
    update cron_runs
    set outcome = case when is_stopped then 'stopped' else 'abandoned' end,
        finished_at = clock_timestamp(),
        detail = case when is_stopped then 'somebody asked to stop it, and ' else '' end
            || 'the lease of ' || server || ' ran out'
    from orphaned where cron_runs.id = orphaned.run_id
    returning cron_runs.id, job, server, is_stopped
), freed as (
    update cron_jobs set holder = null, run_id = null, offered_at = null, stop_run = null,
        requested_at = case when enabled and not is_stopped then requested_at end,
        slot = case when is_stopped then coalesce($3, slot) else slot end,
        locked_until = case when is_stopped then coalesce($3, locked_until) else locked_until end,
        attempt = case when is_stopped then 0 else attempt end,
        checkpoint = case when is_stopped then null else checkpoint end,
        enabled = enabled and not (is_stopped and $3 is null)
    from orphaned where cron_jobs.id = orphaned.id
    returning name, before, case when $3 is null then job_settings(cron_jobs)::text end as after
), noted as (
    insert into cron_job_changes (job, before, after)
    select name, before, after from freed where before <> after
)
select id, job, server, is_stopped from closed";

impl Leases {
    /// Offers the jobs that are due and free, and counts what can be claimed. Also notes the poll
    /// in `clock`, which is none before the first poll.
    pub(in crate::cron) fn offer(
        &self,
        session: &mut Session,
        clock: &mut Option<Clock>,
    ) -> FromDatabase<Offers> {
        let (age_max, sent) = (self.offer_age_max.as_secs_f64(), Instant::now());
        let (ages, expected) = clock.as_ref().map(|clock| clock.marks(sent)).unwrap_or_default();
        let params: Params<'_> =
            &[&self.functions, &age_max, &EARLIER_OFFERS_COUNTED_MAX, &ages, &expected, &PIECE_MAX];
        let row = session.query_one(OFFER, params)?;
        let (at, known) = (row.get("at"), Instant::now());
        let jump = match clock {
            Some(clock) => clock.note(at, sent, known),
            none => {
                *none = Some(Clock::new(at, sent, known));
                None
            }
        };
        Ok(Offers {
            due: row.get("due"),
            oldest: Duration::try_from_secs_f64(row.get("oldest")).unwrap_or_default(),
            unknown: row.get("unknown"),
            orphaned: row.get("orphaned"),
            jump,
            is_cut: row.get("is_cut"),
            pause: pause::read(&row),
        })
    }

    /// Closes the run that a dead replica left open of a job that may never be taken over. None
    /// when there was none to close, or when the schedule was changed meanwhile.
    pub(in crate::cron) fn free(
        session: &mut Session,
        job_id: i64,
    ) -> FromDatabase<Option<Orphan>> {
        let Some(orphan) = session.query_opt(ORPHAN, &[&job_id])? else {
            return Ok(None);
        };
        let schedule: &str = orphan.get("schedule");
        let (slot, is_requested) = (orphan.get("slot"), orphan.get("is_requested"));
        let next = next_slot(schedule, slot, is_requested, orphan.get("now"));
        let Some(row) = session.query_opt(FREE, &[&job_id, &schedule, &next])? else {
            return Ok(None);
        };
        let orphan = Orphan {
            job: row.get("job"),
            run_id: row.get("id"),
            server: row.get("server"),
            is_stopped: row.get("is_stopped"),
        };
        if orphan.is_stopped && next.is_none() {
            tell_last(&orphan.job, orphan.run_id, schedule);
        }
        Ok(Some(orphan))
    }
}
