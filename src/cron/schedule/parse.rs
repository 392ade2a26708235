//! Schedules, read from their texts. Who writes one wrongly is told the form that is understood.

use std::ops::RangeInclusive;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil;
use jiff::tz::TimeZone;

use super::interval::{every, parse_interval};
use super::zone::zone;
use super::{Form, InvalidSchedule, YEARS};

/// A field of a cron expression.
struct Field {
    name: &'static str,
    rule: &'static str,
    values: RangeInclusive<usize>,
    /// The names of its values, the least first.
    names: &'static [&'static str],
    /// The unit of an interval, if its values all have one length.
    unit: Option<char>,
}

/// Three letters of each name are written.
const MONTHS: [&str; 12] = [
    "JANUARY",
    "FEBRUARY",
    "MARCH",
    "APRIL",
    "MAY",
    "JUNE",
    "JULY",
    "AUGUST",
    "SEPTEMBER",
    "OCTOBER",
    "NOVEMBER",
    "DECEMBER",
];
const WEEKDAYS: [&str; 7] =
    ["SUNDAY", "MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY"];
/// The fields in their order.
const FIELDS: [Field; 5] = [
    Field { name: "minute", rule: "0 to 59", values: 0..=59, names: &[], unit: Some('m') },
    Field { name: "hour", rule: "0 to 23", values: 0..=23, names: &[], unit: Some('h') },
    Field {
        name: "day of the month",
        rule: "1 to 31, L for the last, 15W for the working day nearest to the 15th",
        values: 1..=31,
        names: &[],
        unit: Some('d'),
    },
    Field {
        name: "month",
        rule: "1 to 12 or JAN to DEC",
        values: 1..=12,
        names: &MONTHS,
        unit: None,
    },
    Field {
        name: "weekday",
        rule: "0 to 7 or SUN to SAT, 5L for the last Friday, 5#2 for the second",
        values: 0..=6,
        names: &WEEKDAYS,
        unit: None,
    },
];
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
        let words: Vec<&str> = cron.split(' ').chain(words[1..].iter().copied()).collect();
        return parse_cron(&words);
    }
    match first.as_str() {
        "every" | "@every" => {
            let seconds = match words {
                [_, day] if WEEKDAYS.iter().any(|name| is_of(day, name)) => refused(format!(
                    "a weekday is written as a cron expression, such as `0 0 * * {}`",
                    short(day)
                ))?,
                _ => parse_interval(&words[1..].join(" "))?,
            };
            let is_plain =
                |text: &str| text.chars().all(|c| c.is_ascii_digit() || "hms".contains(c));
            let text = match words {
                ["every", interval] if is_plain(interval) => words.join(" "),
                _ => every(seconds),
            };
            Ok((Form::Every { seconds }, text))
        }
        _ => parse_cron(words),
    }
}

fn parse_cron(words: &[&str]) -> Result<(Form, String), InvalidSchedule> {
    let (fields, zone) = match *words {
        [a, b, c, d, e] => ([a, b, c, d, e], TimeZone::UTC),
        [a, b, c, d, e, name] if zone(name).is_some() || !is_like_a_field(name) => {
            ([a, b, c, d, e], find_zone(name)?)
        }
        _ => return refused(hint(words)),
    };
    for (field, text) in FIELDS.iter().zip(fields) {
        field.check(text)?;
    }
    let text = fields.join(" ");
    let patterns = patterns(fields).filter(|patterns| patterns.iter().any(has_instants));
    let patterns = patterns.map_or_else(
        || refused(format!("a cron expression has to match some day; `{text}` never matches")),
        Ok,
    )?;
    let name = zone.iana_name().unwrap_or_default();
    let text = if words.len() == 5 { text } else { format!("{text} {name}") };
    Ok((Form::Cron { patterns, zone }, text))
}

