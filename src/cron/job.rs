//! What people do with jobs at run time: create, change, "run now" and delete.
//!
//! Nothing here affects a run that is going on: a change takes effect with the job's next slot.
//! Whoever creates, changes or deletes a job leaves a row in `cron_job_changes`, by the same
//! statement; so does the end of a run after which the job is disabled.

mod changes;
mod save;
pub(super) mod set;
pub(super) mod settings;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use postgres::Row;

use super::functions::Functions;
use super::lease::Orphan;
use super::name::Name;
use super::precondition::Precondition;
use super::schedule::Schedule;
use crate::db::{Db, Deadline, Error, Params};
use crate::metrics::Metrics;
pub use changes::JobChange;
use settings::SettingsChange;

/// Who asks for something to be done with a job: `cron_job_changes` keeps it.
#[derive(Clone, Copy, Debug)]
pub struct Author<'a> {
    /// The name of the token that was shown, if one was.
    pub token: Option<&'a str>,
    /// The id of the request.
    pub request_id: &'a str,
}

/// What people can do with a job.
#[derive(Clone, Debug)]
pub enum Action {
    /// Create it, or change some of its settings. A new job first runs one interval after now, or
    /// at the cron expression's next instant. A new schedule counts from now. A job that was paused
    /// goes on with its next slot; the slots that it missed are not run.
    Save(Box<SettingsChange>),
    /// Make it due at once, or the try that it waits for. The slots of its schedule stay where they
    /// are.
    RunNow,
    /// Stop the run with this id, wherever it goes on. The job waits for its next slot then.
    Stop(i64),
    /// Delete it, unless it runs. Its history stays.
    Delete,
}

/// What became of an action: it was done, or why it was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionResult {
    /// There was no job of this name, and now there is one.
    Created,
    /// The job has these settings now, or had them already.
    Changed,
    /// The job is due, by this request or because it was already.
    Due,
    /// The job is deleted. Its history stays.
    Deleted,
    /// Refused: there is no job of this name.
    NotFound,
    /// Refused: the job runs already, or somebody has locked its row until the deadline.
    Running,
    /// Refused: the job runs, and so does another one of the group that it was to have.
    GroupRunning,
    /// The run with this id is told to stop: its replica sees this within a third of a lease.
    Stopping(i64),
    /// Refused: the run with this id is not the job's open one.
    NotRunning(i64),
    /// Refused: the job is paused.
    Paused,
    /// Refused: the job is paused, and its schedule names no instant from now on.
    Over,
    /// Refused: the schedule names no instant from now on.
    NoInstant,
    /// Refused: the function does not take the arguments, by this rule.
    WrongArguments(String),
    /// Refused: the precondition does not hold.
    PreconditionFailed,
}

/// What people see of jobs and do with them, in the database, for all replicas.
pub struct Jobs {
    pub(super) db: Arc<Db>,
    /// The name of this replica, and the functions of its build, for the status.
    pub(super) server: String,
    pub(super) functions: Functions,
    metrics: Arc<Metrics>,
}

/// Makes a waiting job due; a slot that waits to be tried again stays the one that is tried. A job
/// that is due already keeps its slot and its offer; if that slot may be too late to be run, its
/// first try counts as begun, so that it is run. A run that is to be stopped goes on until it is
/// closed. The decision uses values read under the row's lock, since the snapshot may be older. A
/// row that somebody has locked is skipped: then the snapshot has to say whether the job runs.
const RUN_NOW: &str = "\
with job as (
    select id, enabled,
        holder is not null and (locked_until >= now() or (stop_run = run_id) is true) as running,
        holder is null and locked_until >= now() as waiting,
        attempt > 1 and tried_at = coalesce(requested_at, slot) as is_tried_again,
        holder is null and requested_at is null and tried_at is distinct from slot
            and (start_within_seconds is not null or catch_up = 'none') as may_be_missed,
        $2::text[] is null or settings_tag(cron_jobs) = any($2) as meets
    from cron_jobs where name = $1
    for update skip locked
), asked as (
    update cron_jobs
    set requested_at =
            case when waiting and not is_tried_again then clock_timestamp() else requested_at end,
        locked_until = case when waiting then clock_timestamp() else locked_until end,
        offered_at = case when waiting then null else offered_at end,
        tried_at = case when waiting then tried_at else slot end,
        attempt = case when waiting then attempt else 1 end,
        checkpoint = case when waiting then checkpoint end
    from job
    where cron_jobs.id = job.id and job.enabled and (waiting or may_be_missed) and job.meets
)
select job.enabled, job.meets, job.id is null as busy, clock_timestamp() as now, seen.schedule,
    coalesce(job.running, seen.holder is not null
        and (seen.locked_until >= now() or (seen.stop_run = seen.run_id) is true)) as running
from cron_jobs seen left join job on true where seen.name = $1";

/// Asks to stop a run, if it is open. Its holder reads this when it renews the lease; if the holder
/// is dead, whoever sees the lease run out closes the run.
const STOP: &str = "\
with job as (
    select id, (run_id = $3) is true as is_open,
        $2::text[] is null or settings_tag(cron_jobs) = any($2) as meets
    from cron_jobs where name = $1
    for no key update
), stopped as (
    update cron_jobs set stop_run = $3, offered_at = null
    from job where cron_jobs.id = job.id and is_open and meets
)
select is_open, meets from job";

