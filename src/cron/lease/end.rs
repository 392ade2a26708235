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
    /// Not any more; how the run was closed, if it was.
    Gone(Option<Closed>),
}

/// What the history has of a run.
#[derive(Debug)]
pub(in crate::cron) struct Closed {
    outcome: String,
    detail: String,
    /// In seconds since 1970.
    pub(in crate::cron) at: f64,
}

const DETAIL_CHARS_MAX: usize = 1_000;

/// The job as long as it is the holder's own, and how the run was closed if it was.
const STANDING: &str = "\
select job.schedule, job.slot, job.requested_at is not null as requested,
    clock_timestamp() as now, run.outcome, run.detail,
    extract(epoch from run.finished_at)::float8 as closed_at
from (values (1)) as one
left join cron_jobs job on job.id = $1 and job.token = $2 and job.holder = $3
left join cron_runs run on run.id = $4 and run.finished_at is not null";

/// Closes the run and gives the job back, unless its schedule was changed since it was read. Waits
/// for a step of the run that the database is still busy with.
const END: &str = "\
with own as (
    select id from cron_jobs
    where id = $1 and token = $2 and holder = $3 and schedule = $5
    for update
), ended as (
    update cron_jobs
    set holder = null, run_id = null, offered_at = null,
        slot = coalesce($6, slot), locked_until = coalesce($6, clock_timestamp()),
        requested_at = case when $7 then requested_at end,
        enabled = enabled and not $8
    from own where cron_jobs.id = own.id
    returning 1
), closed as (
    update cron_runs
    set outcome = $9, detail = $10, progress = $11, finished_at = clock_timestamp()
    where id = $4 and finished_at is null and exists (select from ended)
    returning finished_at
)
select extract(epoch from finished_at)::float8 as closed_at from closed";

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
            return Ok(Standing::Gone(None));
        };
        Ok(match (row.get("schedule"), row.get("slot")) {
            (Some(schedule), Some(slot)) => {
                let (requested, now) = (row.get("requested"), row.get("now"));
                Standing::Held { schedule, slot, requested, now }
            }
            _ => Standing::Gone(row.get::<_, Option<String>>("outcome").map(|outcome| Closed {
                outcome,
                detail: row.get::<_, Option<String>>("detail").unwrap_or_default(),
                at: row.get("closed_at"),
            })),
        })
    }

    /// Closes a run and gives its job back; then in seconds since 1970. None when it is not this
    /// process's own any more, or its schedule is not `schedule` any more.
    pub(in crate::cron) fn end(
        &self,
        session: &mut Session,
        run: &Claimed,
        schedule: &str,
        end: &End,
        next: Next,
    ) -> Answer<Option<f64>> {
        let slot = match next {
            Next::Slot(slot) => Some(slot),
            Next::SameSlot | Next::Paused => None,
        };
        let (again, pause) = (matches!(next, Next::SameSlot), matches!(next, Next::Paused));
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
            &end.detail_kept(),
            &end.progress.clamp(0.0, 1.0),
        ];
        let row = session.query_opt(END, params)?;
        Ok(row.map(|row| row.get("closed_at")))
    }
}

impl End {
    /// Whether this is the end that the history has. An earlier try may have been written without
    /// an answer; but who takes a job over writes `abandoned` as well, in other words.
    pub(in crate::cron) fn is(&self, closed: &Closed) -> bool {
        closed.outcome == self.outcome.as_str() && closed.detail == self.detail_kept()
    }

    /// The database's text has no place for a NUL.
    fn detail_kept(&self) -> String {
        self.detail.replace('\0', "\u{fffd}").chars().take(DETAIL_CHARS_MAX).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(outcome: &str, detail: &str) -> Closed {
        Closed { outcome: outcome.to_owned(), detail: detail.to_owned(), at: 0.0 }
    }

    #[test]
    fn an_end_that_was_written_without_an_answer_is_known_again() {
        let own = "a could not renew its lease in time".to_owned();
        let end = End { outcome: Outcome::Abandoned, detail: own.clone(), progress: 0.5 };
        assert!(end.is(&closed("abandoned", &own)));
        assert!(!end.is(&closed("abandoned", "the lease of a ran out, and b took over")));
        assert!(!end.is(&closed("cancelled", &own)));
        let odd = End { detail: "\0".repeat(2_000), ..end };
        assert!(odd.is(&closed("abandoned", &"\u{fffd}".repeat(1_000))));
    }
}
