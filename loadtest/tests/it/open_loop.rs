//! A bench that keeps a rate whatever the answers do.

use super::Run;
use super::server::{Manner, Server};

fn bench(manner: Manner, more: &str) -> Run {
    // Rich enough to need no deposit before: the third withdrawal is the bench's own.
    let server = Server::start(manner, 2_000_000, 1);
    let targets = server.targets();
    Run::line(&format!("bench --targets {targets} --warmup 0 --amount -1 --json {more}"))
}

fn ms(run: &Run, latency: &str, of: &str) -> f64 {
    run.json()[latency][of].as_f64().unwrap_or_else(|| panic!("no {latency}.{of}: {run}"))
}

#[test]
fn every_request_that_was_due_is_counted_at_its_rate() {
    let server = Server::start(Manner::Right, 2_000_000, 2);
    let targets = server.targets();
    let run = Run::line(&format!(
        "bench --targets {targets} --rate 333 --duration 2 --warmup 1 -n 20 --json"
    ));
    assert_eq!(run.code, Some(0), "{run}");
    let json = run.json();
    assert_eq!(json["requests"], 666, "{run}");
    assert_eq!((&json["warmupRequests"], &json["rateAsked"]), (&333.into(), &333.into()), "{run}");
    let answered = json["rateAnswered"].as_f64().unwrap();
    assert!((300.0..370.0).contains(&answered), "{run}");
    // Their turns: each has half, whatever the pace.
    let counts = json["servers"].as_array().unwrap().iter().map(|server| &server["count"]);
    assert!(counts.eq([333, 333]), "{run}");
}

/// A second in which nothing is answered: half of what was due in two seconds waited for it, and
/// only an open loop tells.
#[test]
fn a_stall_is_seen_and_a_closed_loop_hides_it() {
    let open = bench(Manner::StallsOnce, "--rate 200 --duration 2 -n 300");
    assert_eq!(open.code, Some(0), "{open}");
    assert!(ms(&open, "latencyMs", "p99") > 900.0, "{open}");
    assert!(ms(&open, "latencyMs", "p50") < 900.0, "{open}");
    assert_eq!(open.json()["lateBusy"], 0, "{open}");
    let closed = bench(Manner::StallsOnce, "--duration 2 -n 4");
    assert!(ms(&closed, "latencyMs", "p99") < 500.0, "{closed}");
    assert!(ms(&closed, "latencyMs", "max") > 900.0, "{closed}");
}

/// With a single connection nothing can be sent during the stall: it is seen all the same.
#[test]
fn waiting_for_a_connection_is_part_of_the_latency() {
    let run = bench(Manner::StallsOnce, "--rate 100 --duration 2 -n 1");
    assert_eq!(run.code, Some(0), "{run}");
    assert!(ms(&run, "latencyMs", "p99") > 900.0, "{run}");
    assert!(run.json()["lateBusy"].as_u64() > Some(80), "{run}");
    assert!(ms(&run, "latencyMsSucceeded", "p90") > 500.0, "{run}");
}

#[test]
fn an_honest_503_is_shed_and_no_fault() {
    let run = bench(Manner::IsUnavailableOnce, "--rate 100 --duration 1");
    assert_eq!(run.code, Some(0), "{run}");
    let json = run.json();
    assert_eq!((&json["shed"], &json["failed"]), (&1.into(), &1.into()), "{run}");
    assert_eq!(json["errors"][0]["kind"], "503 database_unavailable not_applied", "{run}");
    assert!(ms(&run, "latencyMsUnavailable", "max") > 0.0, "{run}");
    assert_eq!(json["requests"], 100, "{run}");
}

#[test]
fn nobody_is_waited_for_beyond_the_limit() {
    let run = bench(Manner::StaysSilent, "--rate 10 --duration 2 --timeout 1 -n 1");
    assert_eq!(run.code, Some(1), "{run}");
    let faults = run.faults();
    let told = |sentence: &str| faults.iter().any(|fault| fault.contains(sentence));
    assert!(told("failed: 1 × no full answer in time"), "{run}");
    assert!(told("not sent in time"), "the next one waited as long for its connection: {run}");
    assert_eq!(run.json()["requests"], 20, "{run}");
}

/// The server ends each connection after its answer: the next request opens another.
#[test]
fn a_connection_that_ended_while_it_was_free_is_opened_again() {
    let run = bench(Manner::Closes, "--rate 50 --duration 1 -n 4");
    assert_eq!(run.code, Some(0), "{run}");
    assert!(run.json()["connectionsReopened"].as_u64() > Some(40), "{run}");
}
