//! How an instant is written for people and programs: RFC 3339 in UTC with microseconds, always of
//! the same length, so that sorting the texts sorts the instants. And how one is read.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serializer;

/// The text of an instant, such as `2026-03-01T12:00:00.000000Z`.
pub fn text(at: &DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Reads RFC 3339 with any offset; None if the text is anything else. A `+` that came as a space,
/// as it does where a query is decoded like a form, is still a `+`.
pub fn parse(text: &str) -> Option<DateTime<Utc>> {
    let mended = match text.rsplit_once(' ') {
        // The space between the day and the time has no colon before it.
        Some((time, offset)) if time.contains(':') => format!("{time}+{offset}"),
        _ => text.to_owned(),
    };
    DateTime::parse_from_rfc3339(&mended).ok().map(|at| at.to_utc())
}

/// Writes an instant like [`text`]; for `#[serde(serialize_with = …)]`.
///
/// # Errors
/// Those of the serializer.
pub fn as_text<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(at))
}

/// Like [`as_text`], but None becomes `null`.
///
/// # Errors
/// Those of the serializer.
pub fn as_text_or_null<S: Serializer>(
    at: &Option<DateTime<Utc>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => as_text(at, serializer),
        None => serializer.serialize_none(),
    }
}
