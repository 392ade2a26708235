//! Sets of jobs that are made so as a whole: `PUT /api/cron/jobs`, and `balanced jobs apply`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::jobs_command::{command, said};
use crate::support::{
    Answer, Client, Database, Door, Local, LocalOptions, Postgres, Process, Scheduler, SetOnDrop,
    ask, at_once, endless, get, only, options, seconds, until,
};

const SOON: Duration = Duration::from_secs(20);
/// All that a write into a row of a job would change, and what is told of writes.
const ROWS: &str = "\
    select coalesce(string_agg( \
        concat_ws(' ', name, xmin, settings_tag(job), slot, locked_until), ', ' order by name \
    ), '') || (select count(*) from cron_job_changes) from cron_jobs job";

/// So many jobs, all with this schedule.
fn jobs(count: usize, schedule: &str) -> Value {
    let job = |number| {
        json!({"name": format!("job-{number:03}"), "function": "f", "schedule": schedule,
               "arguments": {"number": number}, "owner": "somebody"})
    };
    (0..count).map(job).collect::<Vec<Value>>().into()
}

fn put(addr: SocketAddr, query: &str, jobs: &Value) -> Answer {
    ask(addr, &format!("PUT /api/cron/jobs{query}"), &[], &json!({"jobs": jobs}).to_string())
}

fn two(database: &Database) -> [Local; 2] {
    [0, 1].map(|_| Local::start(database.url()))
}

/// A file that is removed at the end.
pub(crate) struct File(pub(crate) PathBuf);

