//! The life of a job on one or two schedulers in this process.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use balanced::cron::{Failure, Functions};

use crate::support::{Database, Postgres, Scheduler, endless, only, options};

const SOON: Duration = Duration::from_secs(20);
const OPEN: &str = "select count(*) from cron_runs where finished_at is null";
const ENDED: &str = "select count(*) from cron_runs where finished_at is not null";

fn database() -> Database {
    Postgres::shared().migrated().without_jobs()
}

fn start(database: &Database, functions: Functions) -> Scheduler {
    Scheduler::start(database.url(), &options("a"), functions)
}

#[test]
fn a_run_is_recorded_with_its_result_and_the_next_slot_is_on_the_grid() {
    let database = database();
    database.add_job("tell", "every 1h");
    let _replica = start(
        &database,
        only("tell", |context| {
            Ok(format!(
                "run {} of {} with token {}",
                context.run_id(),
                context.job(),
                context.token()
            ))
        }),
    );
    database.wait_for("a finished run", SOON, 1, ENDED);
    assert_eq!(database.outcomes("tell"), ["succeeded on a"]);
    let told = database.text("select 'run ' || id || ' of tell with token 1' from cron_runs");
    assert_eq!(database.text("select detail from cron_runs"), told);
    let next = "select count(*) from cron_jobs j join cron_runs r on r.job_id = j.id \
                where j.slot = r.scheduled_at + interval '1 hour' and j.locked_until = j.slot \
                and j.holder is null and j.offered_at is null and r.progress = 1";
    assert_eq!(database.number(next), 1);
}

#[test]
fn missed_slots_are_run_once() {
    let database = database();
    database.add_job("tell", "every 1h");
    let back = "update cron_jobs set slot = slot - interval '90 minutes', locked_until = slot";
    database.connect().batch_execute(back).unwrap();
    let due = database.text("select (slot + interval '2 hours')::text from cron_jobs");
    let _replica = start(&database, only("tell", |_| Ok(String::new())));
    database.wait_for("a finished run", SOON, 1, ENDED);
    assert_eq!(database.text("select slot::text from cron_jobs"), due);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(database.number(ENDED), 1);
}

#[test]
fn an_error_and_a_panic_are_failed_runs_and_the_job_runs_again() {
    let database = database();
    database.add_job("fails", "every 1s");
    database.add_job("panics", "every 1s");
    let functions = Functions::new()
        .with("fails", |_| Err(Failure::Failed("no luck".to_owned())))
        .with("panics", |context| panic!("run {} went wrong", context.token()));
    let _replica = start(&database, functions);
    let twice = "select count(*) from (select from cron_runs where outcome = 'failed' \
                 group by job having count(*) >= 2) as job";
    database.wait_for("two runs of each", SOON, 2, twice);
    let texts = "select string_agg(detail, '; ' order by job) from cron_runs where token = 1";
    assert_eq!(database.text(texts), "no luck; panic: run 1 went wrong");
}

#[test]
fn a_step_that_the_database_refuses_fails_the_run_with_its_text() {
    let database = database();
    database.add_job("divides", "every 1h");
    database.add_job("mistakes", "every 1h");
    let functions = Functions::new()
        .with("divides", |context| {
            context.step(|session| session.query("select 1 / 0", &[])).map(|_| String::new())
        })
        .with("mistakes", |context| {
            context.step(|session| session.query("select $1::int", &[&"text"]))?;
            Ok(String::new())
        });
    let _replica = start(&database, functions);
    database.wait_for("two failed runs", SOON, 2, ENDED);
    let texts = "select string_agg(outcome || ': ' || detail, '; ' order by job) from cron_runs";
    let texts = database.text(texts);
    assert!(texts.starts_with("failed: division by zero (22012); failed: "), "{texts}");
    assert!(texts.contains("serializing parameter"), "{texts}");
}

#[test]
fn a_run_tells_its_progress_while_it_goes_on() {
    let database = database();
    database.add_job("slow", "every 1h");
    let _replica = start(
        &database,
        only("slow", |context| {
            context.set_progress(0.25);
            endless(context)
        }),
    );
    let told = "select count(*) from cron_runs where progress = 0.25 and finished_at is null";
    database.wait_for("the progress", SOON, 1, told);
}

#[test]
fn two_jobs_may_call_one_function_at_the_same_time() {
    let database = database();
    database.add_job_calling("one", "shared", "every 1h");
    database.add_job_calling("two", "shared", "every 1h");
    let _replica = start(&database, only("shared", endless));
    database.wait_for("both run", SOON, 2, OPEN);
}

