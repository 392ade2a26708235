//! The fields of cron expressions: what each may hold, and how what is written otherwise is written
//! here.

use std::ops::RangeInclusive;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use super::interval::parse_interval;
use super::{InvalidSchedule, refused};

/// A field of a cron expression.
pub(super) struct Field {
    name: &'static str,
    rule: &'static str,
    values: RangeInclusive<usize>,
    /// The names of its values, the least first.
    names: &'static [&'static str],
    /// The unit of an interval, if its values all have one length.
    unit: Option<char>,
}

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
/// The place of the weekday among the fields.
const WEEKDAY: usize = 4;
/// The fields in their order.
pub(super) const FIELDS: [Field; 5] = [
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

impl Field {
    /// Croner alone accepts too much: names in every field, names joined to digits (`1SUN` as 10),
    /// and an empty list, for which it searches 3,000 years minute by minute.
    pub(super) fn check(&self, text: &str) -> Result<(), InvalidSchedule> {
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
        is_number(plain) || self.names.contains(&plain)
    }

    /// The item as it is written here, if it is written as elsewhere.
    fn corrected(&self, item: &str) -> String {
        let (range, step) = item.split_once('/').unwrap_or((item, ""));
        let slash = if step.is_empty() { "" } else { "/" };
        let name = |value: usize| match self.names.get(value - self.values.start()) {
            Some(name) if range.contains(char::is_alphabetic) => (*name).to_owned(),
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
        let named = self.names.iter().position(|name| *name == short(word));
        named.map(|index| index + self.values.start()).or_else(|| word.parse().ok())
    }
}

/// Refuses a weekday with two marks: of `5#2L` and `*/2#1` one would be forgotten.
pub(super) fn refuse_two_marks(words: &[&str]) -> Result<(), InvalidSchedule> {
    let items = words.get(WEEKDAY).into_iter().flat_map(|text| text.split(','));
    let has_two = |item: &&str| item.contains('#') && item.contains(['L', 'l', '/']);
    match items.into_iter().find(has_two) {
        Some(item) => refused(format!(
            "`{item}` says twice which weekdays of a month: write `5#2` for the second Friday, \
             `5L` for the last"
        )),
        None => Ok(()),
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
            let interval = field.unit.map(|unit| format!("{step}{unit}"));
            let hint = match interval.filter(|it| range == "*" && parse_interval(it).is_ok()) {
                Some(interval) => format!("; an interval is written `every {interval}`"),
                None => format!("; write `{from}`"),
            };
            return refused(format!(
                "`{range}/{step}` is a step larger than its {whole}: it matches {from} only{hint}"
            ));
        }
    }
    Ok(())
}

/// Croner's pattern of five fields. Of the day of the month and the weekday `both` have to match,
/// or only one of them.
pub(super) fn pattern(text: &str, both: bool) -> Option<Cron> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed);
    parser.dom_and_dow(both).build().parse(text).ok()
}

/// The first three letters of a name such as `friday` or `sept`; any other word as it is.
pub(super) fn short(word: &str) -> String {
    if is_name(word) { word[..3].to_ascii_uppercase() } else { word.to_owned() }
}

pub(super) fn is_name(word: &str) -> bool {
    let start = word.get(..3).unwrap_or_default().to_ascii_uppercase();
    let known = MONTHS.contains(&&*start) || WEEKDAYS.contains(&&*start);
    known && word.bytes().all(|byte| byte.is_ascii_alphabetic())
}

pub(super) fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}
