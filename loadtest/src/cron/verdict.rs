//! Whether the cluster did as it has to: what was seen and the history in, checks out. Nothing
//! here touches a socket or a clock.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::moment::Moment;
use super::record::{Found, Record};
use super::status::{Outcome, Run, Status};
use super::wave;
use crate::report::grouped;

/// What was seen, and what is asked for.
pub(super) struct Evidence<'a> {
    /// All readings.
    pub(super) record: &'a Record,
    /// The first reading's instant.
    pub(super) begin: Moment,
    /// The last reading.
    pub(super) last: &'a Status,
    /// All runs that ended since `begin`, and perhaps others; or why they are not known.
    pub(super) history: &'a Result<Vec<Run>, String>,
    /// The largest difference between two servers' jobs of the first wave.
    pub(super) spread_max: usize,
    /// The shortest time a succeeded run may take.
    pub(super) run_seconds_min: u64,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    /// What.
    pub(super) name: &'static str,
    /// How it is.
    pub(super) result: Judgement,
    /// Why, with figures.
    pub(super) explanation: String,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Judgement {
    /// As it has to be.
    Passed,
    /// Not so.
    Failed,
    /// There was nothing to judge.
    NotJudged,
    /// Not to be judged: figures for the reader.
    Figures,
}

/// A run of the time watched: it ended within, or had not ended by the last reading.
pub(super) struct Known<'a> {
    pub(super) run_id: i64,
    pub(super) job: &'a str,
    pub(super) server: &'a str,
    pub(super) started_at: Moment,
    /// [`Moment::NEVER`] where it had not.
    pub(super) finished_at: Moment,
}

impl Check {
    /// A check that was made.
    pub(super) fn made(name: &'static str, passed: bool, explanation: String) -> Check {
        let result = if passed { Judgement::Passed } else { Judgement::Failed };
        Check { name, result, explanation }
    }

    /// A check that could not be made.
    pub(super) fn not_judged(name: &'static str, explanation: String) -> Check {
        Check { name, result: Judgement::NotJudged, explanation }
    }
}

impl<'a> Evidence<'a> {
    /// Everything that is looked at, in the order of the report.
    pub(super) fn checks(&self) -> Vec<Check> {
        let known = self.known();
        vec![
            self.one_server_at_a_time(&known),
            wave::check(self, &known),
            wave::starts(self, &known),
            self.least_run_time(),
            self.targets_agree(),
            self.every_run_in_the_history(),
        ]
    }

