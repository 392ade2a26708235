//! What a run says is seen while it goes on, through any replica, and not for ever.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use balanced::cron::{Context, Failure, Functions};
use balanced::jobs::{self, FunctionOptions};
use serde_json::{Value, json};

use crate::support::{
    Database, Local, Postgres, Scheduler, endless, get, only, options, until, witness,
};

const LEASE: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_secs(30);
const ENDED: &str = "select count(*) from cron_runs where finished_at is not null";
const LINES: &str = "select count(*) from cron_run_lines";

fn database() -> Database {
    Postgres::shared().migrated().without_jobs()
}

/// Says a line each time it is told to, and ends when nobody will tell it any more.
fn talks() -> (Functions, mpsc::Sender<String>) {
    let (tell, told) = mpsc::channel::<String>();
    let told = Mutex::new(told);
    let talks = move |context: &Context| -> Result<String, Failure> {
        loop {
            match told.lock().unwrap().try_recv() {
                Ok(line) => context.say(&line),
                Err(mpsc::TryRecvError::Empty) => context.wait(Duration::from_millis(5))?,
                Err(mpsc::TryRecvError::Disconnected) => return Ok("said".to_owned()),
            }
        }
    };
    (only("talks", talks), tell)
}

fn log(addr: SocketAddr, run: i64, query: &str) -> Value {
    get(addr, &format!("/api/cron/runs/{run}/log{query}")).json()
}

fn texts(log: &Value) -> Vec<&str> {
    log["lines"].as_array().unwrap().iter().map(|line| line["line"].as_str().unwrap()).collect()
}

#[test]
fn a_run_and_what_it_says_are_seen_through_another_replica_while_it_goes_on() {
    let database = database();
    let local = Local::start(database.url());
    database.add_job("talks", "every 1h");
    let (functions, tell) = talks();
    let _replica = Scheduler::start(database.url(), &options("a"), functions);
    ["one", "two\nlines", "three"].iter().for_each(|line| tell.send((*line).to_owned()).unwrap());
    database.wait_for("three lines", SOON, 3, LINES);
    let id = database.number("select id from cron_runs");
    let run = get(local.addr, &format!("/api/cron/runs/{id}")).json();
    for (field, value) in [
        ("runId", json!(id)),
        ("job", json!("talks")),
        ("function", json!("talks")),
        ("server", json!("a")),
        ("state", json!("running")),
        ("outcome", Value::Null),
        ("finishedAt", Value::Null),
        ("detail", Value::Null),
        ("checkpointBytes", Value::Null),
        ("stopRequested", json!(false)),
        ("progress", json!(0.0)),
        ("lines", json!(3)),
        ("linesDropped", json!(0)),
    ] {
        assert_eq!(run[field], value, "{field}: {run}");
    }
    let all = log(local.addr, id, "");
    assert_eq!(texts(&all), ["one", "two lines", "three"]);
    assert_eq!(
        (&all["next"], &all["isOpen"], &all["dropped"]),
        (&json!(3), &json!(true), &json!(0))
    );
    let page = log(local.addr, id, "?limit=2");
    assert_eq!((texts(&page).len(), &page["next"]), (2, &json!(2)));
    let none_yet = log(local.addr, id, "?after=3");
    assert_eq!((texts(&none_yet).len(), &none_yet["next"]), (0, &json!(3)));
    let instants = "select count(*) from cron_run_lines join cron_runs on id = run_id \
                    where said_at between started_at - interval '1 s' and clock_timestamp()";
    assert_eq!(database.number(instants), 3);
    // What was said last is there as soon as the run has ended.
    tell.send("four".to_owned()).unwrap();
    drop(tell);
    database.wait_for("it has ended", SOON, 1, ENDED);
    let rest = log(local.addr, id, "?after=3");
    assert_eq!(texts(&rest), ["four"]);
    assert_eq!((&rest["next"], &rest["isOpen"]), (&Value::Null, &json!(false)));
    let run = get(local.addr, &format!("/api/cron/runs/{id}")).json();
    assert_eq!((&run["state"], &run["outcome"]), (&json!("ended"), &json!("succeeded")));
    assert_eq!((&run["lines"], &run["detail"]), (&json!(4), &json!("said")));
}

