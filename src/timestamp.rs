//! How an instant is written for people and programs: RFC 3339 in UTC with microseconds, always of
//! the same length, so that the texts sort as the instants do.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serializer;

/// For `#[serde(serialize_with = …)]`.
///
/// # Errors
/// Those of the serializer.
pub fn as_text<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(at))
}

/// The same; `null` for none.
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

/// `2026-03-01T12:00:00.000000Z`
pub fn text(at: &DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}
