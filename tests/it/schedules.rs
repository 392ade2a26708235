//! Jobs that run once, and what schedules mean.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Answer, Database, Local, LocalOptions, Postgres, Process, Scheduler, ask, get, only, options,
    post, until,
};

const SOON: Duration = Duration::from_secs(30);
const OPEN: &str = "select count(*) from cron_runs where finished_at is null";
const ENDED: &str = "select count(*) from cron_runs where finished_at is not null";

/// `at` so many seconds from now, by the database's clock.
fn at(database: &Database, seconds: i32) -> String {
    let text = "'at ' || to_char((now() + interval '1 s' * $1) at time zone 'UTC', \
                'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')";
    let row = database.connect().query_one(&format!("select {text}"), &[&f64::from(seconds)]);
    row.expect("an instant").get(0)
}

fn put(addr: SocketAddr, name: &str, function: &str, schedule: &str) -> Answer {
    let body = json!({"function": function, "schedule": schedule, "enabled": true});
    ask(addr, &format!("PUT /api/cron/jobs/{name}"), &[], &body.to_string())
}

fn patch(addr: SocketAddr, name: &str, body: &Value) -> Answer {
    ask(addr, &format!("PATCH /api/cron/jobs/{name}"), &[], &body.to_string())
}

/// Fails unless the job has run once, as every replica tells, and can be told to run again.
fn assert_done(database: &Database, replicas: &[SocketAddr], name: &str) {
    for addr in replicas {
        let job = get(*addr, &format!("/api/cron/jobs/{name}")).json();
        let seen = (&job["enabled"], &job["state"], &job["nextRunAt"], &job["server"]);
        assert_eq!(seen, (&json!(false), &json!("paused"), &Value::Null, &Value::Null));
        assert_eq!(job["lastRun"]["outcome"], "succeeded");
        let changes = get(*addr, &format!("/api/cron/jobs/{name}/changes")).json();
        let change = &changes["changes"][0];
        let seen =
            (&change["before"]["enabled"], &change["after"]["enabled"], &change["requestId"]);
        assert_eq!(seen, (&json!(true), &json!(false), &Value::Null), "no request disabled it");
        let next = get(*addr, &format!("/api/cron/jobs/{name}/next")).json();
        assert_eq!((&next["enabled"], &next["next"]), (&json!(false), &json!([])));
        let again = patch(*addr, name, &json!({"enabled": true}));
        assert_eq!((again.status, again.json()["field"].clone()), (400, json!("schedule")));
        assert_eq!(post(*addr, &format!("/api/cron/jobs/{name}/run"), "").status, 409);
    }
    let later = json!({"enabled": true, "schedule": at(database, 3600)});
    let later = patch(replicas[0], name, &later).json();
    assert_eq!((&later["state"], &later["enabled"]), (&json!("waiting"), &json!(true)));
}

#[test]
fn a_job_with_an_instant_runs_once_and_stays() {
    let database = Postgres::shared().migrated().without_jobs();
    let web = [Local::start(database.url()), Local::start(database.url())];
    let past = put(web[0].addr, "once", "tell", "at 2020-01-01T00:00:00Z");
    assert_eq!((past.status, past.json()["field"].clone()), (400, json!("schedule")));
    let schedule = at(&database, 2);
    let made = put(web[0].addr, "once", "tell", &schedule.replace('Z', "+00:00"));
    assert_eq!((made.status, made.json()["schedule"].as_str()), (201, Some(schedule.as_str())));
    // Asked for before its instant, it runs for that, and for its instant as well.
    assert_eq!(post(web[1].addr, "/api/cron/jobs/once/run", "").status, 202);
    let tell = || only("tell", |context| Ok(format!("with token {}", context.token())));
    let _schedulers =
        ["a", "b"].map(|name| Scheduler::start(database.url(), &options(name), tell()));
    database.wait_for("it has run twice", SOON, 2, ENDED);
    let for_it = "select scheduled_at = slot and cron_jobs.token = 2 from cron_runs join cron_jobs \
                  on cron_jobs.id = job_id where cron_runs.token = 2";
    assert!(database.connect().query_one(for_it, &[]).unwrap().get::<_, bool>(0));
    assert_done(&database, &web.each_ref().map(|web| web.addr), "once");
    assert_eq!(database.number(ENDED), 2);
}

#[test]
fn a_run_for_an_instant_is_taken_over_from_a_killed_process_and_is_the_last() {
    let database = Postgres::shared().migrated().without_jobs();
    let replica = |name, least| {
        let variables = [
            ("REPLICA_NAME", name),
            ("JOB_MIN_SECONDS", least),
            ("CRON_LEASE_SECONDS", "3"),
            ("CRON_HANDICAP_MS", "0"),
        ];
        Process::start(database.url(), &variables)
    };
    let killed = replica("killed", "600");
    assert_eq!(put(killed.addr, "once", "estimate-pi", &at(&database, 1)).status, 201);
    database.wait_for("it runs", SOON, 1, OPEN);
    let other = replica("other", "1");
    drop(killed);
    database.wait_for("both have ended", SOON, 2, ENDED);
    assert_eq!(database.outcomes("once"), ["abandoned on killed", "succeeded on other"]);
    let slots = "select count(distinct scheduled_at) from cron_runs";
    assert_eq!(database.number(slots), 1);
    assert_done(&database, &[other.addr], "once");
    until("the log tells of it", SOON, || other.log().contains("event=job_done job=once"));
    assert!(!other.log().contains("event=job_paused"), "it is no fault");
}

