//! Writes the end of a run: its record in the history, and the next slot of its job.

use chrono::{DateTime, TimeDelta, Utc};
use log::{error, info};

use super::{Claimed, FromDatabase, Leases};
use crate::cron::schedule::Schedule;
use crate::db::{Params, Session};

/// How a run ended, and so whether its slot is run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The function returned a result.
    Succeeded,
    /// The function returned an error or panicked. The slot is tried again if the job has tries
    /// left; else the job goes on with its next slot.
    Failed,
    /// The replica was shut down; the same slot is run again.
    Cancelled,
    /// The lease ran out; the same slot is run again.
    Abandoned,
    /// The run took longer than it may. As for a failed one, the slot may be tried again.
    TimedOut,
    /// Somebody asked to stop it; the job goes on with its next slot.
    Stopped,
    /// It was too late for the slot: nothing was run, and no replica is named.
    Missed,
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
    Written(Written),
    /// Somebody has locked the job's row, for example a step of the run that the database still
    /// works at. The caller has to try again.
    Busy,
    /// Nothing was written: somebody else has closed the run, or the job was deleted.
    Lost,
}

/// What the history has of a run's end.
#[derive(Debug)]
pub(in crate::cron) struct Written {
    /// In seconds since 1970.
    pub(in crate::cron) at: f64,
    /// That of the end, unless somebody asked to stop a run that was about to be run again.
    pub(in crate::cron) outcome: Outcome,
    /// In how many seconds the slot is tried again; none if it is not, or if that is not known,
    /// because the answer to an earlier try to write was lost.
    pub(in crate::cron) retry_seconds: Option<f64>,
}

const DETAIL_CHARS_MAX: usize = 1_000;

