//! The real program against small servers of its own kind: one that is right, and many that are
//! each wrong in one way. No database, no clock to race.

mod bench;
mod burst;
mod cron;
mod open_loop;
mod server;

use std::process::{Command, Output};

use serde_json::Value;

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
fn help_and_version_go_to_standard_output() {
    for line in ["--help", "burst --help", "bench --help", "cron --help"] {
        let help = Run::line(line);
        assert_eq!(help.code, Some(0), "{help}");
        assert!(help.stdout.contains("Usage: loadtest"), "{help}");
    }
    let version = Run::line("--version");
    assert_eq!(version.stdout.trim(), concat!("loadtest ", env!("CARGO_PKG_VERSION")));
}
