//! Handlers for jobs and their runs.

use log::info;
use serde::Serialize;

use super::Asked;
use super::call::Call;
use super::handlers::{Api, Fault, next_page, unavailable};
use super::problem::Problem;
use super::reply::Reply;
use crate::cron::{
    self, Deleted, Filter, FinishedRun, Job, Name, Precondition, Saved, Settings, SettingsChange,
};
use crate::db::Effect;

#[derive(Serialize)]
struct RunList {
    runs: Vec<FinishedRun>,
    next: Option<i64>,
}

impl Api {
    pub(super) fn cron_status(&self, asked: &Asked<'_>) -> Result<Reply, Fault> {
        Ok(Reply::json(200, &self.status.all(asked.deadline)?))
    }

    pub(super) fn cron_history(&self, asked: &Asked<'_>, filter: &Filter) -> Result<Reply, Fault> {
        let runs = self.history.page(asked.deadline, filter)?;
        let next = next_page(&runs, filter.limit, |run| run.run_id);
        Ok(Reply::json(200, &RunList { runs, next }))
    }

    pub(super) fn read_job(&self, asked: &Asked<'_>, name: &Name) -> Result<Reply, Fault> {
        match self.status.one(asked.deadline, name)? {
            Some(job) => Ok(job_reply(200, &job)),
            None => Err(Problem::job_not_found(name.as_str()).into()),
        }
    }

    pub(super) fn put_job(
        &self,
        asked: &Asked<'_>,
        name: &Name,
        settings: &Settings,
        demand: &Precondition,
    ) -> Result<Reply, Fault> {
        let saved = self.jobs.put(asked.deadline, name, settings, demand)?;
        let Settings { function, schedule, enabled } = settings.clone();
        let all = SettingsChange {
            function: Some(function),
            schedule: Some(schedule),
            enabled: Some(enabled),
        };
        log_saved(asked.call, name, &all, saved);
        self.saved_reply(asked, name, saved)
    }

    pub(super) fn patch_job(
        &self,
        asked: &Asked<'_>,
        name: &Name,
        change: &SettingsChange,
        demand: &Precondition,
    ) -> Result<Reply, Fault> {
        let saved = self.jobs.patch(asked.deadline, name, change, demand)?;
        log_saved(asked.call, name, change, saved);
        self.saved_reply(asked, name, saved)
    }

    pub(super) fn delete_job(
        &self,
        asked: &Asked<'_>,
        name: &Name,
        demand: &Precondition,
    ) -> Result<Reply, Fault> {
        let problem = match self.jobs.delete(asked.deadline, name, demand)? {
            Deleted::Done => {
                let (job, request_id) = (name.as_str(), &asked.call.request_id);
                info!("event=job_deleted job={job} request_id={request_id}");
                return Ok(Reply::no_content());
            }
            Deleted::PreconditionFailed => changed_meanwhile(),
            Deleted::Running => Problem::job_running(name.as_str()),
            Deleted::NotFound => Problem::job_not_found(name.as_str()),
        };
        Err(problem.into())
    }

    pub(super) fn run_job(
        &self,
        asked: &Asked<'_>,
        name: &Name,
        demand: &Precondition,
    ) -> Result<Reply, Fault> {
        let problem = match self.jobs.run_now(asked.deadline, name, demand)? {
            cron::RunNow::Due => {
                let (job, request_id) = (name.as_str(), &asked.call.request_id);
                info!("event=job_requested job={job} request_id={request_id}");
                return self.changed_reply(asked, 202, name);
            }
            cron::RunNow::PreconditionFailed => changed_meanwhile(),
            cron::RunNow::Running => Problem::job_running(name.as_str()),
            cron::RunNow::Paused => Problem::job_paused(name.as_str()),
            cron::RunNow::NotFound => Problem::job_not_found(name.as_str()),
        };
        Err(problem.into())
    }

    fn saved_reply(&self, asked: &Asked<'_>, name: &Name, saved: Saved) -> Result<Reply, Fault> {
        let problem = match saved {
            Saved::Created => {
                let location = format!("/api/cron/jobs/{}", name.as_str());
                let reply = self.changed_reply(asked, 201, name)?;
                return Ok(reply.with_header("Location", location));
            }
            Saved::Changed => return self.changed_reply(asked, 200, name),
            Saved::PreconditionFailed => changed_meanwhile(),
            Saved::NotFound => Problem::job_not_found(name.as_str()),
            Saved::NoInstant => {
                let rule = "`schedule` names no instant from now on";
                Problem::invalid_request("schedule", rule)
            }
        };
        Err(problem.into())
    }

    /// The job after a change. If it cannot be read, the change has been made all the same.
    fn changed_reply(&self, asked: &Asked<'_>, status: u16, name: &Name) -> Result<Reply, Fault> {
        let job = self.status.one(asked.deadline, name).map_err(|error| {
            unavailable(asked.call, &error);
            Problem::database_unavailable(Effect::Unknown)
        })?;
        let job = job.ok_or_else(|| Problem::job_not_found(name.as_str()))?;
        Ok(job_reply(status, &job))
    }
}

/// The ETag covers the settings only: a run of the job must not fail a client's precondition.
fn job_reply(status: u16, job: &Job) -> Reply {
    Reply::json(status, job).with_header("ETag", format!("\"{}\"", job.settings_tag))
}

fn changed_meanwhile() -> Problem {
    Problem::precondition_failed("the job is not, or not any more, as the request demands")
}

/// Logs each change with what it asked for, so that one can see later who paused a job.
fn log_saved(call: &Call, name: &Name, change: &SettingsChange, saved: Saved) {
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
