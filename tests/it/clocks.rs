//! The database's clock jumps: nobody loses a job that he runs, and nothing waits for an hour.
//!
//! Each test's database has functions of its own for the clock, which its sessions find before the
//! system's: all that the program asks about time is moved at once, in the middle of its work.

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use balanced::cron::{Context, Failure};

use crate::support::{Database, Postgres, Scheduler, only, options, until};

const LEASE: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_secs(20);
const JOBS: i64 = 6;
const HELD: &str = "select count(*) from cron_jobs where locked_until > clock.clock_timestamp()
    and holder is not null and token = 1";

const CLOCK: &str = "
create schema clock;
create table clock.ahead (by interval not null);
insert into clock.ahead values ('0');
create function clock.now() returns timestamptz language sql stable as
    'select pg_catalog.now() + by from clock.ahead';
create function clock.clock_timestamp() returns timestamptz language sql as
    'select pg_catalog.clock_timestamp() + by from clock.ahead';
create table steps (job text, token bigint, at timestamptz default pg_catalog.clock_timestamp());
do $$ begin execute format('alter database %I set search_path = clock, public, pg_catalog',
    current_database()); end $$";

fn database() -> Database {
    let database = Postgres::shared().migrated().without_jobs();
    database.connect().batch_execute(CLOCK).expect("a clock");
    database
}

fn move_clock(database: &Database, by: &str) {
    let ahead = format!("update clock.ahead set by = by + interval '{by}'");
    database.connect().batch_execute(&ahead).expect("a jump");
}

/// Steps until it is told to stop.
fn steady(context: &Context) -> Result<String, Failure> {
    let insert = "insert into steps (job, token) values ($1, $2)";
    loop {
        let (job, token) = (context.job(), context.token());
        context.step(|session| session.query(insert, &[&job, &token]))?;
        context.wait(Duration::from_millis(20))?;
    }
}

/// Runs all jobs on three replicas, lets the clock jump, and starts a replica at that moment.
fn nobody_loses_a_job(by: &str) {
    let database = database();
    for job in 1..=JOBS {
        database.add_job_calling(&format!("steady-{job}"), "steady", "every 1h");
    }
    let start = |name| Scheduler::start(database.url(), &options(name), only("steady", steady));
    let mut replicas: Vec<Scheduler> = ["a", "b", "c"].map(start).into();
    database.wait_for("all are held", SOON, JOBS, HELD);
    move_clock(&database, by);
    replicas.push(start("fresh"));
    database.wait_for("all are held after the jump", LEASE, JOBS, HELD);
    std::thread::sleep(LEASE * 2);
    assert_eq!(database.number(HELD), JOBS);
    assert_eq!(database.number("select count(*) from cron_runs"), JOBS, "no other run");
    let going_on = "select count(distinct job) from steps
        where token = 1 and at > pg_catalog.clock_timestamp() - interval '1 second'";
    database.wait_for("every run makes its steps", SOON, JOBS, going_on);
    drop(replicas);
    assert_eq!(database.number("select count(*) from cron_runs where outcome <> 'cancelled'"), 0);
}

#[test]
fn a_jump_by_an_hour_takes_no_job_from_its_holder() {
    nobody_loses_a_job("1 hour");
}

#[test]
fn a_jump_by_little_more_than_a_lease_takes_no_job_from_its_holder() {
    nobody_loses_a_job("4 seconds");
}

#[test]
fn a_clock_that_is_set_back_takes_no_job_from_its_holder() {
    nobody_loses_a_job("-1 hour");
}

#[test]
fn a_holder_that_learns_of_a_jump_renews_at_once() {
    let database = database();
    database.add_job("steady", "every 1h");
    let mut options = options("a");
    options.lease = LEASE * 40;
    let _replica = Scheduler::start(database.url(), &options, only("steady", steady));
    database.wait_for("it is held", SOON, 1, HELD);
    move_clock(&database, "1 hour");
    database.wait_for("it is held after the jump", options.lease / 6, 1, HELD);
}

