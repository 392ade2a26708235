//! After the database's clock was set back: what was written before it is too far in the future.

use chrono::{DateTime, Utc};

use super::{Answer, Leases};
use crate::db::Session;

/// A job whose row was written at an instant that is now in the future.
#[derive(Debug)]
pub(in crate::cron) struct Ahead {
    id: i64,
    pub(in crate::cron) job: String,
    pub(in crate::cron) schedule: String,
    /// What it waits for.
    pub(in crate::cron) slot: DateTime<Utc>,
    pub(in crate::cron) written_at: DateTime<Utc>,
    /// Another clock than the row was written by.
    pub(in crate::cron) now: DateTime<Utc>,
    /// What is still to be done.
    pub(in crate::cron) left: Left,
}

/// What is still to be done about a row from the future.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cron) enum Left {
    /// Nothing: its lease now ends a term from now, or it is due at once, as it was.
    Nothing,
    /// The slot has to be computed anew.
    Slot,
    /// Somebody has locked it: look again.
    All,
}

/// Ends each such lease one term of its own from now, and makes due what was due.
const MEND: &str = "\
with back as (
    select id, holder is null and requested_at is null and locked_until = slot as waits
    from cron_jobs
    where written_at > now() + interval '1 second' and (enabled or holder is not null)
    for update skip locked
), mended as (
    update cron_jobs
    set locked_until = clock_timestamp()
            + case when holder is null then interval '0' else locked_until - written_at end,
        requested_at = least(requested_at, clock_timestamp()), offered_at = null
    from back where cron_jobs.id = back.id and not waits
    returning 1
)
select job.id, job.name, job.schedule, job.slot, job.written_at, now() as now, back.waits
from cron_jobs job left join back on back.id = job.id
where job.written_at > now() + interval '1 second' and (job.enabled or job.holder is not null)";

/// Of what was read: a row that was written meanwhile is right.
const MEND_SLOT: &str = "\
update cron_jobs set slot = $4, locked_until = $4, written_at = clock_timestamp()
where id = $1 and written_at = $2 and schedule = $3 and holder is null
returning 1";

impl Leases {
    /// Mends what needs no schedule for it, and tells of all that was written in the future.
    pub(in crate::cron) fn mend(&self, session: &mut Session) -> Answer<Vec<Ahead>> {
        let rows = session.query(MEND, &[])?;
        let ahead = |row: &postgres::Row| Ahead {
            id: row.get("id"),
            job: row.get("name"),
            schedule: row.get("schedule"),
            slot: row.get("slot"),
            written_at: row.get("written_at"),
            now: row.get("now"),
            left: match row.get("waits") {
                None => Left::All,
                Some(true) => Left::Slot,
                Some(false) => Left::Nothing,
            },
        };
        Ok(rows.iter().map(ahead).collect())
    }

    /// Gives a waiting job another slot; false when it was written meanwhile.
    pub(in crate::cron) fn mend_slot(
        &self,
        session: &mut Session,
        ahead: &Ahead,
        slot: DateTime<Utc>,
    ) -> Answer<bool> {
        let Ahead { id, written_at, schedule, .. } = ahead;
        Ok(session.query_opt(MEND_SLOT, &[id, written_at, schedule, &slot])?.is_some())
    }
}
