//! When a job is to run: a pure function of the schedule's text and of an instant from the caller.
//!
//! There are three forms. An interval, `every 1h30m`, has its slots at equal steps of real time,
//! and knows neither zones nor days. An instant, `at 2027-01-31T22:00:00Z`, is the only slot of its
//! job. A cron expression, `0 3 * * * Europe/Berlin`, matches the wall clock of a zone, UTC when
//! none is named. Its five fields are the minute, the hour, the day of the month, the month and the
//! weekday. A day needs to match only one of the two day fields, but both when one of them begins
//! with `*`, as in Vixie's cron: see `parse::patterns`.
//!
//! Twice a year most zones move their clock, and so skip some wall clock times or repeat them:
//!
//! - With a `*` in the minute or the hour field (`*/15 * * * *`, `0 * * * *`), the job runs at
//!   every real minute whose wall clock time matches: never for a skipped time, twice for a
//!   repeated one. So `*/15 * * * *` runs every quarter of an hour on every day, and `*/15 2 * * *`
//!   in Berlin has one day a year without a run and one with eight.
//! - Without one (`30 2 * * *`, `0 2,14 * * *`), the expression names times of the day, and each
//!   runs once a day. A skipped time runs at the instant the clock is put forward, 03:00 summer
//!   time in Berlin; several skipped times share one run there. A repeated time runs the first
//!   time.
//!
//! When a zone changes its clock is told by the system's zone files or by the table in this
//! program: see `zone`.

mod field;
mod interval;
mod parse;
mod words;
mod zone;

use std::fmt;
use std::ops::RangeInclusive;

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use croner::Cron;
use jiff::civil;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, Zoned};

pub use zone::zones_in_use;

/// When a job is to run. Two schedules are equal if they mean the same, however they are written.
#[derive(Clone)]
pub struct Schedule {
    form: Form,
    text: String,
}

#[derive(Clone, PartialEq)]
enum Form {
    Every { seconds: i64 },
    Once { at: DateTime<Utc> },
    // Any of the patterns has to match.
    Cron { patterns: Vec<Cron>, zone: TimeZone },
}

/// The text is not a schedule. Displays as a sentence with the rule and with what breaks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSchedule(String);

const LENGTH_MAX: usize = 100;

/// The years in which cron expressions have instants. Before them, some zones moved their clock by
/// a whole day; after them, croner gives up.
const YEARS: RangeInclusive<i16> = 1970..=4999;

/// If the database's clock is set back by less, that is taken as a correction: no time of the day
/// is run again. If by more, the clock is taken to have been wrong, and times of the day are run
/// again. As in Debian's cron (cron(8)).
const SET_BACK_MAX: TimeDelta = TimeDelta::hours(3);

impl Schedule {
    /// Reads `every` and a duration (`every 90s`, `every 1h30m`, `every 2 days`), 1 s to 8784 h in
    /// all; or `at` and an instant (RFC 3339); or five cron fields, or a short name of such
    /// (`@daily`), and, optionally, the IANA name of a time zone. At most 100 characters; spaces
    /// may be repeated.
    ///
    /// # Errors
    /// [`InvalidSchedule`], also for a cron expression that never matches, such as the 30th of
    /// February, and for one that means less than it seems to, such as `*/90` minutes.
    pub fn parse(text: &str) -> Result<Schedule, InvalidSchedule> {
        let schedule = Schedule::parse_kept(text)?;
        if matches!(schedule.form, Form::Cron { .. }) {
            let words: Vec<&str> = schedule.text.split(' ').collect();
            field::refuse_two_marks(&words)?;
            field::refuse_large_steps(&words)?;
        }
        Ok(schedule)
    }

    /// Like [`Schedule::parse`], for a text from the database: a large step or a second mark that
    /// an earlier build has accepted goes on to mean what it meant.
    ///
    /// # Errors
    /// [`InvalidSchedule`], if a later build has accepted it.
    pub fn parse_kept(text: &str) -> Result<Schedule, InvalidSchedule> {
        if text.chars().count() > LENGTH_MAX || text.contains(char::is_control) {
            let rule = "a schedule has at most 100 characters and no control characters";
            return refused(rule.to_owned());
        }
        let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
        let (form, text) = parse::parse(&words)?;
        Ok(Schedule { form, text })
    }

    /// The text that was parsed, with one space between two words; in words that every build reads.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The first slot of a job that is created, resumed or rescheduled at `now`: one interval
    /// later, or the cron expression's first instant after `now`.
    ///
    /// None when there is none: after the only instant, beyond the range of a [`DateTime`], and for
    /// a cron expression outside the years 1970 to 4999.
    pub fn first(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match &self.form {
            Form::Every { seconds } => now.checked_add_signed(TimeDelta::try_seconds(*seconds)?),
            Form::Once { at } => Some(*at).filter(|at| *at > now),
            Form::Cron { patterns, zone } => next_match(patterns, zone, now),
        }
    }

    /// The first slot after `now` of a job whose slot is `slot`. An interval counts whole steps
    /// from `slot`, exact to the microsecond; a cron expression has its first instant after `now`,
    /// whatever `slot` is.
    ///
    /// None as for [`Schedule::first`].
    pub fn next(&self, slot: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match &self.form {
            Form::Every { seconds } => {
                let (slot_us, now_us) = (slot.timestamp_micros(), now.timestamp_micros());
                let step_us = seconds * 1_000_000;
                let since_last_us = now_us.checked_sub(slot_us)?.rem_euclid(step_us);
                DateTime::from_timestamp_micros(now_us.checked_add(step_us - since_last_us)?)
            }
            Form::Once { .. } | Form::Cron { .. } => self.first(now),
        }
    }

