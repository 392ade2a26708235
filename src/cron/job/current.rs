//! A job as it is, and the statements that create and change it.

use chrono::{DateTime, Utc};

use super::super::name::Name;
use super::super::precondition::Precondition;
use super::super::schedule::Schedule;
use super::{Saved, Settings, SettingsChange};
use crate::db::Session;

/// The job, if there is one, and the database's clock, from which new slots are computed.
const CURRENT: &str = "\
select clock_timestamp() as now, id, function, schedule, enabled, slot,
    settings_tag(cron_jobs) as settings_tag
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

pub(super) struct Current {
    pub(super) now: DateTime<Utc>,
    pub(super) job: Option<CurrentJob>,
}

pub(super) struct CurrentJob {
    pub(super) id: i64,
    pub(super) function: String,
    pub(super) schedule: String,
    pub(super) enabled: bool,
    pub(super) slot: DateTime<Utc>,
    pub(super) settings_tag: String,
}

pub(super) fn current(session: &mut Session, name: &Name) -> Result<Current, postgres::Error> {
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

pub(super) fn create(
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

/// None when somebody else has changed the job since it was read.
pub(super) fn apply(
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
            let schedule = Schedule::parse_kept(schedule).ok();
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