#[test]
fn an_instant_that_comes_while_the_job_runs_for_another_slot_is_not_lost() {
    let database = Postgres::shared().migrated().without_jobs();
    let web = Local::start(database.url());
    database.add_job("tell", "every 1h");
    let (go, gone) = mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let wait = move |_: &_| Ok(format!("{:?}", gone.lock().unwrap().recv()));
    let _scheduler = Scheduler::start(database.url(), &options("a"), only("tell", wait));
    database.wait_for("it runs", SOON, 1, OPEN);
    let schedule = at(&database, 1);
    assert_eq!(patch(web.addr, "tell", &json!({"schedule": schedule})).status, 200);
    let shown = get(web.addr, "/api/cron/jobs/tell").json()["nextRunAt"].clone();
    assert!(schedule[3..22].starts_with(&shown.as_str().unwrap()[..19]), "{schedule} {shown}");
    let has_come = format!("select count(*) where now() > '{}'::timestamptz", &schedule[3..]);
    database.wait_for("the instant has come", SOON, 1, &has_come);
    go.send(()).unwrap();
    database.wait_for("the first run has ended", SOON, 1, ENDED);
    go.send(()).unwrap();
    database.wait_for("the second has", SOON, 2, ENDED);
    assert_done(&database, &[web.addr], "tell");
}

#[test]
fn the_next_instants_of_a_job_are_those_that_it_will_run_at() {
    let database = Postgres::shared().migrated().without_jobs();
    let web = [Local::start(database.url()), Local::start(database.url())];
    assert_eq!(put(web[0].addr, "ten", "tell", "every 10m").status, 201);
    let next = |query: &str| {
        let of = |web: &Local| get(web.addr, &format!("/api/cron/jobs/ten/next{query}")).json();
        let told = of(&web[0]);
        assert_eq!(told, of(&web[1]), "by every replica");
        told
    };
    let told = next("");
    let steps = "select to_char((slot + n * interval '10 minutes') at time zone 'UTC', \
                 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') from cron_jobs, generate_series(0, 4) n";
    let rows = database.connect().query(steps, &[]).unwrap();
    let steps: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let expected = json!({"name": "ten", "enabled": true, "schedule": "every 10m",
        "words": "every 10 minutes", "zone": null, "next": steps});
    assert_eq!(told, expected);
    assert_eq!(next("?count=100")["next"].as_array().unwrap().len(), 100);
    // A slot that is due already is not next, and the grid goes on from it.
    let back = "update cron_jobs set slot = slot - interval '30 minutes', locked_until = now()";
    database.connect().batch_execute(back).unwrap();
    assert_eq!(next("?count=1")["next"], json!([steps[0]]));
    let paused = "update cron_jobs set enabled = false";
    database.connect().batch_execute(paused).unwrap();
    let told = next("?count=1");
    assert_eq!((&told["enabled"], &told["next"]), (&json!(false), &json!([steps[0]])));
    let later = "update cron_jobs set schedule = 'by the moon'";
    database.connect().batch_execute(later).unwrap();
    let told = next("");
    assert_eq!((&told["words"], &told["next"]), (&Value::Null, &json!([])), "a later build's");
    assert_eq!(get(web[0].addr, "/api/cron/jobs/none/next").code(), "job_not_found");
    for query in ["?count=0", "?count=101", "?count=x", "?limit=1"] {
        let refused = get(web[0].addr, &format!("/api/cron/jobs/ten/next{query}"));
        assert_eq!(refused.code(), "invalid_request", "{query}");
    }
}

#[test]
fn a_schedule_is_checked_without_saving_it_and_refused_as_it_would_be() {
    let database = Postgres::shared().migrated().without_jobs();
    let options = LocalOptions { token: Some("correct-horse-battery"), ..LocalOptions::default() };
    let local = Local::start_with(database.url(), options);
    let right = ["Authorization: Bearer correct-horse-battery"];
    let check = |body: &str| ask(local.addr, "POST /api/cron/schedules/check", &right, body);
    let told = check(r#"{"schedule":" 0  12 * * mon Europe/Berlin"}"#).json();
    assert_eq!(told["schedule"], "0 12 * * mon Europe/Berlin");
    assert_eq!(told["words"], "at 12:00 on every Monday, Europe/Berlin");
    assert_eq!(
        (&told["zone"], told["next"].as_array().unwrap().len()),
        (&json!("Europe/Berlin"), 5)
    );
    assert_eq!(database.number("select count(*) from cron_jobs"), 0);
    for schedule in ["5m", "0 0 31 2 *", "at 2020-01-01T00:00:00Z", "* 2 * 3 0L Europe/Berlin"] {
        let body = json!({"function": "tell", "schedule": schedule, "enabled": true}).to_string();
        let saved = ask(local.addr, "PUT /api/cron/jobs/new", &right, &body);
        let checked = check(&json!({"schedule": schedule}).to_string());
        assert_eq!((checked.status, checked.json()), (400, saved.json()), "{schedule}");
    }
    assert_eq!(check("{}").json()["field"], "schedule");
    assert_eq!(check(r#"{"schedule":"every 5m","zone":"UTC"}"#).json()["field"], "zone");
    let open = post(local.addr, "/api/cron/schedules/check", r#"{"schedule":"every 5m"}"#);
    assert_eq!(open.status, 401);
    let foreign = [right[0], "Origin: https://elsewhere.example"];
    let foreign = ask(local.addr, "POST /api/cron/schedules/check", &foreign, "{}");
    assert_eq!(foreign.code(), "cross_site_request");
}
