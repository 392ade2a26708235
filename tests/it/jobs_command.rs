//! `balanced jobs …` as a process: what it asks of the service, what it prints, and how it ends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output, Stdio};
use std::thread;

use serde_json::{Value, json};

use crate::https::Certificate;
use crate::job_sets::File;
use crate::support::{
    Door, Local, LocalOptions, Postgres, Scheduler, endless, get, only, options, until,
};
use std::time::Duration;

const TOKEN: &str = "correct-horse-battery";

/// The command, without any variable of its own yet.
pub(crate) fn command(url: &str, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_balanced"));
    command.env_clear().env("BALANCED_URL", url).arg("jobs").args(words);
    command
}

/// How it ended, and what it said.
pub(crate) fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn run(addr: SocketAddr, words: &[&str]) -> (Option<i32>, String, String) {
    said(&command(&format!("http://{addr}"), words).output().expect("the command"))
}

/// Reads one request, with a body as long as it says, and gives this answer.
fn serve_one(listener: &TcpListener, status: &str, body: &str) -> String {
    let (mut socket, _) = listener.accept().expect("a connection");
    let mut request = String::new();
    let mut byte = [0];
    let length = |head: &str| {
        let line = head.split("Content-Length: ").nth(1)?.lines().next()?;
        line.parse::<usize>().ok()
    };
    loop {
        let head = request.find("\r\n\r\n").map(|end| end + 4);
        if head.is_some_and(|head| request.len() == head + length(&request).expect("a length")) {
            break;
        }
        socket.read_exact(&mut byte).expect("the request goes on");
        request.push(char::from(byte[0]));
    }
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    socket.write_all(answer.as_bytes()).expect("an answer");
    request
}

/// What was asked of a service that gives this answer, and how the command ended.
fn asked(words: &[&str], status: &str, body: &str) -> (String, (Option<i32>, String, String)) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/behind/", listener.local_addr().unwrap());
    let mut command = command(&url, words);
    command.env("BALANCED_TOKEN", TOKEN).stdin(Stdio::null());
    thread::scope(|scope| {
        let request = scope.spawn(|| serve_one(&listener, status, body));
        let output = command.output().expect("the command");
        (request.join().unwrap(), said(&output))
    })
}

