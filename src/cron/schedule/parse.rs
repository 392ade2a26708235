//! Schedules, read from their texts.

use std::ops::RangeInclusive;

use chrono::NaiveDate;
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use super::{Form, InvalidSchedule, YEARS};

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
/// The fields of a cron expression in their order, and what each may contain.
const FIELDS: [(&str, &str); 5] = [
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of the month", "1 to 31, L for the last, 15W for the working day nearest to the 15th"),
    ("month", "1 to 12 or JAN to DEC"),
    ("weekday", "0 to 7 or SUN to SAT, 5L for the last Friday, 5#2 for the second"),
];
const INTERVAL_SECONDS: RangeInclusive<i64> = 1..=366 * 24 * 3600;

/// The length in seconds. Each unit may occur once, the longer before the shorter.
pub(super) fn parse_interval(text: &str) -> Result<i64, InvalidSchedule> {
    let read = || {
        let (mut rest, mut total) = (text, 0i64);
        for (unit, unit_seconds) in [('h', 3600), ('m', 60), ('s', 1)] {
            if let Some((count, after)) = rest.split_once(unit) {
                let count: i64 = count.parse().ok().filter(|_| is_number(count))?;
                total = total.checked_add(count.checked_mul(unit_seconds)?)?;
                rest = after;
            }
        }
        Some(total).filter(|total| rest.is_empty() && INTERVAL_SECONDS.contains(total))
    };
    read().ok_or_else(|| {
        InvalidSchedule(format!(
            "an interval is whole hours, minutes and seconds in this order, such as 1h30m or 90s, \
             from 1s to 8784h in all; `{text}` is not"
        ))
    })
}

pub(super) fn parse_zone(name: &str) -> Result<Tz, InvalidSchedule> {
    name.parse().map_err(|_| {
        InvalidSchedule(format!(
            "a cron expression has five fields, without seconds or a year, and then at most the \
             IANA name of a time zone, such as Europe/Berlin; `{name}` is none"
        ))
    })
}

pub(super) fn parse_cron(fields: [&str; 5], zone: Tz) -> Result<Form, InvalidSchedule> {
    let wrong = fields.iter().enumerate().find(|(index, field)| !is_field(*index, field));
    if let Some((index, field)) = wrong {
        let (name, rule) = FIELDS[index];
        return Err(InvalidSchedule(format!(
            "the {name} of a cron expression is * or */n, or a list of values, ranges a-b and \
             steps a-b/n ({rule}); `{field}` is not"
        )));
    }
    let text = fields.join(" ");
    let pattern = parse_pattern(&text).filter(has_instants).ok_or_else(|| {
        InvalidSchedule(format!("a cron expression has to match some day; `{text}` never does"))
    })?;
    Ok(Form::Cron { pattern: Box::new(pattern), zone })
}

/// Whether the field is valid. Croner alone accepts too much: names in every field, names joined to
/// digits (`1SUN` as 10), and an empty list, for which it searches 3,000 years minute by minute.
pub(super) fn is_field(index: usize, field: &str) -> bool {
    let mut words = field.split(['*', '-', '/', '#', ',']).filter(|word| !word.is_empty());
    let is_complete = field.split(',').all(|item| !item.is_empty());
    let mut alone = ["*"; 5];
    alone[index] = field;
    is_complete
        && words.all(|word| is_word(index, word))
        && parse_pattern(&alone.join(" ")).is_some()
}

pub(super) fn is_word(index: usize, word: &str) -> bool {
    let word = word.to_ascii_uppercase();
    match index {
        2 => is_number(word.strip_suffix('W').unwrap_or(&word)) || ["L", "LW"].contains(&&*word),
        3 => is_number(&word) || MONTHS.contains(&&*word),
        4 => is_weekday(word.strip_suffix('L').unwrap_or(&word)),
        _ => is_number(&word),
    }
}

pub(super) fn is_weekday(word: &str) -> bool {
    is_number(word) || WEEKDAYS.contains(&word)
}

pub(super) fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}

pub(super) fn parse_pattern(text: &str) -> Option<Cron> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed);
    parser.build().parse(text).ok()
}

/// Whether the pattern matches any day. The calendar repeats every 400 years, so a search of the
/// last 400 that croner knows is enough.
pub(super) fn has_instants(pattern: &Cron) -> bool {
    let start =
        NaiveDate::from_ymd_opt(*YEARS.end() - 399, 1, 1).and_then(|day| day.and_hms_opt(0, 0, 0));
    start.is_some_and(|start| pattern.find_next_occurrence(&start, true).is_ok())
}
