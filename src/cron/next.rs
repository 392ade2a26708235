//! The instants that a schedule names from now on: that of a job, or one that nobody has saved yet.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::job::Jobs;
use super::name::Name;
use super::schedule::Schedule;
use crate::db::{Deadline, Error};
use crate::timestamp;

/// What a schedule means.
#[derive(Clone, Debug, Serialize)]
pub struct Upcoming {
    /// Its text, as it is kept.
    pub schedule: String,
    /// The same in English; none if a later build has saved it, and this one cannot read it.
    pub words: Option<String>,
    /// The zone of its wall clock; none of an interval and of an instant, which need none.
    pub zone: Option<String>,
    /// Its first instants after now, by the database's clock.
    pub next: Vec<String>,
}

const NOW: &str = "select clock_timestamp() as now";
const OF_JOB: &str = "\
select clock_timestamp() as now, schedule, enabled, slot, holder is not null as is_held,
    requested_at is not null as is_requested
from cron_jobs where name = $1";

impl Jobs {
    /// What this schedule means, with so many instants.
    ///
    /// # Errors
    /// When the database, whose clock decides, is away or does not answer by the deadline.
    pub fn upcoming(
        &self,
        deadline: &Deadline,
        schedule: &Schedule,
        count: usize,
    ) -> Result<Upcoming, Error> {
        let row = self.db.run(deadline, |session| session.query_one(NOW, &[]))?;
        Ok(Upcoming::of(schedule, schedule.first(row.get("now")), count))
    }

    /// What the schedule of a job means, with so many instants, and whether the job is enabled: if
    /// not, they are those that it would have. None if there is no job of this name.
    ///
    /// # Errors
    /// As of [`Jobs::upcoming`].
    pub fn upcoming_of(
        &self,
        deadline: &Deadline,
        name: &Name,
        count: usize,
    ) -> Result<Option<(bool, Upcoming)>, Error> {
        let row = self.db.run(deadline, |session| session.query_opt(OF_JOB, &[&name.as_str()]))?;
        let Some(row) = row else { return Ok(None) };
        let (now, slot): (DateTime<Utc>, DateTime<Utc>) = (row.get("now"), row.get("slot"));
        let text: String = row.get("schedule");
        let upcoming = match Schedule::parse_kept(&text) {
            Ok(schedule) => {
                let first = match (row.get("is_held"), row.get("is_requested")) {
                    (true, true) => schedule.after_request(slot, now),
                    (true, false) => schedule.after(slot, now),
                    (false, _) => Some(slot).filter(|_| row.get("enabled")),
                };
                let first = first.filter(|first| *first > now);
                Upcoming::of(&schedule, first.or_else(|| schedule.next(slot, now)), count)
            }
            Err(_) => Upcoming { schedule: text, words: None, zone: None, next: Vec::new() },
        };
        Ok(Some((row.get("enabled"), upcoming)))
    }
}

impl Upcoming {
    fn of(schedule: &Schedule, first: Option<DateTime<Utc>>, count: usize) -> Upcoming {
        let next = std::iter::successors(first, |slot| schedule.next(*slot, *slot));
        Upcoming {
            schedule: schedule.text().to_owned(),
            words: Some(schedule.words()),
            zone: schedule.zone().map(str::to_owned),
            next: next.take(count).map(|at| timestamp::text(&at)).collect(),
        }
    }
}
