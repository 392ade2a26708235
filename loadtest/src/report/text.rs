//! The report for people, in the order everyone knows: totals, rate, latencies, histogram,
//! outcomes, errors.

use std::fmt::Write;

use super::{Bar, Details, Figures, NamedCount, Report};

/// The longest bar, in characters.
const BAR_WIDTH: u64 = 40;
/// The widest label of a row.
const LABEL_WIDTH: usize = 14;
/// The columns of a narrow terminal.
const WIDTH: usize = 80;
/// Within these columns every text begins, the labels of all reports before it.
const LABELS_WIDTH: usize = 31;

/// The whole report. Writing into memory cannot fail, so those results are dropped.
pub(super) fn render<D: Details>(report: &Report<D>) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "loadtest {}: {}\n\nSummary", report.command, report.title);
    summary(&mut text, report);
    latencies(&mut text, &report.figures, report.latency_note);
    counts(&mut text, "Outcomes", &report.figures.outcomes);
    counts(&mut text, "Answers by server", &report.figures.servers);
    if !report.figures.errors.is_empty() {
        let _ = writeln!(text, "\nErrors");
        for error in &report.figures.errors {
            let _ = writeln!(text, "  {} × {}", grouped(error.count), error.kind);
            let _ = writeln!(text, "      e.g. {}", error.example);
        }
    }
    for warning in &report.warnings {
        let _ = writeln!(text, "\nWarning: {warning}");
    }
    let _ = writeln!(text, "\nVerdict: {}", if report.ok { "as it has to be" } else { "WRONG" });
    for fault in &report.faults {
        let _ = writeln!(text, "  - {fault}");
    }
    wrapped(&text)
}

/// The same text with no line longer than a narrow terminal, which would break words: what is left
/// of one goes on under where its text begins, behind the sign or the label.
pub(crate) fn wrapped(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let head: String = line.chars().take(LABELS_WIDTH).collect();
        let gap = head.rfind("  ").map_or(0, |at| at + 2);
        let begin = if line[gap..].starts_with("- ") { gap + 2 } else { gap };
        let indent = " ".repeat(line[..begin].chars().count());
        let mut words = line[begin..].split(' ');
        let mut current = format!("{}{}", &line[..begin], words.next().unwrap_or_default());
        for word in words {
            if current.chars().count() + 1 + word.chars().count() > WIDTH {
                lines.push(std::mem::replace(&mut current, indent.clone()));
            } else {
                current.push(' ');
            }
            current.push_str(word);
        }
        lines.push(current);
    }
    lines.join("\n")
}

fn summary<D: Details>(text: &mut String, report: &Report<D>) {
    let figures = &report.figures;
    let mut rows = vec![
        ("targets", report.targets.join(" ")),
        ("requests", grouped(figures.requests)),
        ("succeeded", grouped(figures.succeeded)),
        ("refused", format!("{} (insufficient funds)", grouped(figures.refused))),
        ("failed", grouped(figures.failed)),
        ("total", millis(figures.seconds * 1_000.0)),
        ("rate", format!("{} answers/s", grouped(figures.answers_per_second.round() as u64))),
    ];
    rows.extend(report.details.rows());
    let per_request = figures.client_cpu_cores * figures.seconds * 1e6;
    rows.push((
        "this client",
        format!(
            "{:.2} of a core, {:.1} µs of CPU per request",
            figures.client_cpu_cores,
            per_request / figures.requests.max(1) as f64,
        ),
    ));
    for (label, value) in rows {
        let _ = writeln!(text, "  {label:LABEL_WIDTH$}  {value}");
    }
}

fn latencies(text: &mut String, figures: &Figures, note: &str) {
    let Some(latency) = &figures.latency_ms else {
        return;
    };
    let _ = writeln!(text, "\nLatency ({note})");
    for (label, ms) in [
        ("p50", latency.p50),
        ("p90", latency.p90),
        ("p99", latency.p99),
        ("p99.9", latency.p999),
        ("max", latency.max),
    ] {
        let _ = writeln!(text, "  {label:LABEL_WIDTH$}  {:>10}", millis(ms));
    }
    let _ = writeln!(text, "\nHistogram (ten equal steps to p99, then the rest)");
    let most = figures.histogram.iter().map(|bar| bar.count).max().unwrap_or(1);
    for Bar { from_ms, to_ms, count } in &figures.histogram {
        // What is there is seen: a bar of one answer is not empty.
        let length = (count * BAR_WIDTH).div_ceil(most.max(1));
        let (from, to) = (millis(*from_ms), millis(*to_ms));
        let bar = "■".repeat(usize::try_from(length).unwrap_or_default());
        let line = format!("  {from:>10} – {to:>10} {:>9}  {bar}", grouped(*count));
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

fn counts(text: &mut String, heading: &str, counts: &[NamedCount]) {
    if counts.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{heading}");
    for NamedCount { name, count } in counts {
        let name = if name.is_empty() { "(no name)" } else { name };
        let _ = writeln!(text, "  {:>10}  {name}", grouped(*count));
    }
}

/// A count with a comma at each thousand.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Milliseconds with three or four digits that matter, as seconds from 1,000 on.
pub(crate) fn millis(ms: f64) -> String {
    match ms {
        _ if ms < 10.0 => format!("{ms:.2} ms"),
        _ if ms < 100.0 => format!("{ms:.1} ms"),
        _ if ms < 1_000.0 => format!("{ms:.0} ms"),
        _ => format!("{:.3} s", ms / 1_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_goes_on_under_its_text() {
        let words: Vec<&str> = ["a", "bb", "ccc", "dddd"].into_iter().cycle().take(80).collect();
        for (head, indent) in [
            ("", ""),
            ("  - ", "    "),
            ("  targets         ", "                  "),
            ("  ✓ first wave                ", "                              "),
        ] {
            let text = wrapped(&format!("{head}{}", words.join(" ")));
            let lines: Vec<&str> = text.lines().collect();
            for line in &lines[1..] {
                let text = line.strip_prefix(indent).expect("the indent");
                assert!(!text.starts_with(' '), "{lines:#?}");
            }
            assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{lines:#?}");
            let rest = text.strip_prefix(head).expect("the head");
            assert_eq!(rest.split_whitespace().collect::<Vec<_>>(), words, "{lines:#?}");
        }
        let url = "u".repeat(100);
        assert_eq!(wrapped(&format!("at {url}\n\nb")), format!("at\n{url}\n\nb"));
    }

    #[test]
    fn figures_are_easy_to_read() {
        let groups = [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")];
        for (count, text) in groups {
            assert_eq!(grouped(count), text);
        }
        for (ms, text) in [(0.5, "0.50 ms"), (12.34, "12.3 ms"), (123.4, "123 ms")] {
            assert_eq!(millis(ms), text);
        }
        assert_eq!(millis(1_532.1), "1.532 s");
    }
}
