//! The log is made to be read by `grep`: the form of each line, the list of all events, and the
//! lives that can be followed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{Postgres, Process, ask};
use crate::tidy::{ROOT, files};

const SOON: Duration = Duration::from_secs(30);
const TOKEN: &str = "correct-horse-battery";
const OPEN_RUNS: &str = "select count(*) from cron_runs where finished_at is null";

/// `TIME [LEVEL] event=… key=value … server=…`, read to its end.
#[derive(Debug)]
struct Line {
    level: String,
    fields: Vec<(String, String)>,
}

impl Line {
    fn parse(text: &str) -> Line {
        let mut parts = text.splitn(3, ' ');
        let (time, level, mut rest) = match (parts.next(), parts.next(), parts.next()) {
            (Some(time), Some(level), Some(rest)) => (time, level, rest),
            _ => panic!("too short: {text}"),
        };
        assert!(time.parse::<chrono::DateTime<chrono::Utc>>().is_ok(), "no instant: {text}");
        let level = level.strip_prefix('[').and_then(|level| level.strip_suffix(']'));
        let level = level.unwrap_or_else(|| panic!("no level: {text}")).to_ascii_lowercase();
        let mut fields: Vec<(String, String)> = Vec::new();
        while !rest.is_empty() {
            let (name, after) = rest.split_once('=').unwrap_or_else(|| panic!("{rest:?}: {text}"));
            let snake = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(!name.is_empty() && name.chars().all(snake), "{name:?} is no name: {text}");
            assert!(fields.iter().all(|(known, _)| known != name), "{name} comes twice: {text}");
            let end = if after.starts_with('"') { end_of_quoted(after) } else { after.find(' ') };
            let (value, after) = after.split_at(end.unwrap_or(after.len()));
            let plain = |c: char| c.is_ascii_alphanumeric() || "._:/+=-".contains(c);
            let bare = !value.is_empty() && value.chars().all(plain);
            assert!(bare || value.starts_with('"'), "{name}={value}: {text}");
            fields.push((name.to_owned(), value.to_owned()));
            rest = after.strip_prefix(' ').unwrap_or(after);
        }
        assert_eq!(fields.first().expect("fields").0, "event", "{text}");
        assert_eq!(fields.last().expect("fields").0, "server", "{text}");
        Line { level, fields }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn event(&self) -> &str {
        self.get("event").expect("an event")
    }
}

/// Behind the closing quotation mark.
fn end_of_quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    let closing = text.char_indices().skip(1).find(|(_, c)| {
        let closes = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        closes
    });
    closing.map(|(at, _)| at + 1)
}

/// What the list in `src/logger.rs` says of an event.
#[derive(Debug, Default)]
struct Entry {
    levels: BTreeSet<String>,
    fields: BTreeSet<String>,
}

impl Entry {
    fn allows(&self, level: &str) -> bool {
        self.levels.contains(level) || self.levels.contains("any")
    }
}

fn words(text: &str) -> BTreeSet<String> {
    text.split(", ").map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
}

/// The list: `name` (levels) fields: meaning.
fn listed() -> BTreeMap<String, Entry> {
    let text = fs::read_to_string(Path::new(ROOT).join("src/logger.rs")).expect("the logger");
    let list = text.replace("\n//!   ", " ");
    let entries = list.lines().filter_map(|line| line.strip_prefix("//! - `"));
    let read = |entry: &str| {
        let (name, rest) = entry.split_once("` (").expect("a name");
        let (levels, rest) = rest.split_once(')').expect("levels");
        let fields = words(rest.split(':').next().unwrap_or_default());
        (name.to_owned(), Entry { levels: words(levels), fields })
    };
    entries.map(read).collect()
}

/// A statement that logs: the macro's name, and the literal without what stands in quotes.
fn statements(source: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (at, _) in source.match_indices("\"event=") {
        let literal = &source[at..at + end_of_quoted(&source[at..]).expect("its end")];
        let outside = literal.trim_matches('"').split("\\\"").step_by(2);
        let literal: String = outside.collect::<Vec<_>>().join("_").replace("\\\n", "");
        let before = source[..at].rsplit_once("!(").map_or("", |(before, _)| before);
        let name = before.rsplit(|c: char| !c.is_ascii_lowercase()).next().unwrap_or_default();
        found.push((name.to_owned(), literal));
    }
    found
}

#[test]
fn every_event_is_in_the_list_and_nothing_else_is() {
    let (list, mut logged) = (listed(), BTreeMap::<String, Entry>::new());
    for path in files("src", ".rs") {
        for (level, literal) in statements(&fs::read_to_string(&path).expect("a source")) {
            let at = format!("{}: {literal}", path.display());
            let mut fields = literal.split_whitespace().filter_map(|word| word.split_once('='));
            let (_, name) = fields.next().expect("an event");
            let snake = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(name.chars().all(snake), "{at}");
            let entry = logged.entry(name.to_owned()).or_default();
            // The event of other crates' lines has no level of its own, nor has a chosen one.
            if ["error", "warn", "info", "debug"].contains(&level.as_str()) {
                assert!(list.get(name).is_some_and(|entry| entry.allows(&level)), "{level}: {at}");
                entry.levels.insert(level);
            }
            entry.fields.extend(fields.map(|(field, _)| field.to_owned()));
            // Written where it is known.
            entry.fields.extend(literal.contains("{by}").then(|| "actor".to_owned()));
            assert!(!entry.fields.contains("server"), "each line has it by itself: {at}");
        }
    }
    let names = |entries: &BTreeMap<String, Entry>| entries.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&logged), names(&list));
    for (name, entry) in &logged {
        // The settings of a job are written where they are given.
        let settings = ["function", "schedule", "enabled"].map(str::to_owned);
        let mut fields = entry.fields.clone();
        if ["job_created", "job_changed"].contains(&name.as_str()) {
            fields.extend(settings);
        }
        assert_eq!(fields, list[name].fields, "{name}");
    }
}

