mod clock_changes;
mod properties;
mod words;

use super::*;

/// The message of the error; none if the text is a schedule.
fn fault(text: &str) -> Option<String> {
    Schedule::parse(text).err().map(|fault| fault.to_string())
}

fn schedule(text: &str) -> Schedule {
    Schedule::parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}"))
}

fn utc(text: &str) -> DateTime<Utc> {
    format!("{text}Z").parse().unwrap()
}

/// The slots after `after` and up to `until`, as `day hour:minute` in UTC.
fn runs(text: &str, after: &str, until: &str) -> Vec<String> {
    let schedule = schedule(text);
    let next = |at: &DateTime<Utc>| schedule.next(*at, *at);
    let found = std::iter::successors(Some(utc(after)), next).skip(1);
    found.take_while(|at| *at <= utc(until)).map(|at| at.format("%d %H:%M").to_string()).collect()
}

/// Pseudo-random numbers, the same in every run: splitmix64 (G. Steele et al., 2014).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

#[test]
fn an_interval_is_hours_minutes_and_seconds() {
    for (text, seconds) in [
        ("every 90s", 90),
        ("every 5m", 300),
        ("every 1h30m", 5400),
        ("every 1h0m1s", 3601),
        ("  every   24h ", 86_400),
        ("every 8784h", 31_622_400),
        ("every 0000000000000000000000001s", 1),
    ] {
        assert!(schedule(text).form == Form::Every { seconds }, "{text}");
    }
    let refused = "0s 0h0m 8784h1s 30 h 1h30 30m1h 1h1h -1h +1h 1.5h 1H 1hm \
         9223372036854775807h 99999999999999999999h 9223372036854775807s1m \
         2562047788015215h9223372036854775807s ٣s";
    for text in refused.split(' ') {
        let fault = fault(&format!("every {text}")).unwrap();
        assert!(fault.starts_with("an interval ") || fault.contains("is no schedule"), "{fault}");
    }
}

#[test]
fn an_interval_keeps_its_grid() {
    let every = schedule("every 90s");
    let slot = utc("2026-03-29T00:59:00.000001");
    let next = |now| every.next(slot, utc(now));
    assert_eq!(next("2026-03-29T00:58:59"), Some(slot));
    assert_eq!(next("2026-03-29T00:59:00.000001"), Some(utc("2026-03-29T01:00:30.000001")));
    assert_eq!(next("2026-03-29T01:00:30.000000"), Some(utc("2026-03-29T01:00:30.000001")));
    assert_eq!(next("2026-03-29T01:00:30.000001"), Some(utc("2026-03-29T01:02:00.000001")));
    assert_eq!(next("2126-03-29T00:59:00.000001"), Some(utc("2126-03-29T01:00:30.000001")));
    assert_eq!(every.first(slot), Some(utc("2026-03-29T01:00:30.000001")));

    let mut numbers = Numbers(1);
    for _ in 0..20_000 {
        let seconds = 1 + numbers.below(31_622_400) as i64;
        let every = schedule(&format!("every {seconds}s"));
        let micros = |numbers: &mut Numbers| numbers.below(8_000_000_000_000_000) as i64;
        let (slot_us, now_us) = (micros(&mut numbers), micros(&mut numbers));
        let instant = |us| DateTime::from_timestamp_micros(us).unwrap();
        let next_us = every.next(instant(slot_us), instant(now_us)).unwrap().timestamp_micros();
        let step_us = seconds * 1_000_000;
        assert!(next_us > now_us && (next_us - slot_us) % step_us == 0);
        assert!(next_us - step_us <= now_us, "the slot before was also due");
    }
}

