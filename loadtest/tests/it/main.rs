//! The real program against small servers of its own kind: one that is right, and many that are
//! each wrong in one way. No database, no clock to race.

mod bench;
mod burst;
mod check;
mod cron;
mod open_loop;
mod server;

use std::process::{Command, Output};

use serde_json::Value;
use server::{Manner, Server};

/// What a run of the program left behind.
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Run {
    fn of(mut command: Command) -> Run {
        Run::from(command.output().expect("the program starts"))
    }

    fn from(output: Output) -> Run {
        Run {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("text"),
            stderr: String::from_utf8(output.stderr).expect("text"),
        }
    }

    /// Runs `loadtest` with the words of `line`.
    fn line(line: &str) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
        command.args(line.split_whitespace());
        Run::of(command)
    }

    /// What people read, whatever line its words are on.
    fn words(&self) -> String {
        let text = format!("{} {}", self.stdout, self.stderr);
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// No word is broken on a terminal of 80 columns. What comes before the last sentence is what
    /// stands in a log in place of a live table.
    fn assert_narrow(&self) {
        let last = self.stderr.lines().skip_while(|line| !line.starts_with("loadtest: "));
        for line in self.stdout.lines().chain(last) {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// The sentences of the verdict.
    fn faults(&self) -> Vec<String> {
        let json = self.json();
        let faults = json["faults"].as_array().expect("a list of faults");
        faults.iter().filter_map(|fault| fault.as_str().map(str::to_owned)).collect()
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "exit {:?}\n{}\n{}", self.code, self.stdout, self.stderr)
    }
}

#[test]
fn wrong_usage_is_told_from_a_wrong_server() {
    let usage = Run::line("burst --connections none");
    assert_eq!(usage.code, Some(2), "{usage}");
    assert!(usage.stderr.contains("must be a whole number"), "{usage}");
    let nobody = Run::line("burst --targets http://127.0.0.1:1");
    assert_eq!(nobody.code, Some(1), "{nobody}");
    assert!(nobody.stderr.contains("http://127.0.0.1:1 is out of reach"), "{nobody}");
}

#[test]
fn who_gave_no_token_reads_how_to_give_one() {
    let server = Server::start(Manner::WantsAToken, 0, 1);
    for command in ["burst -n 2", "bench --duration 1", "cron --duration 1"] {
        let run = Run::line(&format!("{command} --targets {}", server.targets()));
        assert_eq!(run.code, Some(1), "{run}");
        let told = "401 unauthorized by server-1 (give one of the service's tokens with --token)";
        assert!(run.words().contains(told), "{run}");
        run.assert_narrow();
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    for line in ["--help", "burst --help", "bench help", "cron help", "help burst", "check --help"]
    {
        let help = Run::line(line);
        assert_eq!(help.code, Some(0), "{help}");
        assert!(help.stdout.contains("Usage: loadtest"), "{help}");
        help.assert_narrow();
    }
    let version = Run::line("--version");
    assert_eq!(version.stdout.trim(), concat!("loadtest ", env!("CARGO_PKG_VERSION")));
}
