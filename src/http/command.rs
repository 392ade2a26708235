//! What a request asks for, as a value: made of a [`Call`] without asking anybody, so that what is
//! wrong is answered before it waits for anything.

use super::call::Call;
use super::input::{Fields, Query};
use super::lanes::Lane;
use super::media::Media;
use super::page::Page;
use super::problem::Problem;
use super::sets::read_set;
use super::settings::{read_job_change, whole};
use crate::balance::{AsOf, Change, ChangeSet, IdempotencyKey, Selection};
use crate::cron::{
    self, Action, Filter, InvalidSchedule, JobFilter, JobSet, Name, NewPause, Precondition,
    Schedule,
};
use crate::users::{self, NewUser};

/// Everything that can be asked for, validated.
#[derive(Clone, Debug)]
pub enum Command {
    /// Whether the process lives.
    Live,
    /// Whether this replica should get requests.
    Ready,
    /// What it counts.
    Metrics,
    /// What never changes: a page for people, or the description of the interface.
    Page(&'static Page),
    /// To change a balance.
    ChangeBalance(Change),
    /// To change several users' balances, all or none.
    ChangeAll(ChangeSet),
    /// To create a user, once for each key.
    CreateUser(NewUser),
    /// A part of the list of users.
    ListUsers(users::Selection),
    /// One user, by the id.
    ReadUser(i64),
    /// A part of the list of a user's changes.
    ListChanges(Selection, Media),
    /// The balance of this user, now or earlier.
    ReadBalance(i64, AsOf),
    /// The functions that jobs can call.
    ListFunctions,
    /// Jobs, live; all or a part.
    CronStatus(JobFilter),
    /// A part of the list of finished runs.
    CronHistory(Filter),
    /// One run, open or ended.
    ReadRun(i64),
    /// Lines of the log of a run.
    ReadLog {
        /// The id of the run.
        run_id: i64,
        /// Only lines with a larger number than this.
        after: i32,
        /// The most lines of a page.
        limit: i64,
    },
    /// One job.
    ReadJob(Name),
    /// A part of the list of a job's changes: those with smaller ids, and how many.
    JobChanges(Name, Option<i64>, i64),
    /// The next instants of a job's schedule, so many.
    ReadNext(Name, usize),
    /// What a schedule means that nobody has saved yet.
    CheckSchedule(Schedule),
    /// Whether the enabled jobs are well.
    JobsHealth,
    /// To do something with a job.
    SteerJob(Name, Action, Precondition),
    /// To pause everything.
    Pause(NewPause),
    /// To end that.
    Resume,
    /// Whether everything is paused.
    ReadPause,
    /// To make a set of jobs so, all or none.
    ApplyJobs(JobSet),
}

const PAGE_DEFAULT: i64 = 100;
const PAGE_MAX: i64 = 1_000;

impl Command {
    /// The lane that the request takes, if it takes one.
    pub(super) fn lane(&self) -> Option<Lane> {
        match self {
            Command::ChangeBalance(change) => Some(Lane::User(change.user_id())),
            Command::ChangeAll(_) => Some(Lane::Sets),
            Command::ApplyJobs(_) => Some(Lane::JobSets),
            _ => None,
        }
    }

    pub(super) fn change_balance(call: &Call, _: &str) -> Result<Command, Problem> {
        refuse_preconditions(call)?;
        read_change(call).map(Command::ChangeBalance)
    }

    pub(super) fn change_all(call: &Call, _: &str) -> Result<Command, Problem> {
        refuse_preconditions(call)?;
        read_set(call).map(Command::ChangeAll)
    }

    pub(super) fn create_user(call: &Call, _: &str) -> Result<Command, Problem> {
        refuse_preconditions(call)?;
        let mut fields = Fields::parse(call)?;
        let balance = fields.take_integer("balance")?;
        let external_id = fields.take_label("externalId")?;
        fields.end()?;
        if balance < 0 {
            return Err(Problem::must("balance", "not be negative"));
        }
        Ok(Command::CreateUser(NewUser { balance, external_id, key: read_key(call)? }))
    }

    pub(super) fn list_users(call: &Call, _: &str) -> Result<Command, Problem> {
        let mut query = Query::parse(call.query());
        let external_id = query.take_label("externalId")?;
        let after = query.take_integer("after", 0..=i64::MAX)?;
        let limit = take_limit(&mut query)?;
        query.end()?;
        Ok(Command::ListUsers(users::Selection { external_id, after, limit }))
    }

    pub(super) fn read_user(call: &Call, id: &str) -> Result<Command, Problem> {
        Query::parse(call.query()).end()?;
        read_id(id).map(Command::ReadUser)
    }

