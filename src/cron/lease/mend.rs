//! Corrects what was written before the database's clock was set back: it lies too far ahead.

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use postgres::Row;

use super::{FromDatabase, Leases};
use crate::cron::schedule::Schedule;
use crate::db::Session;

#[derive(Debug, Default)]
pub(in crate::cron) struct Mended {
    /// The names of corrected jobs, and how many seconds in the future their rows were.
    pub(in crate::cron) jobs: Vec<(String, f64)>,
    /// Whether there may be more rows to correct, or rows that somebody has locked.
    pub(in crate::cron) are_left: bool,
}

/// The id of a waiting job, when its row was written, and the slot that it gets.
type Waiting = (i64, DateTime<Utc>, DateTime<Utc>);

/// The most rows per call, because a renewal may have to wait for the call.
const LOOK_MAX: i64 = 100;

/// Lets each lease that was written in the future last its own length from now, and so each pause
/// before another try; keeps due jobs due, and returns all rows that were written in the future.
const MEND: &str = "\
with ahead as (
    select id, name, schedule, slot, written_at,
        holder is not null or (attempt > 1 and tried_at = coalesce(requested_at, slot)) as lasts,
        holder is null and requested_at is null and locked_until = slot as waits,
        tried_at = coalesce(requested_at, slot) as is_tried
    from cron_jobs
    where written_at > (select now() + interval '1 second') and (enabled or holder is not null)
    limit $1
    for update skip locked
), mended as (
    update cron_jobs
    set locked_until = clock_timestamp()
            + case when lasts then cron_jobs.locked_until - cron_jobs.written_at
                else interval '0' end,
        requested_at = case when cron_jobs.requested_at is not null or not lasts
            then least(cron_jobs.requested_at, now()) end,
        tried_at = case when is_tried and (cron_jobs.requested_at is not null or not lasts)
            then least(cron_jobs.requested_at, now()) else tried_at end,
        offered_at = null
    from ahead where cron_jobs.id = ahead.id and not waits
    returning 1
)
select id, name, schedule, slot, written_at, waits, now() as now from ahead";

const LEFT: &str = "\
select exists (
    select from cron_jobs
    where written_at > (select now() + interval '1 second') and (enabled or holder is not null)
) as are_left";

/// Moves waiting jobs to their new slots, except rows that were written since they were read.
const MEND_SLOTS: &str = "\
with anew as (
    select job.id, anew.slot from cron_jobs job
    join unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as anew (id, written_at, slot)
        on job.id = anew.id and job.written_at = anew.written_at
    where job.holder is null
    for update of job skip locked
)
update cron_jobs
set slot = anew.slot, locked_until = anew.slot, written_at = clock_timestamp()
from anew where cron_jobs.id = anew.id
returning cron_jobs.id";

impl Leases {
    /// Corrects some of the rows that were written in the future; writes no slot after `until`.
    pub(in crate::cron) fn mend(session: &mut Session, until: Instant) -> FromDatabase<Mended> {
        let rows = session.query(MEND, &[&LOOK_MAX])?;
        let (ids, written, slots): (Vec<_>, Vec<_>, Vec<_>) =
            rows.iter().filter_map(waiting).collect();
        let mut right: Vec<i64> = Vec::new();
        if Instant::now() < until && !ids.is_empty() {
            let rows = session.query(MEND_SLOTS, &[&ids, &written, &slots])?;
            right.extend(rows.iter().map(|row| row.get::<_, i64>("id")));
        }
        let is_right = |row: &&Row| !row.get::<_, bool>("waits") || right.contains(&row.get("id"));
        let told = |row: &Row| (row.get("name"), set_back(row).as_seconds_f64());
        let jobs: Vec<_> = rows.iter().filter(is_right).map(told).collect();
        let are_left = !rows.is_empty() || session.query_one(LEFT, &[])?.get("are_left");
        Ok(Mended { jobs, are_left })
    }
}

fn set_back(row: &Row) -> TimeDelta {
    row.get::<_, DateTime<Utc>>("written_at") - row.get::<_, DateTime<Utc>>("now")
}

/// None when the job does not wait. The job keeps its slot if its schedule names no other, or if
/// this build cannot read the schedule.
fn waiting(row: &Row) -> Option<Waiting> {
    if !row.get::<_, bool>("waits") {
        return None;
    }
    let slot = row.get("slot");
    let schedule = Schedule::parse_kept(row.get("schedule")).ok();
    let anew = schedule.and_then(|schedule| schedule.anew(slot, row.get("now"), set_back(row)));
    Some((row.get("id"), row.get("written_at"), anew.unwrap_or(slot)))
}
