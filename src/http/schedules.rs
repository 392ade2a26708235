//! What a schedule means, and whether the jobs keep theirs: from the request to the reply.

use serde::Serialize;

use super::Asked;
use super::call::Call;
use super::command::{Command, existing, read_schedule, refuse_preconditions};
use super::handlers::{Api, Replied};
use super::input::{Fields, Query};
use super::problem::Problem;
use super::reply::Reply;
use crate::cron::{JobsHealth, Name, Schedule, UnhealthyJob, Upcoming};

#[derive(Serialize)]
struct NextOfJob<'a> {
    name: &'a str,
    enabled: bool,
    #[serde(flatten)]
    upcoming: Upcoming,
}

/// That every enabled job is well.
#[derive(Serialize)]
struct JobsAreWell {
    ok: bool,
    enabled: i64,
    paused: bool,
}

/// How many instants show what a schedule means, if nothing else is said.
const INSTANTS: usize = 5;
const INSTANTS_MAX: i64 = 100;
/// So many jobs are named in a sentence; the document has more.
const NAMED_MAX: usize = 5;

impl Command {
    pub(super) fn read_next(call: &Call, name: &str) -> Result<Command, Problem> {
        let mut query = Query::parse(call.query());
        let count = query.take_integer("count", 1..=INSTANTS_MAX)?;
        query.end()?;
        let count = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(INSTANTS);
        Ok(Command::ReadNext(existing(name)?, count))
    }

    pub(super) fn check_schedule(call: &Call, _: &str) -> Result<Command, Problem> {
        refuse_preconditions(call)?;
        let mut fields = Fields::parse(call)?;
        let schedule = fields.take_text("schedule")?;
        fields.end()?;
        let schedule = schedule.ok_or_else(|| Problem::missing("schedule"))?;
        read_schedule(&schedule).map(Command::CheckSchedule)
    }
}

impl Api {
    pub(super) fn read_next(&self, asked: &Asked<'_>, name: &Name, count: usize) -> Replied {
        let upcoming = self.jobs.upcoming_of(asked.deadline, name, count)?;
        let name = name.as_str();
        let (enabled, upcoming) = upcoming.ok_or_else(|| Problem::job_not_found(name))?;
        Ok(Reply::json(200, &NextOfJob { name, enabled, upcoming }))
    }

    pub(super) fn check_schedule(&self, asked: &Asked<'_>, schedule: &Schedule) -> Replied {
        let upcoming = self.jobs.upcoming(asked.deadline, schedule, INSTANTS)?;
        match upcoming.next.is_empty() {
            true => Err(Problem::no_instant().into()),
            false => Ok(Reply::json(200, &upcoming)),
        }
    }

    pub(super) fn jobs_health(&self, asked: &Asked<'_>) -> Replied {
        let JobsHealth { enabled, paused, unhealthy, first } = self.jobs.health(asked.deadline)?;
        match unhealthy {
            0 => Ok(Reply::json(200, &JobsAreWell { ok: true, enabled, paused })),
            _ => Err(Problem::jobs_unhealthy(sentence(unhealthy, &first, paused), first).into()),
        }
    }
}

/// `2 jobs should be looked at: hourly (late), nightly (failing)`.
fn sentence(count: i64, first: &[UnhealthyJob], paused: bool) -> String {
    let named = first.iter().take(NAMED_MAX);
    let named = named.map(|UnhealthyJob { name, reason }| format!("{name} ({reason})"));
    let names = named.collect::<Vec<String>>().join(", ");
    let jobs = if count == 1 { "job" } else { "jobs" };
    let more = if count > NAMED_MAX as i64 { ", …" } else { "" };
    let paused = if paused { "; everything is paused" } else { "" };
    format!("{count} {jobs} should be looked at: {names}{more}{paused}")
}
