//! The report: what was counted, as figures; the figures as text and as JSON.

mod latency;
mod tally;
mod text;

use serde::Serialize;

pub(crate) use latency::{Bar, Latencies, Percentiles};
pub(crate) use tally::{ErrorCount, NamedCount, Tally};
pub(crate) use text::{grouped, millis, wrapped};

/// What a command leaves behind.
pub(crate) struct Output {
    /// For standard output.
    pub(crate) text: String,
    /// Whether nothing is at fault.
    pub(crate) fine: bool,
}

/// What one command reports beyond what all report.
pub(crate) trait Details: Serialize {
    /// Rows of the summary: a label and what stands behind it.
    fn rows(&self) -> Vec<(&'static str, String)>;
}

/// All figures of one test. In JSON the names are camelCase and `details` stand beside the rest.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report<D> {
    /// Which command this is.
    pub(crate) command: &'static str,
    /// What was done, as a phrase.
    #[serde(skip)]
    pub(crate) title: String,
    /// From which moment a latency counts.
    #[serde(skip)]
    pub(crate) latency_note: &'static str,
    /// The base URLs.
    pub(crate) targets: Vec<String>,
    /// What was counted.
    #[serde(flatten)]
    pub(crate) figures: Figures,
    /// Of the command's own.
    #[serde(flatten)]
    pub(crate) details: D,
    /// Why a figure here should not be trusted, each a sentence.
    pub(crate) warnings: Vec<String>,
    /// What was not as it had to be, each a sentence.
    pub(crate) faults: Vec<String>,
    /// Whether `faults` is empty.
    pub(crate) ok: bool,
}

/// What every test counts.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Figures {
    /// All requests: succeeded + refused + failed.
    pub(crate) requests: u64,
    /// Changes made.
    pub(crate) succeeded: u64,
    /// Changes refused as insufficient funds.
    pub(crate) refused: u64,
    /// Anything else.
    pub(crate) failed: u64,
    /// From the first moment that counts to the last answer.
    pub(crate) seconds: f64,
    /// Full answers, of any status, per second.
    pub(crate) answers_per_second: f64,
    /// Over all full answers; absent where none came.
    pub(crate) latency_ms: Option<Percentiles>,
    /// Ten equal steps up to p99 and one for the rest.
    pub(crate) histogram: Vec<Bar>,
    /// By status and code.
    pub(crate) outcomes: Vec<NamedCount>,
    /// Full answers by `X-Served-By`.
    pub(crate) servers: Vec<NamedCount>,
    /// Failures by kind, each with an example.
    pub(crate) errors: Vec<ErrorCount>,
    /// CPU time of this program per second: 1.0 is all its one thread can use.
    pub(crate) client_cpu_cores: f64,
}

impl<D: Details> Report<D> {
    /// As asked for: one JSON document, or text for people.
    pub(crate) fn output(&self, json: bool) -> Output {
        let text = match json {
            // Figures are finite numbers and texts: this cannot fail.
            true => serde_json::to_string_pretty(self).unwrap_or_default(),
            false => text::render(self),
        };
        Output { text, fine: self.ok }
    }
}
