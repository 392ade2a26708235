//! What people do with jobs at run time: create, change, "run now" and delete.
//!
//! Nothing here affects a run that is going on: a change takes effect with the job's next slot.

mod current;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use postgres::Row;

use super::lease::Orphan;
use super::name::Name;
use super::precondition::Precondition;
use super::schedule::Schedule;
use crate::db::{Db, Deadline, Error};
use crate::metrics::Metrics;
use current::{apply, create, current};

/// All that people can change about a job.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The function that the job calls. This build may lack it: a replica of another build runs it.
    pub function: Name,
    /// When the job runs, by the database's clock.
    pub schedule: Schedule,
    /// False while the job is paused.
    pub enabled: bool,
}

/// New values for some of a job's [`Settings`]; the others stay.
#[derive(Clone, Debug, Default)]
pub struct SettingsChange {
    /// The new function; none to keep the old one.
    pub function: Option<Name>,
    /// The new schedule; none to keep the old one.
    pub schedule: Option<Schedule>,
    /// False to pause the job, true to resume it; none to keep it as it is.
    pub enabled: Option<bool>,
}

/// The result of [`Jobs::put`] and [`Jobs::patch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// There was no job of this name, and now there is one.
    Created,
    /// The job has these settings now, or had them already.
    Changed,
    /// There is no job of this name to patch.
    NotFound,
    /// Nothing is saved: the schedule names no instant from now on.
    NoInstant,
    /// Nothing is saved: the precondition does not hold.
    PreconditionFailed,
}

/// The result of [`Jobs::run_now`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunNow {
    /// The job is due, by this request or because it was already.
    Due,
    /// Refused: the job runs already, or somebody has locked its row until the deadline.
    Running,
    /// Refused: the job is paused.
    Paused,
    /// There is no job of this name.
    NotFound,
    /// Refused: the precondition does not hold.
    PreconditionFailed,
}

/// The result of [`Jobs::delete`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// The job is deleted. Its history stays.
    Done,
    /// Refused: the job runs, or somebody has locked its row until the deadline.
    Running,
    /// There is no job of this name.
    NotFound,
    /// Refused: the precondition does not hold.
    PreconditionFailed,
}

/// Creates, changes, starts and deletes jobs in the database, for all replicas.
pub struct Jobs {
    db: Arc<Db>,
    metrics: Arc<Metrics>,
}

/// Makes a waiting job due. A job that is due already keeps its slot and its offer. The decision
/// uses values read under the row's lock, since the statement's snapshot may be older. A row that
/// somebody has locked is skipped: then the snapshot has to say whether the job runs.
const RUN_NOW: &str = "\
with job as (
    select id, enabled, holder is not null and locked_until >= now() as running,
        holder is null and locked_until >= now() as waiting,
        $2::text[] is null or settings_tag(cron_jobs) = any($2) as meets
    from cron_jobs where name = $1
    for update skip locked
), asked as (
    update cron_jobs
    set requested_at = clock_timestamp(), locked_until = clock_timestamp(), offered_at = null
    from job
    where cron_jobs.id = job.id and job.enabled and job.waiting and job.meets
)
select job.enabled, job.meets, job.id is null as busy,
    coalesce(job.running, seen.holder is not null and seen.locked_until >= now()) as running
from cron_jobs seen left join job on true where seen.name = $1";

/// Deletes a job that does not run. The table's trigger closes a run that a dead holder left open.
/// A row that somebody has locked is skipped, as above.
const DELETE: &str = "\
with job as (
    select id, holder is not null and locked_until >= now() as running, run_id,
        $2::text[] is null or settings_tag(cron_jobs) = any($2) as meets
    from cron_jobs where name = $1
    for update skip locked
), deleted as (
    delete from cron_jobs using job where cron_jobs.id = job.id and not running and meets
)
select job.meets, job.run_id, job.id is null as busy,
    coalesce(job.running, seen.holder is not null and seen.locked_until >= now()) as running,
    (select server from cron_runs where id = job.run_id) as server
from cron_jobs seen left join job on true where seen.name = $1";

/// The pause between two tries while somebody has locked a job that does not run.
const BUSY_RETRY: Duration = Duration::from_millis(20);

impl Jobs {
    /// Works over this pool. Sends nothing yet.
    pub fn new(db: Arc<Db>, metrics: Arc<Metrics>) -> Jobs {
        Jobs { db, metrics }
    }

