//! What burst and bench record, checked.

use std::fs;
use std::thread;

use super::Run;
use super::server::{Manner, Server};

/// A file that is gone with this.
struct File(String);

impl File {
    fn new(name: &str) -> File {
        File(format!("{}/{name}", env!("CARGO_TARGET_TMPDIR")))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn burst(manner: Manner, file: &File) -> Run {
    let server = Server::start(manner, 20, 1);
    let (targets, path) = (server.targets(), &file.0);
    Run::line(&format!("burst --targets {targets} -n 40 --reset 20 --timeout 20 --history {path}"))
}

#[test]
fn a_right_burst_is_possible_and_so_is_one_that_lost_an_answer() {
    for manner in [Manner::Right, Manner::LosesAnAnswer] {
        let file = File::new("right.jsonl");
        burst(manner, &file);
        let check = Run::line(&format!("check {}", file.0));
        assert_eq!(check.code, Some(0), "{check}");
        assert!(check.stdout.contains("41 requests, checked in"), "{check}");
        assert!(check.stdout.contains("Verdict: possible"), "{check}");
    }
}

#[test]
fn each_wrong_server_is_called_impossible_with_the_lines() {
    for (manner, name) in [
        (Manner::RepeatsABalance, "wrong balance"),
        (Manner::GrantsOneTooMany, "number given twice"),
        (Manner::LiesInARefusal, "impossible answer"),
        (Manner::MixesUsersUp, "impossible answer"),
        (Manner::GivesMoneyBack, "stale read"),
    ] {
        let file = File::new("wrong.jsonl");
        burst(manner, &file);
        let check = Run::line(&format!("check {}", file.0));
        assert_eq!(check.code, Some(1), "{name}: {check}");
        assert!(check.stdout.contains(&format!("  - {name}: ")), "{name}: {check}");
        assert!(check.stdout.contains(&format!("    {}:", file.0)), "{name}: {check}");
    }
}

#[test]
fn what_two_processes_record_at_one_time_is_one_history() {
    let server = Server::start(Manner::Right, 0, 1);
    let files = ["one.jsonl", "other.jsonl"].map(File::new);
    let bench = |file: &File| {
        let (targets, path) = (server.targets(), &file.0);
        let line = format!("bench --targets {targets} -n 4 --duration 1 --warmup 0");
        let run = Run::line(&format!("{line} --history {path}"));
        assert_eq!(run.code, Some(0), "{run}");
    };
    // Whoever is the first gives the user money, which the other would have to know of.
    bench(&files[0]);
    thread::scope(|scope| files.iter().for_each(|file| drop(scope.spawn(|| bench(file)))));
    let both = Run::line(&format!("check {} {}", files[0].0, files[1].0));
    assert_eq!(both.code, Some(0), "{both}");
    let half = Run::line(&format!("check {}", files[0].0));
    assert_eq!(half.code, Some(1), "{half}");
    assert!(half.stdout.contains("change that nobody asked for"), "{half}");
}

#[test]
fn what_cannot_be_checked_is_said() {
    let none = Run::line("check");
    assert_eq!(none.code, Some(2), "{none}");
    let gone = Run::line("check /nowhere/at-all");
    assert_eq!(gone.code, Some(1), "{gone}");
    assert!(gone.words().contains("/nowhere/at-all: No such file"), "{gone}");
    let server = Server::start(Manner::Right, 20, 1);
    let line = format!("burst --targets {} -n 2 --history /nowhere/at-all", server.targets());
    let refused = Run::line(&line);
    assert_eq!(refused.code, Some(1), "{refused}");
    assert!(refused.words().contains("--history /nowhere/at-all: No such file"), "{refused}");
}