#[test]
fn after_the_clock_was_set_back_no_slot_is_run_again_and_none_waits_for_long() {
    let day = |time: &str| utc(&format!("2026-05-04T{time}"));
    let after = |text: &str, slot, now| schedule(text).after(day(slot), day(now)).unwrap();
    assert_eq!(after("every 1h", "12:00:00", "12:02:00"), day("13:00:00"));
    assert_eq!(after("every 1h", "12:00:00", "11:30:00"), day("13:00:00"), "not 12:00 again");
    assert_eq!(after("every 1h", "12:00:00", "10:30:00"), day("11:00:00"));
    assert_eq!(after("*/5 * * * *", "12:00:00", "11:02:00"), day("11:05:00"));
    assert_eq!(after("*/5 * * * *", "12:00:00", "11:58:00"), day("12:05:00"), "not 12:00 again");
    assert_eq!(after("0 6,12,18 * * *", "12:00:00", "11:00:00"), day("18:00:00"));
    assert_eq!(after("0 6,12,18 * * *", "18:00:00", "11:00:00"), day("12:00:00"), "it was wrong");

    let anew = |text: &str, slot, now, hours| {
        schedule(text).anew(day(slot), day(now), TimeDelta::hours(hours)).unwrap()
    };
    assert_eq!(anew("every 1h", "13:00:00", "11:30:00", 1), day("12:00:00"));
    assert_eq!(anew("*/5 * * * *", "12:05:00", "11:02:00", 1), day("11:05:00"));
    assert_eq!(anew("0 6,12,18 * * *", "18:00:00", "11:02:00", 1), day("18:00:00"));
    assert_eq!(anew("0 6,12,18 * * *", "18:00:00", "09:00:00", 4), day("12:00:00"));
}

#[test]
fn an_instant_is_a_slot_once() {
    let (text, at) = ("at 2027-01-31T22:00:00Z", utc("2027-01-31T22:00:00"));
    let second = TimeDelta::seconds(1);
    for same in ["AT  2027-01-31t23:30:00+01:30", "at 2027-01-31 14:00:00.0000001-08:00"] {
        assert_eq!(schedule(same).text(), text, "{same}");
        assert_eq!(schedule(same), schedule(text), "{same}");
    }
    assert_eq!(schedule("at 2027-01-31T22:00:00.25Z").text(), "at 2027-01-31T22:00:00.250Z");
    let once = schedule(text);
    assert!(once.is_once() && !schedule("every 1d").is_once());
    assert_eq!((once.first(at - second), once.first(at)), (Some(at), None));
    assert_eq!((once.next(at, at - second), once.next(at, at)), (Some(at), None));
    // It has run, and does not run again, even if the clock was set back meanwhile.
    assert_eq!((once.after(at, at + second), once.after(at, at - second)), (None, None));
    // It came while the job ran for something else.
    let earlier = at - TimeDelta::hours(1);
    assert_eq!(once.after(earlier, at + second), Some(at));
    assert_eq!(once.after_request(at, at + second), Some(at));
    assert_eq!(once.anew(at, earlier, TimeDelta::hours(1)), Some(at));
    let every = schedule("every 1h");
    assert_eq!(every.after_request(at, earlier), Some(at), "the grid stays");
}

#[test]
fn five_fields_and_a_zone_are_a_cron_expression() {
    for text in [
        "* * * * *",
        "0 3 * * * Europe/Berlin",
        "  0  3  *  *  *   UTC ",
        "*/15 0-6,22,23 1-31/2 jan-Mar,12 MON-FRI",
        "0 0 L * *",
        "0 0 LW,15W * *",
        "0 0 * * 5L,MON#2,FRIL,7",
        "0 0 29 2 *",
        "0 0 31W 1 *",
        "59 23 31 12 SAT-SUN America/Argentina/Buenos_Aires",
    ] {
        assert_eq!(fault(text), None, "{text}");
    }
    assert_eq!(schedule("0 3 * * 0"), schedule("00 03 * * SUN UTC"));
    assert_ne!(schedule("0 3 * * *"), schedule("0 3 * * * Europe/Berlin"));
    assert_eq!(format!("{:?}", schedule("0 3 * * * Asia/Tokyo")), "Schedule(0 3 * * * Asia/Tokyo)");
}