/// The events of the lines that `grep` finds with this text.
fn followed(logs: &str, text: &str) -> Vec<String> {
    let found = logs.lines().filter(|line| line.contains(text));
    found.map(|line| Line::parse(line).event().to_owned()).collect()
}

#[test]
fn the_lives_of_runs_and_replicas_can_be_followed() {
    let database = Postgres::shared().migrated().without_jobs();
    let start = |name: &str, least: &str| {
        let settings = [
            ("REPLICA_NAME", name),
            ("JOB_MIN_SECONDS", least),
            ("API_TOKEN", TOKEN),
            ("LOG_LEVEL", "debug"),
            ("CRON_LEASE_SECONDS", "3"),
            ("CRON_HANDICAP_MS", "0"),
            ("CRON_POLL_MS", "100"),
        ];
        Process::start(database.url(), &settings)
    };
    let first = start("a", "60");
    database.add_job_calling("pi", "estimate-pi", "every 1h");
    database.wait_for("it runs", SOON, 1, OPEN_RUNS);
    // Long enough to be seen while it runs, also on a busy machine.
    let mut second = start("b", "6");
    first.signal("-KILL");
    let done = "select count(*) from cron_runs where outcome = 'succeeded'";
    database.wait_for("it has run elsewhere", SOON, 1, done);
    let authorized = format!("Authorization: Bearer {TOKEN}");
    let send =
        |head: &str, headers: &[&str], body: &str| ask(second.addr, head, headers, body).status;
    let named = [authorized.as_str(), "X-Request-Id: by-me"];
    assert_eq!(send("PATCH /api/cron/jobs/pi", &named, "{\"enabled\":false}"), 200);
    assert_eq!(send("PATCH /api/cron/jobs/pi", &named, "{\"enabled\":true}"), 200);
    assert_eq!(send("DELETE /api/cron/jobs/\"\\server=a", &[], ""), 401);
    assert_eq!(send("DELETE /api/cron/jobs/\"\u{1b}\\server=a", &[], ""), 400);
    assert_eq!(send("POST /api/cron/jobs/pi/run", &named, ""), 202);
    database.wait_for("it runs again", SOON, 1, OPEN_RUNS);
    second.signal("-TERM");
    assert_eq!(second.wait(SOON).code(), Some(0));

    let (logs, list) = (first.log() + &second.log(), listed());
    for text in logs.lines() {
        let line = Line::parse(text);
        let entry = list.get(line.event()).unwrap_or_else(|| panic!("not listed: {text}"));
        assert!(entry.allows(&line.level), "{text}");
        let mut known = line.fields.iter().skip(1).filter(|(name, _)| name != "server");
        assert!(known.all(|(name, _)| entry.fields.contains(name)), "{text}");
    }
    let ids = "select string_agg(id::text, ' ' order by id) from cron_runs";
    let ids = database.text(ids);
    let life = |id| {
        let mut life = followed(&logs, &format!("run={id} "));
        // A busy machine may let the database wait, which a life may tell at any point.
        life.retain(|event| !["step_waits", "record_waits"].contains(&event.as_str()));
        life.join(" ")
    };
    let lives: Vec<_> = ids.split(' ').map(life).collect();
    let right = [
        "run_started run_taken_over",
        "run_taken_over run_ended",
        "run_started run_cancelled run_ended",
    ];
    assert_eq!(lives, right, "{logs}");
    let steps = ["started", "serving", "draining", "runs_cancelled", "listening_ended", "stopped"];
    let life = followed(&second.log(), "server=b");
    let life: Vec<_> = life.iter().filter(|event| steps.contains(&event.as_str())).collect();
    assert_eq!(life, steps);
    // That a request was answered is written when its client may have sent the next one.
    let mine = followed(&logs, "request_id=by-me actor=API_TOKEN ").into_iter();
    let (answered, mine): (Vec<_>, Vec<_>) = mine.partition(|event| event == "answered");
    assert_eq!(mine, ["job_changed", "job_changed", "job_requested"]);
    assert_eq!(answered.len(), mine.len());
    assert_eq!(logs.matches("event=request_denied").count(), 1);
    assert!(!logs.contains('\u{1b}'), "{logs}");
}

/// Replicas may share one pipe. Of a socket that keeps messages apart, each write is one.
#[test]
fn a_line_is_written_at_once_so_that_lines_of_several_replicas_are_never_mixed() {
    let (ours, theirs) = UnixDatagram::pair().expect("sockets");
    ours.set_read_timeout(Some(SOON)).expect("a limit");
    let mut replica = Command::new(env!("CARGO_BIN_EXE_balanced"))
        .env_clear()
        .envs([("DATABASE_URL", "host=/nowhere dbname=x user=x"), ("LISTEN_ADDR", "127.0.0.1:0")])
        .stdin(Stdio::null())
        .stderr(OwnedFd::from(theirs))
        .spawn()
        .expect("a replica");
    let mut bytes = [0; 8_192];
    let lines: Vec<String> = (0..3)
        .map_while(|_| ours.recv(&mut bytes).ok().map(|length| bytes[..length].to_vec()))
        .map(|line| String::from_utf8(line).expect("a text"))
        .collect();
    replica.kill().expect("its end");
    replica.wait().expect("its end");
    let events: Vec<_> = lines
        .iter()
        .map(|line| line.strip_suffix('\n').unwrap_or_else(|| panic!("a part of one: {lines:?}")))
        .map(|line| Line::parse(line).event().to_owned())
        .collect();
    assert_eq!(events, ["started", "time_zones", "database_away"]);
}
