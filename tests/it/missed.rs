//! Slots that nobody started in time: made up for by one run, or recorded as missed, however many.

use std::time::Duration;

use serde_json::Value;

use crate::support::{
    Database, Local, Postgres, Scheduler, endless, get, only, options, post, until, witness,
};

const SOON: Duration = Duration::from_secs(30);
const ENDED: &str = "select count(*) from cron_runs where finished_at is not null";
const SUCCEEDED: &str = "select count(*) from cron_runs where outcome = 'succeeded'";
const FUTURE: &str = "select count(*) from cron_jobs where holder is null and enabled
    and locked_until = slot and slot > now() and slot < now() + interval '61 s'";

/// A job whose slot of a thousand minutes ago is the first that nobody ran. The next is 20 s or
/// more from now: an interval's is counted from this instant, and a cron expression's minute has
/// begun less than 40 s ago.
fn database(schedule: &str, settings: &str) -> Database {
    let database = Postgres::shared().migrated().without_jobs();
    database.add_job("quick", schedule);
    let by_the_minute = schedule.contains('*');
    let slot = if by_the_minute { "date_trunc('minute', now())" } else { "now()" };
    let missed = format!(
        "update cron_jobs set slot = {slot} - interval '1000 min', \
         locked_until = {slot} - interval '1000 min', {settings}"
    );
    let mut client = database.connect();
    if by_the_minute {
        let next = "select pg_sleep(60.1 - second) \
                    from extract(second from now()) second where second > 40";
        client.batch_execute(next).expect("a minute that has begun");
    }
    client.batch_execute(&missed).expect("settings");
    database
}

fn start(database: &Database, name: &str) -> Scheduler {
    Scheduler::start(database.url(), &options(name), only("quick", |_| Ok(String::new())))
}

#[test]
fn of_a_thousand_missed_slots_as_many_are_run_as_the_job_says() {
    for schedule in ["every 1m", "* * * * *"] {
        for (settings, missed, run) in [
            ("catch_up = 'one'", 0, 1),
            ("catch_up = 'none'", 1, 0),
            ("catch_up = 'one', start_within_seconds = 90", 1, 1),
            ("catch_up = 'none', start_within_seconds = 90", 1, 0),
            ("catch_up = 'one', start_within_seconds = 100000", 0, 1),
        ] {
            let database = database(schedule, settings);
            let _replicas = [start(&database, "a"), start(&database, "b")];
            database.wait_for(&format!("{schedule} {settings}"), SOON, missed + run, ENDED);
            database.wait_for("the next slot is waited for", SOON, 1, FUTURE);
            assert_eq!(database.number(SUCCEEDED), run, "{schedule} {settings}");
            let late = "select count(*) from cron_runs where outcome = 'succeeded'
                and started_at - scheduled_at > interval '100 s'";
            let is_late = i64::from(missed == 0);
            assert_eq!(database.number(late), is_late, "{schedule} {settings}");
            let recorded = "select count(*) from cron_runs where outcome = 'missed'
                and server = '' and started_at - scheduled_at > interval '999 min'";
            assert_eq!(database.number(recorded), missed, "{schedule} {settings}");
        }
    }
}

#[test]
fn a_miss_is_seen_by_every_replica_and_counted_once() {
    let database = database("every 1m", "catch_up = 'none', start_within_seconds = 90");
    let replicas = [start(&database, "a"), start(&database, "b")];
    database.wait_for("it is recorded", SOON, 1, ENDED);
    for local in [Local::start(database.url()), Local::start(database.url())] {
        let history = get(local.addr, "/api/cron/history?outcome=missed").json();
        let run = &history["runs"][0];
        assert_eq!((&run["server"], &run["attempt"]), (&Value::Null, &Value::from(1)), "{run}");
        let detail = run["detail"].as_str().unwrap();
        let slot = run["scheduledAt"].as_str().unwrap();
        assert!(detail.starts_with(&format!("not run from {slot} on: 60")), "{detail}");
        assert!(
            detail.contains(" s late, startWithinSeconds is 90; the next to be run"),
            "{detail}"
        );
        let job = get(local.addr, "/api/cron/jobs/quick").json();
        let last = &job["lastRun"];
        assert_eq!((&last["outcome"], &last["server"]), (&Value::from("missed"), &Value::Null));
        assert_eq!(
            (&job["failing"], &job["state"]),
            (&Value::from(false), &Value::from("waiting"))
        );
    }
    let counted = |replica: &Scheduler| {
        replica.text().contains("cron_runs_total{job=\"quick\",outcome=\"missed\"} 1")
    };
    until("it is counted", SOON, || replicas.iter().filter(|it| counted(it)).count() == 1);
    let started =
        |replica: &Scheduler| replica.text().contains("cron_run_lateness_seconds_count 1");
    assert!(!replicas.iter().any(started), "nothing was started");
}

/// Nor what somebody asked for, nor what has begun before.
#[test]
fn what_is_in_time_is_not_missed() {
    for (settings, attempt) in [
        ("start_within_seconds = 60, slot = now() - interval '40 s'", 1),
        ("catch_up = 'none', slot = now() - interval '40 s'", 1),
        ("start_within_seconds = 60, requested_at = now() - interval '1 h'", 1),
        ("catch_up = 'none', attempt = 1, tried_at = slot", 1),
        ("start_within_seconds = 60, attempt = 2, tried_at = slot", 2),
    ] {
        let settings = settings.replace("slot = now()", "locked_until = now(), slot = now()");
        let database = database("every 1m", "enabled = true");
        database.connect().batch_execute(&format!("update cron_jobs set {settings}")).unwrap();
        let _replica = start(&database, "a");
        database.wait_for(&settings, SOON, 1, ENDED);
        let tries = "select string_agg(attempt || ' ' || outcome, ', ') from cron_runs";
        assert_eq!(database.text(tries), format!("{attempt} succeeded"), "{settings}");
    }
}

