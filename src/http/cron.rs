//! The handlers about jobs and their runs.

use std::sync::Arc;

use log::info;
use serde::Serialize;

use super::call::Call;
use super::handlers::{Api, PAGE_DEFAULT, PAGE_MAX, next_page, unavailable};
use super::input::{Fields, Query};
use super::problem::Problem;
use super::reply::Reply;
use crate::cron::{
    Asked, Change, Deleted, Filter, FinishedRun, InvalidSchedule, Job, Name, Precondition, Saved,
    Schedule, Settings,
};
use crate::db::{Attempt, Outcome};

const OUTCOMES: [&str; 4] = ["succeeded", "failed", "cancelled", "abandoned"];

#[derive(Serialize)]
struct RunList {
    runs: Vec<FinishedRun>,
    next: Option<i64>,
}

impl Api {
    pub(super) fn cron_status(
        &self,
        call: &Call,
        attempt: &Arc<Attempt>,
    ) -> Result<Reply, Problem> {
        Query::parse(call.query()).end()?;
        let status = self.status.all(attempt).map_err(|error| unavailable(call, &error))?;
        Ok(Reply::json(200, &status))
    }

    pub(super) fn cron_history(
        &self,
        call: &Call,
        attempt: &Arc<Attempt>,
    ) -> Result<Reply, Problem> {
        let filter = read_run_filter(call)?;
        let runs =
            self.history.page(attempt, &filter).map_err(|error| unavailable(call, &error))?;
        let next = next_page(&runs, filter.limit, |run| run.run_id);
        Ok(Reply::json(200, &RunList { runs, next }))
    }

    pub(super) fn read_job(
        &self,
        call: &Call,
        attempt: &Arc<Attempt>,
        name: &str,
    ) -> Result<Reply, Problem> {
        Query::parse(call.query()).end()?;
        let job = self.status.one(attempt, &existing(name)?);
        let job = job.map_err(|error| unavailable(call, &error))?;
        job.map(|job| job_reply(200, &job)).ok_or_else(|| Problem::job_not_found(name))
    }

    pub(super) fn put_job(
        &self,
        call: &Call,
        attempt: &Arc<Attempt>,
        name: &str,
    ) -> Result<Reply, Problem> {
        let name = read_name("name", name)?;
        let Change { function, schedule, enabled } = read_job_change(call)?;
        let settings = Settings {
            function: function.ok_or_else(|| Problem::missing("function"))?,
            schedule: schedule.ok_or_else(|| Problem::missing("schedule"))?,
            enabled: enabled.ok_or_else(|| Problem::missing("enabled"))?,
        };
        let saved = self.jobs.put(attempt, &name, &settings, &read_precondition(call)?);
        let saved = saved.map_err(|error| unavailable(call, &error))?;
        let Settings { function, schedule, enabled } = settings;
        let all =
            Change { function: Some(function), schedule: Some(schedule), enabled: Some(enabled) };
        log_saved(call, &name, &all, saved);
        self.saved_reply(call, attempt, &name, saved)
    }

    pub(super) fn patch_job(
        &self,
        call: &Call,
        attempt: &Arc<Attempt>,
        name: &str,
    ) -> Result<Reply, Problem> {
        let change = read_job_change(call)?;
        if change.function.is_none() && change.schedule.is_none() && change.enabled.is_none() {
            let rule = "give at least one of `function`, `schedule` and `enabled`";
            return Err(Problem::invalid_request("body", rule));
        }
        let name = existing(name)?;
        let saved = self.jobs.patch(attempt, &name, &change, &read_precondition(call)?);
        let saved = saved.map_err(|error| unavailable(call, &error))?;
        log_saved(call, &name, &change, saved);
        self.saved_reply(call, attempt, &name, saved)
    }

    pub(super) fn delete_job(
        &self,
        call: &Call,
        attempt: &Arc<Attempt>,
        name: &str,
    ) -> Result<Reply, Problem> {
        let name = existing(name)?;
        let deleted = self.jobs.delete(attempt, &name, &read_precondition(call)?);
        match deleted.map_err(|error| unavailable(call, &error))? {
            Deleted::Done => {
                let (job, request_id) = (name.as_str(), &call.request_id);
                info!("event=job_deleted job={job} request_id={request_id}");
                Ok(Reply::no_content())
            }
            Deleted::PreconditionFailed => Err(changed_meanwhile()),
            Deleted::Running => Err(Problem::job_running(name.as_str())),
            Deleted::NotFound => Err(Problem::job_not_found(name.as_str())),
        }
    }

    pub(super) fn run_job(
        &self,
        call: &Call,
        attempt: &Arc<Attempt>,
        name: &str,
    ) -> Result<Reply, Problem> {
        let name = existing(name)?;
        let asked = self.jobs.run_now(attempt, &name, &read_precondition(call)?);
        match asked.map_err(|error| unavailable(call, &error))? {
            Asked::Due => {
                let (job, request_id) = (name.as_str(), &call.request_id);
                info!("event=job_requested job={job} request_id={request_id}");
                self.changed_reply(call, attempt, 202, &name)
            }
            Asked::PreconditionFailed => Err(changed_meanwhile()),
            Asked::Running => Err(Problem::job_running(name.as_str())),
            Asked::Paused => Err(Problem::job_paused(name.as_str())),
            Asked::NotFound => Err(Problem::job_not_found(name.as_str())),
        }
    }

