//! What all readings together have shown. Only what the verdict needs is kept: ten thousand jobs
//! may be watched for a day.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::agreement;
use super::moment::Moment;
use super::status::{Job, OpenRun, Run, State, Status};

/// Everything seen so far.
#[derive(Default)]
pub(super) struct Record {
    /// How often all targets were asked in turn.
    pub(super) rounds: u64,
    /// Requests for the status.
    pub(super) readings: u64,
    /// Those that brought none.
    pub(super) failures: u64,
    /// Why the last of those did not.
    pub(super) last_failure: Option<String>,
    /// The first status' instant; the time watched begins here.
    pub(super) begin: Option<Moment>,
    /// The status read last.
    pub(super) last: Option<Rc<Status>>,
    /// All that answered and all that were seen running a job.
    pub(super) servers: BTreeSet<String>,
    /// Every unfinished run that was shown, by its id.
    pub(super) runs: BTreeMap<i64, Place>,
    /// Runs shown at two places.
    pub(super) moved: Found,
    /// Running jobs by server when every enabled job was first seen running.
    pub(super) full: Option<BTreeMap<String, usize>>,
    /// Pairs of readings of one round that were compared.
    pub(super) comparisons: u64,
    /// Jobs that two readings of one round showed differently.
    pub(super) differences: u64,
    /// Those among them whose first target could not be asked again.
    pub(super) undecided: u64,
    /// Those among them that no change in between explains.
    pub(super) disagreements: Found,
}

/// Which job a run is of and who runs it.
pub(super) struct Place {
    pub(super) job: String,
    pub(super) server: String,
}

impl Place {
    /// Whether a finished run is the one that was seen here.
    pub(super) fn fits(&self, run: &Run) -> bool {
        self.job == run.job && self.server == run.server
    }
}

/// Findings of one kind: how many, and the first as an example.
#[derive(Default)]
pub(super) struct Found {
    pub(super) count: u64,
    pub(super) first: String,
}

impl Found {
    /// Adds one; `sentence` is asked only for the first.
    pub(super) fn add(&mut self, sentence: impl FnOnce() -> String) {
        if self.count == 0 {
            self.first = sentence();
        }
        self.count += 1;
    }
}

impl Record {
    /// Adds what a target answered; in the order of the answers.
    pub(super) fn take(&mut self, status: Status) -> Rc<Status> {
        self.readings += 1;
        self.begin.get_or_insert(status.now);
        self.note_server(&status.served_by);
        for job in &status.jobs {
            if let Some(open) = job.open_run() {
                self.note_run(job, open);
            }
        }
        if self.full.is_none() {
            self.full = full_wave(&status);
        }
        let status = Rc::new(status);
        self.last = Some(Rc::clone(&status));
        status
    }

    /// Adds that a target did not answer with a status.
    pub(super) fn miss(&mut self, reason: String) {
        self.readings += 1;
        self.failures += 1;
        self.last_failure = Some(reason);
    }

    /// Adds how two readings of one round compare; whether they say the same.
    pub(super) fn compare(&mut self, earlier: &Status, later: &Status) -> bool {
        let differing = agreement::differing(earlier, later).len() as u64;
        self.comparisons += 1;
        self.differences += differing;
        differing == 0
    }

    /// Adds what the target of `earlier` said when it was asked again because the two differ.
    pub(super) fn settle(&mut self, earlier: &Status, later: &Status, again: Option<&Status>) {
        let Some(again) = again else {
            self.undecided += agreement::differing(earlier, later).len() as u64;
            return;
        };
        for sentence in agreement::unexplained(earlier, later, again) {
            self.disagreements.add(|| sentence);
        }
    }

    fn note_run(&mut self, job: &Job, open: OpenRun<'_>) {
        if job.state == State::Running {
            self.note_server(open.server);
        }
        let Some(known) = self.runs.get(&open.run_id) else {
            let place = Place { job: job.name.clone(), server: open.server.to_owned() };
            self.runs.insert(open.run_id, place);
            return;
        };
        if known.job != job.name || known.server != open.server {
            self.moved.add(|| {
                format!(
                    "run {} was shown as {} on {} and as {} on {}",
                    open.run_id, known.job, known.server, job.name, open.server,
                )
            });
        }
    }

    fn note_server(&mut self, server: &str) {
        if !self.servers.contains(server) {
            self.servers.insert(server.to_owned());
        }
    }
}

/// Running jobs by server, if every enabled job runs.
fn full_wave(status: &Status) -> Option<BTreeMap<String, usize>> {
    let mut wave = BTreeMap::new();
    for job in status.jobs.iter().filter(|job| job.enabled) {
        let open = job.open_run().filter(|_| job.state == State::Running)?;
        *wave.entry(open.server.to_owned()).or_default() += 1;
    }
    (!wave.is_empty()).then_some(wave)
}

#[cfg(test)]
mod tests {
    use super::super::samples::{running, status, waiting};
    use super::*;

    #[test]
    fn the_first_full_wave_is_kept() {
        let mut record = Record::default();
        let paused = || Job { enabled: false, state: State::Paused, ..waiting("c") };
        record.take(status("r-3", 0, vec![running("a", "r-1", 1, 0), waiting("b"), paused()]));
        assert_eq!(record.full, None);
        for server in ["r-2", "r-1"] {
            let jobs = vec![running("a", "r-1", 1, 0), running("b", server, 2, 0), paused()];
            record.take(status("r-3", 1, jobs));
        }
        let wave = BTreeMap::from([("r-1".to_owned(), 1), ("r-2".to_owned(), 1)]);
        assert_eq!(record.full, Some(wave));
        assert_eq!(record.servers.len(), 3, "also one that runs nothing");
    }

    #[test]
    fn a_run_that_moves_is_noted() {
        let mut record = Record::default();
        for server in ["r-1", "r-1", "r-2", "r-2"] {
            record.take(status("r-3", 0, vec![running("a", server, 7, 0)]));
        }
        assert_eq!(record.moved.count, 2);
        assert_eq!(record.moved.first, "run 7 was shown as a on r-1 and as a on r-2");
    }

    #[test]
    fn a_stalled_run_is_known_but_its_server_need_not_live() {
        let mut record = Record::default();
        let stalled = Job { state: State::Stalled, ..running("a", "dead", 7, 0) };
        record.take(status("r-1", 0, vec![stalled]));
        assert_eq!((record.runs.len(), record.servers.len()), (1, 1));
        assert_eq!(record.full, None);
    }

    #[test]
    fn differences_are_settled_by_asking_again_or_not_at_all() {
        let mut record = Record::default();
        let earlier = status("r-1", 0, vec![waiting("a")]);
        let later = status("r-2", 0, vec![running("a", "r-1", 1, 0)]);
        assert!(record.compare(&earlier, &earlier));
        assert!(!record.compare(&earlier, &later));
        record.settle(&earlier, &later, None);
        assert_eq!((record.undecided, record.disagreements.count), (1, 0));
        record.settle(&earlier, &later, Some(&later));
        assert_eq!((record.undecided, record.disagreements.count), (1, 0));
        record.settle(&earlier, &later, Some(&earlier));
        assert_eq!((record.undecided, record.disagreements.count), (1, 1));
        assert_eq!((record.comparisons, record.differences), (2, 1));
    }
}