/// How long a job that a silent holder has claimed for six seconds stays his, when a replica with
/// this lease, which has seen the clock for so long, sees these jumps; in seconds since the claim.
fn silent_holder_keeps_it_for(lease: Duration, seen: Duration, jumps: &[&str]) -> f64 {
    let database = database();
    database.add_job("steady", "every 1h");
    database.connect().batch_execute("update cron_jobs set enabled = false").unwrap();
    let mut options = options("a");
    options.lease = lease;
    let start = || Scheduler::start(database.url(), &options, only("steady", steady));
    let early = (!seen.is_zero()).then(|| {
        let replica = start();
        has_looked(&replica);
        std::thread::sleep(seen);
        replica
    });
    let claimed = Instant::now();
    hold_for_a_dead_one(&database, "6 s");
    database.connect().batch_execute("update cron_jobs set enabled = true").unwrap();
    for jump in jumps {
        move_clock(&database, jump);
        std::thread::sleep(Duration::from_millis(300));
    }
    let _replica = early.unwrap_or_else(start);
    database.wait_for("it was taken over", SOON * 2, 2, "select token from cron_jobs");
    claimed.elapsed().as_secs_f64()
}

/// Until a tenth before its lease would have ended, it may be alive and at work.
const AT_WORK: f64 = 5.4;

#[test]
fn a_silent_holder_keeps_its_job_for_a_whole_lease_whatever_jumps() {
    let (long, brief) = (Duration::from_secs(60), Duration::from_secs(6));
    let cases: [(Duration, Duration, &[&str]); 4] = [
        (brief, brief * 7 / 6, &["1 hour"]),
        (brief, brief * 7 / 6, &["0.5 s", "0.5 s", "0.5 s", "0.5 s"]),
        (long, brief * 7 / 6, &["4 s"]),
        (brief, Duration::ZERO, &["1 hour"]),
    ];
    std::thread::scope(|scope| {
        for (lease, seen, jumps) in cases {
            scope.spawn(move || {
                let kept = silent_holder_keeps_it_for(lease, seen, jumps);
                println!("a lease of {lease:?}, seen for {seen:?}, {jumps:?}: {kept:.2} s");
                assert!(kept > AT_WORK, "{jumps:?}: for {kept} s");
            });
        }
    });
}

#[test]
fn many_waiting_jobs_that_are_put_right_do_not_cost_a_lease() {
    let database = database();
    database.add_job("steady", "every 1h");
    let fill = "insert into cron_jobs (name, function, schedule, slot, locked_until)
        select 'job-' || n, 'steady', '*/5 * * * *', now() + interval '1 h',
            now() + interval '1 h' from generate_series(1, 2000) n";
    database.connect().batch_execute(fill).unwrap();
    let mut options = options("a");
    options.lease = LEASE * 4;
    let replica = Scheduler::start(database.url(), &options, only("steady", steady));
    database.wait_for("it is held", SOON, 1, HELD);
    move_clock(&database, "-10 min");
    let ahead = "select count(*) from cron_jobs
        where written_at > clock.clock_timestamp() + interval '1 s'";
    database.wait_for("all are put right", SOON * 3, 0, ahead);
    let looks = "select count(distinct xmin::text) from cron_jobs where name like 'job-%'";
    // A renewal may have to wait for one look, and that puts right 100 jobs at most.
    assert!(database.number(looks) >= 20, "too many of 2,000 were put right in one look");
    let runs = database.text(
        "select string_agg(concat_ws(' ', token, outcome, detail), '; ') from cron_runs
         where job = 'steady'",
    );
    assert_eq!(runs, "1");
    assert!(replica.text().contains("cron_leases_lost_total 0"), "{runs}");
}

/// Waits until this replica knows the clock.
fn has_looked(replica: &Scheduler) {
    until("it has looked for jobs", SOON, || replica.text().contains("\ncron_due_jobs "));
}

