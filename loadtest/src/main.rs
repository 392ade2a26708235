//! `loadtest`: proves and measures a cluster of `balanced` replicas from outside, over HTTP alone.
//!
//! - `loadtest burst`: one withdrawal on each of N connections at the same moment, then a verdict
//!   on every answer and on the money.
//! - `loadtest bench`: sustained load, in a closed loop or at a fixed rate, then the latencies.
//! - `loadtest cron`: the jobs of the cluster watched through every replica, then a verdict on who
//!   ran what, and when.
//! - `loadtest check`: whether what burst and bench were told, and recorded ([`history`]), is
//!   possible; by the crate `checker`, which only knows such records.
//!
//! One thread and non-blocking sockets: the machine's cores belong to what is measured.
//! In reading order: [`options`] → [`burst`], [`bench`] or [`cron`] → [`client`] (connections,
//! answers) → [`outcome`] (what an answer means) → [`report`] (figures, text, JSON). Nothing here
//! knows the service's code; what it relies on is the documented API.

mod bench;
mod burst;
mod check;
mod client;
mod cron;
mod history;
mod options;
mod outcome;
mod process;
mod progress;
mod random;
mod report;

use std::io::Write;
use std::process::ExitCode;

use options::Command;
use report::{Output, wrapped};

/// Everything was as it had to be; something was not; the arguments made no sense.
const EXIT_FINE: u8 = 0;
const EXIT_FAULT: u8 = 1;
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let given = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let result = match Command::parse(given.collect()) {
        Ok(Command::Say(text)) => Ok(Output { text, fine: true }),
        Ok(Command::Burst(options)) => burst::run(&options),
        Ok(Command::Bench(options)) => bench::run(&options),
        Ok(Command::Cron(options)) => cron::run(&options),
        Ok(Command::Check(options)) => check::run(&options),
        Err(usage) => {
            complain(&format!("{usage}\nTry `loadtest --help`."));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match result {
        Ok(output) => {
            // Whoever closed the pipe early has seen what they wanted.
            let _ = writeln!(std::io::stdout(), "{}", output.text.trim_end());
            ExitCode::from(if output.fine { EXIT_FINE } else { EXIT_FAULT })
        }
        Err(sentence) => {
            complain(&sentence);
            ExitCode::from(EXIT_FAULT)
        }
    }
}

fn complain(sentence: &str) {
    let _ = writeln!(std::io::stderr(), "{}", wrapped(&format!("loadtest: {sentence}")));
}
