//! A watch of one second over made-up clusters: what each reading shows is a matter of how many
//! came before it, so no clock is raced.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Run;
use super::server::{bytes, read_request};

/// The jobs run in as many readings; then they wait, and their runs are in the history.
const READINGS_RUNNING: usize = 6;

/// What is wrong with a cluster, if anything.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// The jobs end between the readings of one round.
    EndsWithinARound,
    /// One job's next run began before the first had ended.
    RunsTwice,
    /// Both jobs run on one of two servers.
    IsUneven,
    /// A run took 119.5 s.
    IsShort,
    /// The second target never sees that the jobs ended.
    StandsStill,
    /// The history lacks a run.
    Forgets,
    /// Nothing ever runs.
    IsIdle,
    /// The second target has no database.
    HalfGone,
    /// No target has one.
    Gone,
}

/// How often each document was asked for, of all servers together.
#[derive(Default)]
struct Asked {
    status: AtomicUsize,
    history: AtomicUsize,
}

/// Starts two servers; for `--targets`.
fn start(fault: Fault) -> String {
    let asked = Arc::new(Asked::default());
    let listeners = [1, 2].map(|number| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let asked = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(stream, fault, number, &asked);
            }
        });
        format!("http://{address}")
    });
    listeners.join(",")
}

fn serve(mut stream: TcpStream, fault: Fault, number: usize, asked: &Asked) {
    let Some((method, path, ..)) = read_request(&mut stream, &mut Vec::new()) else { return };
    assert_eq!(method, "GET");
    let gone = fault == Fault::Gone || (fault == Fault::HalfGone && number == 2);
    let (status, body) = match path.as_str() {
        _ if gone => (503, json!({"code": "database_unavailable"})),
        "/api/cron/status" => {
            let so_far = asked.status.fetch_add(1, Ordering::SeqCst);
            (200, status(fault, number, so_far))
        }
        "/api/cron/history" => {
            (200, page(&history(fault), asked.history.fetch_add(1, Ordering::SeqCst)))
        }
        _ => (404, json!({"code": "not_found"})),
    };
    let _ = stream.write_all(&bytes(status, &format!("r-{number}"), true, &body));
}

fn servers(fault: Fault) -> [&'static str; 2] {
    if fault == Fault::IsUneven { ["r-1", "r-1"] } else { ["r-1", "r-2"] }
}

fn status(fault: Fault, number: usize, so_far: usize) -> Value {
    let running = match fault {
        Fault::IsIdle => false,
        Fault::StandsStill if number == 2 => true,
        Fault::EndsWithinARound => so_far < READINGS_RUNNING + 1,
        _ => so_far < READINGS_RUNNING,
    };
    let jobs = [1, 2].map(|run| {
        let mut job = json!({
            "name": format!("job-{run}"), "function": "f", "functionKnown": true,
            "schedule": "every 5m", "enabled": true, "state": "waiting", "server": null,
            "runId": null, "scheduledAt": null, "startedAt": null, "elapsedSeconds": null,
            "progress": null, "nextRunAt": "2026-11-21T07:05:00.000000Z", "lastRun": null,
        });
        if running {
            job["state"] = "running".into();
            job["server"] = servers(fault)[run - 1].into();
            job["runId"] = run.into();
            job["startedAt"] = "2026-11-21T07:00:00.000000Z".into();
            job["elapsedSeconds"] = 12.5.into();
            job["progress"] = 0.1.into();
        } else if fault != Fault::IsIdle {
            job["lastRun"] = json!({
                "runId": run, "server": servers(fault)[run - 1], "outcome": "succeeded",
                "startedAt": "2026-11-21T07:00:00.000000Z", "detail": null,
                "finishedAt": "2026-11-21T07:02:00.500000Z", "durationSeconds": 120.5,
            });
        }
        job
    });
    json!({"now": "2026-11-21T07:00:01.000000Z", "servedBy": format!("r-{number}"), "jobs": jobs})
}

/// One run on each page.
fn page(runs: &[Value], number: usize) -> Value {
    let Some(run) = runs.get(number) else { return json!({"runs": [], "next": null}) };
    let next = runs.get(number + 1).map(|_| &run["runId"]);
    json!({"runs": [run], "next": next})
}

fn history(fault: Fault) -> Vec<Value> {
    let run = |id: usize, job: usize, started: &str, finished: &str, seconds: f64| {
        let server = servers(fault)[job - 1];
        json!({
            "runId": id, "job": format!("job-{job}"), "function": "f", "server": server,
            "outcome": "succeeded", "scheduledAt": "2026-11-21T07:00:00.000000Z",
            "startedAt": format!("2026-11-21T{started}.000000Z"),
            "finishedAt": format!("2026-11-21T{finished}.500000Z"),
            "durationSeconds": seconds, "detail": null,
        })
    };
    let second = run(2, 2, "07:00:00", "07:02:00", 120.5);
    match fault {
        Fault::IsIdle => vec![],
        Fault::Forgets => vec![second],
        Fault::IsShort => vec![second, run(1, 1, "07:00:00", "07:01:59", 119.5)],
        Fault::RunsTwice => vec![
            run(3, 2, "07:02:00", "07:04:00", 120.5),
            second,
            run(1, 1, "07:00:00", "07:02:00", 120.5),
        ],
        _ => vec![second, run(1, 1, "07:00:00", "07:02:00", 120.5)],
    }
}