#[test]
fn a_dead_holder_keeps_its_job_for_one_lease_after_the_clock_was_set_back() {
    let database = database();
    database.add_job("steady", "every 1h");
    hold_for_a_dead_one(&database, "3 s");
    let replica = Scheduler::start(database.url(), &options("a"), only("steady", steady));
    has_looked(&replica);
    move_clock(&database, "-1 hour");
    let since = Instant::now();
    database.wait_for("it was taken over", LEASE * 3, 2, "select token from cron_jobs");
    assert!(since.elapsed() > LEASE * 9 / 10, "{:?}", since.elapsed());
    let backwards = "select count(*) from cron_runs where finished_at < started_at";
    assert_eq!(database.number(backwards), 1, "so it was written");
}

#[test]
fn a_replica_that_starts_after_the_clock_was_set_back_mends_it_too() {
    let database = database();
    database.add_job("steady", "every 1h");
    hold_for_a_dead_one(&database, "3 s");
    move_clock(&database, "-1 hour");
    let _fresh = Scheduler::start(database.url(), &options("a"), only("steady", steady));
    database.wait_for("it was taken over", LEASE * 3, 2, "select token from cron_jobs");
}

/// Makes the only job one that a replica has claimed just now and will not renew.
fn hold_for_a_dead_one(database: &Database, lease: &str) {
    let claimed = "with run as (insert into cron_runs \
        (job_id, job, function, token, server, scheduled_at, started_at) \
        select id, name, function, 1, 'dead', slot, clock.now() from cron_jobs returning id) \
        update cron_jobs set token = 1, holder = 'dead#1', run_id = run.id, offered_at = null, \
        locked_until = clock.clock_timestamp() + $1::text::interval from run";
    database.connect().execute(claimed, &[&lease]).expect("an orphan");
}

#[test]
fn what_waits_is_due_again_in_time_after_the_clock_was_set_back() {
    let database = database();
    let insert = "insert into cron_jobs (name, function, schedule, slot, locked_until) values
        ('interval', 'quick', 'every 2s', now() + interval '2 s', now() + interval '2 s'),
        ('wildcard', 'quick', '* * * * *', date_trunc('minute', now()) + interval '1 min',
            date_trunc('minute', now()) + interval '1 min'),
        ('named', 'quick', '0 0 1 1 *', date_trunc('year', now()) + interval '1 year',
            date_trunc('year', now()) + interval '1 year'),
        ('asked-for', 'quick', 'every 24h', now() + interval '1 day', now()),
        ('given-back', 'quick', 'every 24h', now() - interval '1 min', now());
        update cron_jobs set requested_at = now() where name = 'asked-for'";
    let mut client = database.connect();
    client.batch_execute(insert).expect("jobs");
    let named = "select (extract(epoch from slot) * 1000)::bigint from cron_jobs
        where name = 'named'";
    let (before, grid) = (database.number(named), grid(&database));
    move_clock(&database, "-1 hour");
    let _replica =
        Scheduler::start(database.url(), &options("a"), only("quick", |_| Ok(String::new())));
    let ran = "select count(distinct job) from cron_runs
        where job in ('interval', 'asked-for', 'given-back')";
    database.wait_for("what was due, or will be soon, has run", LEASE * 2, 3, ran);
    let soon = "select count(*) from cron_jobs
        where name = 'wildcard' and locked_until < now() + interval '61 s'";
    database.wait_for("the next minute is the next", SOON, 1, soon);
    database.wait_for(
        "all is mended",
        SOON,
        0,
        "select count(*) from cron_jobs
        where written_at > clock.now() + interval '1 s'",
    );
    assert_eq!(database.number(named), before, "a time of the day comes once");
    assert_eq!(self::grid(&database), grid, "the grid of the interval stays");
}

