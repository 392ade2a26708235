//! The pause of everything: nothing is claimed while it holds, what runs goes on, and everybody can
//! see it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::metrics::sum;
use crate::support::{
    Browser, Database, Local, LocalOptions, Postgres, Process, Scheduler, ask, endless, get, only,
    options, post, until,
};

const SOON: Duration = Duration::from_secs(30);
const NOW: &str = "select clock_timestamp()::text";

fn is_paused(scheduler: &Scheduler) -> bool {
    sum(&scheduler.text(), "balanced_cron_paused", &[]) == 1.0
}

/// What each of these answers, and the list of jobs at each replica.
fn shown(replicas: &[Local]) -> Value {
    let pause = get(replicas[0].addr, "/api/cron/pause").json()["pause"].clone();
    for replica in replicas {
        assert_eq!(get(replica.addr, "/api/cron/pause").json(), json!({"pause": pause}));
        assert_eq!(get(replica.addr, "/api/cron/jobs").json()["pause"], pause);
    }
    pause
}

#[test]
fn every_replica_shows_the_pause_that_one_was_asked_for() {
    let database = Postgres::shared().migrated();
    let replicas = [Local::start(database.url()), Local::start(database.url())];
    let addr = replicas[0].addr;
    assert_eq!(shown(&replicas), Value::Null);
    let answer = post(addr, "/api/cron/pause", r#"{"reason":"it moves"}"#);
    assert_eq!(answer.status, 200);
    let first = shown(&replicas);
    assert_eq!(answer.json(), json!({"pause": first}));
    let since = first["since"].clone();
    assert_eq!(first, json!({"reason": "it moves", "since": since, "until": null, "by": null}));
    let until = r#"{"reason":"still","until":"2127-01-31T23:00:00+01:00"}"#;
    assert_eq!(post(replicas[1].addr, "/api/cron/pause", until).status, 200);
    let second = json!({"reason": "still", "since": since,
        "until": "2127-01-31T22:00:00.000000Z", "by": null});
    assert_eq!(shown(&replicas), second, "it has begun when it began");
    for _ in 0..2 {
        let answer = post(addr, "/api/cron/resume", "");
        assert_eq!((answer.status, answer.json()), (200, json!({"pause": null})));
        assert_eq!(shown(&replicas), Value::Null);
    }
}

#[test]
fn a_pause_that_cannot_be_is_refused_with_its_field_and_changes_nothing() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    let long = "x".repeat(1_001);
    for (body, field) in [
        (json!({}), "reason"),
        (json!({"reason": ""}), "reason"),
        (json!({"reason": " \n"}), "reason"),
        (json!({"reason": "\0"}), "reason"),
        (json!({"reason": long}), "reason"),
        (json!({"reason": 1}), "reason"),
        (json!({"reason": "x", "until": "tomorrow"}), "until"),
        (json!({"reason": "x", "until": "2127-01-31T22:00:00"}), "until"),
        (json!({"reason": "x", "until": null}), "until"),
        (json!({"reason": "x", "until": "2020-01-31T22:00:00Z"}), "until"),
        (json!({"reason": "x", "for": 1}), "for"),
    ] {
        let answer = post(replica.addr, "/api/cron/pause", &body.to_string());
        assert_eq!((answer.status, &answer.json()["field"]), (400, &json!(field)), "{body}");
    }
    assert_eq!(get(replica.addr, "/api/cron/pause").json(), json!({"pause": null}));
    let most = json!({"reason": "ü".repeat(1_000)}).to_string();
    assert_eq!(post(replica.addr, "/api/cron/pause", &most).status, 200);
}