/// Deletes a job that does not run. The table's trigger closes a run that a dead holder left open.
/// A row that somebody has locked is skipped, as above.
const DELETE: &str = "\
with job as (
    select id, holder is not null and locked_until >= now() as running, run_id,
        job_settings(cron_jobs)::text as before,
        $2::text[] is null or settings_tag(cron_jobs) = any($2) as meets
    from cron_jobs where name = $1
    for update skip locked
), deleted as (
    delete from cron_jobs using job where cron_jobs.id = job.id and not running and meets
    returning before
), noted as (
    insert into cron_job_changes (job, changed_by, request_id, before)
    select $1, $3, $4, before from deleted
)
select job.meets, job.run_id, job.id is null as busy,
    coalesce(job.running, seen.holder is not null and seen.locked_until >= now()) as running,
    (select server from cron_runs where id = job.run_id) as server
from cron_jobs seen left join job on true where seen.name = $1";

/// The pause between two tries while somebody has locked a job that does not run.
const BUSY_RETRY: Duration = Duration::from_millis(20);

impl Jobs {
    /// The functions of this build.
    pub fn functions(&self) -> &Functions {
        &self.functions
    }

    /// Works over this pool. `functions` are those of this build. Sends nothing yet.
    pub fn new(db: &Arc<Db>, server: &str, functions: &Functions, metrics: &Arc<Metrics>) -> Jobs {
        Jobs {
            db: Arc::clone(db),
            server: server.to_owned(),
            functions: functions.clone(),
            metrics: Arc::clone(metrics),
        }
    }

    /// Does this for the author, if the precondition holds.
    ///
    /// # Errors
    /// When the database is away, refuses the write, or does not answer by the deadline.
    pub fn steer(
        &self,
        deadline: &Deadline,
        name: &Name,
        action: &Action,
        precondition: &Precondition,
        author: Author<'_>,
    ) -> Result<ActionResult, Error> {
        let (job, tags) = (name.as_str(), precondition.tags());
        match action {
            Action::Save(change) => self.save(deadline, name, change, precondition, author),
            Action::RunNow => self.unless_running(deadline, RUN_NOW, &[&job, &tags], requested),
            Action::Stop(run_id) => self.stop(deadline, name, *run_id, precondition),
            Action::Delete => {
                let params: Params<'_> = &[&job, &tags, &author.token, &author.request_id];
                self.unless_running(deadline, DELETE, params, |row| self.deleted(name, row))
            }
        }
    }

    /// Tries `RUN_NOW` or `DELETE` until the job is not locked, or runs. A job that stays locked
    /// until the deadline counts as running.
    fn unless_running(
        &self,
        deadline: &Deadline,
        sql: &'static str,
        params: Params<'_>,
        decide: impl FnOnce(&Row) -> ActionResult,
    ) -> Result<ActionResult, Error> {
        loop {
            let row = self.db.run(deadline, |session| session.query_opt(sql, params))?;
            let Some(row) = row else { return Ok(ActionResult::NotFound) };
            if !row.get::<_, bool>("busy") && !row.get::<_, bool>("running") {
                return Ok(decide(&row));
            }
            if row.get("running") || deadline.is_over() {
                return Ok(ActionResult::Running);
            }
            thread::sleep(BUSY_RETRY);
        }
    }

    fn stop(
        &self,
        deadline: &Deadline,
        name: &Name,
        run_id: i64,
        precondition: &Precondition,
    ) -> Result<ActionResult, Error> {
        let row = self.db.run(deadline, |session| {
            session.query_opt(STOP, &[&name.as_str(), &precondition.tags(), &run_id])
        })?;
        Ok(match row.map(|row| (row.get("is_open"), row.get("meets"))) {
            None => ActionResult::NotFound,
            Some((false, _)) => ActionResult::NotRunning(run_id),
            Some((true, false)) => ActionResult::PreconditionFailed,
            Some((true, true)) => ActionResult::Stopping(run_id),
        })
    }

    /// Counts and logs the run that a dead holder had left open, if there was one.
    fn deleted(&self, name: &Name, row: &Row) -> ActionResult {
        if !row.get::<_, bool>("meets") {
            return ActionResult::PreconditionFailed;
        }
        orphan(name.as_str(), row).iter().for_each(|orphan| orphan.tell(&self.metrics));
        ActionResult::Deleted
    }
}

fn orphan(job: &str, row: &Row) -> Option<Orphan> {
    let (run_id, server) = row.get::<_, Option<i64>>("run_id").zip(row.get("server"))?;
    Some(Orphan { job: job.to_owned(), run_id, server, is_stopped: false })
}

fn requested(row: &Row) -> ActionResult {
    let is_over = |schedule: Schedule| schedule.first(row.get("now")).is_none();
    match (row.get("enabled"), row.get("meets")) {
        (false, _) if Schedule::parse_kept(row.get("schedule")).is_ok_and(is_over) => {
            ActionResult::Over
        }
        (false, _) => ActionResult::Paused,
        (true, false) => ActionResult::PreconditionFailed,
        (true, true) => ActionResult::Due,
    }
}
