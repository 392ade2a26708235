//! How a run ends, in the database: its record, and where its job goes next.

use chrono::{DateTime, Utc};

use super::{Answer, Claimed, Leases};
use crate::db::Session;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cron) enum Outcome {
    Succeeded,
    Failed,
    Cancelled,
    Abandoned,
}

/// What a run's end writes.
#[derive(Clone, Debug)]
pub(in crate::cron) struct End {
    pub(in crate::cron) outcome: Outcome,
    pub(in crate::cron) detail: String,
    pub(in crate::cron) progress: f64,
}

/// Where the job goes when its run ends.
#[derive(Clone, Copy, Debug)]
pub(in crate::cron) enum Next {
    /// To this slot.
    Slot(DateTime<Utc>),
    /// The same slot is due again at once.
    SameSlot,
    /// Nowhere: its schedule names no instant.
    Paused,
}

/// What the database holds of a run that is about to end.
#[derive(Debug)]
pub(in crate::cron) enum Standing {
    /// Still this process's own.
    Held {
        schedule: String,
        slot: DateTime<Utc>,
        /// The run is not for the slot: somebody asked for it.
        requested: bool,
        now: DateTime<Utc>,
    },
    /// Not any more; how the run was closed, and as what by whom it can be told from `outcome`.
    Gone { outcome: Option<String> },
}

const DETAIL_CHARS_MAX: usize = 1_000;

/// The job as long as it is the holder's own, and how the run was closed if it was.
const STANDING: &str = "\
select job.schedule, job.slot, job.requested_at is not null as requested,
    clock_timestamp() as now, run.outcome
from (values (1)) as one
left join cron_jobs job on job.id = $1 and job.token = $2 and job.holder = $3
left join cron_runs run on run.id = $4";

/// Closes the run and gives the job back, unless its schedule was changed since it was read.
const END: &str = "\
with ended as (
    update cron_jobs
    set holder = null, run_id = null, offered_at = null,
        slot = coalesce($6, slot), locked_until = coalesce($6, clock_timestamp()),
        requested_at = case when $7 then requested_at end,
        enabled = enabled and not $8
    where id = $1 and token = $2 and holder = $3 and schedule = $5
    returning 1
), closed as (
    update cron_runs
    set outcome = $9, detail = $10, progress = $11, finished_at = clock_timestamp()
    where id = $4 and finished_at is null and exists (select from ended)
)
select exists (select from ended)";

impl Leases {
    /// What the database holds of a run that is about to end.
    pub(in crate::cron) fn standing(
        &self,
        session: &mut Session,
        run: &Claimed,
    ) -> Answer<Standing> {
        let rows =
            session.query(STANDING, &[&run.job_id, &run.token, &self.holder, &run.run_id])?;
        let Some(row) = rows.first() else {
            return Ok(Standing::Gone { outcome: None });
        };
        Ok(match (row.get("schedule"), row.get("slot")) {
            (Some(schedule), Some(slot)) => {
                let (requested, now) = (row.get("requested"), row.get("now"));
                Standing::Held { schedule, slot, requested, now }
            }
            _ => Standing::Gone { outcome: row.get("outcome") },
        })
    }

    /// Closes a run and gives its job back; false when it is not this process's own any more, or
    /// its schedule is not `schedule` any more.
    pub(in crate::cron) fn end(
        &self,
        session: &mut Session,
        run: &Claimed,
        schedule: &str,
        end: &End,
        next: Next,
    ) -> Answer<bool> {
        let slot = match next {
            Next::Slot(slot) => Some(slot),
            Next::SameSlot | Next::Paused => None,
        };
        let (again, pause) = (matches!(next, Next::SameSlot), matches!(next, Next::Paused));
        // The database's text has no place for a NUL.
        let detail = end.detail.replace('\0', "\u{fffd}");
        let detail: String = detail.chars().take(DETAIL_CHARS_MAX).collect();
        let params: &[&(dyn postgres::types::ToSql + Sync)] = &[
            &run.job_id,
            &run.token,
            &self.holder,
            &run.run_id,
            &schedule,
            &slot,
            &again,
            &pause,
            &end.outcome.as_str(),
            &detail,
            &end.progress.clamp(0.0, 1.0),
        ];
        let row = session.query_opt(END, params)?;
        Ok(row.is_some_and(|row| row.get(0)))
    }
}

impl Outcome {
    pub(in crate::cron) fn as_str(self) -> &'static str {
        match self {
            Outcome::Succeeded => "succeeded",
            Outcome::Failed => "failed",
            Outcome::Cancelled => "cancelled",
            Outcome::Abandoned => "abandoned",
        }
    }
}
