//! A bench of one second against servers that answer at once.

use super::Run;
use super::server::{Manner, Server};

fn bench(server: &Server, more: &str) -> Run {
    let targets = server.targets();
    Run::line(&format!("bench --targets {targets} -n 4 --duration 1 --warmup 0 --json {more}"))
}

#[test]
fn a_hot_user_is_changed_to_and_fro() {
    let server = Server::start(Manner::Right, 0, 2);
    let run = bench(&server, "");
    assert_eq!(run.code, Some(0), "{run}");
    let json = run.json();
    assert_eq!(json["requests"], json["succeeded"], "{run}");
    let seconds = json["eachSecond"].as_array().expect("a list");
    let answers: u64 = seconds.iter().filter_map(|second| second["answers"].as_u64()).sum();
    assert_eq!(json["requests"], answers, "{run}");
    assert_eq!((&json["usersCreated"], &json["usersToppedUp"]), (&0.into(), &1.into()), "{run}");
    assert_eq!(json["servers"].as_array().map(Vec::len), Some(2), "{run}");
    assert_eq!(json["connectionsReopened"], 0, "{run}");
}

#[test]
fn missing_users_are_made_and_every_key_is_fresh() {
    let server = Server::start(Manner::Right, 2_000_000, 1);
    let run = bench(&server, "--users 5 --keys");
    assert_eq!(run.code, Some(0), "{run}");
    let json = run.json();
    assert_eq!((&json["users"], &json["usersCreated"]), (&5.into(), &4.into()), "{run}");
    assert_eq!(json["usersToppedUp"], 0, "{run}");
    let again = bench(&server, "--users 5 --keys").json();
    assert_eq!(again["usersCreated"], 0, "{again}");
}

#[test]
fn an_announced_end_of_a_connection_is_no_failure() {
    let server = Server::start(Manner::Closes, 0, 1);
    let run = bench(&server, "");
    assert_eq!(run.code, Some(0), "{run}");
    assert!(run.json()["connectionsReopened"].as_u64() > Some(0), "{run}");
}

#[test]
fn a_rightful_refusal_is_no_failure() {
    let server = Server::start(Manner::ForgetsDeposits, 1, 1);
    let run = bench(&server, "--amount -2");
    assert_eq!(run.code, Some(0), "{run}");
    let json = run.json();
    assert!(json["refused"].as_u64() > Some(0), "{run}");
    assert_eq!(json["requests"], json["refused"], "{run}");
}

#[test]
fn any_failure_is_one_too_many_in_the_warm_up_too() {
    for (manner, warmup, sentence) in [
        (Manner::IsUnavailableOnce, 0, "failed: 1 × 503 database_unavailable"),
        (Manner::LosesAnAnswer, 0, "failed: 1 × closed before a full answer"),
        (Manner::MixesUsersUp, 1, "failed in the warm-up: 1 × 200 for another user"),
    ] {
        let server = Server::start(manner, 0, 1);
        let run = bench(&server, &format!("--warmup {warmup}"));
        assert_eq!(run.code, Some(1), "{sentence}: {run}");
        let faults = run.faults();
        assert!(faults.iter().any(|fault| fault.starts_with(sentence)), "{sentence}: {run}");
    }
}
