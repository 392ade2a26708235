//! Schedules in English words, so that people see whether they have written what they mean.
//!
//! The words are made of what the patterns match, never of the text: so they say what is run, and
//! texts that match the same have the same words. Croner's own description does not serve: it calls
//! `0-30/10` every 10 minutes, and knows no zone.

use chrono::Month;
use croner::{Cron, CronComponent, CronPattern};

use super::{Form, Schedule, interval};

pub(super) const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Croner's marks of a value, which it does not export.
const LAST: u8 = 1 << 6;
const NEAREST: u8 = 1 << 7;
const MARKED: [(u8, &str); 6] = [
    (1 << 1, "first"),
    (1 << 2, "second"),
    (1 << 3, "third"),
    (1 << 4, "fourth"),
    (1 << 5, "fifth"),
    (LAST, "last"),
];

/// At most so many times of a day are named one by one.
const TIMES_MAX: usize = 6;
/// So many values at equal steps are told by their step.
const STEPS_MIN: usize = 6;

impl Schedule {
    /// What the schedule says, in English: `at 03:00 on every Monday, Europe/Berlin`.
    pub fn words(&self) -> String {
        match &self.form {
            Form::Every { seconds } => interval::words(*seconds),
            Form::Once { at } => at.format("once, at %Y-%m-%d %H:%M:%S%.f UTC").to_string(),
            Form::Cron { patterns, .. } => {
                let by = if self.names_times() { "" } else { "by the wall clock of " };
                let words = [times(&patterns[0].pattern), days(patterns)];
                let words = words.into_iter().filter(|words| !words.is_empty());
                let words = words.collect::<Vec<String>>().join(" ");
                format!("{words}, {by}{}", self.zone().unwrap_or_default())
            }
        }
    }

    /// The IANA name of the zone whose wall clock decides; none of an interval and of an instant.
    pub fn zone(&self) -> Option<&str> {
        match &self.form {
            Form::Cron { zone, .. } => zone.iana_name(),
            Form::Every { .. } | Form::Once { .. } => None,
        }
    }
}

fn times(pattern: &CronPattern) -> String {
    let (minutes, hours) = (pattern.minutes.values(), pattern.hours.values());
    if minutes.len() * hours.len() <= TIMES_MAX {
        let of =
            |hour: &u16| minutes.iter().map(|minute| format!("{hour:02}:{minute:02}")).collect();
        let times = hours.iter().flat_map(|hour| -> Vec<String> { of(hour) }).collect();
        return format!("at {}", list(times, "and"));
    }
    let step = step(&minutes).filter(|step| usize::from(*step) * minutes.len() == 60);
    let minutes = match step {
        Some(1) => "every minute".to_owned(),
        Some(step) if pattern.minutes.from_wildcard => format!("every {step} minutes"),
        _ => format!("at {}", numbers("minute", &minutes)),
    };
    match is_whole(&pattern.hours) {
        true if minutes.starts_with("every") => minutes,
        true => format!("{minutes} of every hour"),
        false => format!("{minutes} of {}", numbers("hour", &hours)),
    }
}

/// On which days of which months; empty for all of them where every hour is told of already.
///
/// With a day field that begins with `*` a day has to match both fields, otherwise one of them.
fn days(patterns: &[Cron]) -> String {
    let pattern = &patterns[0].pattern;
    let months = runs(&pattern.months.values(), month_name);
    let (of, within) = match is_whole(&pattern.months) {
        true => (" of every month".to_owned(), String::new()),
        false => {
            let months = list(months, "and");
            (format!(" of {months}"), format!(" in {months}"))
        }
    };
    let any = (is_whole(&pattern.days), pattern.days_of_week.values().len() == WEEKDAYS.len());
    let days = || format!("on {}{of}", days_of_month(patterns));
    let every = || weekdays(pattern, "every", "and", &within, &of);
    match (any, pattern.matches_dom_and_dow()) {
        ((true, true), _) | ((true, false) | (false, true), false) => {
            let every = if is_whole(&pattern.hours) { "" } else { "every day" };
            format!("{every}{within}").trim_start().to_owned()
        }
        ((true, false), true) => format!("on {}", every()),
        ((false, true), true) => days(),
        ((false, false), true) => {
            format!("{}, if that day is {}", days(), weekdays(pattern, "a", "or", "", ""))
        }
        ((false, false), false) => format!("{} and also on {}", days(), every()),
    }
}