#[test]
fn what_is_no_schedule_is_told_why() {
    let long = format!("0 3 * * {}1", "1,".repeat(46));
    for (text, part) in [
        ("", "an empty text is no schedule: try `every 5m`"),
        ("every", "`every` is no schedule"),
        (
            "every tuesday",
            "is no schedule: try `every 5m`, or `0 3 * * 2` for Tuesdays at 03:00 UTC",
        ),
        ("every Sundays", "`0 3 * * 0` for Sundays"),
        ("every moon", "`every moon` is no schedule: try `every 5m`, `@daily`, `0 3 * * 2` for"),
        ("every 5", "each with its unit, such as `every 1h30m`; `5` is not"),
        ("every 5H", "write `every 5h`, `h` is hours"),
        ("at", "`at` takes one instant with its offset from UTC"),
        ("at 22:00", "such as `at 2027-01-31T22:00:00Z`"),
        ("at 2027-01-31T22:00:00", "`2027-01-31T22:00:00` is none"),
        ("at 2027-02-29T22:00:00Z", "is none"),
        ("at 2027-01-31T22:00:00Z UTC", "is none"),
        ("every 3 0s", "an interval is whole days"),
        ("@reboot", "`@daily`"),
        ("daily", "`@daily`"),
        ("5m", "write `every 5m`"),
        ("every Monday", "`0 3 * * 1` for Mondays"),
        ("every 2 months", "`0 0 1 * *`"),
        ("* * * *", "five fields"),
        ("* * * * * UTC UTC", "`* * * * * UTC UTC` is no schedule"),
        ("0 0 3 * * *", "five fields, without seconds or a year: write `0 3 * * *`"),
        ("0 0 12 ? * MON-FRI", "a year: write `0 12 * * MON-FRI`"),
        ("@hourly 5", "`5` is none"),
        ("5/15 * * * *", "write `5-59/15`"),
        ("0 0 * * fri-mon", "write `FRI-SAT,SUN-MON`"),
        ("0 0 1 sept,december *", "write `SEP,DEC`"),
        ("0 */30 * * *", "`every 30h`"),
        ("0 0 * * */7", "write `0`"),
        ("0 0 * * MON#1L", "`5#2` for the second"),
        ("0 0 * * */2#1", "`5L` for the last"),
        ("0 3 * * * localtime", "`localtime` is none"),
        ("0 3 * * * +02:00", "`+02:00` is none"),
        ("0\t3 * * *", "no control characters"),
        ("0 3 * * *\n", "no control characters"),
        (long.as_str(), "at most 100 characters"),
        ("60 3 * * *", "the minute of a cron expression is * or */n, or a list"),
        ("0 24 * * *", "the hour of"),
        ("0 3 0 * *", "the day of the month of"),
        ("0 3 * 13 *", "the month of"),
        ("0 3 * * 8", "the weekday of"),
        ("0 3 * * 1#6", "`1#6` is not"),
        ("0 0 31 2,4,6,9,11 *", "`0 0 31 2,4,6,9,11 *` never matches"),
        ("0 0 30W 2 * Europe/Berlin", "never matches"),
    ] {
        let fault = fault(text).unwrap_or_else(|| panic!("{text:?} is taken"));
        assert!(fault.contains(part), "{text:?}: {fault}");
    }
    assert!(
        fault("0 0 12 ? * 2").unwrap().ends_with("such as `0 3 * * 2`"),
        "Quartz's 2 is Monday"
    );
}

/// Croner accepts each of these texts, but with a meaning that nobody would guess.
#[test]
fn what_is_doubtful_is_refused() {
    for text in [
        ", * * * *",
        "1, * * * *",
        ",1 * * * *",
        "1,,2 * * * *",
        "0 , * * *",
        "0 0 * * ,",
        "0 0 1SUN * *",
        "MON SUN * * *",
        "0 0 * JAN0 *",
        "0 0 * * MONTUE",
        "0 0 15W3 * *",
        "0 0 1WW * *",
        "0 0 * * L",
        "0 0 * * 5LL",
        "0 0 ? * *",
        "0 0 13 * +FRI",
        "@daily * * * *",
        "0 0 * * \u{17f}un",
        "0 0 * *\u{a0}1",
        "5-1 * * * *",
        "*/0 * * * *",
        "0/5 * * * *",
        "0 0 L-3 * *",
        "1-2-3 * * * *",
        "*/65535 99999 * * *",
        "0 0 * * #",
        "0 0 W * *",
        "- * * * *",
    ] {
        assert!(fault(text).is_some(), "{text:?}");
    }
}