#[test]
fn a_job_whose_function_is_unknown_is_left_to_a_replica_that_knows_it() {
    let database = database();
    database.add_job("newer", "every 1h");
    database.add_job("older", "every 1h");
    let _old = start(&database, only("older", |_| Ok(String::new())));
    database.wait_for("the known one has run", SOON, 1, ENDED);
    assert_eq!(database.outcomes("newer"), [""; 0]);
    let both =
        Functions::new().with("older", |_| Ok(String::new())).with("newer", |_| Ok(String::new()));
    let _new = Scheduler::start(database.url(), &options("b"), both);
    database.wait_for("both have run", SOON, 2, ENDED);
    assert_eq!(database.outcomes("newer"), ["succeeded on b"]);
}

#[test]
fn a_drain_cancels_records_and_hands_over_at_once() {
    let database = database();
    database.add_job("slow", "every 1h");
    let first = start(&database, only("slow", endless));
    database.wait_for("it runs", SOON, 1, OPEN);
    let slot = database.text("select scheduled_at::text from cron_runs");
    first.0.begin_drain();
    assert!(first.0.wait_drained(Instant::now() + SOON));
    assert_eq!(database.outcomes("slow"), ["cancelled on a"]);
    let free = "select count(*) from cron_jobs where holder is null and locked_until < now()";
    assert_eq!(database.number(free), 1);
    let _second = Scheduler::start(database.url(), &options("b"), only("slow", endless));
    database.wait_for("it runs elsewhere", SOON, 1, OPEN);
    let again = database.text("select scheduled_at::text from cron_runs where server = 'b'");
    assert_eq!(again, slot, "the same slot again");
}

#[test]
fn a_drained_replica_claims_nothing_more() {
    let database = database();
    let replica = start(&database, only("quick", |_| Ok(String::new())));
    replica.0.begin_drain();
    assert!(replica.0.wait_drained(Instant::now() + SOON));
    database.add_job("quick", "every 1h");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(database.number(ENDED) + database.number(OPEN), 0);
}

#[test]
fn a_schedule_changed_while_the_job_runs_counts_from_its_end() {
    let database = database();
    database.add_job("gated", "every 1h");
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let _replica = start(
        &database,
        only("gated", move |_| {
            wait.lock().unwrap().recv().unwrap();
            Ok(String::new())
        }),
    );
    database.wait_for("it runs", SOON, 1, OPEN);
    database.connect().batch_execute("update cron_jobs set schedule = 'every 3h'").unwrap();
    go.send(()).unwrap();
    database.wait_for("a finished run", SOON, 1, ENDED);
    let moved = "select count(*) from cron_jobs j join cron_runs r on r.job_id = j.id \
                 where j.slot = r.scheduled_at + interval '3 hours'";
    assert_eq!(database.number(moved), 1);
}

#[test]
fn a_schedule_that_names_no_instant_pauses_the_job() {
    let database = database();
    database.add_job("odd", "whenever");
    let _replica = start(&database, only("odd", |_| Ok(String::new())));
    database.wait_for("a finished run", SOON, 1, ENDED);
    assert_eq!(database.number("select count(*) from cron_jobs where not enabled"), 1);
}

#[test]
fn a_lone_replica_runs_everything_in_the_end() {
    let database = database();
    for number in 0..12 {
        database.add_job_calling(&format!("job-{number}"), "endless", "every 1h");
    }
    let mut options = options("a");
    options.handicap = Duration::from_millis(50);
    let _replica = Scheduler::start(database.url(), &options, only("endless", endless));
    database.wait_for("twelve run", SOON, 12, OPEN);
}

#[test]
fn an_orphan_of_a_paused_job_is_closed() {
    let database = database();
    database.add_job("gone", "every 1h");
    database.orphan_the_job();
    database.connect().batch_execute("update cron_jobs set enabled = false").unwrap();
    let _replica = start(&database, only("gone", endless));
    database.wait_for("the orphan is closed", SOON, 1, ENDED);
    assert_eq!(database.outcomes("gone"), ["abandoned on dead"]);
    assert_eq!(database.number("select count(*) from cron_jobs where holder is null"), 1);
}

#[test]
fn many_short_jobs_wake_the_scheduler_as_they_end() {
    let database = database();
    for number in 0..20 {
        database.add_job_calling(&format!("job-{number}"), "quick", "every 1h");
    }
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let mut options = options("a");
    options.poll = Duration::from_secs(1);
    options.handicap = Duration::from_secs(60);
    let _replica = Scheduler::start(
        database.url(),
        &options,
        only("quick", move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(String::new())
        }),
    );
    // One at a time, because of the handicap; by polls alone this would take twenty seconds.
    database.wait_for("all have run", Duration::from_secs(10), 20, ENDED);
    assert_eq!(count.load(Ordering::Relaxed), 20);
}
