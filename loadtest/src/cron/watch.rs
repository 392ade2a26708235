//! The watching itself: every target asked in turn, again and again, then the history read.

use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::Options;
use super::chronicle::Chronicle;
use super::interrupt::Interrupt;
use super::record::Record;
use super::screen::Screen;
use super::status::{Outcome, Page, Run, Status};
use super::table::View;
use crate::client::{BaseUrl, Caller, Target};

/// A replica that is stopped, not dead, takes connections and says nothing: the others shall not
/// be watched much less often because of it.
const READING_LIMIT: Duration = Duration::from_secs(3);
/// At least so often what is shown is brought up to date: seconds are counted there.
const SHOW_PAUSE: Duration = Duration::from_millis(500);
/// Pages of the history may be large and are read once.
const HISTORY_LIMIT: Duration = Duration::from_secs(35);
/// The most runs the service lists at once.
const PAGE_ROWS: usize = 1_000;

/// The targets and what they have shown.
pub(super) struct Watch {
    seats: Vec<Seat>,
    pub(super) record: Record,
    chronicle: Chronicle,
    /// Targets of this round that have shown a status again, and after how many seconds.
    returns: Vec<(String, u64)>,
    begun: Instant,
    /// None: until Ctrl-C.
    end: Option<Instant>,
    /// When the last status was read.
    read: Instant,
}

/// One target.
struct Seat {
    url: BaseUrl,
    token: Option<String>,
    /// Nothing before the first answer and after a failure: a name may stand for another address
    /// after a restart.
    target: Option<Target>,
    silence: Option<Silence>,
}

/// Since when a target has shown nothing, and why.
struct Silence {
    since: Instant,
    reason: String,
}

impl Watch {
    /// Watches for as long as `options` say, or until it is interrupted.
    pub(super) fn run(options: &Options, interrupt: &Interrupt) -> Watch {
        let seat = |url: &BaseUrl| Seat {
            url: url.clone(),
            token: options.token.clone(),
            target: None,
            silence: None,
        };
        let begun = Instant::now();
        let mut watch = Watch {
            seats: options.targets.iter().map(seat).collect(),
            record: Record::default(),
            chronicle: Chronicle::default(),
            returns: Vec::new(),
            begun,
            end: options.duration.map(|duration| begun + duration),
            read: begun,
        };
        let mut screen = Screen::new();
        loop {
            let begun = Instant::now();
            watch.round(&mut screen, interrupt);
            watch.chronicle.note_returns(&std::mem::take(&mut watch.returns));
            watch.show(&mut screen);
            if interrupt.is_set() || watch.end.is_some_and(|end| begun >= end) {
                return watch;
            }
            let next = begun + options.poll;
            watch.rest(&mut screen, interrupt, watch.end.map_or(next, |end| end.min(next)));
        }
    }

    /// How long has been watched.
    pub(super) fn seconds(&self) -> u64 {
        self.begun.elapsed().as_secs()
    }

    fn rest(&self, screen: &mut Screen, interrupt: &Interrupt, until: Instant) {
        while !interrupt.wait_until(until.min(Instant::now() + SHOW_PAUSE))
            && Instant::now() < until
        {
            self.show(screen);
        }
    }

    fn show(&self, screen: &mut Screen) {
        screen.show(&View {
            status: self.record.last.as_deref(),
            age: self.read.elapsed(),
            watched: self.begun.elapsed(),
            left: self.end.map(|end| end.saturating_duration_since(Instant::now())),
            targets: self.seats.len(),
            silent: self.seats.iter().filter_map(Seat::silent).collect(),
            chronicle: &self.chronicle,
        });
    }

    /// Reads all runs that ended in the time watched, and perhaps some before, newest first, from
    /// the first target that has them.
    ///
    /// # Errors
    /// None has; the sentence of the last.
    pub(super) fn history(&mut self) -> Result<Vec<Run>, String> {
        let mut result = Err("there is no target".to_owned());
        for seat in &mut self.seats {
            result = seat.history(&self.record);
            if result.is_ok() {
                break;
            }
        }
        // Nobody ran a slot that was missed.
        result.iter_mut().for_each(|runs| runs.retain(|run| run.outcome != Outcome::Missed));
        result
    }

    /// Asks every target once, one after another, unless it is interrupted.
    fn round(&mut self, screen: &mut Screen, interrupt: &Interrupt) {
        self.record.rounds += 1;
        let mut before: Option<(usize, Rc<Status>)> = None;
        for index in 0..self.seats.len() {
            if interrupt.is_set() {
                return;
            }
            let begun = Instant::now();
            let status = self.ask(index);
            if begun.elapsed() >= SHOW_PAUSE {
                self.show(screen);
            }
            let Some(status) = status else { continue };
            if let Some((first, earlier)) = before
                && !self.record.compare(&earlier, &status)
            {
                let again = self.ask(first);
                self.record.settle(&earlier, &status, again.as_deref());
            }
            before = Some((index, status));
        }
    }

    fn ask(&mut self, index: usize) -> Option<Rc<Status>> {
        let seat = &mut self.seats[index];
        let begun = Instant::now();
        match seat.get("/api/cron/status", READING_LIMIT) {
            Ok(status) => {
                let status = self.record.take(status);
                self.read = Instant::now();
                self.chronicle.take(&status);
                if let Some(silence) = seat.silence.take() {
                    let seconds = silence.since.elapsed().as_secs_f64().ceil() as u64;
                    self.returns.push((seat.url.to_string(), seconds));
                }
                Some(status)
            }
            Err(reason) => {
                let since = seat.silence.take().map_or(begun, |silence| silence.since);
                seat.silence = Some(Silence { since, reason: reason.clone() });
                self.record.miss(reason);
                None
            }
        }
    }
}

impl Seat {
    /// For how long it has shown nothing, and why.
    fn silent(&self) -> Option<(Duration, &str)> {
        let Silence { since, reason } = self.silence.as_ref()?;
        Some((since.elapsed(), reason))
    }

    fn get<T: DeserializeOwned>(&mut self, path: &str, limit: Duration) -> Result<T, String> {
        let target = match self.target.take() {
            Some(target) => target,
            None => Target::reach(&self.url)?,
        };
        let document = Caller::new(&target, self.token.as_deref()).within(limit).get(path)?;
        self.target = Some(target);
        Ok(document)
    }

    fn history(&mut self, record: &Record) -> Result<Vec<Run>, String> {
        let mut runs: Vec<Run> = Vec::new();
        let mut before: Option<i64> = None;
        loop {
            let from = before.map_or_else(String::new, |run_id| format!("&before={run_id}"));
            let path = format!("/api/cron/history?limit={PAGE_ROWS}{from}");
            let page: Page = self.get(&path, HISTORY_LIMIT)?;
            runs.extend(page.runs);
            let Some(oldest) = runs.last() else { return Ok(runs) };
            // What began before the watch and was never seen running was over before it, too.
            let unseen = record.runs.keys().next().is_none_or(|first| oldest.run_id < *first);
            let over = unseen && record.begin.is_none_or(|begin| oldest.started_at < begin);
            // A list that does not advance would never end.
            let advances = |next: &i64| before.is_none_or(|before| *next < before);
            match page.next.filter(|next| advances(next) && !over) {
                Some(next) => before = Some(next),
                None => return Ok(runs),
            }
        }
    }
}