#[test]
fn a_missed_slot_that_none_follows_pauses_the_job() {
    let database = database("whenever", "start_within_seconds = 60");
    let _replica = start(&database, "a");
    database.wait_for("it is recorded", SOON, 1, ENDED);
    assert_eq!(database.number("select count(*) from cron_jobs where not enabled"), 1);
    let detail = database.text("select outcome || ' ' || detail from cron_runs");
    assert!(
        detail.starts_with("missed not run from ") && detail.ends_with("none follows"),
        "{detail}"
    );
}

/// Not even if it is due already: then the request comes instead of the slot.
#[test]
fn who_asks_for_a_run_gets_one_however_late_the_slot_is() {
    let database = database("every 1m", "catch_up = 'none', start_within_seconds = 60");
    let local = Local::start(database.url());
    assert_eq!(post(local.addr, "/api/cron/jobs/quick/run", "").status, 202);
    let _replica = start(&database, "a");
    database.wait_for("it is run", SOON, 1, ENDED);
    assert_eq!(database.outcomes("quick"), ["succeeded on a"]);
    assert_eq!(database.number(FUTURE), 1);
}

/// The request was for the only slot, which was due: it is neither missed besides nor run again.
#[test]
fn who_asks_for_a_job_that_was_to_run_once_gets_one_run_however_late() {
    let database = database("at 2026-01-01T00:00:00Z", "start_within_seconds = 60");
    let its_slot = "update cron_jobs set slot = '2026-01-01T00:00:00Z'";
    database.connect().batch_execute(its_slot).unwrap();
    let local = Local::start(database.url());
    assert_eq!(post(local.addr, "/api/cron/jobs/quick/run", "").status, 202);
    let _replicas = ["a", "b"].map(|name| start(&database, name));
    let over = "select count(*) from cron_jobs where holder is null and not enabled";
    database.wait_for("it is over", SOON, 1, over);
    assert_eq!(database.text("select string_agg(outcome, ', ') from cron_runs"), "succeeded");
}

/// Who has claimed it too late cannot write this, and is killed.
#[test]
fn a_slot_that_is_too_late_is_not_run_by_a_takeover() {
    let database = database("every 1m", "catch_up = 'none', start_within_seconds = 60");
    let database = database.with_witness_table();
    let refuse = "update cron_jobs set name = 'late-0', function = 'short'; \
        create function refuse() returns trigger language plpgsql as $$ begin \
        if new.outcome = 'missed' then raise exception 'not now'; end if; return new; end $$; \
        create trigger refuse before update on cron_runs for each row execute function refuse()";
    database.connect().batch_execute(refuse).unwrap();
    let lease = Duration::from_secs(3);
    let first = witness(&database, "a", lease);
    until("it cannot write this", SOON, || first.log().contains("event=record_waits job=late-0"));
    first.signal("-KILL");
    database.connect().batch_execute("drop trigger refuse on cron_runs").unwrap();
    let _second = witness(&database, "b", lease);
    database.wait_for("it is recorded", SOON, 2, ENDED);
    let outcomes = "select string_agg(outcome || server, ', ' order by id) from cron_runs";
    assert_eq!(database.text(outcomes), "abandoneda, missed");
    assert_eq!(database.number("select count(*) from witness"), 0, "it was run");
    assert_eq!(database.number(FUTURE), 1);
}

/// The settings at the claim count.
#[test]
fn a_deadline_that_is_changed_while_the_job_waits_counts() {
    let database = database("every 1m", "enabled = false");
    let _replica = start(&database, "a");
    let change =
        "update cron_jobs set start_within_seconds = 60, catch_up = 'none', enabled = true";
    database.connect().batch_execute(change).unwrap();
    database.wait_for("it is recorded", SOON, 1, ENDED);
    assert_eq!(database.text("select outcome from cron_runs"), "missed");
}

/// The one replica that there is holds two jobs, and so leaves the third to others for 5.5 s, which
/// is longer than its interval and its deadline.
#[test]
fn what_is_late_only_because_a_replica_leaves_it_to_others_is_not_missed() {
    let database = Postgres::shared().migrated().without_jobs();
    database.add_due_jobs(2, "endless");
    let functions = only("endless", endless).with("quick", |_| Ok(String::new()));
    let mut options = options("a");
    options.handicap = Duration::from_secs(3);
    let _replica = Scheduler::start(database.url(), &options, functions);
    let held = "select count(*) from cron_jobs where holder is not null";
    database.wait_for("it holds two", SOON, 2, held);
    database.add_job("quick", "every 2s");
    let strict = "update cron_jobs set catch_up = 'none', start_within_seconds = 2
        where name = 'quick'";
    database.connect().batch_execute(strict).expect("settings");
    database.wait_for("it has run twice", SOON, 2, SUCCEEDED);
    let missed = "select count(*) from cron_runs where outcome = 'missed'";
    assert_eq!(database.number(missed), 0);
}
