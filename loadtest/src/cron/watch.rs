//! The watching itself: every target asked in turn, again and again, then the history read.

use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::Options;
use super::record::Record;
use super::status::{Page, Run, Status};
use super::table::Live;
use crate::client::{BaseUrl, Caller, Target};

/// A replica that is stopped, not dead, takes connections and says nothing: the others shall not
/// be watched much less often because of it.
const READING_LIMIT: Duration = Duration::from_secs(3);
/// Pages of the history may be large and are read once.
const HISTORY_LIMIT: Duration = Duration::from_secs(35);
/// The most runs the service lists at once.
const PAGE_ROWS: usize = 1_000;

/// The targets and what they have shown.
pub(super) struct Watch {
    seats: Vec<Seat>,
    pub(super) record: Record,
}

/// One target.
struct Seat {
    url: BaseUrl,
    /// Nothing before the first answer and after a failure: a name may stand for another address
    /// after a restart.
    target: Option<Target>,
}

impl Watch {
    /// Watches for as long as `options` say.
    pub(super) fn run(options: &Options) -> Watch {
        let seat = |url: &BaseUrl| Seat { url: url.clone(), target: None };
        let seats = options.targets.iter().map(seat).collect();
        let mut watch = Watch { seats, record: Record::default() };
        let mut live = Live::new();
        let end = Instant::now() + options.duration;
        loop {
            let begun = Instant::now();
            let answered = watch.round();
            if let Some(status) = &watch.record.last {
                let left = end.saturating_duration_since(Instant::now());
                live.show(status, left, (answered, watch.seats.len()));
            }
            if begun >= end {
                return watch;
            }
            let next = end.min(begun + options.poll);
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
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
        result
    }

    /// Asks every target once, one after another; how many answered.
    fn round(&mut self) -> usize {
        self.record.rounds += 1;
        let mut answered = 0;
        let mut before: Option<(usize, Rc<Status>)> = None;
        for index in 0..self.seats.len() {
            let Some(status) = self.ask(index) else { continue };
            answered += 1;
            if let Some((first, earlier)) = before
                && !self.record.compare(&earlier, &status)
            {
                let again = self.ask(first);
                self.record.settle(&earlier, &status, again.as_deref());
            }
            before = Some((index, status));
        }
        answered
    }

    fn ask(&mut self, index: usize) -> Option<Rc<Status>> {
        match self.seats[index].get("/api/cron/status", READING_LIMIT) {
            Ok(status) => Some(self.record.take(status)),
            Err(reason) => {
                self.record.miss(reason);
                None
            }
        }
    }
}

impl Seat {
    fn get<T: DeserializeOwned>(&mut self, path: &str, limit: Duration) -> Result<T, String> {
        let target = match self.target.take() {
            Some(target) => target,
            None => Target::reach(&self.url)?,
        };
        let document = Caller::new(&target, None).within(limit).get(path)?;
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