#[test]
fn a_log_keeps_its_last_lines_and_says_how_many_were_dropped() {
    let database = database();
    let local = Local::start(database.url());
    database.add_job("talks", "every 1h");
    let (functions, tell) = talks();
    let _replica = Scheduler::start(database.url(), &options("a"), functions);
    let say = |line: String| tell.send(line).unwrap();
    (1..=900).for_each(|number| say(number.to_string()));
    database.wait_for("all lines", SOON, 900, LINES);
    // These are said between two renewals, and some are dropped before the database has them.
    (901..=2_500).for_each(|number| say(number.to_string()));
    let last = "select coalesce(max(number), 0)::bigint from cron_run_lines";
    database.wait_for("the last line", SOON, 2_500, last);
    assert_eq!(database.number(LINES), 1_000);
    let id = database.number("select id from cron_runs");
    let all = log(local.addr, id, "?limit=1000");
    assert_eq!((&all["dropped"], texts(&all).len()), (&json!(1_500), 1_000));
    assert_eq!(
        all["lines"][0],
        json!({
            "number": 1_501, "line": "1501", "at": all["lines"][0]["at"].as_str().unwrap()
        })
    );
    // By their bytes: 64 lines of 1,000 characters, of which the half has two bytes.
    (0..100).for_each(|_| say("xä".repeat(600)));
    database.wait_for("the last line", SOON, 2_600, last);
    let bytes = "select sum(octet_length(line))::bigint from cron_run_lines";
    assert_eq!((database.number(LINES), database.number(bytes)), (43, 43 * 1_500));
    let run = get(local.addr, &format!("/api/cron/runs/{id}")).json();
    assert_eq!((&run["lines"], &run["linesDropped"]), (&json!(43), &json!(2_557)));
}

#[test]
fn what_a_killed_run_had_told_stays_and_its_next_run_has_a_log_of_its_own() {
    let database = database();
    database.add_job_calling("counts", "counting", "every 1h");
    let local = Local::start(database.url());
    let killed = witness(&database, "a", LEASE);
    let many = "select (count(*) > 40)::int::bigint from cron_run_lines";
    database.wait_for("some lines", SOON, 1, many);
    killed.signal("-KILL");
    let (first, said) = (database.number("select id from cron_runs"), database.number(LINES));
    let run = || get(local.addr, &format!("/api/cron/runs/{first}")).json();
    until("its lease has run out", SOON, || run()["state"] == "stalled");
    assert_eq!(log(local.addr, first, "")["isOpen"], true);
    let _other = witness(&database, "b", LEASE);
    until("it is taken over", SOON, || run()["outcome"] == "abandoned");
    let all = log(local.addr, first, "?limit=1000");
    assert_eq!((texts(&all).len() as i64, &all["next"]), (said, &Value::Null));
    let second = "select count(*) from cron_run_lines where line like 'began at %' \
                  and run_id = (select max(id) from cron_runs)";
    database.wait_for("the other's own lines", SOON, 1, second);
    assert_eq!(run()["lines"], said);
}

/// Of one job, while another one is heard.
#[test]
fn lines_that_the_database_refuses_cost_no_lease_and_no_end() {
    let database = database();
    let rule = "create function refuse() returns trigger language plpgsql as $$ begin \
                raise exception 'no'; end $$; create trigger refuse before insert on \
                cron_run_lines for each row when (new.line like 'bad%') execute function refuse()";
    database.connect().batch_execute(rule).unwrap();
    ["bad", "good"].iter().for_each(|job| database.add_job_calling(job, "says", "every 1h"));
    let says = |context: &Context| -> Result<String, Failure> {
        context.set_progress(0.5);
        context.say(context.job());
        context.wait(Duration::from_secs(6))?;
        context.say(context.job());
        Ok(String::new())
    };
    let mut options = options("a");
    options.handicap = Duration::ZERO;
    let replica = Scheduler::start(database.url(), &options, only("says", says));
    let told = "select count(*) from cron_runs where progress = 0.5";
    database.wait_for("the progress of both", SOON, 2, told);
    database.wait_for("both have ended", SOON, 2, ENDED);
    assert_eq!(database.number("select count(*) from cron_runs where outcome = 'succeeded'"), 2);
    assert_eq!(database.number(LINES), 2);
    assert!(replica.text().contains("cron_leases_lost_total 0"), "{}", replica.text());
}

/// A log of many lines is deleted in more than one step, and one that is left over in none.
#[test]
fn lines_go_with_their_runs() {
    let database = Postgres::shared().migrated();
    let fill = "delete from cron_jobs where name <> 'prune-run-history'; \
                insert into cron_runs (job_id, job, function, token, server, scheduled_at, \
                started_at, finished_at, outcome) select 0, 'deleted', 'f', n, 'z', at, at, at, \
                'succeeded' from generate_series(1, 1500) n, \
                lateral (select now() - interval '15 days' as at) t; \
                insert into cron_run_lines (run_id, number, said_at, line) \
                select id, n, now(), 'x' from cron_runs, generate_series(1, 20) n";
    database.connect().batch_execute(fill).unwrap();
    let old = "select count(*) from cron_run_lines line join cron_runs on id = run_id \
               where server = 'z'";
    assert_eq!(database.number(old), 30_000);
    // As a replica of an earlier build prunes.
    let young = "delete from cron_runs where id in (select id from cron_runs order by id limit 1)";
    database.connect().batch_execute(young).unwrap();
    assert_eq!(database.number(old), 29_980);
    let functions =
        jobs::functions(FunctionOptions { least: Duration::ZERO, run_history_days: 14 });
    let _replica = Scheduler::start(database.url(), &options("a"), functions);
    let pruned = "select count(*) from cron_runs where outcome = 'succeeded' and server = 'a' \
                  and detail = 'runs older than 14 days that were deleted: 1499'";
    database.wait_for("it has pruned", SOON, 1, pruned);
    assert_eq!(database.number(old), 0);
    let orphans = "select count(*) from cron_run_lines \
                   where run_id not in (select id from cron_runs)";
    assert_eq!(database.number(orphans), 0);
}

