//! What people set of a job, and what of it a request changes.

use postgres::Row;
use postgres::types::ToSql;
use serde::ser::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::cron::name::Name;
use crate::cron::schedule::Schedule;
use crate::db::from_row;

/// What people have set of a job, as the database keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Settings {
    /// The name of the function that the job calls.
    pub function: String,
    /// What the function is given.
    pub arguments: Arguments,
    /// The text of the schedule, as [`Schedule::parse`] reads it.
    pub schedule: String,
    /// False when the job is paused; a run that is open goes on.
    pub enabled: bool,
    /// What the job is for: 1 to 1,000 printable characters.
    pub description: Option<String>,
    /// Whom to ask about the job: 1 to 255 printable characters.
    pub owner: Option<String>,
    /// The seconds that a run may take; none: no limit.
    pub max_seconds: Option<i32>,
    /// How often a run that failed or took too long is tried again for the same slot, up to 20.
    pub retries: i32,
    /// The seconds before the first such try, up to 3,600. Each further pause is longer.
    pub retry_after_seconds: i32,
    /// A slot that is later than so many seconds is not run; none: it is run, however late.
    pub start_within_seconds: Option<i32>,
    /// Whether one run makes up for slots that were missed.
    pub catch_up: CatchUp,
    /// The name of the group: jobs of one group never run at the same time.
    pub group: Option<String>,
}

/// What becomes of slots that were missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CatchUp {
    /// One run makes up for all of them.
    #[default]
    One,
    /// They are not run.
    None,
}

/// A JSON object for a job's function, written in one way: without blanks, its names sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arguments(String);

/// New values of settings, as a request gives them. What is `None` was not given; an inner `None`
/// was given as `null`.
#[derive(Clone, Debug, Default)]
pub struct SettingsChange {
    /// The function that the job calls. This build may lack it: a replica of another build runs it.
    pub function: Option<Name>,
    /// What the function is given.
    pub arguments: Option<Arguments>,
    /// When the job runs, by the database's clock.
    pub schedule: Option<Schedule>,
    /// False to pause the job, true to resume it.
    pub enabled: Option<bool>,
    /// [`Settings::description`].
    pub description: Option<Option<String>>,
    /// [`Settings::owner`].
    pub owner: Option<Option<String>>,
    /// [`Settings::max_seconds`].
    pub max_seconds: Option<Option<i32>>,
    /// [`Settings::retries`].
    pub retries: Option<i32>,
    /// [`Settings::retry_after_seconds`].
    pub retry_after_seconds: Option<i32>,
    /// [`Settings::start_within_seconds`].
    pub start_within_seconds: Option<Option<i32>>,
    /// [`Settings::catch_up`].
    pub catch_up: Option<CatchUp>,
    /// [`Settings::group`].
    pub group: Option<Option<Name>>,
    /// Whether these are all settings of the job, which is created if there is none: what was not
    /// given takes its default then. The function, the schedule and `enabled` have to be given.
    pub is_whole: bool,
}

impl Settings {
    /// The settings in a row of `cron_jobs`, whose columns have their own names.
    pub(crate) fn of(row: &Row) -> Settings {
        from_row!(row => Settings {
            function, schedule, enabled, description, owner, max_seconds, retries,
            retry_after_seconds, start_within_seconds;
            arguments: Arguments(row.get("arguments")),
            catch_up: CatchUp::named(row.get("catch_up")).unwrap_or_default(),
            group: row.get("job_group"),
        })
    }

    /// The values for the columns `function`, `arguments`, `schedule`, `enabled`, `description`,
    /// `owner`, `max_seconds`, `retries`, `retry_after_seconds`, `start_within_seconds`,
    /// `catch_up` and `job_group`.
    pub(super) fn values(&self) -> [&(dyn ToSql + Sync); 12] {
        [
            &self.function,
            &self.arguments.0,
            &self.schedule,
            &self.enabled,
            &self.description,
            &self.owner,
            &self.max_seconds,
            &self.retries,
            &self.retry_after_seconds,
            &self.start_within_seconds,
            self.catch_up.name(),
            &self.group,
        ]
    }
}

/// Those of a job of which nothing is said: it has no function and no schedule yet.
impl Default for Settings {
    fn default() -> Settings {
        Settings {
            function: String::new(),
            arguments: Arguments::default(),
            schedule: String::new(),
            enabled: true,
            description: None,
            owner: None,
            max_seconds: None,
            retries: 0,
            retry_after_seconds: 10,
            start_within_seconds: None,
            catch_up: CatchUp::default(),
            group: None,
        }
    }
}

impl SettingsChange {
    /// The settings of a job that has these ones before the change.
    pub fn applied_to(&self, before: &Settings) -> Settings {
        let old = if self.is_whole { Settings::default() } else { before.clone() };
        let new = self.clone();
        let text = |name: Name| name.as_str().to_owned();
        let schedule = new.schedule.map(|schedule| schedule.text().to_owned());
        Settings {
            function: new.function.map_or(old.function, text),
            arguments: new.arguments.unwrap_or(old.arguments),
            schedule: schedule.unwrap_or(old.schedule),
            enabled: new.enabled.unwrap_or(old.enabled),
            description: new.description.unwrap_or(old.description),
            owner: new.owner.unwrap_or(old.owner),
            max_seconds: new.max_seconds.unwrap_or(old.max_seconds),
            retries: new.retries.unwrap_or(old.retries),
            retry_after_seconds: new.retry_after_seconds.unwrap_or(old.retry_after_seconds),
            start_within_seconds: new.start_within_seconds.unwrap_or(old.start_within_seconds),
            catch_up: new.catch_up.unwrap_or(old.catch_up),
            group: new.group.map_or(old.group, |group| group.map(text)),
        }
    }
}

impl CatchUp {
    /// The one of this name, `one` or `none`; None if neither has it.
    pub fn named(name: &str) -> Option<CatchUp> {
        match name {
            "one" => Some(CatchUp::One),
            "none" => Some(CatchUp::None),
            _ => None,
        }
    }

    fn name(self) -> &'static &'static str {
        match self {
            CatchUp::One => &"one",
            CatchUp::None => &"none",
        }
    }
}

impl Arguments {
    /// The longest text, in bytes.
    pub const BYTES_MAX: usize = 4_096;

    /// Writes an object as a text; None if that is too long.
    pub fn of(members: &Map<String, Value>) -> Option<Arguments> {
        let text = serde_json::to_string(members).ok()?;
        (text.len() <= Arguments::BYTES_MAX).then_some(Arguments(text))
    }

    /// As a row of `cron_jobs` has them.
    pub(in crate::cron) fn kept(text: String) -> Arguments {
        Arguments(text)
    }

    /// The members of the object; None if it has a number that does not fit into 64 bits, as only
    /// somebody can write it who writes into the table directly.
    pub fn members(&self) -> Option<Map<String, Value>> {
        serde_json::from_str(&self.0).ok()
    }
}

impl Default for Arguments {
    fn default() -> Arguments {
        Arguments("{}".to_owned())
    }
}

impl Serialize for Arguments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Arguments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Arguments, D::Error> {
        Ok(Arguments(Value::deserialize(deserializer)?.to_string()))
    }
}
