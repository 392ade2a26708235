//! Whole sets of jobs: what `PUT /api/cron/jobs` asks for, and its answers.

use std::collections::BTreeSet;

use log::info;

use super::Asked;
use super::call::Call;
use super::command::{Command, read_name, refuse_preconditions};
use super::cron::refusal;
use super::handlers::{Api, Replied};
use super::input::{Fields, Query};
use super::problem::Problem;
use super::reply::Reply;
use super::settings::{take_settings, whole};
use crate::cron::{Author, Difference, JobSet, Name, SetResult, SettingsChange};

const JOBS_MAX: usize = 1_000;

impl Command {
    pub(super) fn put_jobs(call: &Call, _: &str) -> Result<Command, Problem> {
        refuse_preconditions(call)?;
        let mut query = Query::parse(call.query());
        let dry_run = query.take_flag("dryRun")?.unwrap_or_default();
        let prune = query.take_flag("prune")?.unwrap_or_default();
        query.end()?;
        let mut fields = Fields::parse(call)?;
        let jobs = fields.take_objects("jobs")?;
        fields.end()?;
        // An empty set would delete every job, where others are pruned.
        if !(1..=JOBS_MAX).contains(&jobs.len()) {
            return Err(Problem::must("jobs", format!("have 1 to {JOBS_MAX} jobs")));
        }
        let mut names = BTreeSet::new();
        let jobs = jobs.into_iter().enumerate().map(|(place, job)| {
            let job = read_one(job).and_then(|(name, settings)| match names.insert(name.clone()) {
                true => Ok((name, settings)),
                false => Err(Problem::invalid_request("name", "a job before has this `name`, too")),
            });
            job.map_err(|problem| problem.within(&format!("jobs[{place}]")))
        });
        let jobs = jobs.collect::<Result<_, Problem>>()?;
        Ok(Command::ApplyJobs(JobSet { jobs, prune, dry_run }))
    }
}

fn read_one(mut fields: Fields) -> Result<(Name, SettingsChange), Problem> {
    let name = fields.take_text("name")?.ok_or_else(|| Problem::missing("name"))?;
    let name = read_name("name", &name)?;
    let settings = take_settings(&mut fields)?;
    fields.end()?;
    Ok((name, whole(settings)?))
}

impl Api {
    pub(super) fn apply_jobs(&self, asked: &Asked<'_>, set: &JobSet) -> Replied {
        let (request_id, by) = (&asked.call.request_id, asked.call.by());
        let author = Author { token: asked.call.actor.as_deref(), request_id };
        match self.jobs.apply(asked.deadline, set, author)? {
            SetResult::Applied(difference) => {
                let Difference { created, changed, deleted, unchanged, dry_run, .. } = &difference;
                let [created, changed, deleted] = [created.len(), changed.len(), deleted.len()];
                info!(
                    "event=jobs_applied request_id={request_id}{by} created={created} \
                     changed={changed} deleted={deleted} unchanged={unchanged} dry_run={dry_run}"
                );
                Ok(Reply::json(200, &difference))
            }
            SetResult::Refused { name, place, why } => {
                let problem = refusal(&name, why);
                Err(match place {
                    Some(place) => problem.within(&format!("jobs[{place}]")).into(),
                    None => problem.into(),
                })
            }
        }
    }
}