impl File {
    pub(crate) fn of(name: &str, jobs: &Value) -> File {
        let name = format!("balanced-jobs-{name}-{}.json", std::process::id());
        let file = File(std::env::temp_dir().join(name));
        std::fs::write(&file.0, json!({"jobs": jobs}).to_string()).expect("a file");
        file
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn two_hundred_jobs_are_applied_twice_and_the_second_time_no_row_is_written() {
    let database = Postgres::shared().migrated().without_jobs();
    database.connect().batch_execute("delete from cron_job_changes").unwrap();
    let [one, other] = two(&database);
    let apply = |replica: &Local, file: &File, words: &[&str]| {
        let words = [&["apply", "-f", file.0.to_str().unwrap()], words].concat();
        said(&command(&format!("http://{}", replica.addr), &words).output().unwrap())
    };
    let mut all = jobs(200, "every 1h");
    let file = File::of("200", &all);
    let (code, told, _) = apply(&one, &file, &["--dry-run"]);
    assert_eq!((code, told.lines().count()), (Some(0), 201));
    assert!(told.starts_with("would be created: job-000\n"), "{told}");
    assert_eq!(database.text(ROWS), "0", "a dry run writes nothing");
    let (_, told, _) = apply(&one, &file, &[]);
    let last = |told: &str| told.lines().last().unwrap_or_default().to_owned();
    assert_eq!(last(&told), "200 created, 0 changed, 0 deleted, 0 unchanged");
    let seen = get(other.addr, "/api/cron/jobs?limit=1000").json();
    assert_eq!(seen["jobs"].as_array().map(Vec::len), Some(200));
    assert_eq!(seen["jobs"][7]["arguments"], json!({"number": 7}));

    let rows = database.text(ROWS);
    for words in [&[][..], &["--prune"], &["--dry-run"]] {
        let again = apply(&other, &file, words).1;
        let counts = "0 created, 0 changed, 0 deleted, 200 unchanged";
        assert!(again.trim_end().ends_with(counts) && again.lines().count() == 1, "{again}");
        assert_eq!(database.text(ROWS), rows);
    }
    all[3]["schedule"] = json!("every 2h");
    all[3]["retries"] = json!(3);
    all[4]["name"] = json!("renamed");
    let told = apply(&other, &File::of("changed", &all), &["--prune"]).1;
    let expected = "created: renamed\nchanged: job-003: retries, schedule\ndeleted: job-004\n\
                    1 created, 1 changed, 1 deleted, 198 unchanged\n";
    assert_eq!(told, expected);
    assert_eq!(database.number("select count(*) from cron_job_changes"), 203);
}

#[test]
fn every_fault_is_told_with_its_place_and_nothing_is_changed() {
    let database = Postgres::shared().migrated().without_jobs();
    let replica = Local::start(database.url());
    let right = json!({"name": "a", "function": "f", "schedule": "every 1h"});
    let with = |field: &str, value: Value| {
        let mut job = right.clone();
        job["name"] = json!("b");
        job[field] = value;
        json!([right, job])
    };
    let mut without = with("name", json!("b"));
    without[1].as_object_mut().unwrap().remove("schedule");
    for (jobs, field) in [
        (json!([]), "jobs"),
        (json!({}), "jobs"),
        (json!([1]), "jobs[0]"),
        (jobs(1_001, "every 1h"), "jobs"),
        (without, "jobs[1].schedule"),
        (with("name", json!("a")), "jobs[1].name"),
        (with("name", json!("A")), "jobs[1].name"),
        (with("function", json!("A b")), "jobs[1].function"),
        (with("schedule", json!("every 0s")), "jobs[1].schedule"),
        (with("schedule", json!("0 0 30 2 *")), "jobs[1].schedule"),
        (with("enabled", json!(1)), "jobs[1].enabled"),
        (with("retries", json!(21)), "jobs[1].retries"),
        (with("unknown", json!(1)), "jobs[1].unknown"),
    ] {
        let answer = put(replica.addr, "", &jobs);
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"), "{field}");
        assert_eq!(answer.json()["field"], field);
    }
    // The function is of this build, and takes no such arguments.
    let mut wrong = with("arguments", json!({"no": "such"}));
    wrong[1]["function"] = json!("estimate-pi");
    assert_eq!(put(replica.addr, "", &wrong).json()["field"], "jobs[1].arguments");
    assert_eq!(put(replica.addr, "?dryRun=true", &wrong).json()["field"], "jobs[1].arguments");
    for (query, field) in [("?dryRun=1", "dryRun"), ("?prune=yes", "prune"), ("?x=1", "x")] {
        assert_eq!(put(replica.addr, query, &json!([right])).json()["field"], field);
    }
    assert_eq!(database.number("select count(*) from cron_jobs"), 0);
}

/// They have no job in common, and there is none before: so no lock of a row keeps them apart.
#[test]
fn of_two_sets_at_once_one_is_there_afterwards_and_no_half() {
    let database = Postgres::shared().migrated().without_jobs();
    let replicas = two(&database);
    let sets = [(60, "one"), (80, "other")].map(|(count, name)| {
        let mut set = jobs(count, "every 1h");
        for job in set.as_array_mut().unwrap() {
            job["name"] = json!(job["name"].as_str().unwrap().replace("job", name));
        }
        set
    });
    let found = "select count(*) || ' ' || min(name) || ' ' || max(name) from cron_jobs";
    for round in 0..30 {
        database.connect().batch_execute("delete from cron_jobs").unwrap();
        let statuses = at_once(2, &replicas, |index, client| {
            let body = json!({"jobs": sets[index]}).to_string();
            client.ask("PUT /api/cron/jobs?prune=true", &[], &body).status
        });
        assert_eq!(statuses, [200, 200], "round {round}");
        let found = database.text(found);
        let is_one = ["60 one-000 one-059", "80 other-000 other-079"].contains(&found.as_str());
        assert!(is_one, "round {round}: {found}");
    }
}

/// The replica has created jobs, and waits for the row of another one, when it is killed.
#[test]
fn of_a_set_whose_replica_is_killed_nothing_is_there() {
    let database = Postgres::shared().migrated().without_jobs();
    database.add_job_calling("job-000", "f", "every 1m");
    let mut process = Process::start(database.url(), &[("CRON_ENABLED", "false")]);
    let other = Local::start(database.url());
    let rows = database.text(ROWS);
    let mut holder = database.connect();
    let mut lock = holder.transaction().unwrap();
    lock.query("select from cron_jobs for update", &[]).unwrap();
    let waits = "select count(*) from pg_stat_activity where datname = current_database() \
                 and wait_event_type = 'Lock' and query like '%order by name for no key update%'";
    let body = json!({"jobs": jobs(200, "every 1h")}).to_string();
    let mut client = Client::connect(process.addr);
    client.send_request("PUT /api/cron/jobs", &[], &body);
    database.wait_for("it waits for the row", SOON, 1, waits);
    assert!(get(other.addr, "/health").status == 200 && database.text(ROWS) == rows);
    process.signal("-KILL");
    process.wait(SOON);
    drop(lock);
    database.wait_for("its session has ended", SOON, 0, waits);
    let left = "select count(*) from pg_locks where locktype = 'advisory' and database = \
                (select oid from pg_database where datname = current_database())";
    database.wait_for("its locks are gone", SOON, 0, left);
    assert_eq!(database.text(ROWS), rows, "none of it");
    let answer = put(other.addr, "", &jobs(200, "every 1h")).json();
    assert_eq!(
        (&answer["created"][0], answer["changed"][0]["name"].as_str()),
        (&json!("job-001"), Some("job-000"))
    );
    assert_eq!(database.number("select count(*) from cron_jobs where schedule = 'every 1h'"), 200);
}

#[test]
fn a_running_job_is_changed_and_goes_on_and_is_not_pruned() {
    let database = Postgres::shared().migrated().without_jobs();
    let [one, other] = two(&database);
    database.add_job_calling("job-000", "f", "every 1h");
    let _scheduler = Scheduler::start(database.url(), &options("a"), only("f", endless));
    let open = "select count(*) from cron_runs where finished_at is null";
    database.wait_for("it runs", SOON, 1, open);

    let others =
        json!([{"name": "other", "function": "f", "schedule": "every 2h", "enabled": false}]);
    let refused = put(one.addr, "?prune=true", &others);
    assert_eq!((refused.status, refused.code().as_str()), (409, "job_running"));
    assert_eq!(refused.json()["detail"], "the job \"job-000\" is running");
    assert_eq!(database.number("select count(*) from cron_jobs"), 1, "all or none");
    let slot = database.text("select slot::text from cron_jobs");
    let changed = put(one.addr, "", &jobs(1, "every 3h")).json();
    assert_eq!(changed["changed"][0]["fields"], json!(["arguments", "owner", "schedule"]));
    let seen = get(other.addr, "/api/cron/jobs/job-000").json();
    assert_eq!((&seen["state"], &seen["schedule"]), (&json!("running"), &json!("every 3h")));
    assert_eq!(database.text("select slot::text from cron_jobs"), slot);

    // What a set says nothing of stays: somebody has paused the job for a reason.
    let paused = ask(other.addr, "PATCH /api/cron/jobs/job-000", &[], r#"{"enabled":false}"#);
    assert_eq!(paused.status, 200);
    assert_eq!(put(one.addr, "", &jobs(1, "every 3h")).json()["unchanged"], 1);
    let mut enabled = jobs(1, "every 3h");
    enabled[0]["enabled"] = json!(true);
    let changed = put(one.addr, "", &enabled).json();
    assert_eq!(changed["changed"][0]["fields"], json!(["enabled"]));
    assert_eq!(database.number(open), 1, "the run goes on");
}

#[test]
fn a_job_that_has_run_once_is_no_hindrance_to_its_file() {
    let database = Postgres::shared().migrated().without_jobs();
    let [one, other] = two(&database);
    let soon = "select 'at ' || to_char((now() + interval '5 s') at time zone 'UTC', \
                'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')";
    let job = |name: &str, when: &str| {
        json!({"name": name, "function": "tell", "schedule": when,
               "enabled": true})
    };
    let once = job("once", &database.text(soon));
    let all = json!([once, job("past", "at 2020-01-01T00:00:00Z")]);
    let made = put(one.addr, "", &all).json();
    assert_eq!((&made["created"], &made["over"]), (&json!(["once", "past"]), &json!(["past"])));
    let enabled = "select string_agg(name || ' ' || enabled, ', ' order by name) from cron_jobs";
    assert_eq!(database.text(enabled), "once true, past false");
    let (go, gone) = mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let tell = move |_: &_| Ok(format!("{:?}", gone.lock().unwrap().recv()));
    let _scheduler = Scheduler::start(database.url(), &options("a"), only("tell", tell));
    let open = "select count(*) from cron_runs where finished_at is null";
    database.wait_for("it runs", SOON, 1, open);
    assert_eq!(put(other.addr, "", &all).json()["unchanged"], 2, "it may have to be tried again");
    go.send(()).unwrap();
    database.wait_for("it has run", SOON, 0, open);
    let again = put(other.addr, "", &all).json();
    assert_eq!((&again["unchanged"], &again["over"]), (&json!(2), &json!(["once", "past"])));
    assert_eq!(database.text(enabled), "once false, past false");
    let again = json!([job("once", "every 1h"), job("past", "at 2020-01-02T00:00:00Z")]);
    let changed = put(one.addr, "", &again).json();
    assert_eq!(changed["changed"][0]["fields"], json!(["enabled", "schedule"]));
    assert_eq!(changed["changed"][1]["fields"], json!(["schedule"]));
    assert_eq!(database.text(enabled), "once true, past false");
    // A job that waits for its run does not lose it by a slip in the file.
    let slip = put(one.addr, "", &json!([job("once", "at 2020-01-01T00:00:00Z")]));
    assert_eq!(slip.json()["field"], "jobs[0].schedule");
    assert_eq!(database.text(enabled), "once true, past false");
}

/// Claims, renewals, ends, single changes and deletions, all at the jobs of the sets.
#[test]
fn sets_are_applied_beside_runs_and_single_changes_without_a_deadlock() {
    let database = Postgres::shared().migrated().without_jobs();
    let replicas = two(&database);
    let quick = || only("f", |_| Ok("done".to_owned()));
    let _schedulers =
        ["a", "b"].map(|name| Scheduler::start(database.url(), &options(name), quick()));
    // A new schedule would move the slots.
    let sets = [(40, "one"), (50, "other")].map(|(count, owner)| {
        let mut set = jobs(count, "every 1s");
        for job in set.as_array_mut().unwrap() {
            job["owner"] = json!(owner);
            job["arguments"] = json!({});
        }
        set
    });
    assert_eq!(put(replicas[0].addr, "", &sets[1]).status, 200);
    let (stop, applied) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for (replica, set) in replicas.iter().zip(&sets) {
            let (stop, applied) = (&stop, &applied);
            scope.spawn(move || {
                let _end = SetOnDrop(stop);
                while !stop.load(Ordering::Relaxed) {
                    let answer = put(replica.addr, "?prune=true", set);
                    assert!([200, 409].contains(&answer.status), "{:?}", answer.code());
                    applied.fetch_add(u64::from(answer.status == 200), Ordering::Relaxed);
                }
            });
            scope.spawn(move || {
                let _end = SetOnDrop(stop);
                for number in (0..50).cycle().take_while(|_| !stop.load(Ordering::Relaxed)) {
                    let path = format!("/api/cron/jobs/job-{number:03}");
                    let change =
                        ask(replica.addr, &format!("PATCH {path}"), &[], r#"{"retries":1}"#);
                    assert!([200, 404].contains(&change.status), "{:?}", change.code());
                    let deletes = number % 10 == 0;
                    let deleted =
                        deletes.then(|| ask(replica.addr, &format!("DELETE {path}"), &[], ""));
                    let status = deleted.map_or(404, |deleted| deleted.status);
                    assert!([204, 404, 409].contains(&status), "{status}");
                }
            });
        }
        let _end = SetOnDrop(&stop);
        thread::sleep(seconds("JOB_SETS_SECONDS", 6));
        until("many were applied", SOON, || applied.load(Ordering::Relaxed) > 10);
    });
    assert!(database.number("select count(*) from cron_runs") > 10, "they went on to run");
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    assert_eq!(database.number(deadlocks), 0);
    let failed = "select coalesce(string_agg(distinct outcome || ': ' || detail, ', '), '') \
                  from cron_runs where outcome <> 'succeeded'";
    assert_eq!(database.text(failed), "");
    until("the set is there", SOON, || {
        put(replicas[0].addr, "?prune=true", &sets[0]).status == 200
    });
    assert_eq!(put(replicas[1].addr, "?prune=true&dryRun=true", &sets[0]).json()["unchanged"], 40);
}

#[test]
fn a_long_set_is_read_with_a_known_token_only_and_passes_the_door() {
    const TOKEN: &str = "correct-horse-battery";
    let database = Postgres::shared().migrated().without_jobs();
    let with_token = LocalOptions { token: Some(TOKEN), ..LocalOptions::default() };
    let guarded = Local::start_with(database.url(), with_token);
    let mut client = Client::connect(guarded.addr);
    // None of the body is sent.
    client.send("PUT /api/cron/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
    assert_eq!(client.receive().expect("an answer").status, 401);

    let mut long = jobs(300, "every 1h");
    for job in long.as_array_mut().unwrap() {
        job["arguments"] = json!({"text": "x".repeat(3_000)});
    }
    let field = format!("Authorization: Bearer {TOKEN}");
    let body = json!({"jobs": long}).to_string();
    let answer = ask(guarded.addr, "PUT /api/cron/jobs", &[&field], &body);
    assert_eq!(answer.json()["created"].as_array().map(Vec::len), Some(300));
    let by = "select count(*) from cron_job_changes where changed_by = 'API_TOKEN'";
    assert_eq!(database.number(by), 300);
    let Some(door) = Door::start(&[guarded.addr]) else { return };
    let answer = ask(door.addr, "PUT /api/cron/jobs", &[&field], &body);
    assert_eq!(answer.json()["unchanged"], 300);
    let longer = format!("{body}{}", " ".repeat(1 << 20));
    for addr in [guarded.addr, door.addr] {
        let refused = ask(addr, "PUT /api/cron/jobs", &[&field], &longer);
        assert_eq!((refused.status, refused.code().as_str()), (413, "body_too_large"));
    }
    // In chunks the door keeps it whole, and a buffer has no room for a long one.
    let mut client = Client::connect(door.addr);
    client.send(format!(
        "PUT /api/cron/jobs HTTP/1.1\r\nHost: x\r\n{field}\r\nTransfer-Encoding: chunked\r\n\r\n\
         {:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    ));
    assert_eq!(client.receive().expect("an answer").code(), "body_too_large");
}
