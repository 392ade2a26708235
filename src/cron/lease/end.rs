//! Writes the end of a run: its record in the history, and the next slot of its job.

use chrono::{DateTime, TimeDelta, Utc};
use postgres::Row;

use super::{Answer, Claimed, Leases};
use crate::cron::schedule::Schedule;
use crate::db::Session;

/// How a run ended, and so whether its slot is run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The function returned a result.
    Succeeded,
    /// The function returned an error or panicked; the job goes on with its next slot.
    Failed,
    /// The replica was shut down; the same slot is run again.
    Cancelled,
    /// The lease ran out; the same slot is run again.
    Abandoned,
}

/// What the history is to say of a run's end.
#[derive(Clone, Debug)]
pub(in crate::cron) struct End {
    pub(in crate::cron) outcome: Outcome,
    pub(in crate::cron) detail: String,
    pub(in crate::cron) progress: f64,
}

/// The result of a try to write a run's end.
#[derive(Debug)]
pub(in crate::cron) enum Ended {
    /// The history has this end, written at this time in seconds since 1970.
    Written(f64),
    /// As `Written`, and the job is paused, because its schedule, this one, names no further slot.
    Last(f64, String),
    /// Somebody has locked the job's row, for example a step of the run that the database still
    /// works at. The caller has to try again.
    Busy,
    /// This process does not hold the job any more. How the run was closed, if it was.
    Gone(Option<Closed>),
}

/// What the job waits for after its run has ended.
#[derive(Clone, Copy, Debug)]
enum Next {
    Slot(DateTime<Utc>),
    /// The slot of this run, which is due again at once.
    SameSlot,
    /// Nothing: its schedule has no further instant.
    Paused,
}

/// The end of a run that the history already has.
#[derive(Debug)]
pub(in crate::cron) struct Closed {
    outcome: String,
    detail: String,
    /// In seconds since 1970, by the database's clock.
    pub(in crate::cron) at: f64,
}

const DETAIL_CHARS_MAX: usize = 1_000;

/// Closes the run and releases the job, if the schedule and the clock are still those from which
/// the next slot was computed; otherwise returns their present values. It skips a row that somebody
/// has locked, for example a step of the run.
const END: &str = "\
with own as (
    select id from cron_jobs
    where id = $1 and token = $2 and holder = $3 and schedule = $5
        and ($7 or clock_timestamp() between $12::timestamptz - interval '1 second'
            and $12::timestamptz + interval '1 second')
        and (exists (select from cron_runs where cron_runs.id = $4 for update skip locked)
            or not exists (select from cron_runs where cron_runs.id = $4))
    for update skip locked
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
select exists (select from ended) as is_written, clock_timestamp() as now, job.schedule,
    run.outcome, run.detail,
    extract(epoch from coalesce(
        (select finished_at from closed), run.finished_at, clock_timestamp()
    ))::float8 as closed_at
from (values (1)) as one
left join cron_jobs job on job.id = $1 and job.token = $2 and job.holder = $3
left join cron_runs run on run.id = $4 and run.finished_at is not null";

/// How often the next slot is computed, in case the schedule changes again and again meanwhile.
const TRIES: usize = 3;

impl Leases {
    /// Closes a run and releases its job. One round trip is enough if the schedule is still the one
    /// at the claim, and `now`, the expected database time, is right.
    pub(in crate::cron) fn end(
        &self,
        session: &mut Session,
        run: &Claimed,
        end: &End,
        now: DateTime<Utc>,
    ) -> Answer<Ended> {
        let (mut schedule, mut now) = (run.schedule.clone(), now);
        for _ in 0..TRIES {
            let next = next(run, end.outcome, &schedule, now);
            let slot = match next {
                Next::Slot(slot) => Some(slot),
                Next::SameSlot | Next::Paused => None,
            };
            let (again, pause) = (matches!(next, Next::SameSlot), matches!(next, Next::Paused));
            let params: &[&(dyn postgres::types::ToSql + Sync)] = &[
                &run.job_id,
                &run.token,
                &run.holder,
                &run.run_id,
                &schedule,
                &slot,
                &again,
                &pause,
                &end.outcome.name(),
                &end.detail_kept(),
                &end.progress.clamp(0.0, 1.0),
                &now,
            ];
            let row = session.query_one(END, params)?;
            let known: Option<String> = row.get("schedule");
            match (row.get("is_written"), known) {
                (true, _) if pause => return Ok(Ended::Last(row.get("closed_at"), schedule)),
                (true, _) => return Ok(Ended::Written(row.get("closed_at"))),
                (false, None) => return Ok(Ended::Gone(closed(&row))),
                (false, Some(known)) => {
                    let shown: DateTime<Utc> = row.get("now");
                    let is_right = (shown - now).abs() < TimeDelta::milliseconds(900);
                    if known == schedule && (again || is_right) {
                        return Ok(Ended::Busy);
                    }
                    (schedule, now) = (known, shown);
                }
            }
        }
        Ok(Ended::Busy)
    }
}

fn next(run: &Claimed, outcome: Outcome, schedule: &str, now: DateTime<Utc>) -> Next {
    if matches!(outcome, Outcome::Cancelled | Outcome::Abandoned) {
        return Next::SameSlot;
    }
    let slot = Schedule::parse_kept(schedule).ok().and_then(|schedule| match run.is_requested {
        true => schedule.next(run.slot, now),
        false => schedule.after(run.slot, now),
    });
    slot.map_or(Next::Paused, Next::Slot)
}

fn closed(row: &Row) -> Option<Closed> {
    Some(Closed {
        outcome: row.get::<_, Option<String>>("outcome")?,
        detail: row.get::<_, Option<String>>("detail").unwrap_or_default(),
        at: row.get("closed_at"),
    })
}

impl End {
    /// Whether `closed` is this end. The answer to an earlier try may have been lost although it
    /// was written. A takeover writes `abandoned` too, but with another detail.
    pub(in crate::cron) fn is(&self, closed: &Closed) -> bool {
        closed.outcome == self.outcome.name() && closed.detail == self.detail_kept()
    }

    /// The detail as the history stores it, since PostgreSQL's `text` cannot hold a NUL.
    fn detail_kept(&self) -> String {
        self.detail.replace('\0', "\u{fffd}").chars().take(DETAIL_CHARS_MAX).collect()
    }
}

impl Outcome {
    /// Every outcome once, for whoever lists or checks their names.
    pub const ALL: [Outcome; 4] =
        [Outcome::Succeeded, Outcome::Failed, Outcome::Cancelled, Outcome::Abandoned];

    /// The outcome's word in the history, in the API and in the metrics, in small letters.
    pub fn name(self) -> &'static str {
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
