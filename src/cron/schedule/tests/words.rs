use std::collections::HashMap;

use chrono::NaiveDate;

use super::super::*;
use super::{Numbers, schedule};

#[test]
fn a_schedule_is_told_in_english() {
    for line in include_str!("words.tsv").lines().skip(1) {
        let (text, words) = line.split_once('\t').unwrap();
        assert_eq!(schedule(text).words(), words, "{text}");
    }
}

#[test]
fn what_an_earlier_build_has_accepted_is_told_as_it_is_run() {
    let words = |text| Schedule::parse_kept(text).unwrap().words();
    assert_eq!(words("*/90 * * * *"), "at minute 0 of every hour, by the wall clock of UTC");
    assert_eq!(words("0 3 * * 5#2L"), "at 03:00 on the last Friday of every month, UTC");
    assert_eq!(
        words("0 3 * * 1-2#1"),
        "at 03:00 on the first Monday and the first Tuesday of every month, UTC"
    );
}

/// What a schedule matches: minutes, hours, and days of six years.
fn matched(schedule: &Schedule) -> (Vec<u16>, Vec<u16>, Vec<bool>) {
    let Form::Cron { patterns, .. } = &schedule.form else { panic!("{schedule:?}") };
    let first = &patterns[0].pattern;
    let days = NaiveDate::from_ymd_opt(2001, 1, 1).unwrap().iter_days().take(6 * 365 + 1);
    let is_day = |day: NaiveDate| {
        patterns.iter().any(|pattern| {
            let weekday =
                croner::Weekday::from_days_from_sunday(day.weekday().num_days_from_sunday());
            let (pattern, month) = (&pattern.pattern, day.month());
            pattern.month_match(month).unwrap()
                && pattern.day_match(day.year(), month, day.day(), weekday).unwrap()
        })
    };
    (first.minutes.values(), first.hours.values(), days.map(is_day).collect())
}

/// So no words are right for two schedules, and with the ones above each kind is right for one.
#[test]
fn schedules_that_match_differently_have_different_words() {
    const MINUTES: [&str; 9] =
        ["*", "*/2", "*/7", "0-30/10", "0,10,20,30,40,50", "5-7,9", "0", "0-58/2", "0-59"];
    const HOURS: [&str; 7] = ["*", "*/2", "9-17", "0-11", "3", "3,4", "1-23/2"];
    const DAYS: [&str; 13] = [
        "*", "*/2", "*/1", "1-31", "1-30/2", "13", "13,14", "L", "LW", "L,LW", "15W", "15W,LW",
        "1-7,L",
    ];
    const MONTHS: [&str; 6] = ["*", "1", "1-3", "1,2,3", "*/2", "JAN-NOV"];
    const WEEKDAYS: [&str; 12] =
        ["*", "*/2", "0-6", "MON", "1-5", "7", "MON,WED", "5L", "5#2", "1#1,5", "1-2#1", "SAT-SUN"];
    let mut numbers = Numbers(4);
    let mut known = HashMap::new();
    for _ in 0..1_500 {
        let fields = [
            *numbers.pick(&MINUTES),
            *numbers.pick(&HOURS),
            *numbers.pick(&DAYS),
            *numbers.pick(&MONTHS),
            *numbers.pick(&WEEKDAYS),
        ];
        let text = fields.join(" ");
        let Ok(schedule) = Schedule::parse(&text) else { continue };
        let matched = matched(&schedule);
        let (earlier, same) =
            known.entry(schedule.words()).or_insert_with(|| (text.clone(), matched.clone()));
        assert!(*same == matched, "`{text}` and `{earlier}`: {}", schedule.words());
    }
    assert!(known.len() > 900, "{}", known.len());
}
