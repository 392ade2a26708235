//! Handlers for jobs.

use log::info;
use serde::Serialize;

use super::Asked;
use super::handlers::{Api, Replied, next_page, page, unavailable};
use super::problem::Problem;
use super::reply::Reply;
use crate::cron::{
    Action, ActionResult, Author, Described, Job, JobFilter, Name, Precondition, Status,
};
use crate::db::Effect;

#[derive(Serialize)]
struct JobList {
    #[serde(flatten)]
    status: Status,
    next: Option<String>,
}

#[derive(Serialize)]
struct FunctionList<'a> {
    functions: Vec<Described<'a>>,
}

impl Api {
    pub(super) fn list_functions(&self) -> Reply {
        Reply::json(200, &FunctionList { functions: self.jobs.functions().list() })
    }

    pub(super) fn cron_status(&self, asked: &Asked<'_>, filter: &JobFilter) -> Replied {
        let mut status = self.jobs.status(asked.deadline, filter)?;
        let limit = filter.limit.unwrap_or(i64::MAX);
        let next = next_page(&mut status.jobs, limit, |job| job.name.clone());
        Ok(Reply::json(200, &JobList { status, next }))
    }

    pub(super) fn read_job(&self, asked: &Asked<'_>, name: &Name) -> Replied {
        let job = self.jobs.one(asked.deadline, name)?;
        Ok(job_reply(200, &job.ok_or_else(|| Problem::job_not_found(name.as_str()))?))
    }

    pub(super) fn job_changes(
        &self,
        asked: &Asked<'_>,
        name: &Name,
        before: Option<i64>,
        limit: i64,
    ) -> Replied {
        let changes = self.jobs.changes(asked.deadline, name, before, limit)?;
        let changes = changes.ok_or_else(|| Problem::job_not_found(name.as_str()))?;
        Ok(page("changes", changes, limit, |change| change.id))
    }

    /// Logs what was done, with the settings that the request asked for, so that one can see later
    /// who paused a job.
    pub(super) fn steer_job(
        &self,
        asked: &Asked<'_>,
        name: &Name,
        action: &Action,
        demand: &Precondition,
    ) -> Replied {
        let call = asked.call;
        let author = Author { token: call.actor.as_deref(), request_id: &call.request_id };
        let result = self.jobs.steer(asked.deadline, name, action, demand, author)?;
        let settings = settings_of(action);
        let (job, request_id, by) = (name.as_str(), &call.request_id, call.by());
        match result {
            ActionResult::Created => {
                info!("event=job_created job={job} request_id={request_id}{by}{settings}");
                let reply = self.changed_reply(asked, 201, name)?;
                Ok(reply.with_header("Location", format!("/api/cron/jobs/{job}")))
            }
            ActionResult::Changed => {
                info!("event=job_changed job={job} request_id={request_id}{by}{settings}");
                self.changed_reply(asked, 200, name)
            }
            ActionResult::Due => {
                info!("event=job_requested job={job} request_id={request_id}{by}");
                self.changed_reply(asked, 202, name)
            }
            ActionResult::Stopping(run) => {
                info!("event=run_stop_asked job={job} run={run} request_id={request_id}{by}");
                self.changed_reply(asked, 202, name)
            }
            ActionResult::Deleted => {
                info!("event=job_deleted job={job} request_id={request_id}{by}");
                Ok(Reply::no_content())
            }
            why => Err(refusal(job, why).into()),
        }
    }

    /// The job after a change. If it cannot be read, the change has been made all the same.
    fn changed_reply(&self, asked: &Asked<'_>, status: u16, name: &Name) -> Replied {
        let job = self.jobs.one(asked.deadline, name).map_err(|error| {
            unavailable(asked.call, &error);
            Problem::database_unavailable(Effect::Unknown)
        })?;
        let job = job.ok_or_else(|| Problem::job_not_found(name.as_str()))?;
        Ok(job_reply(status, &job))
    }
}

/// Why it was not done.
pub(super) fn refusal(job: &str, result: ActionResult) -> Problem {
    use ActionResult::{Changed, Created, Deleted, Due, Stopping};
    match result {
        ActionResult::NotFound => Problem::job_not_found(job),
        ActionResult::Running => Problem::job_running(job),
        ActionResult::NotRunning(run) => Problem::job_not_running(job, run),
        ActionResult::GroupRunning => Problem::group_running(job),
        ActionResult::Paused => Problem::job_paused(format!(
            "the job {job:?} is paused; resume it first (`balanced jobs resume {job}`)"
        )),
        ActionResult::Over => Problem::job_paused(format!(
            "the schedule of the job {job:?} names no instant from now on; give it another one"
        )),
        ActionResult::NoInstant => Problem::no_instant(),
        ActionResult::WrongArguments(rule) => Problem::invalid_request("arguments", rule),
        ActionResult::PreconditionFailed => {
            Problem::precondition_failed("the job is not, or not any more, as the request demands")
        }
        Created | Changed | Due | Deleted | Stopping(_) => Problem::internal(),
    }
}

/// The ETag covers the settings only: a run of the job must not fail a client's precondition.
fn job_reply(status: u16, job: &Job) -> Reply {
    Reply::json(status, job).with_header("ETag", format!("\"{}\"", job.settings_tag))
}

/// The settings that are asked for, as the log shows them.
fn settings_of(action: &Action) -> String {
    let Action::Save(change) = action else { return String::new() };
    let settings = [
        change.function.as_ref().map(|function| format!(" function={}", function.as_str())),
        change.schedule.as_ref().map(|schedule| format!(" schedule={:?}", schedule.text())),
        change.enabled.map(|enabled| format!(" enabled={enabled}")),
    ];
    settings.into_iter().flatten().collect()
}
