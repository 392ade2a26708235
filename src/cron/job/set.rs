//! Makes a whole set of jobs as a file says, all or none.
//!
//! One transaction does it. Before it writes into a row it locks all the rows that it will write
//! into, in the order of their names; whatever else waits for such a row holds no other one. Rows
//! that are as they should be are read and not locked. A job that somebody else has changed,
//! created or deleted since it was read lets the whole begin again.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use postgres::Row;
use serde::Serialize;

use super::save::{Save, Saved};
use super::settings::{Settings, SettingsChange};
use super::{ActionResult, Author, DELETE, Jobs, orphan};
use crate::cron::lease::Orphan;
use crate::cron::name::Name;
use crate::cron::precondition::Precondition;
use crate::db::{Deadline, Error, FromDatabase, Session};

/// What jobs there shall be.
#[derive(Clone, Debug)]
pub struct JobSet {
    /// Each job and all its settings; no name twice. Where nothing is said of `enabled`, a new job
    /// is enabled, and any other stays as it is. A job that is not enabled stays so if its schedule
    /// names no further instant; a new one is disabled then.
    pub jobs: Vec<(Name, SettingsChange)>,
    /// Whether jobs that are not in the set are deleted.
    pub prune: bool,
    /// Whether it is only told what would change.
    pub dry_run: bool,
}

/// What a set has changed, or would have changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// Whether nothing was changed, because the set was only tried.
    pub dry_run: bool,
    /// The names of new jobs.
    pub created: Vec<String>,
    /// The jobs that got other settings.
    pub changed: Vec<ChangedJob>,
    /// The names of jobs that were deleted.
    pub deleted: Vec<String>,
    /// How many jobs of the set were as it says, and were not touched.
    pub unchanged: usize,
    /// Those that are disabled although the set wants them enabled: their schedules name no instant
    /// from now on.
    pub over: Vec<String>,
    /// Of a set that was only tried: those of `deleted` that run, so that it would be refused.
    pub running: Vec<String>,
}

/// A job that a set has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangedJob {
    /// Its name.
    pub name: String,
    /// The names of the settings that have changed.
    pub fields: Vec<String>,
}

/// What became of a set.
#[derive(Debug)]
pub enum SetResult {
    /// The jobs are so now, or would be.
    Applied(Difference),
    /// Nothing was changed.
    Refused {
        /// The job that is the reason.
        name: String,
        /// Its place in the set; none if it was to be deleted.
        place: Option<usize>,
        /// Why.
        why: ActionResult,
    },
}

/// What was tried once; None when somebody else has changed a job meanwhile.
type Tried = FromDatabase<Option<SetResult>>;

/// The number of the advisory lock of sets, of which one is applied after the other: "job sets" in
/// ASCII.
const LOCK_NUMBER: i64 = 0x6a6f_6220_7365_7473;
/// Gives the database's clock besides, from which new slots are computed.
const LOCK_SETS: &str = "select clock_timestamp() as now from pg_advisory_xact_lock($1)";
/// The jobs of these names, or all, with what `CURRENT` reads of one.
const CURRENT_SET: &str = "\
select id, name, function, arguments, schedule, enabled, description,
    owner, max_seconds, retries, retry_after_seconds, start_within_seconds, catch_up, job_group,
    slot, job_settings(job)::text as before, settings_tag(job) as settings_tag, true as meets
from cron_jobs job where $2 or name = any ($1)";
const LOCK_JOBS: &str = "select from cron_jobs where id = any ($1) order by name for no key update";

impl Jobs {
    /// Makes the jobs so for the author, all or none.
    ///
    /// # Errors
    /// When the database is away, refuses a write, or does not answer by the deadline.
    pub fn apply(
        &self,
        deadline: &Deadline,
        set: &JobSet,
        author: Author<'_>,
    ) -> Result<SetResult, Error> {
        let stays = |tried: &Option<SetResult>| match tried {
            Some(SetResult::Applied(difference)) => !difference.dry_run,
            _ => false,
        };
        self.db.run(deadline, |session| {
            loop {
                let mut apply = Apply { jobs: self, author, orphans: Vec::new() };
                let tried = session.transaction_if(stays, |session| {
                    let now = session.query_one(LOCK_SETS, &[&LOCK_NUMBER])?.get("now");
                    let names: Vec<&str> = set.jobs.iter().map(|(name, _)| name.as_str()).collect();
                    let rows = session.query(CURRENT_SET, &[&names, &set.prune])?;
                    apply.all(session, Plan::of(set, &rows, now), now)
                })?;
                if stays(&tried) {
                    apply.orphans.iter().for_each(|orphan| orphan.tell(&self.metrics));
                }
                if let Some(result) = tried {
                    return Ok(result);
                }
            }
        })
    }
}

/// What a set has to change.
struct Plan<'a> {
    created: Vec<(usize, &'a Name, SettingsChange)>,
    changed: Vec<(usize, &'a Name, SettingsChange, &'a Row)>,
    deleted: BTreeMap<&'a str, &'a Row>,
    difference: Difference,
}

