//! Schedules and their slots.

use balanced::cron::Schedule;
use chrono::{DateTime, TimeDelta, Utc};

/// Two instants of four bytes each, a schedule.
pub fn schedule(data: &[u8]) {
    let Some((instants, text)) = data.split_at_checked(8) else {
        return;
    };
    let text = String::from_utf8_lossy(text);
    let Ok(schedule) = Schedule::parse(&text) else {
        return;
    };
    let again = Schedule::parse(schedule.text()).expect("what was read is a schedule");
    assert!(again == schedule && again.text() == schedule.text());
    assert!(!schedule.words().is_empty());

    let (one, other) = (instant(&instants[..4]), instant(&instants[4..]));
    let (early, late) = (one.min(other), one.max(other));
    let is_interval = text.trim_start().starts_with("every");
    let first = schedule.first(early);
    let next = |now: DateTime<Utc>| schedule.next(early, now);
    assert!(next(early) == first && first.is_none_or(|first| first > early));
    assert!(!is_interval || first.is_some());
    let (Some(first), Some(last)) = (first, next(late)) else {
        return;
    };
    assert!(last > late && last >= first);
    if is_interval {
        let step_us = (first - early).num_microseconds().unwrap();
        assert_eq!((last - early).num_microseconds().unwrap() % step_us, 0);
        assert!(last - late <= first - early);
    } else if !schedule.is_once() {
        // Until 1972 Liberia's clock was 44 minutes and 30 seconds behind.
        assert!(last.timestamp() % 60 == 0 || last.timestamp() < 100_000_000);
    }
    // Whoever asks between two slots gets the second: none lies between them.
    assert_eq!(next(last - TimeDelta::microseconds(1)), Some(last));
}

/// From 1970 into the year 4978, most often with a part of a second.
fn instant(bytes: &[u8]) -> DateTime<Utc> {
    let number = i64::from(u32::from_be_bytes(bytes.try_into().expect("four bytes")));
    DateTime::from_timestamp_micros(number * 22_100_001).expect("in range")
}