    /// Runs of the history that ended in the time watched.
    pub(super) fn ended(&self) -> impl Iterator<Item = &'a Run> {
        let begin = self.begin;
        self.history.iter().flatten().filter(move |run| run.finished_at >= begin)
    }

    /// All runs of the time watched, each once, by start.
    pub(super) fn known(&self) -> Vec<Known<'a>> {
        let mut by_id = BTreeMap::new();
        for job in &self.last.jobs {
            if let Some(open) = job.open_run() {
                let (run_id, server, started_at) = (open.run_id, open.server, open.started_at);
                let finished_at = Moment::NEVER;
                let job = job.name.as_str();
                by_id.insert(run_id, Known { run_id, job, server, started_at, finished_at });
            }
        }
        // What has ended since the last reading is in both: the history knows more.
        by_id.extend(self.ended().map(|run| {
            let &Run { run_id, started_at, finished_at, .. } = run;
            let (job, server) = (run.job.as_str(), run.server.as_str());
            (run_id, Known { run_id, job, server, started_at, finished_at })
        }));
        let mut known: Vec<_> = by_id.into_values().collect();
        known.sort_by_key(|run| (run.started_at, run.run_id));
        known
    }

    fn one_server_at_a_time(&self, known: &[Known<'_>]) -> Check {
        let name = "one server at a time";
        let mut overlaps = Found::default();
        // Of each job, the run so far that ends last.
        let mut latest: BTreeMap<&str, &Known<'_>> = BTreeMap::new();
        for run in known {
            let before = latest.entry(run.job).or_insert(run);
            if before.run_id != run.run_id && run.started_at < before.finished_at {
                overlaps.add(|| overlap(before, run));
            }
            if run.finished_at > before.finished_at {
                *before = run;
            }
        }
        if overlaps.count > 0 {
            let (first, count) = (&overlaps.first, grouped(overlaps.count));
            return Check::made(name, false, format!("{first} (such overlaps: {count})"));
        }
        let moved = &self.record.moved;
        if moved.count > 0 {
            let (first, count) = (&moved.first, grouped(moved.count));
            return Check::made(name, false, format!("{first} (such readings: {count})"));
        }
        if known.is_empty() {
            return Check::not_judged(name, "no run was seen".to_owned());
        }
        let (runs, jobs) = (grouped(known.len() as u64), grouped(latest.len() as u64));
        let figures = format!("{runs} runs of {jobs} jobs; no two of one job at once");
        Check::made(name, true, figures)
    }

    fn least_run_time(&self) -> Check {
        let name = "least run time";
        let succeeded: Vec<_> =
            self.ended().filter(|run| run.outcome == Outcome::Succeeded).collect();
        let shortest =
            succeeded.iter().min_by(|a, b| a.duration_seconds.total_cmp(&b.duration_seconds));
        let Some(shortest) = shortest else {
            return Check::not_judged(name, "no run succeeded while watched".to_owned());
        };
        let (took, least) = (shortest.duration_seconds, self.run_seconds_min);
        let explanation = format!(
            "{took:.3} s (run {} of {}) is the shortest of {} that succeeded; at least {least} s",
            shortest.run_id,
            shortest.job,
            grouped(succeeded.len() as u64),
        );
        Check::made(name, took >= least as f64, explanation)
    }

    fn targets_agree(&self) -> Check {
        let name = "targets agree";
        let record = self.record;
        let disagreements = &record.disagreements;
        if disagreements.count > 0 {
            let (first, count) = (&disagreements.first, grouped(disagreements.count));
            let explanation = format!("{first} (such disagreements: {count})");
            return Check::made(name, false, explanation);
        }
        if record.comparisons == 0 {
            let reason = "no two targets answered in one round".to_owned();
            return Check::not_judged(name, reason);
        }
        let undecided = match record.undecided {
            0 => String::new(),
            count => format!(", but for {} that could not be asked again", grouped(count)),
        };
        let differences = match record.differences {
            0 => "no difference".to_owned(),
            count => format!("{} differences, explained by a change in between", grouped(count)),
        };
        let pairs = grouped(record.comparisons);
        Check::made(name, true, format!("{pairs} pairs of readings: {differences}{undecided}"))
    }

    fn every_run_in_the_history(&self) -> Check {
        let name = "every run in the history";
        let history = match self.history {
            Ok(history) => history,
            Err(reason) => return Check::made(name, false, format!("it is unknown: {reason}")),
        };
        let mut entries: BTreeMap<i64, Vec<&Run>> = BTreeMap::new();
        for run in history {
            entries.entry(run.run_id).or_default().push(run);
        }
        let still_open: BTreeSet<_> = self.last.jobs.iter().filter_map(|job| job.run_id).collect();
        let (mut over, mut wrong) = (0, Found::default());
        for (run_id, place) in &self.record.runs {
            let entries = entries.get(run_id).map_or(&[][..], Vec::as_slice);
            if entries.is_empty() && still_open.contains(run_id) {
                continue;
            }
            over += 1;
            let seen = || format!("run {run_id}, seen as {} on {}", place.job, place.server);
            match entries {
                [run] if place.fits(run) => {}
                [run] => wrong.add(|| format!("{} is {} on {} there", seen(), run.job, run.server)),
                entries => wrong.add(|| format!("{} is there {} times", seen(), entries.len())),
            }
        }
        if wrong.count > 0 {
            let (first, count) = (&wrong.first, grouped(wrong.count));
            return Check::made(name, false, format!("{first} (such runs: {count})"));
        }
        if over == 0 {
            return Check::not_judged(name, "no run that was seen is over".to_owned());
        }
        let explanation = format!("{} runs seen that are over, each there once", grouped(over));
        Check::made(name, true, explanation)
    }
}

fn overlap(before: &Known<'_>, run: &Known<'_>) -> String {
    let begin = format!("run {} of {} on {} began", run.run_id, run.job, run.server);
    let other = format!("run {} on {}", before.run_id, before.server);
    match before.finished_at {
        Moment::NEVER => format!("{begin} though {other} has not ended"),
        end => format!("{begin} {:.3} s before {other} ended", end.seconds_since(run.started_at)),
    }
}
