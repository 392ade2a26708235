//! Schedules, read from their texts. Who writes one wrongly is told the form that is understood.

use chrono::{DateTime, SecondsFormat, Utc};
use croner::Cron;
use jiff::civil;
use jiff::tz::TimeZone;

use super::field::{FIELDS, is_name, is_number, pattern};
use super::interval::{every, parse_interval};
use super::words::WEEKDAYS;
use super::zone::zone;
use super::{Form, InvalidSchedule, YEARS, no_schedule, refused};

/// Short names of cron expressions, as in crontab(5).
const NICKNAMES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// The schedule's form, and the text that it is kept as: builds that know fewer forms read it, too.
pub(super) fn parse(words: &[&str]) -> Result<(Form, String), InvalidSchedule> {
    let first = words.first().map(|word| word.to_ascii_lowercase()).unwrap_or_default();
    if let Some((_, cron)) = NICKNAMES.iter().find(|(name, _)| *name == first) {
        if let [_, name] = words {
            find_zone(name)?; // or a hint would speak of fields that nobody wrote
        }
        let words: Vec<&str> = cron.split(' ').chain(words[1..].iter().copied()).collect();
        return parse_cron(&words);
    }
    match first.as_str() {
        "every" | "@every" => {
            refuse_weekday(&words[1..].join(" "))?;
            let seconds = parse_interval(&words[1..].join(" "))?;
            let is_plain =
                |text: &str| text.chars().all(|c| c.is_ascii_digit() || "hms".contains(c));
            let text = match words {
                ["every", interval] if is_plain(interval) => words.join(" "),
                _ => every(seconds),
            };
            Ok((Form::Every { seconds }, text))
        }
        "at" => {
            let at = parse_instant(&words[1..].join(" "))?;
            Ok((
                Form::Once { at },
                format!("at {}", at.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            ))
        }
        _ => parse_cron(words),
    }
}

fn refuse_weekday(text: &str) -> Result<(), InvalidSchedule> {
    let small = text.to_lowercase();
    let is_day = |name: &&str| [name, &name[..3]].contains(&small.trim_end_matches('s'));
    match WEEKDAYS.iter().position(|name| is_day(&&*name.to_lowercase())) {
        Some(number) => refused(format!(
            "`every {text}` is no schedule: try `every 5m`, or `0 3 * * {number}` for {}s at 03:00 \
             UTC",
            WEEKDAYS[number]
        )),
        None => Ok(()),
    }
}

/// Exact to the microsecond, as the database keeps it.
fn parse_instant(text: &str) -> Result<DateTime<Utc>, InvalidSchedule> {
    let at = DateTime::parse_from_rfc3339(text).ok();
    let at = at.and_then(|at| DateTime::from_timestamp_micros(at.timestamp_micros()));
    at.ok_or_else(|| {
        InvalidSchedule(format!(
            "`at` takes one instant with its offset from UTC, such as `at 2027-01-31T22:00:00Z` or \
             `at 2027-01-31T23:00:00+01:00`; `{text}` is none"
        ))
    })
}

fn parse_cron(words: &[&str]) -> Result<(Form, String), InvalidSchedule> {
    let (fields, zone) = match *words {
        [a, b, c, d, e] => ([a, b, c, d, e], TimeZone::UTC),
        [a, b, c, d, e, name] if zone(name).is_some() || !is_like_a_field(name) => {
            ([a, b, c, d, e], find_zone(name)?)
        }
        _ => return Err(hint(words)),
    };
    for (field, text) in FIELDS.iter().zip(fields) {
        field.check(text)?;
    }
    let text = fields.join(" ");
    let patterns = patterns(fields).filter(|patterns| patterns.iter().any(has_instants));
    let never = || {
        format!(
            "a cron expression has to match some day; `{text}` never matches: write `L` for the \
             last day of a month"
        )
    };
    let patterns = patterns.ok_or_else(|| InvalidSchedule(never()))?;
    let name = zone.iana_name().unwrap_or_default();
    let text = if words.len() == 5 { text } else { format!("{text} {name}") };
    Ok((Form::Cron { patterns, zone }, text))
}

fn find_zone(name: &str) -> Result<TimeZone, InvalidSchedule> {
    zone(name).ok_or_else(|| {
        InvalidSchedule(format!(
            "the sixth word of a cron expression is the IANA name of a zone, such as \
             America/Los_Angeles; `{name}` is none"
        ))
    })
}

/// What somebody may have meant, and how it is written here.
fn hint(words: &[&str]) -> InvalidSchedule {
    let text = words.join(" ");
    let rate = text.strip_prefix("rate(").and_then(|text| text.strip_suffix(')'));
    let interval = parse_interval(rate.unwrap_or(&text)).ok();
    let first = words.first().copied().unwrap_or_default();
    let zone = first.strip_prefix("CRON_TZ=").or_else(|| first.strip_prefix("TZ="));
    if let Some(zone) = zone {
        let rest = words[1..].join(" ");
        return InvalidSchedule(format!("the zone comes last: write `{rest} {zone}`"));
    }
    if let Some(seconds) = interval {
        let right = every(seconds);
        return InvalidSchedule(format!("an interval begins with `every`: write `{right}`"));
    }
    if words.len() > 1 && words.iter().all(|word| is_like_a_field(word)) {
        let shorter = match words {
            [seconds, "*", "*", "*", "*", "*"] => {
                let step = seconds.strip_prefix("*/");
                step.and_then(|step| parse_interval(&format!("{step}s")).ok()).map(every)
            }
            // Quartz, which alone has `?`, counts the weekdays from 1 for Sunday.
            ["0", rest @ .., day] if !words.contains(&"?") || !day.contains(char::is_numeric) => {
                let rest =
                    rest.iter().chain([day]).map(|word| if *word == "?" { "*" } else { word });
                parse_cron(&rest.collect::<Vec<&str>>()).ok().map(|(_, text)| text)
            }
            _ => None,
        };
        let right = shorter.map(|text| format!(": write `{text}`"));
        let right = right.unwrap_or_else(|| ", such as `0 3 * * 2`".to_owned());
        let rule = "a cron expression has five fields, without seconds or a year";
        return InvalidSchedule(format!("{rule}{right}"));
    }
    no_schedule(&text)
}

fn is_like_a_field(word: &str) -> bool {
    let is_part = |part: &str| {
        let mark = part.to_ascii_uppercase();
        is_number(part) || ["", "L", "W", "LW"].contains(&&*mark) || is_name(part)
    };
    word.split(['*', '-', '/', '#', ',', '?']).all(is_part)
}

/// The patterns of which any has to match. Croner keeps one mark for `L` and `LW`, and would forget
/// the former: so they do not stand in one pattern.
///
/// A day field that begins with `*` takes no part in the choice between the day of the month and
/// the weekday: both have to match then, as in Vixie's cron (`DOM_STAR`, `DOW_STAR` in its
/// entry.c) and in crontab(5) of cronie.
fn patterns(fields: [&str; 5]) -> Option<Vec<Cron>> {
    let [minute, hour, days, month, weekday] = fields;
    let both = days.starts_with('*') || weekday.starts_with('*');
    let without = |mark: &str| {
        let others = days.split(',').filter(|item| !item.eq_ignore_ascii_case(mark));
        others.collect::<Vec<&str>>().join(",")
    };
    let has = |mark: &str| without(mark) != days;
    let days = match has("L") && has("LW") {
        true => vec![without("L"), without("LW")],
        false => vec![days.to_owned()],
    };
    let of = |days: String| pattern(&format!("{minute} {hour} {days} {month} {weekday}"), both);
    days.into_iter().map(of).collect()
}

/// Whether the pattern matches any day. The calendar repeats every 400 years, so a search of the
/// last 400 that croner knows is enough.
fn has_instants(pattern: &Cron) -> bool {
    let start = civil::date(*YEARS.end() - 399, 1, 1).at(0, 0, 0, 0);
    pattern.find_next_occurrence(&start, true).is_ok()
}
