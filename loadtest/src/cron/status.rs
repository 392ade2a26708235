//! The two documents that are read: the status of all jobs and pages of the history. Members that
//! decide nothing here are not read.

use serde::{Deserialize, Deserializer, Serialize};

use super::moment::Moment;

/// `GET /api/cron/status`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    /// When it was read.
    pub(super) now: Moment,
    /// The replica that answered.
    pub(super) served_by: String,
    /// All of them.
    pub(super) jobs: Vec<Job>,
}

/// One job in a status.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Job {
    /// Unique.
    pub(super) name: String,
    /// As it was set.
    pub(super) schedule: String,
    /// Whether its schedule counts.
    pub(super) enabled: bool,
    /// What it does now.
    pub(super) state: State,
    /// Who runs it; of a stalled job, who did.
    pub(super) server: Option<String>,
    /// The run that is not finished.
    pub(super) run_id: Option<i64>,
    /// When that run began.
    pub(super) started_at: Option<Moment>,
    /// How long that run has taken.
    pub(super) elapsed_seconds: Option<f64>,
    /// How far that run is, from 0 to 1.
    pub(super) progress: Option<f64>,
    /// When it runs next, as far as that is known.
    pub(super) next_run_at: Option<Moment>,
    /// The run that finished last.
    pub(super) last_run: Option<LastRun>,
}

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// A replica runs it.
    Running,
    /// Its holder's lease ran out and nobody has taken it over yet.
    Stalled,
    /// It may be taken by anyone.
    Due,
    /// Its next run is in the future.
    Waiting,
    /// Its schedule does not count.
    Paused,
}

/// A job's run that finished last.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LastRun {
    /// Higher than that of the run before.
    pub(super) run_id: i64,
    /// Who ran it; empty if its slot was missed.
    #[serde(deserialize_with = "nobody_or_text")]
    pub(super) server: String,
    /// How it ended.
    pub(super) outcome: Outcome,
    /// From its claim to its end.
    pub(super) duration_seconds: f64,
    /// What it has to say of itself.
    pub(super) detail: Option<String>,
}

/// A run that is not finished.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenRun<'a> {
    pub(super) run_id: i64,
    pub(super) server: &'a str,
    pub(super) started_at: Moment,
}

/// `GET /api/cron/history`, newest first.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    /// At most as many as asked for.
    pub(super) runs: Vec<Run>,
    /// What `before` must be for the next page.
    pub(super) next: Option<i64>,
}

/// A run that is finished.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Run {
    /// Unique, and higher than those of all runs that began before.
    pub(super) run_id: i64,
    /// The job's name.
    pub(super) job: String,
    /// Who ran it; empty if its slot was missed.
    #[serde(deserialize_with = "nobody_or_text")]
    pub(super) server: String,
    /// How it ended.
    pub(super) outcome: Outcome,
    /// When it was claimed.
    pub(super) started_at: Moment,
    /// When it ended; of an abandoned run, when it was taken over.
    pub(super) finished_at: Moment,
    /// From the one to the other.
    pub(super) duration_seconds: f64,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// It did its work.
    Succeeded,
    /// An error or a panic.
    Failed,
    /// Its replica was drained.
    Cancelled,
    /// Its replica died or lost the lease.
    Abandoned,
    /// It took longer than it may.
    TimedOut,
    /// Somebody asked to stop it.
    Stopped,
    /// Nobody ran it: its slot was too long ago.
    Missed,
}

/// An empty text for null.
fn nobody_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl Job {
    /// The run that is not finished, if there is one.
    pub(super) fn open_run(&self) -> Option<OpenRun<'_>> {
        let server = self.server.as_deref()?;
        Some(OpenRun { run_id: self.run_id?, server, started_at: self.started_at? })
    }
}

impl State {
    /// In the order of a report.
    pub(super) const ALL: [State; 5] =
        [State::Running, State::Waiting, State::Due, State::Paused, State::Stalled];

    /// As the service writes it.
    pub(super) fn name(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Stalled => "stalled",
            State::Due => "due",
            State::Waiting => "waiting",
            State::Paused => "paused",
        }
    }
}

impl Outcome {
    /// As the service writes it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Outcome::Succeeded => "succeeded",
            Outcome::Failed => "failed",
            Outcome::Cancelled => "cancelled",
            Outcome::Abandoned => "abandoned",
            Outcome::TimedOut => "timed_out",
            Outcome::Stopped => "stopped",
            Outcome::Missed => "missed",
        }
    }
}
