//! Creates jobs and changes their settings.

use chrono::{DateTime, Utc};
use postgres::Row;

use super::{ActionResult, Jobs, SettingsChange};
use crate::cron::name::Name;
use crate::cron::precondition::Precondition;
use crate::cron::schedule::Schedule;
use crate::db::{Deadline, Error, Session};

/// The job, if there is one, and the database's clock, from which new slots are computed.
const CURRENT: &str = "\
select clock_timestamp() as now, id, function, schedule, enabled, slot,
    settings_tag(cron_jobs) as settings_tag,
    $2::text[] is null or settings_tag(cron_jobs) = any($2) as meets
from (values (1)) as one left join cron_jobs on name = $1";
const CREATE: &str = "\
insert into cron_jobs (name, function, schedule, enabled, slot, locked_until)
values ($1, $2, $3, $4, $5, $5)
on conflict (name) do nothing
returning 1";
/// Changes a job whose settings are still those that were read. While the job runs, `slot` belongs
/// to its run and `locked_until` is the lease's end: both stay.
const CHANGE: &str = "\
update cron_jobs
set function = $3, schedule = $4, enabled = $5, offered_at = null,
    slot = case when holder is null then coalesce($6, slot) else slot end,
    locked_until = case when holder is null then coalesce($6, locked_until) else locked_until end,
    requested_at = case when holder is null and $6 is not null then null else requested_at end
where id = $1 and settings_tag(cron_jobs) = $2
returning 1";

impl Jobs {
    /// Tries again whenever somebody else has changed the job since it was read.
    pub(super) fn save(
        &self,
        deadline: &Deadline,
        name: &Name,
        change: &SettingsChange,
        precondition: &Precondition,
    ) -> Result<ActionResult, Error> {
        self.db.run(deadline, |session| {
            loop {
                let current =
                    session.query_one(CURRENT, &[&name.as_str(), &precondition.tags()])?;
                let saved = match current.get("id") {
                    Some(id) => apply(session, id, &current, change)?,
                    None => create(session, name, current.get("now"), change, precondition)?,
                };
                if let Some(saved) = saved {
                    return Ok(saved);
                }
            }
        })
    }
}

/// None when somebody else has created the job since it was looked for.
fn create(
    session: &mut Session,
    name: &Name,
    now: DateTime<Utc>,
    change: &SettingsChange,
    precondition: &Precondition,
) -> Result<Option<ActionResult>, postgres::Error> {
    let SettingsChange {
        function: Some(function),
        schedule: Some(schedule),
        enabled: Some(enabled),
        creates: true,
    } = change
    else {
        return Ok(Some(ActionResult::NotFound));
    };
    if !precondition.met_without_a_job() {
        return Ok(Some(ActionResult::PreconditionFailed));
    }
    let Some(slot) = schedule.first(now) else {
        return Ok(Some(ActionResult::NoInstant));
    };
    let created = session.query_opt(
        CREATE,
        &[&name.as_str(), &function.as_str(), &schedule.text(), enabled, &slot],
    )?;
    Ok(created.map(|_| ActionResult::Created))
}

/// None when somebody else has changed the job since it was read.
fn apply(
    session: &mut Session,
    id: i64,
    old: &Row,
    change: &SettingsChange,
) -> Result<Option<ActionResult>, postgres::Error> {
    if !old.get::<_, bool>("meets") {
        return Ok(Some(ActionResult::PreconditionFailed));
    }
    let (old_function, old_schedule): (&str, &str) = (old.get("function"), old.get("schedule"));
    let was_enabled: bool = old.get("enabled");
    let function = change.function.as_ref().map_or(old_function, Name::as_str);
    let schedule = change.schedule.as_ref().map_or(old_schedule, Schedule::text);
    let enabled = change.enabled.unwrap_or(was_enabled);
    if (function, schedule, enabled) == (old_function, old_schedule, was_enabled) {
        return Ok(Some(ActionResult::Changed));
    }
    let next = match &change.schedule {
        Some(new) if schedule != old_schedule => Some(new.first(old.get("now"))),
        _ if enabled && !was_enabled => {
            let schedule = Schedule::parse_kept(schedule).ok();
            Some(schedule.and_then(|schedule| schedule.next(old.get("slot"), old.get("now"))))
        }
        _ => None,
    };
    if next == Some(None) {
        return Ok(Some(ActionResult::NoInstant));
    }
    let next = next.flatten();
    let tag: &str = old.get("settings_tag");
    let changed = session.query_opt(CHANGE, &[&id, &tag, &function, &schedule, &enabled, &next])?;
    Ok(changed.map(|_| ActionResult::Changed))
}