#[test]
fn the_pause_names_the_token_that_asked_for_it() {
    let database = Postgres::shared().migrated();
    let token = Some("correct-horse-battery");
    let replica =
        Local::start_with(database.url(), LocalOptions { token, ..LocalOptions::default() });
    let right = ["Authorization: Bearer correct-horse-battery"];
    let answer = ask(replica.addr, "POST /api/cron/pause", &right, r#"{"reason":"x"}"#);
    assert!(answer.json()["pause"]["by"].is_string(), "{}", answer.json());
}

#[test]
fn the_page_says_that_everything_is_paused_and_why() {
    let Some(browser) = Browser::start() else { return };
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    browser.open(replica.addr, "/");
    browser.wait_for(1, "#job-sample-pi");
    assert_eq!(browser.count("#paused:not([hidden])"), 0);
    assert_eq!(post(replica.addr, "/api/cron/pause", r#"{"reason":"<b>it moves"}"#).status, 200);
    browser.wait_for(1, "#paused:not([hidden])");
    let told = "All jobs are paused until somebody resumes them: <b>it moves Resume all jobs";
    assert_eq!(browser.text("#paused"), told);
    assert_eq!(post(replica.addr, "/api/cron/resume", "").status, 200);
    browser.wait_for(0, "#paused:not([hidden])");
    assert_eq!(browser.complaints(), [""; 0]);
}

/// Waits until the job has run, and fails if a run of it began before this instant.
fn assert_not_run_before(database: &Database, job: &str, instant: &str) {
    let runs = format!("select least(count(*), 1) from cron_runs where job = '{job}'");
    database.wait_for("it runs", SOON, 1, &runs);
    let early =
        format!("select count(*) from cron_runs where job = '{job}' and started_at < '{instant}'");
    assert_eq!(database.number(&early), 0, "{job} was claimed in the pause");
}

/// One run is open when the pause begins, one job is due, and one had a holder that has died.
#[test]
fn in_a_pause_runs_go_on_and_nothing_is_claimed_nor_taken_over() {
    let database = Postgres::shared().migrated().without_jobs();
    database.add_job_calling("orphan", "quick", "every 1h");
    database.orphan_the_job();
    let pause = "insert into cron_pause (reason) values ('now')";
    database.connect().batch_execute(pause).expect("a pause");
    database.add_job("quick", "every 1h");
    let due = "update cron_jobs set offered_at = now() - interval '20 s'";
    database.connect().batch_execute(due).expect("offers");
    let functions = || only("quick", |_| Ok(String::new())).with("long", endless);
    let both = ["a", "b"].map(|name| Scheduler::start(database.url(), &options(name), functions()));
    until("both have seen it", SOON, || both.iter().all(is_paused));
    let offers = "select count(offered_at) from cron_jobs";
    database.wait_for("offers are taken back", SOON, 0, offers);
    let resumed = database.text(NOW);
    database.connect().batch_execute("delete from cron_pause").expect("no pause");
    assert_not_run_before(&database, "quick", &resumed);
    let again = "select count(*) from cron_runs where job = 'orphan' and token > 1";
    database.wait_for("the orphan is taken over", SOON, 1, again);
    let early = format!("{again} and started_at < '{resumed}'");
    assert_eq!(database.number(&early), 0, "it was taken over in the pause");
    until("both have seen that it ended", SOON, || !both.iter().any(is_paused));

    database.add_job("long", "every 1h");
    let held = "select count(*) from cron_jobs where name = 'long' and holder is not null \
                and locked_until > now()";
    database.wait_for("one runs", SOON, 1, held);
    let pause = "insert into cron_pause (reason, until) values ('x', now() + interval '5 s')";
    database.connect().batch_execute(pause).expect("a pause");
    database.add_job_calling("late", "quick", "every 1h");
    let end = database.text("select until::text from cron_pause");
    assert_not_run_before(&database, "late", &end);
    assert_eq!(database.number(held), 1, "longer than a lease of 3 s");
    assert_eq!(database.outcomes("long"), [""; 0]);
}

/// Real processes: one is paused by the other's route, and logs it once when it begins and ends.
#[test]
fn a_pause_is_logged_by_each_replica_when_it_begins_and_ends() {
    let database = Postgres::shared().migrated();
    let variables = [("JOB_MIN_SECONDS", "0"), ("CRON_POLL_MS", "50"), ("CRON_HANDICAP_MS", "0")];
    let replicas = [(); 2].map(|()| Process::start(database.url(), &variables));
    let logged = |words: &str| {
        until(words, SOON, || replicas.iter().all(|replica| replica.log().contains(words)));
        let times = |replica: &Process| replica.log().matches(words).count();
        assert!(replicas.iter().all(|replica| times(replica) == 1), "{words}");
    };
    let answer = post(replicas[0].addr, "/api/cron/pause", r#"{"reason":"it moves"}"#);
    assert_eq!(answer.status, 200);
    logged("event=claims_paused reason=\"it moves\"");
    assert_eq!(post(replicas[1].addr, "/api/cron/resume", "").status, 200);
    logged("event=claims_go_on reason=\"the pause has ended\"");
}
