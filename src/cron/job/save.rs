//! Creates jobs and changes their settings.

use chrono::{DateTime, Utc};
use postgres::Row;
use postgres::error::SqlState;
use postgres::types::ToSql;

use super::settings::{Settings, SettingsChange};
use super::{ActionResult, Author, Jobs};
use crate::cron::functions::Functions;
use crate::cron::name::Name;
use crate::cron::precondition::Precondition;
use crate::cron::schedule::Schedule;
use crate::db::{Deadline, Error, FromDatabase, Session};

/// The job, if there is one, and the database's clock, from which new slots are computed.
const CURRENT: &str = "\
select clock_timestamp() as now, id, function, arguments, schedule, enabled, description, owner,
    max_seconds, retries, retry_after_seconds, start_within_seconds, catch_up, job_group, slot,
    job_settings(job)::text as before,
    settings_tag(job) as settings_tag,
    $2::text[] is null or settings_tag(job) = any($2) as meets
from (values (1)) as one left join cron_jobs job on name = $1";
const CREATE: &str = "\
with created as (
    insert into cron_jobs (
        function, arguments, schedule, enabled, description, owner, max_seconds, retries,
        retry_after_seconds, start_within_seconds, catch_up, job_group, name, slot, locked_until
    )
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14)
    on conflict (name) do nothing
    returning job_settings(cron_jobs)::text as after
), noted as (
    insert into cron_job_changes (job, changed_by, request_id, after)
    select $13, $15, $16, after from created
)
select from created";
/// Changes a job whose settings are still those that were read. While the job runs, `slot` belongs
/// to its run and `locked_until` is the lease's end: both stay.
const CHANGE: &str = "\
with changed as (
    update cron_jobs
    set function = $1, arguments = $2, schedule = $3, enabled = $4, description = $5, owner = $6,
        max_seconds = $7, retries = $8, retry_after_seconds = $9, start_within_seconds = $10,
        catch_up = $11, job_group = $12, offered_at = null,
        slot = case when holder is null then coalesce($15, slot) else slot end,
        locked_until =
            case when holder is null then coalesce($15, locked_until) else locked_until end,
        requested_at =
            case when holder is null and $15 is not null then null else requested_at end
    where id = $13 and settings_tag(cron_jobs) = $14
    returning name, job_settings(cron_jobs)::text as after
), noted as (
    insert into cron_job_changes (job, changed_by, request_id, before, after)
    select name, $16, $17, $18, after from changed
)
select from changed";

/// What is to be saved, and how.
pub(super) struct Save<'a> {
    pub(super) functions: &'a Functions,
    pub(super) name: &'a Name,
    pub(super) change: &'a SettingsChange,
    pub(super) precondition: &'a Precondition,
    pub(super) author: Author<'a>,
}

/// None when somebody else has changed or created the job since it was read.
pub(super) type Saved = FromDatabase<Option<ActionResult>>;

impl Jobs {
    /// Tries again whenever somebody else has changed the job since it was read.
    pub(super) fn save(
        &self,
        deadline: &Deadline,
        name: &Name,
        change: &SettingsChange,
        precondition: &Precondition,
        author: Author<'_>,
    ) -> Result<ActionResult, Error> {
        let save = Save { functions: &self.functions, name, change, precondition, author };
        self.db.run(deadline, |session| {
            loop {
                let current =
                    session.query_one(CURRENT, &[&name.as_str(), &precondition.tags()])?;
                let now = current.get("now");
                let saved = match current.get::<_, Option<i64>>("id") {
                    Some(_) => save.apply(session, &current, now)?,
                    None => save.create(session, now)?,
                };
                if let Some(saved) = saved {
                    return Ok(saved);
                }
            }
        })
    }
}

impl Save<'_> {
    pub(super) fn create(&self, session: &mut Session, now: DateTime<Utc>) -> Saved {
        let (true, Some(schedule)) = (self.change.is_whole, &self.change.schedule) else {
            return Ok(Some(ActionResult::NotFound));
        };
        if !self.precondition.met_without_a_job() {
            return Ok(Some(ActionResult::PreconditionFailed));
        }
        let settings = self.change.applied_to(&Settings::default());
        if let Err(rule) = self.functions.check(&settings) {
            return Ok(Some(ActionResult::WrongArguments(rule)));
        }
        let slot = match schedule.first(now) {
            Some(slot) => slot,
            None if !settings.enabled => now,
            None => return Ok(Some(ActionResult::NoInstant)),
        };
        let job = self.name.as_str();
        let others: [&(dyn ToSql + Sync); 4] =
            [&job, &slot, &self.author.token, &self.author.request_id];
        let created = session.query_opt(CREATE, &[&settings.values()[..], &others].concat())?;
        Ok(created.map(|_| ActionResult::Created))
    }

    pub(super) fn apply(&self, session: &mut Session, row: &Row, now: DateTime<Utc>) -> Saved {
        if !row.get::<_, bool>("meets") {
            return Ok(Some(ActionResult::PreconditionFailed));
        }
        let old = Settings::of(row);
        let new = self.change.applied_to(&old);
        if new == old {
            return Ok(Some(ActionResult::Changed));
        }
        // A replica of another build may know the function, and take what this one does not.
        let is_other_call = (&new.function, &new.arguments) != (&old.function, &old.arguments);
        if let Some(Err(rule)) = is_other_call.then(|| self.functions.check(&new)) {
            return Ok(Some(ActionResult::WrongArguments(rule)));
        }
        let next = match &self.change.schedule {
            Some(schedule) if new.schedule != old.schedule => Some(schedule.first(now)),
            _ if new.enabled && !old.enabled => {
                let schedule = Schedule::parse_kept(&new.schedule).ok();
                Some(schedule.and_then(|schedule| schedule.next(row.get("slot"), now)))
            }
            _ => None,
        };
        if new.enabled && next == Some(None) {
            return Ok(Some(ActionResult::NoInstant));
        }
        let (id, tag, before): (i64, &str, &str) =
            (row.get("id"), row.get("settings_tag"), row.get("before"));
        let Author { token, request_id } = self.author;
        let others: [&(dyn ToSql + Sync); 6] =
            [&id, &tag, &next.flatten(), &token, &request_id, &before];
        match session.query_opt(CHANGE, &[&new.values()[..], &others].concat()) {
            Ok(changed) => Ok(changed.map(|_| ActionResult::Changed)),
            Err(error) if is_group_running(&error) => Ok(Some(ActionResult::GroupRunning)),
            Err(error) => Err(error),
        }
    }
}

/// True when the job runs, and another one of its new group, too: the index allows only one.
fn is_group_running(error: &postgres::Error) -> bool {
    let refusal = error.as_db_error();
    refusal.is_some_and(|refusal| {
        *refusal.code() == SqlState::UNIQUE_VIOLATION
            && refusal.constraint() == Some("one_run_a_group")
    })
}
