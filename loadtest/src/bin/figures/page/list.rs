//! Tables of any section. Cases such as `ten jobs: claims` and `ten jobs: lateness` make one line
//! with a column for each figure, or, where these are many, a table; all others make a line each.

use std::fmt::Write;

use super::{figure, range};
use crate::compare::{ratio, summary};
use crate::numbers::written;
use crate::rows::{Section, Series};

/// More would make a table too wide to read.
const COLUMNS_MAX: usize = 5;

/// Everything that was measured under one name.
struct Line<'a> {
    name: &'a str,
    /// What of it, and its figures.
    columns: Vec<(&'a str, &'a Series)>,
}

/// Puts the tables of a section into the page.
pub(super) fn list(page: &mut String, section: &Section) {
    let lines = lines(section);
    let mut alone = Vec::new();
    let mut done: Vec<Vec<String>> = Vec::new();
    for line in &lines {
        let headings = line.headings();
        match line.columns.len() {
            1 => alone.push((line.columns[0].1.case.as_str(), line.columns[0].1)),
            2..=COLUMNS_MAX if done.contains(&headings) => {}
            2..=COLUMNS_MAX => {
                let alike = lines.iter().filter(|line| line.headings() == headings);
                table(page, section, &headings, alike);
                done.push(headings);
            }
            _ => long_table(page, section, line.name, &line.columns),
        }
    }
    if !alone.is_empty() {
        long_table(page, section, "what", &alone);
    }
}

fn lines(section: &Section) -> Vec<Line<'_>> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for series in &section.series {
        let (name, column) = series.case.rsplit_once(": ").unwrap_or((&series.case, ""));
        let known = lines.iter_mut().find(|line| {
            line.name == name && !column.is_empty() && line.columns[0].1.kind == series.kind
        });
        match known {
            Some(line) => line.columns.push((column, series)),
            None => lines.push(Line { name, columns: vec![(column, series)] }),
        }
    }
    lines
}

impl Line<'_> {
    fn headings(&self) -> Vec<String> {
        self.columns.iter().map(|(column, series)| format!("{column}, {}", series.unit)).collect()
    }
}

fn table<'a>(
    page: &mut String,
    section: &Section,
    headings: &[String],
    lines: impl Iterator<Item = &'a Line<'a>>,
) {
    let _ = writeln!(page, "\n| what | {} |", headings.join(" | "));
    let _ = writeln!(page, "|---|{}", "---|".repeat(headings.len()));
    for line in lines {
        let cells = line.columns.iter().map(|(_, series)| {
            let of = ratio(section, series);
            let of = of.map_or(String::new(), |of| format!(" (× {})", written(of.median)));
            format!("{}{of}", figure(summary(series)))
        });
        let cells: Vec<String> = cells.collect();
        let _ = writeln!(page, "| {} | {} |", line.name, cells.join(" | "));
    }
}

/// A line for each figure.
fn long_table(page: &mut String, section: &Section, heading: &str, all: &[(&str, &Series)]) {
    let ratios: Vec<_> = all.iter().map(|(_, series)| ratio(section, series)).collect();
    let with_ratios = ratios.iter().any(Option::is_some);
    let (last, line) = if with_ratios { (" ratio |", "---|") } else { ("", "") };
    let _ = writeln!(page, "\n| {heading} | unit | median | least – most |{last}");
    let _ = writeln!(page, "|---|---|---|---|{line}");
    for ((name, series), ratio) in all.iter().zip(ratios) {
        let kind = match series.kind == section.name {
            true => String::new(),
            false => format!("{}: ", series.kind),
        };
        let ratio = if with_ratios { format!(" {} |", figure(ratio)) } else { String::new() };
        let _ = writeln!(page, "| {kind}{name} | {} | {} |{ratio}", series.unit, range(series));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_one_name_share_a_line_and_alike_lines_a_table() {
        let text = "cron\twave, no history: claims\t1/s\t1\t10\n\
                    cron\twave, no history: lateness\tms\t1\t7\n\
                    cron\tat rest\t1/s\t1\t2.1\n\
                    cron\twave, 9 runs in the history: claims\t1/s\t1\t8\n\
                    cron\twave, 9 runs in the history: lateness\tms\t1\t7\n";
        let mut page = String::new();
        list(&mut page, &Section::parse("cron", text).unwrap());
        let expected = "\n| what | claims, 1/s | lateness, ms |\n|---|---|---|\n\
                        | wave, no history | 10 | 7 |\n\
                        | wave, 9 runs in the history | 8 (× 0.80) | 7 (× 1) |\n\
                        \n| what | unit | median | least – most |\n|---|---|---|---|\n\
                        | at rest | 1/s | 2.10 |  |\n";
        assert_eq!(page, expected);
    }

    #[test]
    fn many_figures_of_one_name_are_a_table() {
        let figures = (1..=6).map(|number| format!("soak\tload: figure {number}\tMB\t1\t5\n"));
        let text: String = figures.collect();
        let mut page = String::new();
        list(&mut page, &Section::parse("soak", &text).unwrap());
        assert!(page.starts_with("\n| load | unit | median | least – most |\n"), "{page}");
        assert!(page.ends_with("| figure 6 | MB | 5 |  |\n"), "{page}");
    }
}
