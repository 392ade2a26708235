//! The page: what it was measured on, what had to be reached, then a table for each section.

mod list;

use std::fmt::Write;

use crate::bars::{BARS, Limit};
use crate::compare::{ratio, summary};
use crate::numbers::{Summary, written};
use crate::rows::{Measured, Section, Series};

const WIDE: &str = " ⚠";
const NOT_MEASURED: &str = "–";

/// The whole page. Writing into memory cannot fail, so those results are dropped.
pub(crate) fn render(measured: &Measured) -> String {
    let mut page = "# Figures\n\nWritten by `./bench.sh`; do not edit. Ratios travel to other \
        machines, absolute figures do not.\nEach figure is the median of its repeats, where it was \
        measured more than once; the roof of a repeat\nis the mean of those before, between and \
        after. ⚠ stands where the repeats differ by more than 15 %\nof the median: too wide to \
        trust.\n\n\
        ![Throughput as a share of PostgreSQL's own, and latencies](figures.svg)\n"
        .to_owned();
    let (wide, all) = too_wide(measured);
    if wide > 0 {
        let _ = writeln!(page, "\n**Of {all} ratios, {wide} are too wide to trust.**");
    }
    machine(&mut page, measured);
    bars(&mut page, measured);
    for section in &measured.sections {
        let _ = write!(page, "\n## {}\n\n{}.\n", title(&section.name), section.note);
        match section.name.as_str() {
            "balance" => balance(&mut page, section),
            "latency" => latency(&mut page, section),
            _ => list::list(&mut page, section),
        }
    }
    page
}

/// How many ratios are, of how many.
fn too_wide(measured: &Measured) -> (usize, usize) {
    let sections = measured.sections.iter();
    let ratios: Vec<Summary> = sections
        .flat_map(|section| section.series.iter().filter_map(|series| ratio(section, series)))
        .collect();
    (ratios.iter().filter(|ratio| ratio.is_too_wide()).count(), ratios.len())
}

fn title(section: &str) -> &str {
    match section {
        "balance" => "Throughput",
        "burst" => "10,000 withdrawals at one moment",
        "latency" => "Latency at half the capacity",
        "memory" => "Memory of a replica",
        "hotrow" => "A row after many changes",
        "cron" => "Many jobs and a long history",
        "growth" => "Growth",
        "soak" => "Twenty minutes of load",
        other => other,
    }
}

fn machine(page: &mut String, measured: &Measured) {
    let _ = writeln!(page, "\n## The machine\n\n| | |\n|---|---|");
    for (name, value) in &measured.machine {
        let _ = writeln!(page, "| {name} | {value} |");
    }
}

fn bars(page: &mut String, measured: &Measured) {
    let _ = writeln!(page, "\n## What had to be reached\n");
    let _ = writeln!(page, "| what | bar | measured | reached |\n|---|---|---|---|");
    for bar in &BARS {
        let bar_text = match bar.limit {
            Limit::AtLeast(least) => format!("at least {}", written(least)),
            Limit::AtMost(most, unit) => format!("at most {}{unit}", written(most)),
        };
        let (value, reached) = match bar.measured(measured) {
            None => (NOT_MEASURED.to_owned(), NOT_MEASURED),
            Some(found) if bar.limit.holds(found.median) => (figure(Some(found)), "yes"),
            Some(found) => (figure(Some(found)), "**no**"),
        };
        let _ = writeln!(page, "| {} | {bar_text} | {value} | {reached} |", bar.what);
    }
}

fn figure(found: Option<Summary>) -> String {
    found.map_or(NOT_MEASURED.to_owned(), |found| {
        format!("{}{}", written(found.median), if found.is_too_wide() { WIDE } else { "" })
    })
}

fn balance(page: &mut String, section: &Section) {
    let _ = writeln!(
        page,
        "\nThe roof is pgbench with the very statement of the service: one client for one user, \
         16 for 10,000.\nA ratio is that to the roof measured beside it.\n\n\
         | users, keys | replicas | path | ratio, 64 connections | 1,000 | changes/s, 64 | 1,000 \
         |\n|---|---|---|---|---|---|---|"
    );
    let few = section.series.iter().filter_map(|series| {
        let case = series.case.strip_suffix(" 64").filter(|_| series.kind == "throughput")?;
        Some((case, series))
    });
    for (case, few) in few {
        let many = section.get("throughput", &format!("{case} 1000"));
        let shares = [Some(few), many]
            .map(|series| figure(series.and_then(|series| ratio(section, series))));
        let rates = [Some(few), many].map(|series| figure(series.and_then(summary)));
        let words: Vec<&str> = case.split(' ').collect();
        let [users, keys, replicas, path] = words.as_slice() else { continue };
        let _ = writeln!(
            page,
            "| {} | {replicas} | {path} | {} | {} |",
            people(users, keys),
            shares.join(" | "),
            rates.join(" | "),
        );
    }
    let _ = writeln!(
        page,
        "\n| the roofs: users, statement | changes/s | least – most | ratio to the bare update \
         |\n|---|---|---|---|"
    );
    for series in section.series.iter().filter(|series| series.kind == "roof") {
        let (users, statement) = series.case.split_once(' ').unwrap_or((&series.case, ""));
        let of_bare = figure(ratio(section, series));
        let _ = writeln!(page, "| {} | {} | {of_bare} |", people(users, statement), range(series));
    }
}

