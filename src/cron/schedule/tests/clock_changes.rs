//! What happens when a zone moves its clock.

use chrono::TimeDelta;

use super::{runs, schedule, utc};

#[test]
fn named_times_that_are_left_out_run_when_the_clock_is_put_forward() {
    // Berlin skips 02:00 to 03:00 on the 29th; the clock moves at 01:00 UTC.
    let around = |text| runs(text, "2026-03-28T00:00:00", "2026-03-30T12:00:00");
    assert_eq!(around("30 2 * * * Europe/Berlin"), ["28 01:30", "29 01:00", "30 00:30"]);
    assert_eq!(around("0 2 * * * Europe/Berlin"), ["28 01:00", "29 01:00", "30 00:00"]);
    assert_eq!(around("0 3 * * * Europe/Berlin"), ["28 02:00", "29 01:00", "30 01:00"]);
    assert_eq!(around("59 1 29 3 * Europe/Berlin"), ["29 00:59"]);
    assert_eq!(around("30 2 * * 0 Europe/Berlin"), ["29 01:00"]);
    let together =
        runs("0,20,40 2,3 29 3 * Europe/Berlin", "2026-03-28T00:00:00", "2026-03-30T00:00:00");
    assert_eq!(together, ["29 01:00", "29 01:20", "29 01:40"]);
    let twice = "30 2,14 * * * Europe/Berlin";
    assert_eq!(around(twice), ["28 01:30", "28 13:30", "29 01:00", "29 12:30", "30 00:30"]);
    // Asked at the instant before the change, and at the change.
    let schedule = schedule("30 2 * * * Europe/Berlin");
    let (before, change) = (utc("2026-03-29T00:59:59.999999"), utc("2026-03-29T01:00:00"));
    assert_eq!(schedule.first(before), Some(change));
    assert_eq!(schedule.next(before, change), Some(utc("2026-03-30T00:30:00")));
}

#[test]
fn named_times_that_come_twice_run_the_first_time() {
    // Berlin repeats 02:00 to 03:00 on the 25th: first from 00:00 UTC, then from 01:00 UTC.
    let around = |text| runs(text, "2026-10-23T23:00:00", "2026-10-26T12:00:00");
    assert_eq!(around("30 2 * * * Europe/Berlin"), ["24 00:30", "25 00:30", "26 01:30"]);
    assert_eq!(around("0 2 * * * Europe/Berlin"), ["24 00:00", "25 00:00", "26 01:00"]);
    assert_eq!(around("0 3 * * * Europe/Berlin"), ["24 01:00", "25 02:00", "26 02:00"]);
    let twice = "30 2,14 * * * Europe/Berlin";
    assert_eq!(around(twice), ["24 00:30", "24 12:30", "25 00:30", "25 13:30", "26 01:30"]);
    let schedule = schedule("30 2 * * * Europe/Berlin");
    for now in ["00:30:00", "00:45:00", "01:00:00", "01:29:59.5", "01:30:00", "01:59:59"] {
        let now = utc(&format!("2026-10-25T{now}"));
        assert_eq!(schedule.first(now), Some(utc("2026-10-26T01:30:00")), "{now}");
    }
}

#[test]
fn a_wildcard_runs_through_both_changes_in_real_time() {
    for day in ["2026-03-29", "2026-10-25"] {
        let day = utc(&format!("{day}T00:00:00"));
        for (text, minutes) in [("*/15 * * * *", 15), ("0 * * * *", 60), ("* * * * *", 1)] {
            let schedule = schedule(&format!("{text} Europe/Berlin"));
            let mut at = day;
            for _ in 0..240 / minutes {
                let due = at + TimeDelta::minutes(minutes);
                assert_eq!(schedule.first(due - TimeDelta::microseconds(1)), Some(due));
                assert_eq!(schedule.first(at), Some(due), "{text}");
                at = due;
            }
        }
    }
    let half = runs("*/30 2 * * * Europe/Berlin", "2026-10-24T12:00:00", "2026-10-25T12:00:00");
    assert_eq!(half, ["25 00:00", "25 00:30", "25 01:00", "25 01:30"]);
    let none = runs("*/30 2 * * * Europe/Berlin", "2026-03-28T12:00:00", "2026-03-29T12:00:00");
    assert!(none.is_empty());
}

#[test]
fn other_zones_move_their_clocks_otherwise() {
    // Lord Howe moves by half an hour. It skips 02:00 to 02:30 on 2026-10-04 (15:30 UTC the day
    // before), and repeats 01:30 to 02:00 on 2026-04-05 (15:00 UTC the day before).
    let spring = |text| runs(text, "2026-10-03T12:00:00", "2026-10-03T17:00:00");
    assert_eq!(spring("15 2 * * * Australia/Lord_Howe"), ["03 15:30"]);
    assert_eq!(spring("45 2 * * * Australia/Lord_Howe"), ["03 15:45"]);
    let hours = ["03 12:30", "03 13:30", "03 14:30", "03 16:00", "03 17:00"];
    assert_eq!(spring("0 * * * * Australia/Lord_Howe"), hours);
    let autumn = |text| runs(text, "2026-04-04T14:00:00", "2026-04-04T16:00:00");
    assert_eq!(autumn("45 1 * * * Australia/Lord_Howe"), ["04 14:45"]);
    let quarters = ["04 14:15", "04 14:30", "04 14:45", "04 15:00", "04 15:15", "04 15:30"];
    assert_eq!(autumn("*/15 * * * * Australia/Lord_Howe")[..6], quarters);
    // Nuuk skips 23:00 to midnight. The next day's weekday is not one that the pattern names.
    let nuuk = runs("30 23 * * 6 America/Nuuk", "2026-03-28T00:00:00", "2026-03-30T00:00:00");
    assert_eq!(nuuk, ["29 01:00"]);
    // Apia skips a whole day, 2011-12-30.
    let apia = runs("0 9 30 * * Pacific/Apia", "2011-12-01T00:00:00", "2012-01-30T00:00:00");
    assert_eq!(apia, ["30 10:00", "29 19:00"]);
    // Tokyo never moves its clock.
    let tokyo = runs("30 2 * * * Asia/Tokyo", "2026-03-28T00:00:00", "2026-03-30T12:00:00");
    assert_eq!(tokyo, ["28 17:30", "29 17:30"]);
}

#[test]
fn an_interval_knows_no_zone() {
    let hours = runs("every 1h", "2026-03-28T23:30:00", "2026-03-29T02:30:00");
    assert_eq!(hours, ["29 00:30", "29 01:30", "29 02:30"]);
}