    fn saved_reply(
        &self,
        call: &Call,
        attempt: &Arc<Attempt>,
        name: &Name,
        saved: Saved,
    ) -> Result<Reply, Problem> {
        match saved {
            Saved::Created => {
                let location = format!("/api/cron/jobs/{}", name.as_str());
                let reply = self.changed_reply(call, attempt, 201, name)?;
                Ok(reply.with_header("Location", location))
            }
            Saved::Changed => self.changed_reply(call, attempt, 200, name),
            Saved::PreconditionFailed => Err(changed_meanwhile()),
            Saved::NotFound => Err(Problem::job_not_found(name.as_str())),
            Saved::NoInstant => {
                let rule = "`schedule` names no instant from now on";
                Err(Problem::invalid_request("schedule", rule))
            }
        }
    }

    /// The job after a change: where it cannot be read, the change has been made all the same.
    fn changed_reply(
        &self,
        call: &Call,
        attempt: &Arc<Attempt>,
        status: u16,
        name: &Name,
    ) -> Result<Reply, Problem> {
        let job = self.status.one(attempt, name).map_err(|error| {
            unavailable(call, &error);
            Problem::database_unavailable(Outcome::Unknown)
        })?;
        let job = job.ok_or_else(|| Problem::job_not_found(name.as_str()))?;
        Ok(job_reply(status, &job))
    }
}

/// The tag names the settings alone: a job that only runs is still the one that was looked at.
fn job_reply(status: u16, job: &Job) -> Reply {
    Reply::json(status, job).with_header("ETag", format!("\"{}\"", job.settings_tag))
}

fn changed_meanwhile() -> Problem {
    Problem::precondition_failed("the job is not, or not any more, as the request demands")
}

/// What `If-Match` and `If-None-Match` demand of a job. A tag that is weak or no tag matches none.
fn read_precondition(call: &Call) -> Result<Precondition, Problem> {
    let tag = |tag: &str| Some(tag.trim().strip_prefix('"')?.strip_suffix('"')?.to_owned());
    match (call.if_match.as_deref(), call.if_none_match.as_deref()) {
        (None, None) => Ok(Precondition::None),
        (Some("*"), None) => Ok(Precondition::Present),
        (Some(tags), None) => Ok(Precondition::Tagged(tags.split(',').filter_map(tag).collect())),
        (None, Some("*")) => Ok(Precondition::Absent),
        (_, Some(_)) => {
            let detail = "`If-None-Match` is understood as `*`, and without If-Match, only";
            Err(Problem::precondition_failed(detail))
        }
    }
}

/// "Who paused this?": one line for each change, with what it asked for.
fn log_saved(call: &Call, name: &Name, change: &Change, saved: Saved) {
    let (job, request_id) = (name.as_str(), &call.request_id);
    let settings = [
        change.function.as_ref().map(|function| format!(" function={}", function.as_str())),
        change.schedule.as_ref().map(|schedule| format!(" schedule={:?}", schedule.text())),
        change.enabled.map(|enabled| format!(" enabled={enabled}")),
    ];
    let settings: String = settings.into_iter().flatten().collect();
    match saved {
        Saved::Created => info!("event=job_created job={job} request_id={request_id}{settings}"),
        Saved::Changed => info!("event=job_changed job={job} request_id={request_id}{settings}"),
        Saved::NotFound | Saved::NoInstant | Saved::PreconditionFailed => {}
    }
}

fn read_name(field: &'static str, text: &str) -> Result<Name, Problem> {
    Name::parse(text).map_err(|_| {
        let rule = format!(
            "`{field}` must be 1 to 63 small letters, digits and hyphens, and not begin with a \
             hyphen"
        );
        Problem::invalid_request(field, rule)
    })
}

/// What cannot be a name cannot be a job's.
fn existing(name: &str) -> Result<Name, Problem> {
    Name::parse(name).map_err(|_| Problem::job_not_found(name))
}

/// What `PUT` and `PATCH` of a job ask for. Pure.
///
/// # Errors
/// A [`Problem`] of status 400, which names the field where the body is JSON.
pub fn read_job_change(call: &Call) -> Result<Change, Problem> {
    let mut fields = Fields::parse(call)?;
    let function = fields.take_text("function")?;
    let schedule = fields.take_text("schedule")?;
    let enabled = fields.take_flag("enabled")?;
    fields.end()?;
    let function = function.map(|text| read_name("function", &text)).transpose()?;
    let schedule = schedule.map(|text| Schedule::parse(&text)).transpose();
    let schedule = schedule.map_err(|fault: InvalidSchedule| {
        Problem::invalid_request("schedule", fault.to_string())
    })?;
    Ok(Change { function, schedule, enabled })
}

/// Which runs `GET /api/cron/history` asks for. Pure.
///
/// # Errors
/// A [`Problem`] of status 400 that names the parameter.
pub fn read_run_filter(call: &Call) -> Result<Filter, Problem> {
    let mut query = Query::parse(call.query());
    let filter = Filter {
        job: query.take_text("job")?,
        server: query.take_text("server")?,
        outcome: query.take_text("outcome")?,
        before: query.take_integer("before", 0..=i64::MAX)?,
        limit: query.take_integer("limit", 1..=PAGE_MAX)?.unwrap_or(PAGE_DEFAULT),
    };
    query.end()?;
    if filter.outcome.as_deref().is_some_and(|outcome| !OUTCOMES.contains(&outcome)) {
        let rule = format!("`outcome` must be one of {}", OUTCOMES.join(", "));
        return Err(Problem::invalid_request("outcome", rule));
    }
    Ok(filter)
}