/// The pause before another try lasts as long as it was to, and the try is that of the same slot.
#[test]
fn a_try_that_is_waited_for_is_not_forgotten_when_the_clock_was_set_back() {
    for asked_for in ["null", "now()"] {
        let database = database();
        database.add_job("fails", "every 1h");
        let settings = format!(
            "update cron_jobs set retries = 1, retry_after_seconds = 5, requested_at = {asked_for}"
        );
        database.connect().batch_execute(&settings).unwrap();
        let fails = |_: &Context| Err(Failure::Failed("no luck".to_owned()));
        let _replica = Scheduler::start(database.url(), &options("a"), only("fails", fails));
        let waits = "select count(*) from cron_jobs where holder is null and attempt = 2";
        database.wait_for("another try is waited for", SOON, 1, waits);
        let since = Instant::now();
        move_clock(&database, "-1 hour");
        let both = "select count(*) from cron_runs where finished_at is not null";
        database.wait_for("it is tried again", SOON, 2, both);
        assert!(since.elapsed() > Duration::from_secs(3), "{:?}", since.elapsed());
        let tries = "select string_agg(attempt || outcome, ' ' order by id) from cron_runs";
        assert_eq!(database.text(tries), "1failed 2failed", "{asked_for}");
        let next = "select count(*) from cron_jobs where attempt = 0 and slot > now()
            and slot <= now() + interval '2 h'";
        assert_eq!(database.number(next), 1, "{asked_for}");
    }
}

/// By the database's clock the slot is too late, and nobody knows better.
#[test]
fn a_jump_beyond_the_deadline_is_a_miss_and_the_slot_after_it_is_run() {
    let database = database();
    let insert = "insert into cron_jobs
        (name, function, schedule, slot, locked_until, start_within_seconds)
        select 'quick', 'quick', 'every 3s', at, at, 2
        from (select now() + interval '20 s') as it (at)";
    database.connect().batch_execute(insert).expect("a job");
    let replica =
        Scheduler::start(database.url(), &options("a"), only("quick", |_| Ok(String::new())));
    has_looked(&replica);
    move_clock(&database, "1 hour");
    let run = "select least(1, count(*)) from cron_runs where outcome = 'succeeded'";
    database.wait_for("a slot is run", SOON, 1, run);
    let first = "select outcome from cron_runs order by id limit 1";
    assert_eq!(database.text(first), "missed");
    let late = "select count(*) from cron_runs where outcome = 'succeeded'
        and started_at - scheduled_at > interval '2.1 s'";
    assert_eq!(database.number(late), 0);
}

/// Where the grid of the interval of two seconds lies, in microseconds.
fn grid(database: &Database) -> i64 {
    database.number(
        "select mod((extract(epoch from slot) * 1000000)::bigint, 2000000) from cron_jobs
         where name = 'interval'",
    )
}

/// The next slot after a run that began before the clock was set back, and ended after; in minutes
/// after the one that was run.
fn next_slot_after(set_back: &str) -> i64 {
    let database = database();
    database.add_job("gated", "every 1h");
    let gate = Arc::new(Barrier::new(2));
    let inner = Arc::clone(&gate);
    let functions = only("gated", move |_: &Context| {
        inner.wait();
        inner.wait();
        Ok(String::new())
    });
    let _replica = Scheduler::start(database.url(), &options("a"), functions);
    gate.wait();
    move_clock(&database, set_back);
    gate.wait();
    let ended = "select count(*) from cron_runs where finished_at is not null";
    database.wait_for("it has ended", SOON, 1, ended);
    database.number(
        "select round(extract(epoch from slot - scheduled_at) / 60)::bigint
         from cron_jobs join cron_runs on job_id = cron_jobs.id",
    )
}

#[test]
fn a_slot_that_was_run_is_not_run_again_and_the_next_is_never_far() {
    assert_eq!(next_slot_after("0"), 60);
    assert_eq!(next_slot_after("-30 min"), 60, "the same slot would come first");
    assert_eq!(next_slot_after("-2 h"), -60, "an hour from now, or less");
}
