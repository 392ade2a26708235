//! Writes the end of a run: its record in the history, and the next slot of its job.

use chrono::{DateTime, TimeDelta, Utc};
use log::error;

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
    /// Somebody has locked the job's row, for example a step of the run that the database still
    /// works at. The caller has to try again.
    Busy,
    /// Nothing was written: somebody else has closed the run, or the job was deleted.
    Lost,
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
        // An unfinished run's slot is due again at once.
        let again = matches!(end.outcome, Outcome::Cancelled | Outcome::Abandoned);
        for _ in 0..TRIES {
            let slot = if again { None } else { next(run, &schedule, now) };
            let pause = !again && slot.is_none();
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
                (true, _) => {
                    if pause {
                        tell_pause(run, &schedule);
                    }
                    return Ok(Ended::Written(row.get("closed_at")));
                }
                (false, None) if end.is(row.get("outcome"), row.get("detail")) => {
                    return Ok(Ended::Written(row.get("closed_at")));
                }
                (false, None) => return Ok(Ended::Lost),
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

/// The slot after a finished run; none when the schedule names no further instant.
fn next(run: &Claimed, schedule: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let schedule = Schedule::parse_kept(schedule).ok()?;
    match run.is_requested {
        true => schedule.next(run.slot, now),
        false => schedule.after(run.slot, now),
    }
}

fn tell_pause(run: &Claimed, schedule: &str) {
    let Claimed { job, run_id: run, .. } = run;
    error!(
        "event=job_paused job={job} run={run} schedule={schedule:?} reason=\"the schedule names no \
         further instant\""
    );
}

impl End {
    /// Whether the history has this end. The answer to an earlier try may have been lost although
    /// it was written. A takeover writes `abandoned` too, but with another detail.
    fn is(&self, outcome: Option<&str>, detail: Option<&str>) -> bool {
        outcome == Some(self.outcome.name()) && detail == Some(&*self.detail_kept())
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

    #[test]
    fn an_end_that_was_written_without_an_answer_is_known_again() {
        let own = "a could not renew its lease in time".to_owned();
        let end = End { outcome: Outcome::Abandoned, detail: own.clone(), progress: 0.5 };
        assert!(end.is(Some("abandoned"), Some(&own)));
        assert!(!end.is(Some("abandoned"), Some("the lease of a ran out, and b took over")));
        assert!(!end.is(Some("cancelled"), Some(&own)));
        let odd = End { detail: "\0".repeat(2_000), ..end };
        assert!(odd.is(Some("abandoned"), Some(&"\u{fffd}".repeat(1_000))));
    }
}