fn find_zone(name: &str) -> Result<TimeZone, InvalidSchedule> {
    let none = || {
        refused(format!(
            "the sixth word of a cron expression is the IANA name of a zone, such as \
             America/Los_Angeles; `{name}` is none"
        ))
    };
    zone(name).map_or_else(none, Ok)
}

/// What somebody may have meant, and how it is written here.
fn hint(words: &[&str]) -> String {
    let text = words.join(" ");
    let inside = |name| text.strip_prefix(name)?.strip_suffix(')');
    let interval = parse_interval(inside("rate(").unwrap_or(&text)).ok();
    let first = words.first().copied().unwrap_or_default();
    let zone = first.strip_prefix("CRON_TZ=").or_else(|| first.strip_prefix("TZ="));
    if let Some(zone) = zone {
        return format!("the zone comes last: `{} {zone}`", words[1..].join(" "));
    }
    if let Some(seconds) = interval {
        return format!("an interval begins with `every`: write `{}`", every(seconds));
    }
    let nickname = format!("@{}", first.trim_start_matches('@').to_ascii_lowercase());
    if NICKNAMES.iter().any(|(name, _)| *name == nickname) && words.len() == 1 {
        return format!("write `{nickname}`");
    }
    if first.starts_with('@') {
        return "of short names there are @hourly, @daily, @weekly, @monthly and @yearly, and \
                `@every 5m`"
            .to_owned();
    }
    let fields = inside("cron(").unwrap_or(&text);
    if fields.split(' ').all(is_like_a_field) && words.len() > 1 {
        let shorter = match words {
            [seconds, "*", "*", "*", "*", "*"] => {
                let seconds = seconds.strip_prefix("*/").and_then(|step| step.parse().ok());
                seconds.map(every)
            }
            ["0", rest @ ..] => parse_cron(rest).ok().map(|(_, text)| text),
            _ => None,
        };
        let shorter = shorter.map(|text| format!(": write `{text}`")).unwrap_or_default();
        return format!("a cron expression has five fields, without seconds or a year{shorter}");
    }
    "a schedule is `every` and a duration, such as `every 1h30m`, or five cron fields and an \
     optional time zone, such as `0 3 * * * Europe/Berlin`"
        .to_owned()
}

fn is_like_a_field(word: &str) -> bool {
    let is_part = |part: &str| {
        let mark = part.to_ascii_uppercase();
        is_number(part) || ["", "L", "W", "LW"].contains(&&*mark) || is_name(part)
    };
    word.split(['*', '-', '/', '#', ',', '?']).all(is_part)
}

impl Field {
    /// Croner alone accepts too much: names in every field, names joined to digits (`1SUN` as 10),
    /// and an empty list, for which it searches 3,000 years minute by minute.
    fn check(&self, text: &str) -> Result<(), InvalidSchedule> {
        if self.accepts(text) {
            return Ok(());
        }
        let Field { name, rule, .. } = self;
        let corrected: Vec<String> = text.split(',').map(|item| self.corrected(item)).collect();
        let corrected = Some(corrected.join(",")).filter(|it| self.accepts(it));
        let hint = match (corrected, text.contains('?')) {
            (Some(it), true) => format!(": `?` is Quartz's; write `{it}`"),
            (Some(it), false) => format!(": write `{it}`"),
            (None, _) => String::new(),
        };
        refused(format!(
            "the {name} of a cron expression is * or */n, or a list of values, ranges a-b and \
             steps a-b/n ({rule}); `{text}` is not{hint}"
        ))
    }

    fn accepts(&self, text: &str) -> bool {
        let mut words = text.split(['*', '-', '/', '#', ',']).filter(|word| !word.is_empty());
        let fields =
            FIELDS.each_ref().map(|field| if field.name == self.name { text } else { "*" });
        text.split(',').all(|item| !item.is_empty())
            && words.all(|word| self.has_word(word))
            && pattern(&fields.join(" "), false).is_some()
    }

