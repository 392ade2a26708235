//! Counting while it runs: cheap for the two right answers, thorough for everything else.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::{Figures, Latencies};
use crate::outcome::{Failure, Outcome};

/// Names beyond these are counted as one: a server that invents names must not fill the memory.
const SERVERS_MAX: usize = 1_000;
const KINDS_MAX: usize = 100;

/// How often something came.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct NamedCount {
    /// Of what.
    pub(crate) name: String,
    /// How often.
    pub(crate) count: u64,
}

/// How often a failure of one kind came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ErrorCount {
    /// Of which kind.
    pub(crate) kind: String,
    /// How often.
    pub(crate) count: u64,
    /// The first of them.
    pub(crate) example: String,
    /// Whether each is a 503 that says that nothing was changed and when to come back.
    pub(crate) shed: bool,
}

/// The running count.
#[derive(Default)]
pub(crate) struct Tally {
    latencies: Latencies,
    succeeded: u64,
    refused: u64,
    servers: Vec<NamedCount>,
    failures: BTreeMap<String, ErrorCount>,
}

impl Tally {
    /// Room for `answers` without a pause to make more.
    pub(crate) fn with_capacity(answers: usize) -> Tally {
        Tally { latencies: Latencies::with_capacity(answers), ..Tally::default() }
    }

    /// Counts what became of one request, after `latency`; true if that was a full answer.
    pub(crate) fn add(&mut self, result: &Result<Outcome, Failure>, latency: Duration) -> bool {
        match result {
            Ok(Outcome::Succeeded(_)) => self.succeeded += 1,
            Ok(Outcome::Refused) => self.refused += 1,
            Err(failure) => self.add_failure(failure),
        }
        // A latency is that of an answer; how long nobody answered is another figure.
        let answered = result.as_ref().map_or_else(|failure| failure.status.is_some(), |_| true);
        if answered {
            self.latencies.add(latency);
        }
        answered
    }

    /// Counts who gave a full answer.
    pub(crate) fn add_server(&mut self, name: &str) {
        if let Some(known) = self.servers.iter_mut().find(|known| known.name == name) {
            known.count += 1;
        } else if self.servers.len() < SERVERS_MAX {
            self.servers.push(NamedCount { name: name.to_owned(), count: 1 });
        }
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.succeeded + self.refused + self.failed()
    }

    /// Full answers so far.
    pub(crate) fn answers(&self) -> u64 {
        self.latencies.count()
    }

    /// Changes made so far.
    pub(crate) fn succeeded(&self) -> u64 {
        self.succeeded
    }

    /// Refused as insufficient funds so far.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Failed so far.
    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().map(|error| error.count).sum()
    }

    /// Failures by kind, the most frequent first.
    pub(crate) fn errors(&self) -> Vec<ErrorCount> {
        let mut errors: Vec<_> = self.failures.values().cloned().collect();
        errors.sort_by_key(|error| std::cmp::Reverse(error.count));
        errors
    }

    /// The figures, where the test took `took` and `cpu_seconds` of CPU time.
    pub(crate) fn figures(self, took: Duration, cpu_seconds: f64) -> Figures {
        let (requests, failed) = (self.requests(), self.failed());
        let (succeeded, refused) = (self.succeeded, self.refused);
        let errors = self.errors();
        let seconds = took.as_secs_f64().max(1e-6);
        let answers_per_second = self.latencies.count() as f64 / seconds;
        let mut outcomes = vec![
            NamedCount { name: "200".to_owned(), count: succeeded },
            NamedCount { name: "409 insufficient_funds".to_owned(), count: refused },
        ];
        outcomes.retain(|outcome| outcome.count > 0);
        outcomes.extend(
            errors.iter().map(|error| NamedCount { name: error.kind.clone(), count: error.count }),
        );
        let mut servers = self.servers;
        servers.sort_by(|one, other| one.name.cmp(&other.name));
        let (latency_ms, histogram) = self.latencies.sum_up();
        Figures {
            requests,
            succeeded,
            refused,
            failed,
            seconds,
            answers_per_second,
            latency_ms,
            histogram,
            outcomes,
            servers,
            errors,
            client_cpu_cores: cpu_seconds / seconds,
        }
    }

    fn add_failure(&mut self, failure: &Failure) {
        if let Some(known) = self.failures.get_mut(&failure.kind) {
            known.count += 1;
            return;
        }
        let (kind, shed) = match self.failures.len() < KINDS_MAX {
            true => (failure.kind.as_str(), failure.shed),
            false => ("other failures", false),
        };
        let first = || ErrorCount {
            kind: kind.to_owned(),
            count: 0,
            example: failure.example.clone(),
            shed,
        };
        self.failures.entry(kind.to_owned()).or_insert_with(first).count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_counted_once_and_only_answers_have_a_latency() {
        let mut tally = Tally::default();
        let ms = Duration::from_millis;
        let unavailable = Failure {
            kind: "503 database_unavailable".to_owned(),
            example: "503 by r-1".to_owned(),
            status: Some(503),
            shed: true,
        };
        tally.add(&Ok(Outcome::Succeeded(8)), ms(1));
        tally.add(&Ok(Outcome::Refused), ms(2));
        tally.add(&Err(unavailable), ms(3));
        tally.add(&Err(Failure::closed(0)), ms(4));
        tally.add(&Err(Failure::closed(9)), ms(5));
        tally.add_server("b");
        tally.add_server("a");
        tally.add_server("b");
        let figures = tally.figures(ms(500), 0.1);
        let counts = (figures.requests, figures.succeeded, figures.refused, figures.failed);
        assert_eq!(counts, (5, 1, 1, 3));
        assert_eq!(figures.answers_per_second, 6.0);
        assert_eq!(figures.latency_ms.map(|latency| latency.max), Some(3.0));
        assert_eq!(figures.errors[0].count, 2);
        assert_eq!(figures.errors[0].example, "after 0 bytes of it");
        assert_eq!(figures.outcomes[2].name, "closed before a full answer");
        let servers: Vec<_> = figures.servers.iter().map(|of| (&*of.name, of.count)).collect();
        assert_eq!(servers, [("a", 1), ("b", 2)]);
        assert_eq!(figures.client_cpu_cores, 0.2);
    }
}