#[test]
fn each_command_is_one_request_with_the_token() {
    let body = json!({"jobs": [], "now": "", "state": "running", "unchanged": 0}).to_string();
    let file = File::of("empty", &json!([]));
    let apply = format!("apply --dry-run -f {}", file.0.display());
    let at = r#"{"reason":"deploy","until":"2027-01-31T22:00:00.000000Z"}"#;
    for (line, head, sent, told) in [
        ("list", "GET /api/cron/jobs", "", "JOB  STATE"),
        ("show a", "GET /api/cron/jobs/a", "", "state                 running\n"),
        ("run a", "POST /api/cron/jobs/a/run", "", "a is due\n"),
        (
            "stop a 7",
            "POST /api/cron/jobs/a/stop",
            r#"{"runId":7}"#,
            "run 7 of a is told to stop\n",
        ),
        (
            "pause --all --reason deploy --until 2027-01-31T22:00:00Z",
            "POST /api/cron/pause",
            at,
            "all jobs are paused until 2027-01-31T22:00:00.000000Z; what runs goes on; to end ",
        ),
        ("resume --all", "POST /api/cron/resume", "", "the pause of all jobs has ended\n"),
        ("pause a", "PATCH /api/cron/jobs/a", r#"{"enabled":false}"#, "a is paused\n"),
        ("resume a", "PATCH /api/cron/jobs/a", r#"{"enabled":true}"#, "a is enabled\n"),
        (
            &apply,
            "PUT /api/cron/jobs?dryRun=true&prune=false",
            r#"{"jobs":[]}"#,
            "0 created, 0 changed, 0 deleted, 0 unchanged\n",
        ),
    ] {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (request, (code, out, err)) = asked(&words, "200 OK", &body);
        let (method, path) = head.split_once(' ').unwrap();
        let first = format!("{method} /behind{path} HTTP/1.1\r\n");
        assert!(request.starts_with(&first), "{line}: {request}");
        assert!(request.contains(&format!("\r\nAuthorization: Bearer {TOKEN}\r\n")), "{request}");
        assert!(request.ends_with(&format!("\r\n\r\n{sent}")), "{line}: {request}");
        assert_eq!((code, err.as_str()), (Some(0), ""), "{line}");
        assert!(out.starts_with(told), "{line}: {out}");
    }
}

#[test]
fn a_refusal_is_one_line_and_ends_with_1_whatever_refuses() {
    let problem =
        json!({"detail": "no such \u{1b}[2J thing", "field": "jobs[3].schedule"}).to_string();
    for (status, body, why) in [
        ("400 Bad Request", problem.as_str(), "jobs[3].schedule: no such ?[2J thing\n"),
        ("502 Bad Gateway", "<html>", "has answered with the status 502\n"),
        ("200 OK", "<html>", "is no such service: it has not answered in JSON\n"),
    ] {
        let (_, (code, out, err)) = asked(&["list"], status, body);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{status}");
        assert!(err.ends_with(why) && err.lines().count() == 1, "{err}");
        assert!(!err.contains(TOKEN), "{err}");
    }
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, _, err) = run(closed, &["list"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("was not reached") && err.contains("BALANCED_URL"), "{err}");
    let (code, _, err) = run(closed, &["apply", "-f", "/nowhere.json"]);
    assert_eq!(code, Some(1));
    assert!(err.starts_with("balanced: /nowhere.json: No such file"), "{err}");
    let (code, _, err) = run(closed, &["apply", "-f", "/dev/null"]);
    assert_eq!(code, Some(1));
    assert!(err.starts_with("balanced: /dev/null: it is not JSON: EOF"), "{err}");
}

#[test]
fn wrong_use_ends_with_2_and_nothing_is_asked() {
    let nowhere = "http://127.0.0.1:1";
    for (url, token, line, why) in [
        (nowhere, "", "", "jobs: give one of the commands"),
        (nowhere, "", "run", "balanced jobs run NAME"),
        ("127.0.0.1:8080", "", "list", "BALANCED_URL must be"),
        ("http://me:secret@127.0.0.1", "", "list", "BALANCED_URL must be"),
        (nowhere, "a b", "list", "BALANCED_TOKEN must be"),
    ] {
        let words: Vec<&str> = line.split_whitespace().collect();
        let output = command(url, &words).env("BALANCED_TOKEN", token).output().unwrap();
        let (code, out, err) = said(&output);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{line}: {err}");
        assert!(err.contains(why) && err.lines().count() == 1, "{line}: {err}");
        assert!(!err.contains("secret") && !err.contains("a b"), "{err}");
    }
    let help = said(&command("wrong", &["apply", "--help"]).output().unwrap());
    assert!(help.0 == Some(0) && help.1.starts_with("balanced jobs apply -f FILE"), "{help:?}");
}

/// Seen through a second replica each time.
#[test]
fn a_job_is_listed_run_paused_and_resumed_at_a_service_that_asks_for_a_token() {
    let database = Postgres::shared().migrated().without_jobs();
    let with_token = || LocalOptions { token: Some(TOKEN), ..LocalOptions::default() };
    let replicas = [0, 1].map(|_| Local::start_with(database.url(), with_token()));
    let other = Local::start(database.url());
    let ask = |words: &[&str]| {
        let mut command = command(&format!("http://{}", replicas[0].addr), words);
        said(&command.env("BALANCED_TOKEN", TOKEN).output().unwrap())
    };
    database.add_job("endless", "every 1h");
    let seen = || get(other.addr, "/api/cron/jobs/endless").json();

    let (code, _, err) = run(replicas[0].addr, &["pause", "endless"]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("has the scope `jobs`; BALANCED_TOKEN must have one"), "{err}");
    assert_eq!(seen()["state"], "due");
    assert_eq!(ask(&["pause", "endless"]).0, Some(0));
    assert_eq!(seen()["state"], "paused");
    let (code, _, err) = ask(&["run", "endless"]);
    assert_eq!((code, err.contains("is paused; resume it first")), (Some(1), true), "{err}");
    let (code, _, err) = ask(&["run", "nobody"]);
    assert_eq!((code, err.as_str()), (Some(1), "balanced: there is no job \"nobody\"\n"));
    let (code, _, err) = ask(&["stop", "endless"]);
    assert_eq!((code, err.as_str()), (Some(1), "balanced: the job \"endless\" does not run\n"));
    assert_eq!(ask(&["resume", "endless"]).0, Some(0));
    assert_eq!(seen()["state"], "waiting");
    let _scheduler = Scheduler::start(database.url(), &options("a"), only("endless", endless));
    let told = ask(&["run", "endless"]).1;
    assert_eq!(told, "endless is due\nwaits for             function\n", "not of this replica");
    until("it runs", Duration::from_secs(20), || seen()["state"] == "running");

    let (code, list, _) = ask(&["list"]);
    let job = list.lines().nth(1).expect("a job").split_whitespace().collect::<Vec<_>>();
    assert_eq!((code, &job[..3]), (Some(0), &["endless", "running", "a"][..]), "{list}");
    assert!(job[4..].starts_with(&["in"]), "{list}");
    let (_, json, _) = ask(&["list", "--json"]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["jobs"][0]["name"], "endless");
    let (_, page, _) = ask(&["show", "endless"]);
    assert!(page.contains("\nschedule              every 1h\n"), "{page}");
    assert!(page.contains("\n  server              a\n"), "{page}");
}

#[test]
fn the_door_is_reached_by_https_and_no_other_server_gets_the_token() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    let ours = Certificate::new("of-commands");
    let file = ours.file.to_str().expect("a plain path");
    let Some(door) = Door::start_with(&[replica.addr], &[("DOOR_CERTIFICATE", file)]) else {
        return;
    };
    let authority = ours.file.with_extension("ca");
    std::fs::write(&authority, &ours.authority_pem).expect("a file");
    let ask = |host: &str| {
        let mut command = command(&format!("https://{host}:{}", door.addr.port()), &["list"]);
        said(&command.env("SSL_CERT_FILE", &authority).output().unwrap())
    };
    let (right, wrong) = (ask("localhost"), ask("127.0.0.1"));
    let _ = std::fs::remove_file(&authority);
    assert_eq!((right.0, right.2.as_str()), (Some(0), ""));
    assert_eq!(right.1.lines().count(), 11, "{}", right.1);
    assert_eq!(wrong.0, Some(1));
    assert!(wrong.2.contains("not valid for name"), "{}", wrong.2);
}