/// Such as `10,000 users, with keys`.
pub(crate) fn people(users: &str, keys: &str) -> String {
    let users = if users == "hot" { "one user" } else { "10,000 users" };
    match keys {
        "plain" => users.to_owned(),
        "keys" => format!("{users}, with keys"),
        _ => format!("{users}, {keys} update"),
    }
}

fn latency(page: &mut String, section: &Section) {
    let _ = writeln!(
        page,
        "\nAn open loop: each request is due at its own instant, and its latency counts from \
         then.\n\n| users | replicas | path | requests/s | p50, ms | p99, ms | p99.9, ms \
         |\n|---|---|---|---|---|---|---|"
    );
    for rate in section.series.iter().filter(|series| series.kind == "rate") {
        let case = &rate.case;
        let percentiles = ["p50", "p99", "p999"].map(|percentile| {
            figure(section.get("latency", &format!("{case} {percentile}")).and_then(summary))
        });
        let words: Vec<&str> = case.split(' ').collect();
        let [users, replicas, path] = words.as_slice() else { continue };
        let (users, rate) = (people(users, "plain"), figure(summary(rate)));
        let percentiles = percentiles.join(" | ");
        let _ = writeln!(page, "| {users} | {replicas} | {path} | {rate} | {percentiles} |");
    }
}

/// The median, and from where to where the repeats go: two cells.
fn range(series: &Series) -> String {
    let found = summary(series);
    let range = found.filter(|found| found.least < found.most).map_or(String::new(), |found| {
        format!("{} – {}", written(found.least), written(found.most))
    });
    format!("{} | {range}", figure(found))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two sections with all that is shown, in one repeat or two.
    pub(crate) fn sample() -> Measured {
        let mut balance = "# today, commit abc\n".to_owned();
        for (users, roof) in [("hot", 100), ("cold", 400)] {
            for keys in ["plain", "keys"] {
                for repeat in 1..=2 {
                    let _ = writeln!(balance, "roof\t{users} {keys}\tchanges/s\t{repeat}\t{roof}");
                    for case in ["1 direct", "1 door", "5 direct", "5 door"] {
                        for (connections, rate) in [(64, 80), (1_000, 60 + 20 * repeat)] {
                            let case = format!("{users} {keys} {case} {connections}");
                            let _ = writeln!(
                                balance,
                                "throughput\t{case}\tchanges/s\t{repeat}\t{rate}"
                            );
                        }
                    }
                }
            }
        }
        let mut latency = "# today, commit abc\n".to_owned();
        for case in ["hot 1 direct", "hot 1 door", "cold 5 door"] {
            let _ = writeln!(latency, "rate\t{case}\trequests/s\t1\t1234");
            for (percentile, ms) in [("p50", 0.5), ("p99", 2.0), ("p999", 40.0)] {
                let _ = writeln!(latency, "latency\t{case} {percentile}\tms\t1\t{ms}");
            }
        }
        let burst = "# <today>\nroof\t5000 withdrawals\ts\t1\t2\nburst\t1 door\ts\t1\t2.5\n";
        let texts = [("balance", balance), ("burst", burst.to_owned()), ("latency", latency)];
        let sections = texts.map(|(name, text)| Section::parse(name, &text).unwrap());
        let machine = vec![("cores".to_owned(), "2".to_owned())];
        Measured { machine, sections: sections.into() }
    }

    #[test]
    fn the_page_has_ratios_beside_absolute_figures() {
        let page = render(&sample());
        for line in [
            "**Of 33 ratios, 16 are too wide to trust.**",
            "| cores | 2 |",
            "| one user, one replica, directly | at least 0.95 | 0.80 | **no** |",
            "| memory of an idle replica | at most 12 MB | – | – |",
            "| one user | 1 | direct | 0.80 | 0.90 ⚠ | 80 | 90 ⚠ |",
            "| 10,000 users, with keys | 5 | door | 0.20 | 0.23 ⚠ | 80 | 90 ⚠ |",
            "| one user | 100 |  | – |",
            "| 1 door | s | 2.50 |  | 1.25 |",
            "| one user | 1 | door | 1,234 | 0.50 | 2 | 40 |",
        ] {
            assert!(page.lines().any(|one| one == line), "{line} is not in\n{page}");
        }
    }
}
