//! Reads the settings of a job from JSON.

use serde_json::value::RawValue;

use super::call::Call;
use super::command::{read_name, read_schedule};
use super::input::{Fields, Given};
use super::problem::Problem;
use crate::cron::{Arguments, CatchUp, Name, SettingsChange};

const DESCRIPTION_LENGTH_MAX: usize = 1_000;
const OWNER_LENGTH_MAX: usize = 255;
/// A year, in seconds.
const SECONDS_MAX: i32 = 31_536_000;

/// What `PUT` and `PATCH` of a job ask for. Pure.
///
/// # Errors
/// A [`Problem`] of status 400, which names the field where the body is JSON.
pub fn read_job_change(call: &Call) -> Result<SettingsChange, Problem> {
    let mut fields = Fields::parse(call)?;
    let change = take_settings(&mut fields)?;
    fields.end()?;
    Ok(change)
}

/// Removes the settings that are given.
pub(super) fn take_settings(fields: &mut Fields) -> Result<SettingsChange, Problem> {
    let function = fields.take_text("function")?;
    let function = function.map(|text| read_name("function", &text)).transpose()?;
    let schedule = fields.take_text("schedule")?.map(|text| read_schedule(&text)).transpose()?;
    Ok(SettingsChange {
        function,
        arguments: take_arguments(fields)?,
        schedule,
        enabled: fields.take_flag("enabled")?,
        description: take_words(fields, "description", DESCRIPTION_LENGTH_MAX)?,
        owner: take_words(fields, "owner", OWNER_LENGTH_MAX)?,
        max_seconds: take_number(fields, "maxSeconds", 1, SECONDS_MAX)?,
        retries: take_number(fields, "retries", 0, 20)?.map(|given| given.unwrap_or(0)),
        retry_after_seconds: take_number(fields, "retryAfterSeconds", 1, 3_600)?
            .map(|given| given.unwrap_or(10)),
        start_within_seconds: take_number(fields, "startWithinSeconds", 1, SECONDS_MAX)?,
        catch_up: take_catch_up(fields)?,
        group: take_group(fields)?,
        is_whole: false,
    })
}

/// The change as one of all settings, which need a function and a schedule.
pub(super) fn whole(change: SettingsChange) -> Result<SettingsChange, Problem> {
    change.function.as_ref().ok_or_else(|| Problem::missing("function"))?;
    change.schedule.as_ref().ok_or_else(|| Problem::missing("schedule"))?;
    Ok(SettingsChange { is_whole: true, ..change })
}

/// Removes what the function is given; `null` is an object without members.
fn take_arguments(fields: &mut Fields) -> Result<Option<Arguments>, Problem> {
    let name = "arguments";
    let Some(members) = fields.take_object_or_null(name)? else { return Ok(None) };
    let rule = || format!("have at most {} bytes", Arguments::BYTES_MAX);
    let arguments = Arguments::of(&members.unwrap_or_default());
    arguments.map(Some).ok_or_else(|| Problem::must(name, rule()))
}

/// Removes words for people, in any language.
fn take_words(fields: &mut Fields, name: &'static str, length_max: usize) -> Given<String> {
    let rule = format!("1 to {length_max} printable characters");
    fields.take_or_null(name, &rule, |raw| {
        let text: String = serde_json::from_str(raw.get()).ok()?;
        let fits = (1..=length_max).contains(&text.chars().count());
        (fits && !text.chars().any(char::is_control)).then_some(text)
    })
}

fn take_number(fields: &mut Fields, name: &'static str, least: i32, most: i32) -> Given<i32> {
    let rule = format!("a whole number from {least} to {most}");
    fields.take_or_null(name, &rule, |raw| {
        let number = serde_json::from_str(raw.get()).ok()?;
        (least..=most).contains(&number).then_some(number)
    })
}

fn take_catch_up(fields: &mut Fields) -> Result<Option<CatchUp>, Problem> {
    let read = |raw: &RawValue| CatchUp::named(serde_json::from_str(raw.get()).ok()?);
    let given = fields.take_or_null("catchUp", "\"one\" or \"none\"", read)?;
    Ok(given.map(Option::unwrap_or_default))
}

fn take_group(fields: &mut Fields) -> Given<Name> {
    let rule = "1 to 63 small letters, digits and hyphens, no hyphen first";
    fields.take_or_null("group", rule, |raw| {
        let text: String = serde_json::from_str(raw.get()).ok()?;
        Name::parse(&text).ok()
    })
}
