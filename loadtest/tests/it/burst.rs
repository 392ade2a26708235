//! A burst of 40 withdrawals of 2 from 20: 10 succeed, 30 are refused.

use std::process::Command;
use std::sync::{Arc, Barrier};

use super::Run;
use super::server::{Manner, Server};

const BALANCE: i64 = 20;
const CONNECTIONS: usize = 40;

fn burst(targets: &str, more: &str) -> Run {
    Run::line(&format!(
        "burst --targets {targets} -n {CONNECTIONS} --reset {BALANCE} --timeout 20 --json {more}"
    ))
}

#[test]
fn a_right_server_passes_whole_or_byte_by_byte_or_closing() {
    for manner in [Manner::Right, Manner::Dribbles, Manner::Closes] {
        let server = Server::start(manner, BALANCE, 1);
        let run = burst(&server.targets(), "");
        assert_eq!(run.code, Some(0), "{run}");
        let json = run.json();
        for (name, count) in [
            ("requests", 40),
            ("succeeded", 10),
            ("refused", 30),
            ("failed", 0),
            ("openAtOnce", 40),
        ] {
            assert_eq!(json[name], count, "{name}: {run}");
        }
        assert_eq!(server.withdrawals(), 40);
        assert!(json["latencyMs"]["p50"].as_f64() > Some(0.0), "{run}");
    }
}

#[test]
fn the_balance_is_set_before_up_and_down() {
    for balance in [0, 19, 21, 1_000_000] {
        let server = Server::start(Manner::Right, balance, 1);
        let run = burst(&server.targets(), "");
        assert_eq!(run.code, Some(0), "from {balance}: {run}");
    }
}

#[test]
fn all_is_sent_on_open_connections_before_anything_is_answered() {
    let barrier = Arc::new(Barrier::new(CONNECTIONS));
    // At the right balance already, so that setting it takes no withdrawal.
    let server = Server::start(Manner::WaitsForAll(barrier), BALANCE, 1);
    let run = burst(&server.targets(), "");
    assert_eq!(run.code, Some(0), "{run}");
}

#[test]
fn connections_take_turns_over_the_targets() {
    let server = Server::start(Manner::Right, BALANCE, 4);
    let json = burst(&server.targets(), "").json();
    let servers = json["servers"].as_array().expect("a list");
    assert_eq!(servers.len(), 4, "{json}");
    assert!(servers.iter().all(|server| server["count"] == 10), "{json}");
}

#[test]
fn each_wrong_server_is_found_out() {
    for (manner, sentences) in [
        (
            Manner::LosesAnAnswer,
            &[
                "9 of 40 withdrawals succeeded instead of exactly 10",
                "1 of 40 withdrawals failed: 1 × closed before a full answer",
                "balance 14 was reported by no success, though a lower one was",
            ][..],
        ),
        (Manner::CutsAnAnswer, &["1 of 40 withdrawals failed: 1 × closed before a full answer"]),
        (
            Manner::RepeatsABalance,
            &[
                "balance 16 was reported by more than one success (such repeats: 1)",
                "balance 14 was reported by no success, though a lower one was",
            ],
        ),
        (
            Manner::GrantsOneTooMany,
            &[
                "11 of 40 withdrawals succeeded instead of exactly 10",
                "29 of 40 withdrawals were refused as insufficient funds instead of 30",
                "balance 0 was reported by more than one success",
            ],
        ),
        (
            Manner::LiesInARefusal,
            &["1 of 40 withdrawals failed: 1 × 409 insufficient_funds with a balance that covers"],
        ),
        (Manner::IsUnavailableOnce, &["1 of 40 withdrawals failed: 1 × 503 database_unavailable"]),
        (Manner::AnswersInChunks, &["1 of 40 withdrawals failed: 1 × malformed answer"]),
        (Manner::MixesUsersUp, &["1 of 40 withdrawals failed: 1 × 200 for another user"]),
        (Manner::GivesMoneyBack, &["ends with balance 2 instead of 0"]),
    ] {
        let server = Server::start(manner, BALANCE, 1);
        let run = burst(&server.targets(), "");
        assert_eq!(run.code, Some(1), "{sentences:?}: {run}");
        let faults = run.faults();
        for sentence in sentences {
            assert!(faults.iter().any(|fault| fault.contains(sentence)), "{sentence}: {run}");
        }
    }
}

#[test]
fn an_answer_that_never_comes_is_waited_for_until_the_limit() {
    let server = Server::start(Manner::StaysSilent, BALANCE, 1);
    let run = burst(&server.targets(), "--timeout 1");
    assert_eq!(run.code, Some(1), "{run}");
    let sentence = "1 of 40 withdrawals failed: 1 × no full answer in time";
    assert!(run.faults().iter().any(|fault| fault == sentence), "{run}");
    assert_eq!(run.json()["errors"][0]["example"], "none in 1 s; 0 bytes had come");
}

#[test]
fn two_databases_are_found_out_before_anything_is_sent() {
    let (one, other) =
        (Server::start(Manner::Right, BALANCE, 1), Server::start(Manner::Right, 7, 1));
    let run = burst(&format!("{},{}", one.targets(), other.targets()), "");
    assert_eq!(run.code, Some(1), "{run}");
    assert!(run.words().contains("is it another database?"), "{run}");
    run.assert_narrow();
    assert_eq!(one.withdrawals() + other.withdrawals(), 0);
}

#[test]
fn too_few_open_files_are_said_before_anything_is_done() {
    let program = env!("CARGO_BIN_EXE_loadtest");
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n 64 && exec {program} burst -n 100")]);
    let run = Run::of(command);
    assert_eq!(run.code, Some(1), "{run}");
    let sentence = "100 connections need 116 open files, and this process may have 64 at most";
    assert!(run.words().contains(sentence), "{run}");
    run.assert_narrow();
}

#[test]
fn the_report_for_people_is_in_the_usual_order() {
    let server = Server::start(Manner::IsUnavailableOnce, BALANCE, 1);
    let targets = server.targets();
    let run = Run::line(&format!("burst --targets {targets} -n 40 --reset 20"));
    let headings = ["Summary", "Latency", "Histogram", "Outcomes", "Answers by server", "Errors"];
    let mut rest = run.stdout.as_str();
    for heading in headings.into_iter().chain(["Verdict: WRONG"]) {
        let Some((_, after)) = rest.split_once(&format!("\n{heading}")) else {
            panic!("{heading} is not where it belongs: {run}")
        };
        rest = after;
    }
    assert!(run.words().contains("e.g. 503 database_unavailable by server-1: {"), "{run}");
    run.assert_narrow();
    assert_eq!(run.stderr, "", "no progress line without a terminal");
}