fn watch(fault: Fault, more: &str) -> Run {
    let targets = start(fault);
    Run::line(&format!("cron --targets {targets} --duration 1 --poll 100 {more}"))
}

/// The names of the checks with this result.
fn checks(run: &Run, result: &str) -> Vec<String> {
    let json = run.json();
    let checks = json["checks"].as_array().expect("a list of checks").iter();
    let chosen = checks.filter(|check| check["result"] == result);
    chosen.map(|check| check["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn a_right_cluster_passes() {
    for fault in [Fault::None, Fault::EndsWithinARound, Fault::HalfGone] {
        let run = watch(fault, "--json");
        assert_eq!(run.code, Some(0), "{fault:?}: {run}");
        let json = run.json();
        assert_eq!((&json["jobs"], &json["runs"]), (&2.into(), &2.into()), "{fault:?}: {run}");
        assert_eq!(json["outcomes"]["succeeded"], 2, "{fault:?}: {run}");
        assert_eq!(json["servers"][0]["firstWave"], 1, "{fault:?}: {run}");
        let missed = json["readingsFailed"].as_u64();
        assert_eq!(missed > Some(0), fault == Fault::HalfGone, "{fault:?}: {run}");
        let lone: &[&str] = if fault == Fault::HalfGone { &["targets agree"] } else { &[] };
        assert_eq!(checks(&run, "notJudged"), lone, "{fault:?}: {run}");
        let differs = run.stdout.contains("2 differences, explained by a change in between");
        assert_eq!(differs, fault == Fault::EndsWithinARound, "{fault:?}: {run}");
    }
}

#[test]
fn each_wrong_cluster_is_found_out() {
    thread::scope(|scope| {
        for (fault, more, failed) in [
            (Fault::RunsTwice, "", "one server at a time"),
            (Fault::IsUneven, "", "first wave"),
            (Fault::IsIdle, "", "first wave"),
            (Fault::IsShort, "", "least run time"),
            (Fault::None, "--min-run 121", "least run time"),
            (Fault::StandsStill, "", "targets agree"),
            (Fault::Forgets, "", "every run in the history"),
        ] {
            scope.spawn(move || {
                let run = watch(fault, &format!("--json {more}"));
                assert_eq!(run.code, Some(1), "{fault:?}: {run}");
                assert_eq!(checks(&run, "failed"), [failed], "{fault:?}: {run}");
                let faults = run.faults();
                assert!(faults[0].starts_with(&format!("{failed}: ")), "{fault:?}: {run}");
            });
        }
    });
}

#[test]
fn what_is_wrong_depends_on_what_is_asked_for() {
    let run = watch(Fault::IsUneven, "--spread 2 --min-run 0");
    assert_eq!(run.code, Some(0), "{run}");
}

#[test]
fn nobody_there_is_a_sentence() {
    let run = watch(Fault::Gone, "");
    assert_eq!(run.code, Some(1), "{run}");
    assert!(run.stderr.contains("no target answered while watched"), "{run}");
    assert!(run.stderr.contains("503"), "{run}");
}

#[test]
fn the_report_for_people_has_a_line_for_each_check() {
    let run = watch(Fault::Forgets, "");
    for line in [
        "loadtest cron: 2 jobs watched for 1 s",
        "Verdict: WRONG",
        "  ✓ one server at a time",
        "  ✓ first wave                r-1 1, r-2 1: max − min 0, at most 1",
        "  · starts per server",
        "  ✓ least run time            120.500 s (run 2 of job-2) is the shortest of 1",
        "  ✓ targets agree",
        "  ✗ every run in the history  run 1, seen as job-1 on r-1 is there 0 times",
    ] {
        assert!(run.stdout.contains(line), "{line}: {run}");
    }
    assert!(
        run.stderr.contains("2 running; jobs per server: r-1 1, r-2 1"),
        "a line in place of the table: {run}"
    );
    assert!(!run.stderr.contains('\x1b'), "{run}");
    run.assert_narrow();
}

fn is_over(child: &mut Child) -> bool {
    child.try_wait().expect("a child").is_some()
}

#[test]
fn an_interrupted_watch_is_judged_by_what_it_saw() {
    for (fault, code) in [(Fault::None, 0), (Fault::RunsTwice, 1)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
        let targets = start(fault);
        command.args(["cron", "--targets", &targets, "--duration", "0", "--poll", "100"]);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a watch");
        thread::sleep(Duration::from_millis(1_000));
        let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        assert!(kill.expect("kill").success());
        let end = Instant::now() + Duration::from_secs(10);
        while !is_over(&mut child) && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
        }
        let over = is_over(&mut child);
        let _ = child.kill();
        let run = Run::from(child.wait_with_output().expect("its end"));
        assert!(over, "the watch goes on: {run}");
        assert_eq!(run.code, Some(code), "{run}");
        assert!(run.stdout.contains("2 jobs watched for "), "{run}");
        assert!(run.stdout.contains("\nVerdict: "), "{run}");
    }
}