/// Closes the run and releases the job, if the schedule and the clock are still those from which
/// the next slot was computed; otherwise returns their present values. It skips a row that somebody
/// has locked, for example a step of the run. Whether the slot is tried again, and when, is decided
/// by the job's present settings. The slot of a run that is to be stopped is not run again. After
/// the last slot the job is disabled, which is a change of its settings by nobody.
const END: &str = "\
with own as (
    select id, case when $8 then job_settings(cron_jobs)::text end as before, case
            when $9 in ('failed', 'timed_out') and enabled and attempt <= retries
                and (stop_run = run_id) is not true
            then least(3600, least(3600, retry_after_seconds * power(2, attempt - 1))
                * (0.8 + 0.4 * random()))
        end as pause
    from cron_jobs
    where id = $1 and token = $2 and holder = $3 and schedule = $5
        and not ($7 and (stop_run = run_id) is true)
        and ($7 or clock_timestamp() between $12::timestamptz - interval '1 second'
            and $12::timestamptz + interval '1 second')
        and (exists (select from cron_runs where cron_runs.id = $4 for update skip locked)
            or not exists (select from cron_runs where cron_runs.id = $4))
    for update skip locked
), ended as (
    update cron_jobs
    set holder = null, run_id = null, offered_at = null, stop_run = null,
        slot = case when pause is null then coalesce($6, slot) else slot end,
        locked_until = coalesce(
            clock_timestamp() + make_interval(secs => pause), $6, clock_timestamp()),
        requested_at = case when $7 or pause is not null then requested_at end,
        attempt = case when pause is not null then attempt + 1 when $7 then attempt else 0 end,
        checkpoint = case when $7 or pause is not null then coalesce($13, checkpoint) end,
        enabled = enabled and not ($8 and pause is null)
    from own where cron_jobs.id = own.id
    returning name, before, case when $8 then job_settings(cron_jobs)::text end as after
), noted as (
    insert into cron_job_changes (job, before, after)
    select name, before, after from ended where before <> after
), closed as (
    update cron_runs
    set outcome = $9, detail = $10, progress = $11, finished_at = clock_timestamp(),
        server = case when $9 = 'missed' then '' else server end,
        checkpoint_bytes = coalesce(octet_length($13::text), checkpoint_bytes)
    where id = $4 and finished_at is null and exists (select from ended)
    returning finished_at
)
select exists (select from ended) as is_written, clock_timestamp() as now, job.schedule,
    (job.stop_run = job.run_id) is true as is_stopped, (select pause from own) as pause,
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
    /// Closes a run and releases its job. If the same slot is run again, it goes on from the
    /// checkpoint, or from the one that the database has if there is no new one. One round trip is
    /// enough if the schedule is still the one at the claim, and `now`, the expected database time,
    /// is right.
    pub(in crate::cron) fn end(
        &self,
        session: &mut Session,
        run: &Claimed,
        end: &End,
        checkpoint: Option<&str>,
        now: DateTime<Utc>,
    ) -> FromDatabase<Ended> {
        let (mut schedule, mut now, mut outcome) = (run.schedule.clone(), now, end.outcome);
        for _ in 0..TRIES {
            // An unfinished run's slot is due again at once.
            let again = matches!(outcome, Outcome::Cancelled | Outcome::Abandoned);
            let slot = if again { None } else { next(run, outcome, &schedule, now) };
            let is_last = !again && slot.is_none();
            let params: Params<'_> = &[
                &run.job_id,
                &run.token,
                &run.holder,
                &run.run_id,
                &schedule,
                &slot,
                &again,
                &is_last,
                &outcome.name(),
                &end.detail_kept(),
                &end.progress.clamp(0.0, 1.0),
                &now,
                &checkpoint,
            ];
            let row = session.query_one(END, params)?;
            let known: Option<String> = row.get("schedule");
            match (row.get("is_written"), known) {
                (true, _) => {
                    let retry_seconds: Option<f64> = row.get("pause");
                    if is_last && retry_seconds.is_none() {
                        tell_last(&run.job, run.run_id, &schedule);
                    }
                    let at = row.get("closed_at");
                    return Ok(Ended::Written(Written { at, outcome, retry_seconds }));
                }
                (false, None) => {
                    let written = end.written_as(row.get("outcome"), row.get("detail"));
                    let at = row.get("closed_at");
                    let known = |outcome| Written { at, outcome, retry_seconds: None };
                    return Ok(written.map_or(Ended::Lost, |it| Ended::Written(known(it))));
                }
                (false, Some(_)) if again && row.get("is_stopped") => outcome = Outcome::Stopped,
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

/// The slot after a run; none when the schedule names no further instant.
fn next(
    run: &Claimed,
    outcome: Outcome,
    schedule: &str,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    if outcome == Outcome::Missed {
        let schedule = Schedule::parse_kept(schedule).ok()?;
        return run.start.slot_instead(&schedule, run.slot, now);
    }
    next_slot(schedule, run.slot, run.is_requested, now)
}

/// The slot after a run for `slot`, or for a request while that slot was waited for.
pub(super) fn next_slot(
    schedule: &str,
    slot: DateTime<Utc>,
    is_requested: bool,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let schedule = Schedule::parse_kept(schedule).ok()?;
    if is_requested { schedule.after_request(slot, now) } else { schedule.after(slot, now) }
}

/// Tells of a run after which the job is disabled, because its schedule names no further instant.
pub(super) fn tell_last(job: &str, run: i64, schedule: &str) {
    if Schedule::parse_kept(schedule).is_ok_and(|schedule| schedule.is_once()) {
        info!(
            "event=job_done job={job} run={run} schedule={schedule:?} hint=\"it was to run once: \
             it stays, disabled, with its history\""
        );
        return;
    }
    error!(
        "event=job_paused job={job} run={run} schedule={schedule:?} reason=\"the schedule names no \
         further instant\""
    );
}

impl End {
    /// The outcome by which the history has this end; none if it has not. The answer to an earlier
    /// try may have been lost although it was written. A takeover writes `abandoned` too, but with
    /// another detail.
    fn written_as(&self, outcome: Option<&str>, detail: Option<&str>) -> Option<Outcome> {
        let same = [self.outcome, Outcome::Stopped].into_iter();
        let mut same = same.filter(|_| detail == Some(&*self.detail_kept()));
        same.find(|own| outcome == Some(own.name()))
    }

    /// The detail as the history stores it, since PostgreSQL's `text` cannot hold a NUL.
    fn detail_kept(&self) -> String {
        self.detail.replace('\0', "\u{fffd}").chars().take(DETAIL_CHARS_MAX).collect()
    }
}

impl Outcome {
    /// Every outcome once, for whoever lists or checks their names.
    pub const ALL: [Outcome; 7] = [
        Outcome::Succeeded,
        Outcome::Failed,
        Outcome::Cancelled,
        Outcome::Abandoned,
        Outcome::TimedOut,
        Outcome::Stopped,
        Outcome::Missed,
    ];

    /// The outcome's word in the history, in the API and in the metrics, in small letters.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Succeeded => "succeeded",
            Outcome::Failed => "failed",
            Outcome::Cancelled => "cancelled",
            Outcome::Abandoned => "abandoned",
            Outcome::TimedOut => "timed_out",
            Outcome::Stopped => "stopped",
            Outcome::Missed => "missed",
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
        let other = "the lease of a ran out, and b took over";
        assert_eq!(end.written_as(Some("abandoned"), Some(&own)), Some(Outcome::Abandoned));
        assert_eq!(end.written_as(Some("abandoned"), Some(other)), None);
        assert_eq!(end.written_as(Some("cancelled"), Some(&own)), None);
        assert_eq!(end.written_as(Some("stopped"), Some(&own)), Some(Outcome::Stopped));
        let odd = End { detail: "\0".repeat(2_000), ..end };
        let kept = "\u{fffd}".repeat(1_000);
        assert_eq!(odd.written_as(Some("abandoned"), Some(&kept)), Some(Outcome::Abandoned));
    }
}
