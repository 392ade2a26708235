//! Reads what a client may write: the JSON object of a body and the parameters of a query. Pure.
//!
//! Nothing is guessed. A number that is not an integer of 64 bits is refused with its field's name,
//! and so is a field that is missing, given twice or unknown.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::call::Call;
use super::problem::Problem;
use crate::balance::is_printable;
use crate::timestamp;

/// The members of a JSON object, including those given twice, as they were written. Each is read
/// once its type is known, so no body can make the reading go deep into the stack of its thread.
pub(super) struct Fields(Vec<(String, Box<RawValue>)>);

/// What may be null, which is an inner `None`; `None` if it was not given.
pub(super) type Given<T> = Result<Option<Option<T>>, Problem>;

/// How deep objects and lists may be in one another where a member can be anything.
const LEVELS_MAX: usize = 16;

impl Fields {
    pub(super) fn parse(call: &Call) -> Result<Fields, Problem> {
        let codings = call.content_encoding.as_deref().unwrap_or_default().split(',');
        let is_plain = |coding: &str| coding.is_empty() || coding.eq_ignore_ascii_case("identity");
        if !codings.map(str::trim).all(is_plain) {
            return Err(Problem::unsupported_encoding());
        }
        // .NET and PowerShell put a byte order mark first, which we may ignore (RFC 8259, 8.1).
        let body = call.body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&call.body);
        serde_json::from_slice(body).map_err(|error| {
            // If the first value is not an object, serde has not checked the text after it.
            let error = serde_json::from_slice::<IgnoredAny>(body).err().unwrap_or(error);
            match error.classify() {
                serde_json::error::Category::Data => {
                    Problem::invalid_request("body", "the body must be a JSON object")
                }
                _ if body.is_empty() => Problem::invalid_json("the body is empty"),
                _ => Problem::invalid_json(format!("the body is not JSON: {error}")),
            }
        })
    }

    /// Removes a whole number of 64 bits, which must be given.
    pub(super) fn take_integer(&mut self, name: &'static str) -> Result<i64, Problem> {
        serde_json::from_str(self.take(name)?.get())
            .map_err(|_| Problem::must(name, "be a whole number of 64 bits, such as 2"))
    }

    /// Removes a string; `None` if it is not given.
    pub(super) fn take_text(&mut self, name: &'static str) -> Result<Option<String>, Problem> {
        let text = self.take_if_given(name)?.map(|raw| serde_json::from_str(raw.get()));
        text.transpose().map_err(|_| Problem::must(name, "be a text"))
    }

    /// Removes a label of the client's own: 1 to 255 printable ASCII characters, as in a key.
    pub(super) fn take_label(&mut self, name: &'static str) -> Result<Option<String>, Problem> {
        self.take_text(name)?.map(|text| read_label(name, text)).transpose()
    }

    /// Removes a boolean; `None` if it is not given.
    pub(super) fn take_flag(&mut self, name: &'static str) -> Result<Option<bool>, Problem> {
        let flag = self.take_if_given(name)?.map(|raw| serde_json::from_str(raw.get()));
        flag.transpose().map_err(|_| Problem::must(name, "be true or false"))
    }

    /// Removes a list of objects, which must be given.
    pub(super) fn take_objects(&mut self, name: &'static str) -> Result<Vec<Fields>, Problem> {
        let items: Vec<Box<RawValue>> = serde_json::from_str(self.take(name)?.get())
            .map_err(|_| Problem::must(name, "be a list of JSON objects"))?;
        let items = items.iter().enumerate().map(|(place, item)| {
            serde_json::from_str(item.get())
                .map_err(|_| Problem::must(&format!("{name}[{place}]"), "be a JSON object"))
        });
        items.collect()
    }

    /// Removes what may be null. `rule` stands after "must be".
    pub(super) fn take_or_null<T>(
        &mut self,
        name: &'static str,
        rule: &str,
        read: impl FnOnce(&RawValue) -> Option<T>,
    ) -> Given<T> {
        let Some(raw) = self.take_if_given(name)? else { return Ok(None) };
        if raw.get() == "null" {
            return Ok(Some(None));
        }
        let refused = || Problem::must(name, format!("be {rule}, or null"));
        read(&raw).map(|value| Some(Some(value))).ok_or_else(refused)
    }

    /// Removes an object whose members can be anything; `None` as in [`Fields::take_or_null`].
    pub(super) fn take_object_or_null(&mut self, name: &'static str) -> Given<Map<String, Value>> {
        let rule = "a JSON object in which nothing is given twice, of whole numbers within 64 \
                    bits, without the character NUL, and at most 16 levels deep";
        self.take_or_null(name, rule, |raw| match anything(raw, LEVELS_MAX)? {
            Value::Object(members) => Some(members),
            _ => None,
        })
    }

    fn take(&mut self, name: &'static str) -> Result<Box<RawValue>, Problem> {
        self.take_if_given(name)?.ok_or_else(|| Problem::missing(name))
    }

    fn take_if_given(&mut self, name: &'static str) -> Result<Option<Box<RawValue>>, Problem> {
        let Some(at) = self.0.iter().position(|(key, _)| key == name) else { return Ok(None) };
        let (_, value) = self.0.swap_remove(at);
        match self.0.iter().any(|(key, _)| key == name) {
            true => Err(Problem::invalid_request(name, format!("`{name}` is given twice"))),
            false => Ok(Some(value)),
        }
    }

    /// Whether nothing is left to be removed.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses a member that was not removed, because it is unknown.
    pub(super) fn end(self) -> Result<(), Problem> {
        match self.0.first() {
            Some((name, _)) => Err(Problem::invalid_request(name, "this field is unknown")),
            None => Ok(()),
        }
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fields, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// Any JSON of so many levels at most; None where a name is given twice, where a whole number does
/// not fit into 64 bits, or where a text has the one character that PostgreSQL cannot keep.
fn anything(raw: &RawValue, levels: usize) -> Option<Value> {
    let text = raw.get();
    match text.as_bytes().first()? {
        b'{' if levels > 0 => {
            let Fields(members) = serde_json::from_str(text).ok()?;
            let mut object = Map::new();
            for (name, value) in members {
                let value = anything(&value, levels - 1)?;
                if name.contains('\0') || object.insert(name, value).is_some() {
                    return None;
                }
            }
            Some(Value::Object(object))
        }
        b'[' if levels > 0 => {
            let items: Vec<Box<RawValue>> = serde_json::from_str(text).ok()?;
            items.iter().map(|item| anything(item, levels - 1)).collect()
        }
        b'{' | b'[' => None,
        _ => serde_json::from_str(text).ok().filter(|value| match value {
            Value::String(text) => !text.contains('\0'),
            Value::Number(number) => !number.is_f64() || text.contains(['.', 'e', 'E']),
            _ => true,
        }),
    }
}

pub(super) fn read_instant(name: &'static str, text: &str) -> Result<DateTime<Utc>, Problem> {
    timestamp::parse(text).ok_or_else(|| {
        let rule = "be an instant with its offset from UTC, such as 2026-03-01T12:00:00Z or \
                    2026-03-01T13:00:00+01:00";
        Problem::must(name, rule)
    })
}

fn read_label(name: &'static str, text: String) -> Result<String, Problem> {
    match is_printable(&text) {
        true => Ok(text),
        false => Err(Problem::must(name, "be 1 to 255 printable ASCII characters")),
    }
}

/// The parameters of a query as sent, not decoded.
pub(super) struct Query<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Query<'a> {
    pub(super) fn parse(query: &'a str) -> Query<'a> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        Query(pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect())
    }

    /// Removes a whole number within `range`; `None` if it is not given or empty.
    pub(super) fn take_integer(
        &mut self,
        name: &'static str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Result<Option<i64>, Problem> {
        let Some(text) = self.take(name)? else { return Ok(None) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            Problem::must(name, format!("be a whole number from {least} to {most}"))
        })
    }

    /// Removes a text and decodes it; `None` if it is not given or empty.
    pub(super) fn take_text(&mut self, name: &'static str) -> Result<Option<String>, Problem> {
        self.take(name)?.map(|text| decoded(name, text)).transpose()
    }

    /// Removes some of these words, separated by commas; `None` if it is not given or empty.
    pub(super) fn take_some_of(
        &mut self,
        name: &'static str,
        words: &[&str],
    ) -> Result<Option<Vec<String>>, Problem> {
        let Some(text) = self.take_text(name)? else { return Ok(None) };
        let given: Vec<String> = text.split(',').map(str::to_owned).collect();
        match given.iter().all(|word| words.contains(&word.as_str())) {
            true => Ok(Some(given)),
            false => Err(Problem::must(name, format!("be one or more of {}", words.join(",")))),
        }
    }

    /// Removes `true` or `false`; `None` if it is not given or empty.
    pub(super) fn take_flag(&mut self, name: &'static str) -> Result<Option<bool>, Problem> {
        let flag = self.take(name)?.map(str::parse).transpose();
        flag.map_err(|_| Problem::must(name, "be true or false"))
    }

    /// Removes a label of the client's own, as in a body: an empty one is refused.
    pub(super) fn take_label(&mut self, name: &'static str) -> Result<Option<String>, Problem> {
        let label = |text| read_label(name, decoded(name, text)?);
        self.take_as_given(name)?.map(label).transpose()
    }

    fn take(&mut self, name: &'static str) -> Result<Option<&'a str>, Problem> {
        Ok(self.take_as_given(name)?.filter(|text| !text.is_empty()))
    }

    fn take_as_given(&mut self, name: &'static str) -> Result<Option<&'a str>, Problem> {
        let mut found = self.0.iter().filter(|(key, _)| *key == name).map(|(_, value)| *value);
        let text = found.next();
        if found.next().is_some() {
            return Err(Problem::invalid_request(name, format!("`{name}` is given twice")));
        }
        self.0.retain(|(key, _)| *key != name);
        Ok(text)
    }

    /// Refuses a parameter that was not removed, because it is unknown.
    pub(super) fn end(self) -> Result<(), Problem> {
        match self.0.first() {
            Some((name, _)) => Err(Problem::invalid_request(name, "this parameter is unknown")),
            None => Ok(()),
        }
    }
}

/// The text of a parameter, in which forms and most libraries write a space as `+`.
fn decoded(name: &'static str, text: &str) -> Result<String, Problem> {
    let text = text.replace('+', " ");
    let text = percent_encoding::percent_decode_str(&text)
        .decode_utf8()
        .map_err(|_| Problem::must(name, "be text in UTF-8"))?;
    // PostgreSQL's type `text` cannot hold this character.
    match text.contains('\0') {
        true => Err(Problem::must(name, "not contain NUL")),
        false => Ok(text.into_owned()),
    }
}

#[cfg(test)]
mod tests;