    /// Creates a job, or gives an existing one these settings. A new job first runs one interval
    /// after now, or at the cron expression's next instant.
    ///
    /// # Errors
    /// When the database is away, refuses the write, or does not answer by the deadline.
    pub fn put(
        &self,
        deadline: &Deadline,
        name: &Name,
        settings: &Settings,
        precondition: &Precondition,
    ) -> Result<Saved, Error> {
        let Settings { function, schedule, enabled } = settings.clone();
        self.db.run(deadline, |session| {
            loop {
                let current = current(session, name)?;
                if current.job.is_none() {
                    if !precondition.met_without_a_job() {
                        return Ok(Saved::PreconditionFailed);
                    }
                    let Some(slot) = schedule.first(current.now) else {
                        return Ok(Saved::NoInstant);
                    };
                    if create(session, name, settings, slot)? {
                        return Ok(Saved::Created);
                    }
                    continue;
                }
                let change = SettingsChange {
                    function: Some(function.clone()),
                    schedule: Some(schedule.clone()),
                    enabled: Some(enabled),
                };
                if let Some(saved) = apply(session, &current, &change, precondition)? {
                    return Ok(saved);
                }
            }
        })
    }

    /// Changes some settings of a job. A new schedule counts from now. A job that was paused goes
    /// on with its next slot; the slots that it missed are not run.
    ///
    /// # Errors
    /// As of [`Jobs::put`].
    pub fn patch(
        &self,
        deadline: &Deadline,
        name: &Name,
        change: &SettingsChange,
        precondition: &Precondition,
    ) -> Result<Saved, Error> {
        self.db.run(deadline, |session| {
            loop {
                let current = current(session, name)?;
                if let Some(saved) = apply(session, &current, change, precondition)? {
                    return Ok(saved);
                }
            }
        })
    }

    /// Makes a job due at once. The slots of its schedule stay where they are.
    ///
    /// # Errors
    /// As of [`Jobs::put`].
    pub fn run_now(
        &self,
        deadline: &Deadline,
        name: &Name,
        precondition: &Precondition,
    ) -> Result<RunNow, Error> {
        let Some(row) = self.row_of(deadline, RUN_NOW, name, precondition)? else {
            return Ok(RunNow::NotFound);
        };
        if is_running(&row) {
            return Ok(RunNow::Running);
        }
        Ok(match (row.get("enabled"), row.get("meets")) {
            (false, _) => RunNow::Paused,
            (true, false) => RunNow::PreconditionFailed,
            (true, true) => RunNow::Due,
        })
    }

    /// Deletes a job, unless it runs. Its history stays.
    ///
    /// # Errors
    /// As of [`Jobs::put`].
    pub fn delete(
        &self,
        deadline: &Deadline,
        name: &Name,
        precondition: &Precondition,
    ) -> Result<Deleted, Error> {
        let Some(row) = self.row_of(deadline, DELETE, name, precondition)? else {
            return Ok(Deleted::NotFound);
        };
        if is_running(&row) {
            return Ok(Deleted::Running);
        }
        if !row.get::<_, bool>("meets") {
            return Ok(Deleted::PreconditionFailed);
        }
        orphan(name, &row).into_iter().for_each(|orphan| orphan.tell(&self.metrics));
        Ok(Deleted::Done)
    }

    /// Tries `RUN_NOW` or `DELETE` until the job is not locked, or runs, or the deadline is over.
    fn row_of(
        &self,
        deadline: &Deadline,
        sql: &'static str,
        name: &Name,
        precondition: &Precondition,
    ) -> Result<Option<Row>, Error> {
        loop {
            let row = self.db.run(deadline, |session| {
                session.query_opt(sql, &[&name.as_str(), &precondition.tags()])
            })?;
            let is_busy = |row: &Row| row.get("busy") && !row.get::<_, bool>("running");
            if !row.as_ref().is_some_and(is_busy) || deadline.is_over() {
                return Ok(row);
            }
            thread::sleep(BUSY_RETRY);
        }
    }
}

/// Whether the job runs. One that stays locked until the deadline counts as running.
fn is_running(row: &Row) -> bool {
    row.get("running") || row.get("busy")
}

fn orphan(name: &Name, row: &Row) -> Option<Orphan> {
    let (run_id, server) = row.get::<_, Option<i64>>("run_id").zip(row.get("server"))?;
    Some(Orphan { job: name.as_str().to_owned(), run_id, server })
}
