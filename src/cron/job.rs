//! Jobs as people steer them at run time: their settings, "run now", and their end.
//!
//! Nothing here touches a run: a change of a job that runs counts from its next slot on.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use chrono::{DateTime, Utc};
use postgres::Row;

use super::lease::Orphan;
use super::name::Name;
use super::precondition::Precondition;
use super::schedule::Schedule;
use crate::db::{Db, Deadline, Error, Session};
use crate::metrics::Metrics;

/// All that is set about a job.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What it calls. This build need not know it.
    pub function: Name,
    /// When.
    pub schedule: Schedule,
    /// Whether it runs at all.
    pub enabled: bool,
}

/// Those settings that are to be changed.
#[derive(Clone, Debug, Default)]
pub struct SettingsChange {
    /// As of [`Settings`].
    pub function: Option<Name>,
    /// As of [`Settings`].
    pub schedule: Option<Schedule>,
    /// As of [`Settings`].
    pub enabled: Option<bool>,
}

/// What became of settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// There is a new job.
    Created,
    /// The job is as asked for.
    Changed,
    /// There is no such job.
    NotFound,
    /// The schedule names no instant from now on.
    NoInstant,
    /// The precondition does not hold.
    PreconditionFailed,
}

/// What became of "run now".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunNow {
    /// It is due.
    Due,
    /// It runs already.
    Running,
    /// It is paused.
    Paused,
    /// There is no such job.
    NotFound,
    /// The precondition does not hold.
    PreconditionFailed,
}

/// What became of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone. Its history stays.
    Done,
    /// It runs.
    Running,
    /// There is no such job.
    NotFound,
    /// The precondition does not hold.
    PreconditionFailed,
}

/// Steers jobs.
pub struct Jobs {
    db: Arc<Db>,
    metrics: Arc<Metrics>,
}

/// The job as it is, if it is, and the clock by which its slots are counted.
const CURRENT: &str = "\
select clock_timestamp() as now, id, function, schedule, enabled, slot,
    settings_tag(cron_jobs) as settings_tag
from (values (1)) as one left join cron_jobs on name = $1";

const CREATE: &str = "\
insert into cron_jobs (name, function, schedule, enabled, slot, locked_until)
values ($1, $2, $3, $4, $5, $5)
on conflict (name) do nothing
returning 1";

/// Only of the settings that were read. While the job runs its slot is the run's and `locked_until`
/// is the lease's end: both stay.
const CHANGE: &str = "\
update cron_jobs
set function = $3, schedule = $4, enabled = $5, offered_at = null,
    slot = case when holder is null then coalesce($6, slot) else slot end,
    locked_until = case when holder is null then coalesce($6, locked_until) else locked_until end,
    requested_at = case when holder is null and $6 is not null then null else requested_at end
where id = $1 and settings_tag(cron_jobs) = $2
returning 1";

/// A job that is due already keeps the instant it was due at, and its offer. What decides is read
/// under the lock: the statement's own snapshot may be older. A row that somebody has locked, such
/// as a step of its run, is not waited for: then the snapshot says whether the job runs.
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

/// The run that a dead holder left open is closed by the table's trigger. A row that somebody has
/// locked is not waited for, as above.
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

/// Between two looks at a job that does not run and that somebody has locked: for a moment.
const BUSY_RETRY: Duration = Duration::from_millis(20);

struct Current {
    now: DateTime<Utc>,
    job: Option<CurrentJob>,
}

struct CurrentJob {
    id: i64,
    function: String,
    schedule: String,
    enabled: bool,
    slot: DateTime<Utc>,
    settings_tag: String,
}

impl Jobs {
    /// Jobs kept in this database.
    pub fn new(db: Arc<Db>, metrics: Arc<Metrics>) -> Jobs {
        Jobs { db, metrics }
    }

    /// Makes a job so, or anew. A new one runs first at its first slot from now: an interval
    /// after now, or the cron expression's next instant.
    ///
    /// # Errors
    /// A fault of the database.
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

    /// Changes some settings of a job. A new schedule counts from now; a job that was paused goes
    /// on with its next slot, and those it missed are left out.
    ///
    /// # Errors
    /// A fault of the database.
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

    /// Makes a job due at once; the grid of its schedule stays.
    ///
    /// # Errors
    /// A fault of the database.
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

    /// Deletes a job that does not run.
    ///
    /// # Errors
    /// A fault of the database.
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

    /// What such a statement says of the job, once nobody has it locked or it runs.
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

/// Whether the job runs, or is locked for so long that something runs all the same.
fn is_running(row: &Row) -> bool {
    row.get("running") || row.get("busy")
}

fn orphan(name: &Name, row: &Row) -> Option<Orphan> {
    let (run_id, server) = row.get::<_, Option<i64>>("run_id").zip(row.get("server"))?;
    Some(Orphan { job: name.as_str().to_owned(), run_id, server })
}

fn current(session: &mut Session, name: &Name) -> Result<Current, postgres::Error> {
    let rows = session.query(CURRENT, &[&name.as_str()])?;
    let row = &rows[0];
    let id: Option<i64> = row.get("id");
    let job = id.map(|id| CurrentJob {
        id,
        function: row.get("function"),
        schedule: row.get("schedule"),
        enabled: row.get("enabled"),
        slot: row.get("slot"),
        settings_tag: row.get("settings_tag"),
    });
    Ok(Current { now: row.get("now"), job })
}

fn create(
    session: &mut Session,
    name: &Name,
    settings: &Settings,
    slot: DateTime<Utc>,
) -> Result<bool, postgres::Error> {
    let Settings { function, schedule, enabled } = settings;
    let row = session.query_opt(
        CREATE,
        &[&name.as_str(), &function.as_str(), &schedule.text(), enabled, &slot],
    )?;
    Ok(row.is_some())
}

/// None when somebody else changed the job since it was read.
fn apply(
    session: &mut Session,
    current: &Current,
    change: &SettingsChange,
    precondition: &Precondition,
) -> Result<Option<Saved>, postgres::Error> {
    let Some(old) = &current.job else {
        return Ok(Some(Saved::NotFound));
    };
    if !precondition.met_by(&old.settings_tag) {
        return Ok(Some(Saved::PreconditionFailed));
    }
    let function = change.function.as_ref().map_or(old.function.as_str(), Name::as_str);
    let schedule = change.schedule.as_ref().map_or(old.schedule.as_str(), Schedule::text);
    let enabled = change.enabled.unwrap_or(old.enabled);
    if (function, schedule, enabled) == (&old.function, &old.schedule, old.enabled) {
        return Ok(Some(Saved::Changed));
    }
    let next = match &change.schedule {
        Some(new) if schedule != old.schedule => Some(new.first(current.now)),
        _ if enabled && !old.enabled => {
            let schedule = Schedule::parse(schedule).ok();
            Some(schedule.and_then(|schedule| schedule.next(old.slot, current.now)))
        }
        _ => None,
    };
    if next == Some(None) {
        return Ok(Some(Saved::NoInstant));
    }
    let next = next.flatten();
    let params: &[&(dyn postgres::types::ToSql + Sync)] =
        &[&old.id, &old.settings_tag, &function, &schedule, &enabled, &next];
    Ok(session.query_opt(CHANGE, params)?.map(|_| Saved::Changed))
}
