//! Intervals, read from words: `1h30m`, `5 minutes`, `day`.

use std::ops::RangeInclusive;

use super::words::list;
use super::{InvalidSchedule, no_schedule};

const SECONDS: RangeInclusive<i64> = 1..=366 * 24 * 3600;
/// The units, each with its spellings and its length in seconds. A unit of one letter is a small
/// letter, because a large M would leave open whether it means minutes or months.
const UNITS: [(&[&str], i64); 5] = [
    (&["weeks", "week", "w"], 7 * 24 * 3600),
    (&["days", "day", "d"], 24 * 3600),
    (&["hours", "hour", "hrs", "hr", "h"], 3600),
    (&["minutes", "minute", "mins", "min", "m"], 60),
    (&["seconds", "second", "secs", "sec", "s"], 1),
];

/// The length in seconds. Each unit may occur once, the longer before the shorter. A unit alone is
/// one of it.
pub(super) fn parse_interval(text: &str) -> Result<i64, InvalidSchedule> {
    let (mut rest, mut total, mut last) = (text.trim(), 0i64, i64::MAX);
    while !rest.is_empty() {
        let (number, after) = split(rest, |c| c.is_ascii_digit());
        if after.starts_with(['.', ',']) {
            return refused("is made of whole numbers, `every 1h30m` for example");
        }
        let (unit, after) = split(after.trim_start(), char::is_alphabetic);
        let seconds = unit_seconds(unit, text)?;
        let is_alone = number.is_empty() && last == i64::MAX && after.is_empty() && unit.len() > 2;
        if number.is_empty() && !is_alone {
            return Err(no_interval(text));
        }
        if seconds >= last {
            return refused("has each unit once, the longer one first: write `every 1h30m`");
        }
        let count: Option<i64> = if is_alone { Some(1) } else { number.parse().ok() };
        let sum = count.and_then(|count| count.checked_mul(seconds)?.checked_add(total));
        total = sum.filter(|sum| sum <= SECONDS.end()).map_or_else(|| refused(LONGEST), Ok)?;
        (rest, last) = (after.trim_start(), seconds);
    }
    match total {
        _ if last == i64::MAX => Err(no_interval(text)),
        total if SECONDS.contains(&total) => Ok(total),
        _ => refused(SHORTEST),
    }
}

/// The interval as a schedule, in the one spelling that every build has understood.
pub(super) fn every(seconds: i64) -> String {
    let parts = [(seconds / 3600, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')];
    let parts = parts.into_iter().filter(|(count, _)| *count > 0);
    format!("every {}", parts.map(|(count, unit)| format!("{count}{unit}")).collect::<String>())
}

/// The interval in English, such as `every 1 hour and 30 minutes`.
pub(super) fn words(seconds: i64) -> String {
    let parts = [(seconds / 3600, "hour"), (seconds / 60 % 60, "minute"), (seconds % 60, "second")];
    let parts: Vec<_> = parts.into_iter().filter(|(count, _)| *count > 0).collect();
    let word = |(count, unit): &(i64, &str)| match (count, parts.len()) {
        (1, 1) => (*unit).to_owned(),
        (1, _) => format!("1 {unit}"),
        _ => format!("{count} {unit}s"),
    };
    format!("every {}", list(parts.iter().map(word).collect(), "and"))
}

const SHORTEST: &str = "is at least 1 s long: write `every 1s`";
const LONGEST: &str = "is at most 8784h long: for a longer one write a cron expression, such as \
                       `0 3 1 1 *` for once a year";

fn unit_seconds(unit: &str, text: &str) -> Result<i64, InvalidSchedule> {
    let small = unit.to_ascii_lowercase();
    let found = UNITS.iter().find(|(spellings, _)| spellings.contains(&&*small));
    match (found, &*small) {
        (Some((spellings, _)), _) if unit.len() == 1 && unit != small => {
            let (unit, right) = (spellings[0], text.to_lowercase());
            refused(&format!("has small letters: write `every {right}`, `{small}` is {unit}"))
        }
        (Some((_, seconds)), _) => Ok(*seconds),
        (None, "ms" | "us" | "ns" | "milliseconds" | "millisecond") => refused(SHORTEST),
        (None, "months" | "month" | "years" | "year" | "mo" | "y") => refused(
            "has no months or years, since they differ in length: write a cron expression, such as \
             `0 0 1 * *`",
        ),
        (None, _) => Err(no_interval(text)),
    }
}

fn no_interval(text: &str) -> InvalidSchedule {
    match text.starts_with(|c: char| c.is_ascii_digit()) {
        true => InvalidSchedule(format!(
            "an interval is whole days, hours, minutes and seconds in this order, each with its \
             unit, such as `every 1h30m`; `{text}` is not"
        )),
        false => no_schedule(format!("every {text}").trim_end()),
    }
}

fn refused<T>(rule: &str) -> Result<T, InvalidSchedule> {
    super::refused(format!("an interval {rule}"))
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}
