//! How an instant is written for people and programs: RFC 3339 in UTC with microseconds, always of
//! the same length, so that sorting the texts sorts the instants.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serializer;

/// Writes an instant, such as `2026-03-01T12:00:00.000000Z`; for `#[serde(serialize_with = …)]`.
///
/// # Errors
/// Those of the serializer.
pub fn as_text<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&at.to_rfc3339_opts(SecondsFormat::Micros, true))
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