    fn has_word(&self, word: &str) -> bool {
        let word = word.to_ascii_uppercase();
        let plain = match self.name {
            "day of the month" if ["L", "LW"].contains(&&*word) => return true,
            "day of the month" => word.strip_suffix('W').unwrap_or(&word),
            "weekday" => word.strip_suffix('L').unwrap_or(&word),
            _ => &word,
        };
        is_number(plain) || self.names.iter().any(|name| name[..3] == *plain)
    }

    /// The item as it is written here, if it is written as elsewhere.
    fn corrected(&self, item: &str) -> String {
        let (range, step) = item.split_once('/').unwrap_or((item, ""));
        let slash = if step.is_empty() { "" } else { "/" };
        let name = |value: usize| match self.names.get(value - self.values.start()) {
            Some(name) if range.contains(char::is_alphabetic) => name[..3].to_owned(),
            _ => value.to_string(),
        };
        let (least, most) = (name(*self.values.start()), name(*self.values.end()));
        match range.split_once('-') {
            Some((from, to)) if self.value(from) > self.value(to) => {
                format!("{}-{most}{slash}{step},{least}-{}{slash}{step}", short(from), short(to))
            }
            Some((from, to)) => format!("{}-{}{slash}{step}", short(from), short(to)),
            None if ["", "?"].contains(&range) => format!("*{slash}{step}"),
            None if step.is_empty() || range == "*" => format!("{}{slash}{step}", short(range)),
            None => format!("{}-{most}/{step}", short(range)),
        }
    }

    fn value(&self, word: &str) -> Option<usize> {
        let named = self.names.iter().position(|name| is_of(word, name));
        named.map(|index| index + self.values.start()).or_else(|| word.parse().ok())
    }
}

/// Refuses a step that is larger than what it steps through: only the first value would match.
pub(super) fn refuse_large_steps(words: &[&str]) -> Result<(), InvalidSchedule> {
    for (field, text) in FIELDS.iter().zip(words) {
        for (range, step) in text.split(',').filter_map(|item| item.split_once('/')) {
            let (from, to) = match range.split_once('-') {
                Some((from, to)) => (field.value(from), field.value(to)),
                None => (Some(*field.values.start()), Some(*field.values.end())),
            };
            let (from, to) = (from.unwrap_or_default(), to.unwrap_or_default());
            if step.parse::<usize>().is_ok_and(|step| step <= 1.max(to.saturating_sub(from))) {
                continue;
            }
            let whole = if range == "*" { "field" } else { "range" };
            let hint = match field.unit.filter(|_| range == "*") {
                Some(unit) => format!("; an interval is written `every {step}{unit}`"),
                None => format!("; write `{from}`"),
            };
            return refused(format!(
                "`{range}/{step}` is a step larger than its {whole}: it matches {from} only{hint}"
            ));
        }
    }
    Ok(())
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

fn pattern(text: &str, both: bool) -> Option<Cron> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed);
    parser.dom_and_dow(both).build().parse(text).ok()
}

/// Whether the pattern matches any day. The calendar repeats every 400 years, so a search of the
/// last 400 that croner knows is enough.
fn has_instants(pattern: &Cron) -> bool {
    let start = civil::date(*YEARS.end() - 399, 1, 1).at(0, 0, 0, 0);
    pattern.find_next_occurrence(&start, true).is_ok()
}

/// The first three letters of a name such as `friday` or `sept`; any other word as it is.
fn short(word: &str) -> String {
    if is_name(word) { word[..3].to_ascii_uppercase() } else { word.to_owned() }
}

fn is_name(word: &str) -> bool {
    MONTHS.iter().chain(&WEEKDAYS).any(|name| is_of(word, name))
}

/// Whether the word is this name or its beginning.
fn is_of(word: &str, name: &str) -> bool {
    word.len() >= 3 && name.starts_with(&word.to_ascii_uppercase())
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}

fn refused<T>(reason: String) -> Result<T, InvalidSchedule> {
    Err(InvalidSchedule(reason))
}
