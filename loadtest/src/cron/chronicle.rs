//! What a person who looked away would want to be told: who is there, and what has happened from
//! one reading to the next. Decides nothing.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::moment::Moment;
use super::status::{Job, Outcome, State, Status};

/// More than any screen shows.
const EVENTS_MAX: usize = 200;
/// Servers that were not seen for this long are not missed: each deploy may bring new names.
const FORGET_SECONDS: f64 = 600.0;

/// Servers and events.
#[derive(Default)]
pub(super) struct Chronicle {
    last: Option<Rc<Status>>,
    /// Servers, and when each was last seen to answer or to run a job.
    pub(super) seen: BTreeMap<String, Moment>,
    /// The oldest first.
    pub(super) events: VecDeque<Event>,
}

/// Something that happened, as far as it deserves a look: starts and successes do not.
pub(super) struct Event {
    /// By the database's clock: of the reading that showed it.
    pub(super) at: Moment,
    /// One line.
    pub(super) text: String,
    /// Whether something went wrong.
    pub(super) alarm: bool,
}

impl Chronicle {
    /// Adds what has changed since the reading before.
    pub(super) fn take(&mut self, status: &Rc<Status>) {
        let now = status.now;
        let running = status.jobs.iter().filter(|job| job.state == State::Running);
        let servers = running.filter_map(|job| job.server.as_deref());
        for server in servers.chain([status.served_by.as_str()]) {
            match self.seen.get_mut(server) {
                Some(seen) => *seen = now,
                None => drop(self.seen.insert(server.to_owned(), now)),
            }
        }
        self.seen.retain(|_, seen| now.seconds_since(*seen) < FORGET_SECONDS);
        if let Some(last) = self.last.replace(Rc::clone(status)).filter(|last| last.now <= now) {
            for (text, alarm) in changes(&last, status) {
                self.add(Event { at: now, text, alarm });
            }
        }
    }

    /// Adds that targets that had shown nothing for as many seconds have shown a status again.
    pub(super) fn note_returns(&mut self, returns: &[(String, u64)]) {
        let Some(at) = self.last.as_ref().map(|status| status.now) else { return };
        let text = match returns {
            [] => return,
            [(target, seconds)] => format!("{target} shows a status again, after {seconds} s"),
            several => {
                let seconds = several.iter().map(|(_, seconds)| seconds).max().unwrap_or(&0);
                let count = several.len();
                format!("{count} targets show a status again, after {seconds} s at most")
            }
        };
        self.add(Event { at, text, alarm: false });
    }