    pub(super) fn cron_status(call: &Call, _: &str) -> Result<Command, Problem> {
        let mut query = Query::parse(call.query());
        let filter = JobFilter {
            after: query.take_text("after")?,
            name: query.take_text("name")?,
            states: query.take_some_of("state", &cron::STATES)?,
            conditions: query.take_some_of("condition", &cron::CONDITIONS)?,
            limit: query.take_integer("limit", 1..=PAGE_MAX)?,
        };
        query.end()?;
        Ok(Command::CronStatus(filter))
    }

    pub(super) fn read_job(call: &Call, name: &str) -> Result<Command, Problem> {
        Query::parse(call.query()).end()?;
        existing(name).map(Command::ReadJob)
    }

    pub(super) fn job_changes(call: &Call, name: &str) -> Result<Command, Problem> {
        let mut query = Query::parse(call.query());
        let before = query.take_integer("before", 0..=i64::MAX)?;
        let limit = take_limit(&mut query)?;
        query.end()?;
        Ok(Command::JobChanges(existing(name)?, before, limit))
    }

    pub(super) fn put_job(call: &Call, name: &str) -> Result<Command, Problem> {
        let name = read_name("name", name)?;
        let change = whole(read_job_change(call)?)?;
        change.enabled.ok_or_else(|| Problem::missing("enabled"))?;
        Ok(Command::SteerJob(name, Action::Save(Box::new(change)), read_precondition(call)?))
    }

    pub(super) fn patch_job(call: &Call, name: &str) -> Result<Command, Problem> {
        if Fields::parse(call)?.is_empty() {
            return Err(Problem::invalid_request("body", "give at least one setting of the job"));
        }
        steer(call, name, Action::Save(Box::new(read_job_change(call)?)))
    }

    pub(super) fn delete_job(call: &Call, name: &str) -> Result<Command, Problem> {
        steer(call, name, Action::Delete)
    }

    pub(super) fn run_job(call: &Call, name: &str) -> Result<Command, Problem> {
        steer(call, name, Action::RunNow)
    }

    pub(super) fn stop_job(call: &Call, name: &str) -> Result<Command, Problem> {
        let mut fields = Fields::parse(call)?;
        let run_id = fields.take_integer("runId")?;
        fields.end()?;
        steer(call, name, Action::Stop(run_id))
    }
}

fn steer(call: &Call, name: &str, action: Action) -> Result<Command, Problem> {
    Ok(Command::SteerJob(existing(name)?, action, read_precondition(call)?))
}

/// What `POST /api/balance` asks for. Pure.
///
/// # Errors
/// A [`Problem`] of status 400, which names the field where the body is JSON.
pub fn read_change(call: &Call) -> Result<Change, Problem> {
    let mut fields = Fields::parse(call)?;
    let user_id = fields.take_integer("userId")?;
    let amount = fields.take_integer("amount")?;
    let reference = fields.take_label("reference")?;
    fields.end()?;
    let key = read_key(call)?;
    let change = Change::new(user_id, amount, key, reference);
    change.ok_or_else(|| Problem::must("amount", "not be 0"))
}

pub(super) fn read_schedule(text: &str) -> Result<Schedule, Problem> {
    let fault = |fault: InvalidSchedule| Problem::invalid_request("schedule", fault.to_string());
    Schedule::parse(text).map_err(fault)
}

pub(super) fn read_key(call: &Call) -> Result<Option<IdempotencyKey>, Problem> {
    let key = call.idempotency_key.as_deref().map(IdempotencyKey::parse).transpose();
    let rule = "be 1 to 255 printable characters, quoted or bare";
    key.map_err(|_| Problem::must("Idempotency-Key", rule))
}

pub(super) fn refuse_preconditions(call: &Call) -> Result<(), Problem> {
    match call.has_precondition() {
        false => Ok(()),
        true => {
            let detail = "nothing here has an ETag: send it without If-Match and If-None-Match";
            Err(Problem::precondition_failed(detail))
        }
    }
}

/// The rows of a page: at most 1,000, and 100 if nothing else is said.
pub(super) fn take_limit(query: &mut Query<'_>) -> Result<i64, Problem> {
    Ok(query.take_integer("limit", 1..=PAGE_MAX)?.unwrap_or(PAGE_DEFAULT))
}

/// The route has seen that it is one.
pub(super) fn read_id(text: &str) -> Result<i64, Problem> {
    text.parse().map_err(|_| Problem::not_found())
}

pub(super) fn read_name(field: &'static str, text: &str) -> Result<Name, Problem> {
    let rule = "be 1 to 63 small letters, digits and hyphens, and not begin with a hyphen";
    Name::parse(text).map_err(|_| Problem::must(field, rule))
}

/// What cannot be a name cannot be a job's.
pub(super) fn existing(name: &str) -> Result<Name, Problem> {
    Name::parse(name).map_err(|_| Problem::job_not_found(name))
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
