//! PostgreSQL's `isolationtester`: it runs the steps of several sessions in the orders that a
//! specification names, and tells which of them wait.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::tool;
use crate::tidy::ROOT;

/// A step that has not ended by then is cancelled, and its permutation has failed.
const STEP_SECONDS_MAX: &str = "30";

/// The program, where it is installed.
pub(super) struct Tester(PathBuf);

/// What one permutation gave.
#[derive(Debug)]
pub(super) struct Permutation {
    /// The names of its steps, in their order.
    pub(super) steps: String,
    /// The names of the steps that had to wait.
    pub(super) waited: Vec<String>,
    /// Errors of its statements.
    pub(super) errors: Vec<String>,
    /// What the set-up's view says is broken.
    pub(super) broken: Vec<String>,
}

impl Tester {
    /// None where it is missing.
    pub(super) fn find() -> Option<Tester> {
        let found = program().filter(|program| program.is_file());
        tool("isolationtester", found).map(Tester)
    }

    /// Runs a specification whose `judge` steps print one `broken: …` a sentence.
    pub(super) fn run(&self, url: &str, specification: &str) -> Vec<Permutation> {
        let mut child = Command::new(&self.0)
            .arg(url)
            .env("PGISOLATIONTIMEOUT", STEP_SECONDS_MAX)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("isolationtester");
        // The program reads all of it before it prints anything.
        child.stdin.take().expect("a pipe").write_all(specification.as_bytes()).expect("a reader");
        let output = child.wait_with_output().expect("isolationtester");
        let text = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{complaint}\n{text}\nof\n{specification}");
        permutations(&text)
    }
}

/// Where it belongs, beside the makefiles of the PostgreSQL that the tests use.
fn program() -> Option<PathBuf> {
    let output = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let folder = output(&format!("{ROOT}/scripts/postgres.sh"), "bindir")?;
    let makefile = PathBuf::from(output(&format!("{folder}/pg_config"), "--pgxs")?);
    Some(makefile.parent()?.parent()?.join("test/isolation/isolationtester"))
}

fn permutations(text: &str) -> Vec<Permutation> {
    let parts = text.split("starting permutation: ").skip(1);
    parts
        .map(|part| {
            let (steps, part) = part.split_once('\n').expect("steps");
            let lines = || part.lines().map(str::trim);
            let rest_of = |start: &str| -> Vec<String> {
                lines().filter_map(|line| line.strip_prefix(start)).map(str::to_owned).collect()
            };
            let waits = lines().filter(|line| line.ends_with("<waiting ...>"));
            let name =
                |line: &str| line.strip_prefix("step ")?.split_once(':').map(|at| at.0.to_owned());
            Permutation {
                steps: steps.trim().to_owned(),
                waited: waits.filter_map(name).collect(),
                errors: rest_of("ERROR: "),
                broken: rest_of("broken: "),
            }
        })
        .collect()
}
