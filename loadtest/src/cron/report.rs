//! What a watch leaves behind: figures and checks, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::table::harmless;
use super::verdict::{Check, Evidence, Judgement};
use super::{Options, wave};
use crate::report::{Output, grouped, wrapped};

/// The widest label of a row, and the widest name of a check.
const LABEL_WIDTH: usize = 14;
const NAME_WIDTH: usize = 24;

/// In JSON the names are camelCase.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    command: &'static str,
    targets: Vec<String>,
    /// How long was watched.
    seconds: u64,
    rounds: u64,
    readings: u64,
    readings_failed: u64,
    last_failure: Option<String>,
    jobs: usize,
    /// Runs of the time watched.
    runs: usize,
    /// Those of them that ended, by outcome.
    outcomes: BTreeMap<&'static str, u64>,
    servers: Vec<ServerFigures>,
    checks: Vec<Check>,
    /// The checks that failed, each a sentence.
    faults: Vec<String>,
    /// Whether `faults` is empty.
    ok: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ServerFigures {
    name: String,
    /// Absent where no wave was seen.
    first_wave: Option<usize>,
    starts: usize,
}

impl Report {
    /// Judges and counts.
    pub(super) fn new(options: &Options, seconds: u64, evidence: &Evidence<'_>) -> Report {
        let record = evidence.record;
        let known = evidence.known();
        let mut outcomes = BTreeMap::new();
        for run in evidence.ended() {
            *outcomes.entry(run.outcome.name()).or_default() += 1;
        }
        let first_wave = wave::first(evidence, &known).ok();
        let starts = wave::count_starts(evidence, &known);
        let figures = |(name, starts): (&&str, &usize)| ServerFigures {
            name: (*name).to_owned(),
            first_wave: first_wave.as_ref().map(|wave| wave.get(name).copied().unwrap_or(0)),
            starts: *starts,
        };
        let checks = evidence.checks();
        let faults: Vec<_> = checks
            .iter()
            .filter(|check| check.result == Judgement::Failed)
            .map(|check| format!("{}: {}", check.name, check.explanation))
            .collect();
        Report {
            command: "cron",
            targets: options.targets.iter().map(ToString::to_string).collect(),
            seconds,
            rounds: record.rounds,
            readings: record.readings,
            readings_failed: record.failures,
            last_failure: record.last_failure.clone(),
            jobs: evidence.last.jobs.len(),
            runs: known.len(),
            outcomes,
            servers: starts.iter().map(figures).collect(),
            checks,
            ok: faults.is_empty(),
            faults,
        }
    }

    /// As asked for: one JSON document, or text for people.
    pub(super) fn output(&self, json: bool) -> Output {
        let text = match json {
            // Figures are finite numbers and texts: this cannot fail.
            true => serde_json::to_string_pretty(self).unwrap_or_default(),
            false => self.render(),
        };
        Output { text, fine: self.ok }
    }

    /// Writing into memory cannot fail, so those results are dropped.
    fn render(&self) -> String {
        let mut text = String::new();
        let jobs = grouped(self.jobs as u64);
        let seconds = self.seconds;
        let _ = writeln!(text, "loadtest cron: {jobs} jobs watched for {seconds} s\n\nSummary");
        for (label, value) in self.rows() {
            let _ = writeln!(text, "  {label:LABEL_WIDTH$}  {}", harmless(&value));
        }
        let _ = writeln!(text, "\nVerdict: {}", if self.ok { "as it has to be" } else { "WRONG" });
        for Check { name, result, explanation } in &self.checks {
            let (sign, remark) = match result {
                Judgement::Passed => ('✓', ""),
                Judgement::Failed => ('✗', ""),
                Judgement::NotJudged => ('·', "not judged: "),
                Judgement::Figures => ('·', ""),
            };
            let why = harmless(explanation);
            let _ = writeln!(text, "  {sign} {name:NAME_WIDTH$}  {remark}{why}");
        }
        wrapped(&text)
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let (readings, failed) = (grouped(self.readings), grouped(self.readings_failed));
        let outcome = |(name, count): (&&str, &u64)| format!("{} {name}", grouped(*count));
        let mut ends: Vec<_> = self.outcomes.iter().map(outcome).collect();
        let ended = self.outcomes.values().sum::<u64>();
        ends.push(format!("{} not over yet", grouped((self.runs as u64).saturating_sub(ended))));
        let mut rows = vec![
            ("targets", self.targets.join(" ")),
            ("rounds", grouped(self.rounds)),
            ("unreachable", format!("{failed} of {readings} readings")),
            ("runs", format!("{}: {}", grouped(self.runs as u64), ends.join(", "))),
        ];
        if let Some(reason) = &self.last_failure {
            rows.insert(3, ("", format!("the last: {reason}")));
        }
        rows
    }
}