/// The patterns differ in what they say of the last day only.
fn days_of_month(patterns: &[Cron]) -> String {
    let days = &patterns[0].pattern.days;
    let mut items = Vec::new();
    if !days.values().is_empty() {
        items.push(numbers("day", &days.values()));
    }
    let nearest = days.get_set_values(NEAREST);
    items.extend(nearest.iter().map(|day| format!("the working day nearest to day {day}")));
    for days in patterns.iter().map(|pattern| &pattern.pattern.days) {
        match (days.is_feature_enabled(LAST), days.is_feature_enabled(NEAREST)) {
            (true, false) => items.push("the last day".to_owned()),
            (true, true) => items.push("the last working day".to_owned()),
            (false, _) => {}
        }
    }
    list(items, "and")
}

fn month_name(number: u16) -> String {
    let month = u8::try_from(number).ok().and_then(|number| Month::try_from(number).ok());
    month.map(|month| month.name().to_owned()).unwrap_or_default()
}

fn weekdays(pattern: &CronPattern, each: &str, or: &str, within: &str, of: &str) -> String {
    let weekday = |day: u16| WEEKDAYS[usize::from(day)].to_owned();
    let plain = runs(&pattern.days_of_week.values(), weekday).into_iter().map(|run| {
        let from = if run.contains(' ') { "day from " } else { "" };
        format!("{each} {from}{run}")
    });
    let marked = MARKED.iter().flat_map(|(mark, word)| {
        let days = pattern.days_of_week.get_set_values(*mark).into_iter();
        days.map(move |day| format!("the {word} {}", weekday(day)))
    });
    let parts = [(list(plain.collect(), or), within), (list(marked.collect(), or), of)];
    let parts = parts.into_iter().filter(|(part, _)| !part.is_empty());
    list(parts.map(|(part, when)| part + when).collect(), or)
}

fn is_whole(field: &CronComponent) -> bool {
    field.values().len() == usize::from(field.max - field.min) + 1
}

/// `minute 5`, `hours 9 to 17`, `every 2nd day from 1 to 31`.
fn numbers(noun: &str, values: &[u16]) -> String {
    match (values, step(values)) {
        ([value], _) => format!("{noun} {value}"),
        ([first, .., last], Some(step)) if step > 1 && values.len() >= STEPS_MIN => {
            let ending = ["th", "th", "nd", "rd"].get(usize::from(step)).unwrap_or(&"th");
            format!("every {step}{ending} {noun} from {first} to {last}")
        }
        _ => format!("{noun}s {}", list(runs(values, |value| value.to_string()), "and")),
    }
}

/// The difference between each value and the next, if it is always the same.
fn step(values: &[u16]) -> Option<u16> {
    let mut steps = values.windows(2).map(|pair| pair[1] - pair[0]);
    let first = steps.next()?;
    steps.all(|step| step == first).then_some(first)
}

/// The values by their names; three and more that follow each other as `first to last`.
fn runs(values: &[u16], name: impl Fn(u16) -> String) -> Vec<String> {
    let runs = values.chunk_by(|one, next| one + 1 == *next);
    let named = runs.flat_map(|run| match run {
        [first, _, .., last] if run.len() > 2 => {
            vec![format!("{} to {}", name(*first), name(*last))]
        }
        few => few.iter().map(|value| name(*value)).collect(),
    });
    named.collect()
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn list(mut items: Vec<String>, and: &str) -> String {
    let last = items.pop().unwrap_or_default();
    if items.is_empty() { last } else { format!("{} {and} {last}", items.join(", ")) }
}
