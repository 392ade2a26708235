//! What had to be reached, and what was.

use crate::compare::{ratio, summary};
use crate::numbers::Summary;
use crate::rows::Measured;
use Limit::{AtLeast, AtMost};
use Of::{Ratio, Value};

/// One thing that had to be reached.
pub(crate) struct Bar {
    /// In words.
    pub(crate) what: &'static str,
    section: &'static str,
    kind: &'static str,
    case: &'static str,
    /// Of the ratio, or of the value itself.
    of: Of,
    /// What had to be.
    pub(crate) limit: Limit,
}

#[derive(Clone, Copy)]
enum Of {
    Ratio,
    Value,
}

/// What had to be.
#[derive(Clone, Copy)]
pub(crate) enum Limit {
    /// This or more.
    AtLeast(f64),
    /// This or less, with its unit.
    AtMost(f64, &'static str),
}

/// In the order of the sections.
pub(crate) const BARS: [Bar; 12] = [
    roofed("one user, one replica, directly", "hot plain 1 direct 64", 0.95),
    roofed("one user, one replica, through the door", "hot plain 1 door 64", 0.95),
    roofed("one user, five replicas, directly", "hot plain 5 direct 64", 0.90),
    roofed("one user, five replicas, through the door", "hot plain 5 door 64", 0.95),
    roofed("10,000 users, one replica, directly", "cold plain 1 direct 64", 0.60),
    Bar {
        what: "a burst of 10,000 through the door of one replica: times what pgbench takes",
        section: "burst",
        kind: "burst",
        case: "1 door",
        of: Ratio,
        limit: AtMost(1.5, ""),
    },
    small("memory of an idle replica", "idle", 12.0),
    small("memory of a replica with 2,000 connections", "2000 connections", 60.0),
    aged("one user after 1,000,000 changes, as after 10,000: pgbench", "pgbench"),
    aged("the same: the service", "service"),
    Bar {
        what: "claims a second with 1,000,000 runs in the history, as with none",
        section: "cron",
        kind: "cron",
        case: "2000 jobs of 1 s at one instant on 5 replicas, handicap 0, \
               1000000 runs in the history: claims",
        of: Ratio,
        limit: AtLeast(0.95),
    },
    Bar {
        what: "growth of memory in 20 minutes of load",
        section: "soak",
        kind: "soak",
        case: "growth of memory",
        of: Value,
        limit: AtMost(1.0, " MB"),
    },
];

/// Throughput over 64 connections, as a share of the roof.
const fn roofed(what: &'static str, case: &'static str, least: f64) -> Bar {
    let limit = AtLeast(least);
    Bar { what, section: "balance", kind: "throughput", case, of: Ratio, limit }
}

/// Memory in MB.
const fn small(what: &'static str, case: &'static str, most: f64) -> Bar {
    let limit = AtMost(most, " MB");
    Bar { what, section: "memory", kind: "memory", case, of: Value, limit }
}

/// Throughput of an old row, as a share of a young one's.
const fn aged(what: &'static str, kind: &'static str) -> Bar {
    let case = "after 1,000,000";
    Bar { what, section: "hotrow", kind, case, of: Ratio, limit: AtLeast(0.95) }
}

impl Bar {
    /// What was measured; nothing where nothing was.
    pub(crate) fn measured(&self, measured: &Measured) -> Option<Summary> {
        let section = measured.section(self.section)?;
        let series = section.get(self.kind, self.case)?;
        match self.of {
            Ratio => ratio(section, series),
            Value => summary(series),
        }
    }
}

impl Limit {
    /// Whether this is as it had to be.
    pub(crate) fn holds(self, value: f64) -> bool {
        match self {
            AtLeast(least) => value >= least,
            AtMost(most, _) => value <= most,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Section;

    fn measured(text: &str) -> Measured {
        let sections = ["balance", "memory"].map(|name| Section::parse(name, text).unwrap());
        Measured { machine: Vec::new(), sections: sections.into() }
    }

    #[test]
    fn a_bar_finds_its_ratio_or_its_value() {
        let measured = measured(
            "roof\thot plain\t1/s\t1\t100\nthroughput\thot plain 1 direct 64\t1/s\t1\t94\n\
             memory\tidle\tMB\t1\t12\n",
        );
        let results: Vec<_> = BARS
            .iter()
            .filter_map(|bar| Some((bar, bar.measured(&measured)?.median)))
            .map(|(bar, value)| (bar.case, value, bar.limit.holds(value)))
            .collect();
        assert_eq!(results, [("hot plain 1 direct 64", 0.94, false), ("idle", 12.0, true)]);
    }
}