    fn add(&mut self, event: Event) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

/// Sentences, each with whether something went wrong.
fn changes(before: &Status, after: &Status) -> Vec<(String, bool)> {
    let mut old: BTreeMap<&str, &Job> =
        before.jobs.iter().map(|job| (job.name.as_str(), job)).collect();
    let mut changes = Vec::new();
    for job in &after.jobs {
        match old.remove(job.name.as_str()) {
            Some(before) => changes.extend(changes_of(before, job)),
            None => changes.push((format!("{}: added", job.name), false)),
        }
    }
    changes.extend(old.keys().map(|name| (format!("{name}: deleted"), false)));
    changes
}

fn changes_of(before: &Job, job: &Job) -> Vec<(String, bool)> {
    let mut changes = Vec::new();
    let mut add = |text: String, alarm| changes.push((format!("{}: {text}", job.name), alarm));
    let last_id = |job: &Job| job.last_run.as_ref().map(|run| run.run_id);
    let broken_off = |outcome| matches!(outcome, Outcome::Cancelled | Outcome::Abandoned);
    let begun = job.open_run().filter(|open| before.run_id != Some(open.run_id));
    match (&job.last_run, begun) {
        (Some(last), Some(begun)) if broken_off(last.outcome) => {
            let (run, server, outcome) = (last.run_id, &last.server, last.outcome);
            let (new_run, new_server) = (begun.run_id, begun.server);
            let runs = format!("run {run} {}, now run {new_run}", outcome.name());
            let alarm = outcome == Outcome::Abandoned;
            add(format!("taken over by {new_server} from {server} ({runs})"), alarm);
        }
        (Some(last), _) if last_id(before) < last_id(job) && last.outcome != Outcome::Succeeded => {
            let (run, server, outcome) = (last.run_id, &last.server, last.outcome);
            let detail = last.detail.as_deref().unwrap_or("without a text");
            let alarm = outcome != Outcome::Cancelled;
            add(format!("run {run} on {server} {}: {detail}", outcome.name()), alarm);
        }
        _ => {}
    }
    if job.state == State::Stalled && before.state != State::Stalled {
        let server = job.server.as_deref().unwrap_or("its server");
        add(format!("stalled: the lease of {server} has run out"), true);
    }
    if job.enabled != before.enabled {
        add(if job.enabled { "goes on" } else { "paused" }.to_owned(), false);
    }
    if job.schedule != before.schedule {
        add(format!("now runs {}", job.schedule), false);
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::super::samples::{at, ended, running, status, waiting};
    use super::*;

    fn told(readings: Vec<Status>) -> Vec<(String, bool)> {
        let mut chronicle = Chronicle::default();
        readings.into_iter().for_each(|status| chronicle.take(&Rc::new(status)));
        chronicle.events.into_iter().map(|event| (event.text, event.alarm)).collect()
    }

    fn told_of(before: Job, after: Job) -> Vec<(String, bool)> {
        told(vec![status("r-1", 0, vec![before]), status("r-1", 1, vec![after])])
    }

    #[test]
    fn what_deserves_a_look_is_told() {
        let run = || running("a", "r-1", 5, 0);
        let after = |outcome| Job { last_run: Some(ended(5, "r-1", outcome)), ..waiting("a") };
        let again =
            |outcome| Job { last_run: Some(ended(5, "r-1", outcome)), ..running("a", "r-2", 6, 1) };
        let stalled = || Job { state: State::Stalled, ..run() };
        let paused = || Job { enabled: false, ..waiting("a") };
        for (before, after, text, alarm) in [
            (run(), after(Outcome::Failed), "a: run 5 on r-1 failed: why", true),
            (run(), after(Outcome::Cancelled), "a: run 5 on r-1 cancelled: why", false),
            (run(), after(Outcome::Abandoned), "a: run 5 on r-1 abandoned: why", true),
            (run(), stalled(), "a: stalled: the lease of r-1 has run out", true),
            (
                stalled(),
                again(Outcome::Abandoned),
                "a: taken over by r-2 from r-1 (run 5 abandoned, now run 6)",
                true,
            ),
            (
                after(Outcome::Cancelled),
                again(Outcome::Cancelled),
                "a: taken over by r-2 from r-1 (run 5 cancelled, now run 6)",
                false,
            ),
            (waiting("a"), paused(), "a: paused", false),
            (paused(), waiting("a"), "a: goes on", false),
            (
                waiting("a"),
                Job { schedule: "every 9m".to_owned(), ..waiting("a") },
                "a: now runs every 9m",
                false,
            ),
        ] {
            assert_eq!(told_of(before, after), [(text.to_owned(), alarm)]);
        }
        let reading = |now, jobs| status("r-1", now, jobs);
        let (one, other) = (reading(0, vec![waiting("a")]), reading(1, vec![waiting("b")]));
        let both = told(vec![one, other]).into_iter().map(|(text, _)| text).collect::<Vec<_>>();
        assert_eq!(both, ["b: added", "a: deleted"]);
    }

    #[test]
    fn starts_and_successes_are_not() {
        let run = || running("a", "r-1", 5, 0);
        let over = || Job { last_run: Some(ended(5, "r-1", Outcome::Succeeded)), ..waiting("a") };
        assert_eq!(told_of(waiting("a"), run()), []);
        assert_eq!(told_of(run(), over()), []);
        assert_eq!(
            told_of(over(), Job { run_id: Some(6), last_run: over().last_run, ..run() }),
            []
        );
        let failed = || Job { last_run: Some(ended(5, "r-1", Outcome::Failed)), ..waiting("a") };
        assert_eq!(told_of(failed(), failed()), [], "twice");
        let backwards = vec![status("r-1", 1, vec![failed()]), status("r-2", 0, vec![over()])];
        assert_eq!(told(backwards), [], "an older reading");
    }

    #[test]
    fn targets_that_come_back_together_are_one_line() {
        let mut chronicle = Chronicle::default();
        chronicle.note_returns(&[("http://a".to_owned(), 1)]);
        assert!(chronicle.events.is_empty(), "nothing was read yet");
        chronicle.take(&Rc::new(status("r-1", 0, vec![])));
        let returns: Vec<_> = [("http://a", 2), ("http://b", 3)]
            .map(|(target, seconds)| (target.to_owned(), seconds))
            .to_vec();
        for count in 0..=2 {
            chronicle.note_returns(&returns[..count]);
        }
        let texts: Vec<_> = chronicle.events.iter().map(|event| event.text.as_str()).collect();
        let one = "http://a shows a status again, after 2 s";
        assert_eq!(texts, [one, "2 targets show a status again, after 3 s at most"]);
    }

    #[test]
    fn a_server_is_known_as_long_as_it_may_come_back() {
        let mut chronicle = Chronicle::default();
        let mut read = |now, jobs| chronicle.take(&Rc::new(status("r-1", now, jobs)));
        read(0, vec![running("a", "r-2", 1, 0)]);
        read(599, vec![]);
        assert_eq!(chronicle.seen["r-2"], at(0));
        chronicle.take(&Rc::new(status("r-1", 600, vec![])));
        assert_eq!(chronicle.seen.keys().collect::<Vec<_>>(), ["r-1"]);
    }
}