#[test]
fn a_run_that_is_not_there_is_not_found_and_wrong_parameters_are_named() {
    let database = database();
    database.add_job_calling("waits", "endless", "every 1h");
    let local = Local::start(database.url());
    let _replica = Scheduler::start(database.url(), &options("a"), only("endless", endless));
    database.wait_for("it runs", SOON, 1, "select count(*) from cron_runs");
    let id = database.number("select id from cron_runs");
    for (path, status, field) in [
        ("/999".to_owned(), 404, None),
        ("/999/log".to_owned(), 404, None),
        ("/0".to_owned(), 404, None),
        ("/x/log".to_owned(), 404, None),
        (format!("/{id}?after=1"), 400, Some("after")),
        (format!("/{id}/log?after=-1"), 400, Some("after")),
        (format!("/{id}/log?after=2147483648"), 400, Some("after")),
        (format!("/{id}/log?limit=1001"), 400, Some("limit")),
        (format!("/{id}/log?before=1"), 400, Some("before")),
    ] {
        let answer = get(local.addr, &format!("/api/cron/runs{path}"));
        let code = if status == 404 { "not_found" } else { "invalid_request" };
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{path}");
        assert_eq!(answer.json()["field"].as_str(), field, "{path}");
    }
    assert_eq!(log(local.addr, id, "?after=2147483647")["next"], 2_147_483_647);
}

/// Ids rise with the starts of the runs, and not with their ends.
#[test]
fn the_history_of_a_span_has_each_run_that_ended_within_it() {
    let database = database();
    let local = Local::start(database.url());
    let fill = "insert into cron_runs (job_id, job, function, token, server, scheduled_at, \
                started_at, finished_at, outcome) select 1, 'job-' || n % 3, 'f', n, 'a', at, at, \
                at + random() ^ 8 * interval '5 days', 'succeeded' from generate_series(1, 900) n, \
                lateral (select timestamptz '2026-03-01 00:00Z' + n * interval '15 min' as at) t";
    database.connect().batch_execute(fill).unwrap();
    let ids = |query: &str| -> Vec<i64> {
        let page = get(local.addr, &format!("/api/cron/history?limit=1000{query}")).json();
        let runs = page["runs"].as_array().unwrap_or_else(|| panic!("{page}"));
        runs.iter().map(|run| run["runId"].as_i64().unwrap()).collect()
    };
    let expected = |condition: &str| -> Vec<i64> {
        let sql = format!("select id from cron_runs where {condition} order by id desc");
        database.connect().query(&sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
    };
    for day in 1..=14 {
        for hours in [1, 30, 24 * 6] {
            let from = format!("2026-03-{day:02}T01:00:00+01:00");
            let to = format!("(timestamptz '{from}' + interval '{hours} hours')");
            let to = database.text(&format!("select to_json({to} at time zone 'UTC') #>> '{{}}'"));
            let (since, until) =
                (format!("finished_at >= '{from}'"), format!("finished_at < '{to}Z'"));
            let from = from.replace('+', "%2B");
            assert_eq!(ids(&format!("&to={to}Z")), expected(&until));
            assert_eq!(ids(&format!("&from={from}")), expected(&since));
            let both = format!("{since} and {until} and job = 'job-1'");
            assert_eq!(ids(&format!("&from={from}&to={to}Z&job=job-1")), expected(&both));
        }
    }
    // The first instant is within, the last one is not.
    let row = "from cron_runs where id = 450";
    let at =
        database.text(&format!("select to_json(finished_at at time zone 'UTC') #>> '{{}}' {row}"));
    assert!(ids(&format!("&from={at}Z")).contains(&450));
    assert!(!ids(&format!("&to={at}Z")).contains(&450));
    for (query, field) in [
        ("from=2026-03-02T00:00:00Z&to=2026-03-01T00:00:00Z", "from"),
        ("from=yesterday", "from"),
        ("to=2026-03-01", "to"),
    ] {
        let answer = get(local.addr, &format!("/api/cron/history?{query}"));
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"), "{query}");
        assert_eq!(answer.json()["field"], field, "{query}");
    }
}