/// Instants found by brute force over the rules above and the zones of 2026f.
#[test]
fn the_vectors_come_out() {
    for line in include_str!("tests/vectors.tsv").lines().skip(1) {
        let [expression, zone, from, expected, ..] = line.split('\t').collect::<Vec<_>>()[..]
        else {
            panic!("{line}");
        };
        let text = format!("{expression} {zone}");
        match expected {
            "400" => assert!(fault(&text).is_some(), "{line}"),
            _ => {
                let next = schedule(&text).first(from.parse().unwrap());
                assert_eq!(next, expected.parse().ok(), "{line}");
            }
        }
    }
}

/// What people type means what they mean, or is answered with the right form.
#[test]
fn phrases_are_understood_or_corrected() {
    for line in include_str!("tests/phrases.tsv").lines().skip(1) {
        let (phrase, expected) = line.split_once('\t').unwrap();
        if let Some(answer) = expected.strip_prefix("400: ") {
            let fault = fault(phrase).unwrap_or_else(|| panic!("{phrase} is taken"));
            for part in answer.split("; ") {
                assert!(fault.contains(part), "{phrase}: {fault}");
            }
        } else if let Some(seconds) = expected.strip_suffix(" s") {
            let seconds = seconds.parse().unwrap();
            assert!(schedule(phrase).form == Form::Every { seconds }, "{phrase}");
        } else {
            assert_eq!(schedule(phrase).text(), expected, "{phrase}");
        }
    }
}

#[test]
fn a_day_field_that_begins_with_a_star_takes_no_part_in_the_choice() {
    let days = |text| runs(text, "2026-11-01T00:00:00", "2026-11-30T23:59:59").len();
    assert_eq!(days("0 3 */1 * MON"), 5, "Mondays");
    assert_eq!(days("0 3 1-30 * MON"), 30);
    assert_eq!(days("0 3 13 * FRI"), 4, "one of both");
    assert_eq!(days("0 3 13 * */5"), 1, "Friday the 13th");
    assert_eq!(days("0 3 L,LW * *"), 1);
    assert_eq!(days("0 3 L,LW,1 * MON"), 6);
}

#[test]
fn what_an_earlier_build_has_accepted_goes_on_to_run() {
    for text in ["*/90 * * * *", "10-20/30 * * * *", "0 */25 * * *"] {
        assert!(fault(text).is_some(), "{text}");
        assert_eq!(Schedule::parse_kept(text).unwrap().text(), text);
    }
}

#[test]
fn instants_far_away_have_no_slot_instead_of_a_panic() {
    let ends = [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC];
    let far = ["-100000-01-01T00:00:00", "+200000-01-01T00:00:00", "0001-01-01T00:00:00"];
    let near = ["1969-12-31T23:59:59.999999", "1970-01-01T00:00:00", "4999-12-31T23:59:59"];
    let instants: Vec<_> = ends.into_iter().chain(far.map(utc)).chain(near.map(utc)).collect();
    let texts =
        ["* * * * * Asia/Kolkata", "0 0 29 2 *", "59 23 31 12 * Pacific/Apia", "every 8784h"];
    for schedule in texts.map(schedule) {
        for now in &instants {
            assert!(schedule.first(*now).is_none_or(|first| first > *now));
            for slot in &instants {
                assert!(schedule.next(*slot, *now).is_none_or(|next| next > *now));
            }
        }
    }
    assert_eq!(schedule("every 1s").first(ends[1]), None);
    assert_eq!(schedule("every 1s").next(ends[1], ends[1]), None);
    assert_eq!(schedule("* * * * *").first(utc("1969-12-31T23:59:59")), None);
    assert_eq!(
        schedule("0 0 29 2 *").first(utc("2096-02-29T00:00:00")),
        Some(utc("2104-02-29T00:00:00"))
    );
    assert_eq!(schedule("0 0 29 2 *").first(utc("4996-02-29T00:00:00")), None);
}
