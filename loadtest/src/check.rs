//! `loadtest check`: whether histories that were recorded are possible.

use std::fmt::Write;
use std::fs::File;
use std::io::BufReader;
use std::time::Instant;

use checker::Record;

use crate::options::Arguments;
use crate::report::{Output, grouped, millis, wrapped};

/// `loadtest check --help`.
pub(crate) const HELP: &str = "\
Decides whether one exact ledger can have given all the answers of a history:
each change, refusal and read at one instant between its beginning and its end.

Usage: loadtest check FILE...

Options:
  -h, --help  this page

The files are what `loadtest burst` and `loadtest bench` write with --history,
at one time against one service, on one machine: together they are one history.
Nobody else may have changed the balances of these users meanwhile.

A request whose outcome is unknown may have been made once, or never. A balance
without a number may fit several places. It proves nothing, and is only counted.

Exit code 0 only if the history is possible. Each contradiction is shown with
its lines.
";

/// The contradictions that are shown, and the lines of each.
const SHOWN: usize = 10;

/// What a check is told.
pub(crate) struct Options {
    files: Vec<String>,
}

impl Options {
    /// Reads the words behind `check`.
    ///
    /// # Errors
    /// An option, or no file.
    pub(crate) fn parse(arguments: &mut Arguments) -> Result<Options, String> {
        let files = arguments.words()?;
        match files.is_empty() {
            true => Err("check needs a file that --history has written".to_owned()),
            false => Ok(Options { files }),
        }
    }
}

/// Checks them all as one history.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn run(options: &Options) -> Result<Output, String> {
    let (mut records, mut begins): (Vec<Record>, Vec<usize>) = (Vec::new(), Vec::new());
    for path in &options.files {
        begins.push(records.len());
        let file = File::open(path).map_err(|error| format!("{path}: {error}"))?;
        records.extend(checker::read(BufReader::new(file)).map_err(|at| format!("{path}, {at}"))?);
    }
    let begun = Instant::now();
    let verdict = checker::check(&records);
    let took = millis(begun.elapsed().as_secs_f64() * 1_000.0);
    let fine = verdict.violations.is_empty();
    let requests = grouped(records.len() as u64);
    let mut text = format!("loadtest check: {requests} requests, checked in {took}\n");
    // Writing into memory cannot fail.
    if verdict.unplaced > 0 {
        let unplaced = grouped(verdict.unplaced as u64);
        let _ = writeln!(text, "{unplaced} balances without a number have no single place");
    }
    let _ = writeln!(text, "\nVerdict: {}", if fine { "possible" } else { "IMPOSSIBLE" });
    for violation in verdict.violations.iter().take(SHOWN) {
        let _ = writeln!(text, "{}", wrapped(&format!("  - {violation}")));
        for index in violation.records.iter().take(SHOWN) {
            let file = begins.partition_point(|begin| begin <= index) - 1;
            let (path, line) = (&options.files[file], index - begins[file] + 2);
            let record = serde_json::to_string(&records[*index]).unwrap_or_default();
            let _ = writeln!(text, "    {path}:{line}: {record}");
        }
    }
    let more = verdict.violations.len().saturating_sub(SHOWN);
    if more > 0 {
        let _ = writeln!(text, "  - and {} more", grouped(more as u64));
    }
    Ok(Output { text, fine })
}