    /// The first slot after `now` of a job that has run for `slot`, never `slot` again. A `slot` in
    /// the future means that the database's clock was set back meanwhile. Then a time of the day
    /// that has already been run is not repeated, if the clock was set back by less than 3 h. An
    /// only instant that came while the job ran for another slot is still to be run.
    ///
    /// None as for [`Schedule::first`].
    pub fn after(&self, slot: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if let Form::Once { at } = &self.form {
            return Some(*at).filter(|at| *at != slot);
        }
        let comes_twice = self.names_times() && slot > now && slot - now < SET_BACK_MAX;
        let next = self.next(slot, if comes_twice { slot } else { now })?;
        if next == slot { self.next(slot, slot) } else { Some(next) }
    }

    /// The first slot after `now` of a job whose slot is `slot`, and that has run because somebody
    /// asked for it. An only instant that came meanwhile is still to be run.
    ///
    /// None as for [`Schedule::first`].
    pub fn after_request(&self, slot: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match &self.form {
            Form::Once { at } => Some(*at),
            Form::Every { .. } | Form::Cron { .. } => self.next(slot, now),
        }
    }

    /// The new slot of a job that waits for `slot`, after the clock was set back by `set_back`.
    ///
    /// None as for [`Schedule::first`].
    pub fn anew(
        &self,
        slot: DateTime<Utc>,
        now: DateTime<Utc>,
        set_back: TimeDelta,
    ) -> Option<DateTime<Utc>> {
        match self.names_times() && set_back < SET_BACK_MAX {
            true => Some(slot),
            false => self.next(slot, now),
        }
    }

    /// Whether the schedule has one instant only, so that it is normal if it names no further one.
    pub fn is_once(&self) -> bool {
        matches!(self.form, Form::Once { .. })
    }

    /// Whether the schedule names times of the day, each of which runs once a day.
    fn names_times(&self) -> bool {
        match &self.form {
            Form::Every { .. } | Form::Once { .. } => false,
            Form::Cron { patterns, .. } => patterns.iter().all(names_times),
        }
    }
}

fn names_times(pattern: &Cron) -> bool {
    !pattern.pattern.minutes.from_wildcard && !pattern.pattern.hours.from_wildcard
}

/// The first instant after `now` that one of the patterns has.
fn next_match(patterns: &[Cron], zone: &TimeZone, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let local = Timestamp::from_microsecond(now.timestamp_micros()).ok()?.to_zoned(zone.clone());
    if !YEARS.contains(&i16::try_from(now.year()).ok()?) {
        return None;
    }
    let next = patterns.iter().filter_map(|pattern| next_of(pattern, &local)).min()?;
    DateTime::from_timestamp_micros(next.as_microsecond())
}

/// The first instant after `now`.
///
/// Croner's own rule for named times is right only for a single time: of `30 2,14 * * *` it would
/// skip 02:30 in spring and run it twice in autumn. So croner searches wall clock times without a
/// zone, and `instant_of` converts each match. That keeps the order of the matches, so the first
/// one after `now` is the result. If `now` is in the second pass of a repeated hour, the loop skips
/// matches that have already been run: those of one hour at most.
fn next_of(pattern: &Cron, now: &Zoned) -> Option<Timestamp> {
    if !names_times(pattern) {
        return pattern.find_next_occurrence(now, false).ok().map(|found| found.timestamp());
    }
    let mut wall = now.datetime();
    loop {
        wall = pattern.find_next_occurrence(&wall, false).ok()?;
        let instant = instant_of(now.time_zone(), wall)?;
        if instant > now.timestamp() {
            return Some(instant);
        }
    }
}

/// The first instant at which the zone's clock shows `wall`, or the end of the gap that skips it.
fn instant_of(zone: &TimeZone, wall: civil::DateTime) -> Option<Timestamp> {
    let at = zone.to_ambiguous_timestamp(wall);
    match at.offset() {
        AmbiguousOffset::Gap { .. } => {
            let before = at.earlier().ok()?;
            zone.following(before).next().map(|change| change.timestamp())
        }
        _ => at.earlier().ok(),
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Schedule) -> bool {
        self.form == other.form
    }
}

/// Croner's own `Debug` would print a bit for each of five thousand years.
impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.form {
            Form::Every { seconds } => write!(f, "Schedule(every {seconds}s)"),
            Form::Once { .. } | Form::Cron { .. } => write!(f, "Schedule({})", self.text),
        }
    }
}

impl fmt::Display for InvalidSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidSchedule {}

/// What is no schedule in any form.
fn no_schedule(text: &str) -> InvalidSchedule {
    let text = if text.is_empty() { "an empty text" } else { &format!("`{text}`") };
    InvalidSchedule(format!(
        "{text} is no schedule: try `every 5m`, `@daily`, `0 3 * * 2` for Tuesdays at 03:00 UTC, \
         or `at 2027-01-31T22:00:00Z` to run once"
    ))
}

fn refused<T>(reason: String) -> Result<T, InvalidSchedule> {
    Err(InvalidSchedule(reason))
}

#[cfg(test)]
mod tests;