impl<'a> Plan<'a> {
    fn of(set: &'a JobSet, rows: &'a [Row], now: DateTime<Utc>) -> Plan<'a> {
        // Where nothing is pruned, no others than those of the set were read.
        let deleted = rows.iter().map(|row| (row.get("name"), row)).collect();
        let difference = Difference { dry_run: set.dry_run, ..Difference::default() };
        let mut plan = Plan { created: Vec::new(), changed: Vec::new(), deleted, difference };
        for (place, (name, change)) in set.jobs.iter().enumerate() {
            let row = plan.deleted.remove(name.as_str());
            let mut enabled = change.enabled.or_else(|| row.map(|row| row.get("enabled")));
            if enabled != Some(false) && is_over(change, row, now) {
                plan.difference.over.push(name.as_str().to_owned());
                enabled = Some(false);
            }
            let change = SettingsChange { enabled, ..change.clone() };
            let Some(row) = row else {
                plan.created.push((place, name, change));
                continue;
            };
            let fields = fields_changed(&Settings::of(row), &change);
            if fields.is_empty() {
                plan.difference.unchanged += 1;
                continue;
            }
            let name_text = name.as_str().to_owned();
            plan.difference.changed.push(ChangedJob { name: name_text, fields });
            plan.changed.push((place, name, change, row));
        }
        let names = plan.created.iter().map(|(_, name, _)| name.as_str().to_owned());
        plan.difference.created = names.collect();
        plan.difference.deleted = plan.deleted.keys().map(|name| (*name).to_owned()).collect();
        plan
    }
}

/// Whether the job is new or disabled, and the schedule names no further instant: after its last
/// run a job stays, disabled, and so may its file.
fn is_over(change: &SettingsChange, row: Option<&Row>, now: DateTime<Utc>) -> bool {
    row.is_none_or(|row| !row.get::<_, bool>("enabled"))
        && change.schedule.as_ref().is_some_and(|schedule| schedule.first(now).is_none())
}

/// The names of the settings that the change makes other ones.
fn fields_changed(old: &Settings, change: &SettingsChange) -> Vec<String> {
    let members = |settings: &Settings| serde_json::to_value(settings).unwrap_or_default();
    let (old, new) = (members(old), members(&change.applied_to(old)));
    let of_both = new.as_object().into_iter().flatten();
    of_both.filter(|(name, value)| old[*name] != **value).map(|(name, _)| name.clone()).collect()
}

/// One transaction that makes a set of jobs so.
struct Apply<'a> {
    jobs: &'a Jobs,
    author: Author<'a>,
    /// Runs that dead holders had left open, of jobs that are deleted.
    orphans: Vec<Orphan>,
}

impl Apply<'_> {
    /// Creates first: that locks nothing which anybody has to wait for.
    fn all(&mut self, session: &mut Session, mut plan: Plan<'_>, now: DateTime<Utc>) -> Tried {
        let refused = |name: &str, place, why| {
            Ok(Some(SetResult::Refused { name: name.to_owned(), place, why }))
        };
        for (place, name, change) in plan.created {
            match self.save(name, &change).create(session, now)? {
                Some(ActionResult::Created) => {}
                Some(why) => return refused(name.as_str(), Some(place), why),
                None => return Ok(None),
            }
        }
        let changed = plan.changed.iter().map(|(.., row)| row);
        let ids: Vec<i64> = changed.chain(plan.deleted.values()).map(|row| row.get("id")).collect();
        session.query(LOCK_JOBS, &[&ids])?;
        for (place, name, change, row) in plan.changed {
            match self.save(name, &change).apply(session, row, now)? {
                Some(ActionResult::Changed) => {}
                Some(why) => return refused(name.as_str(), Some(place), why),
                None => return Ok(None),
            }
        }
        for (name, row) in plan.deleted {
            match self.delete(session, name, row.get("settings_tag"))? {
                Some(ActionResult::Deleted) => {}
                Some(_) if plan.difference.dry_run => {
                    plan.difference.running.push(name.to_owned());
                }
                Some(why) => return refused(name, None, why),
                None => return Ok(None),
            }
        }
        Ok(Some(SetResult::Applied(plan.difference)))
    }

    fn save<'a>(&'a self, name: &'a Name, change: &'a SettingsChange) -> Save<'a> {
        let functions = &self.jobs.functions;
        Save { functions, name, change, precondition: &Precondition::None, author: self.author }
    }

    fn delete(&mut self, session: &mut Session, name: &str, tag: &str) -> Saved {
        let Author { token, request_id } = self.author;
        let row = session.query_opt(DELETE, &[&name, &[tag].as_slice(), &token, &request_id])?;
        let Some(row) = row
            .filter(|row| row.get("running") || row.get::<_, Option<bool>>("meets") == Some(true))
        else {
            return Ok(None);
        };
        self.orphans.extend(orphan(name, &row));
        let is_running = row.get("running");
        Ok(Some(if is_running { ActionResult::Running } else { ActionResult::Deleted }))
    }
}
