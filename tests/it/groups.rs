//! Jobs of one group never run at the same time, anywhere; and nobody waits for longer than that
//! takes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use balanced::cron::Functions;
use postgres::Client;
use postgres::error::SqlState;

use crate::interleavings::statements::text;
use crate::support::{
    Database, Local, Postgres, Scheduler, ask, endless, only, options, seconds, until, witness,
};

const SOON: Duration = Duration::from_secs(30);
const LEASE: Duration = Duration::from_secs(3);
const RUNNING: &str = "select count(*) from cron_jobs where holder is not null";

fn group(database: &Database, jobs: &str, group: &str) {
    let sql = "update cron_jobs set job_group = $2 where name like $1";
    database.connect().execute(sql, &[&jobs, &group]).expect("a group");
}

fn server_of(database: &Database, job: &str) -> String {
    database.text(&format!(
        "select coalesce(max(split_part(holder, '#', 1)), '') from cron_jobs where name = '{job}'"
    ))
}

/// All are offered, as OFFER does not leave them. False when somebody else was faster.
fn claim(client: &mut Client, sql: &str, holder: &str) -> bool {
    let (functions, held) = (vec!["quick"], Vec::<i64>::new());
    match client.query_opt(sql, &[&functions, &0f64, &holder, &"a", &15f64, &held, &0i64]) {
        Ok(row) => row.is_some(),
        Err(error) => {
            let refusal = error.as_db_error().unwrap_or_else(|| panic!("{error}"));
            assert_eq!(refusal.code(), &SqlState::UNIQUE_VIOLATION, "{refusal}");
            assert_eq!(refusal.constraint(), Some("one_run_a_group"));
            false
        }
    }
}

#[test]
fn of_twenty_that_claim_in_a_group_at_the_same_moment_one_succeeds() {
    const CLAIMERS: usize = 20;
    const ROUNDS: usize = 50;
    let database = Postgres::shared().migrated().without_jobs();
    database.add_due_jobs(CLAIMERS as i64, "quick");
    group(&database, "job-%", "g");
    let sql = text("src/cron/lease/claim.rs", "CLAIM");
    let (start, end) = (Barrier::new(CLAIMERS + 1), Barrier::new(CLAIMERS + 1));
    let claims = AtomicUsize::new(0);
    thread::scope(|scope| {
        for number in 0..CLAIMERS {
            let (database, sql, claims) = (&database, &sql, &claims);
            let (start, end) = (&start, &end);
            scope.spawn(move || {
                let mut client = database.connect();
                for round in 0..ROUNDS {
                    start.wait();
                    let claimed = claim(&mut client, sql, &format!("{number}#{round}"));
                    claims.fetch_add(claimed.into(), Ordering::Relaxed);
                    end.wait();
                }
            });
        }
        for round in 1..=ROUNDS {
            let free = "update cron_jobs set holder = null, run_id = null, locked_until = now(), \
                        offered_at = now(); update cron_runs set finished_at = now(), outcome = \
                        'succeeded' where finished_at is null";
            database.connect().batch_execute(free).expect("all are free");
            start.wait();
            end.wait();
            assert_eq!(database.number(RUNNING), 1, "round {round}");
            assert_eq!(claims.load(Ordering::Relaxed), round, "one claim in each round");
        }
    });
}

/// Each run counts carelessly, so that two of a group at the same time are noticed. They race for
/// `CLAIM_RACE_SECONDS`, 5 unless told, and until each job has run.
#[test]
fn runs_of_a_group_never_overlap_and_each_of_its_jobs_runs() {
    const GROUPS: usize = 6;
    const JOBS: usize = 60;
    let database = Postgres::shared().migrated().without_jobs();
    let counters: Arc<Vec<AtomicUsize>> = Arc::new((0..GROUPS).map(|_| 0.into()).collect());
    for index in 0..JOBS {
        database.add_job_calling(
            &format!("job-{index}"),
            &format!("f-{}", index % GROUPS),
            "every 1s",
        );
        group(&database, &format!("job-{index}"), &format!("g-{}", index % GROUPS));
    }
    let mut schedulers = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let mut options = options(name);
        (options.handicap, options.poll) = (Duration::ZERO, Duration::from_millis(20));
        options.lease = Duration::from_secs(15);
        let functions = (0..GROUPS).fold(Functions::new(), |functions, index| {
            let counters = Arc::clone(&counters);
            functions.with(&format!("f-{index}"), move |_| {
                let count = counters[index].load(Ordering::Relaxed);
                thread::sleep(Duration::from_millis(2));
                counters[index].store(count + 1, Ordering::Relaxed);
                Ok(String::new())
            })
        });
        schedulers.push(Scheduler::start(database.url(), &options, functions));
    }
    thread::sleep(seconds("CLAIM_RACE_SECONDS", 5));
    let all = "select count(distinct job_id) from cron_runs where outcome = 'succeeded'";
    database.wait_for("each job has run", SOON, JOBS as i64, all);
    schedulers.iter().for_each(|scheduler| scheduler.0.begin_drain());
    for scheduler in &schedulers {
        assert!(scheduler.0.wait_drained(Instant::now() + SOON));
    }
    let runs = database.number("select count(*) from cron_runs where outcome = 'succeeded'");
    let counted: usize = counters.iter().map(|counter| counter.load(Ordering::Relaxed)).sum();
    assert_eq!(i64::try_from(counted).unwrap(), runs, "two of a group ran at the same time");
    let others = "select count(*) from cron_runs where outcome not in ('succeeded', 'cancelled')";
    assert_eq!(database.number(others), 0);
    assert!(database.number("select count(distinct server) from cron_runs") > 1, "no race");
    println!("{runs} runs of {JOBS} jobs in {GROUPS} groups");
}

/// 200 others of the group are due for longer than the job that has no group.
#[test]
fn an_occupied_group_keeps_nobody_else_waiting() {
    let database = Postgres::shared().migrated().without_jobs();
    database.add_due_jobs(200, "long");
    group(&database, "job-%", "g");
    let functions = || Functions::new().with("long", endless).with("quick", |_| Ok(String::new()));
    let _both =
        ["a", "b"].map(|name| Scheduler::start(database.url(), &options(name), functions()));
    database.wait_for("one of the group runs", SOON, 1, RUNNING);
    database.add_job("quick", "every 1s");
    let quick = "select least(count(*), 3) from cron_runs where job = 'quick' \
                 and outcome = 'succeeded'";
    database.wait_for("the other job runs three times", SOON, 3, quick);
    let group_runs = "select count(*) from cron_runs where job <> 'quick'";
    assert_eq!(database.number(group_runs), 1);
    // At most the one of a moment: an offer that cannot be taken is taken back.
    let offers = "select count(offered_at) from cron_jobs where job_group = 'g'";
    database.wait_for("no offer is left in the group", SOON, 0, offers);
}

/// Of the processes one is killed. The job that it ran is taken over, and no other of the group.
#[test]
fn a_takeover_in_a_group_is_of_the_very_job() {
    let database = Postgres::shared().migrated().without_jobs().with_witness_table();
    for job in ["first", "second", "third"] {
        database.add_job_calling(job, "witness", "every 1h");
    }
    group(&database, "%", "g");
    let replicas: BTreeMap<_, _> =
        ["a", "b"].into_iter().map(|name| (name, witness(&database, name, LEASE))).collect();
    database.wait_for("one runs", SOON, 1, RUNNING);
    let job = database.text("select name from cron_jobs where holder is not null");
    let server = server_of(&database, &job);
    replicas[server.as_str()].signal("-KILL");
    let other = if server == "a" { "b" } else { "a" };
    until("it is taken over", SOON, || server_of(&database, &job) == other);
    assert_eq!(database.outcomes(&job), [format!("abandoned on {server}")]);
    assert_eq!(database.number("select count(distinct job) from cron_runs"), 1);
}

#[test]
fn a_member_that_is_locked_or_unknown_here_does_not_keep_its_group_waiting() {
    let database = Postgres::shared().migrated().without_jobs();
    for job in ["locked", "unknown", "quick"] {
        database.add_job(job, "every 1h");
        group(&database, job, "g");
    }
    let mut client = database.connect();
    let mut somebody = client.transaction().expect("a transaction");
    somebody.execute("select from cron_jobs where name = 'locked' for update", &[]).unwrap();
    let functions = || only("quick", |_| Ok(String::new())).with("locked", |_| Ok(String::new()));
    let both = ["a", "b"].map(|name| Scheduler::start(database.url(), &options(name), functions()));
    let runs = |job: &str| format!("select count(*) from cron_runs where job = '{job}'");
    database.wait_for("the last one runs", Duration::from_secs(5), 1, &runs("quick"));
    somebody.rollback().expect("the lock is given back");
    database.wait_for("so does the one that was locked", SOON, 1, &runs("locked"));
    assert_eq!(database.number(&runs("unknown")), 0);
    drop(both);
}

#[test]
fn a_job_that_is_locked_after_its_offer_keeps_its_group_waiting_for_seconds_only() {
    let database = Postgres::shared().migrated().without_jobs();
    for job in ["first", "second"] {
        database.add_job_calling(job, "quick", "every 1h");
        group(&database, job, "g");
    }
    let offer = "update cron_jobs set offered_at = now() where name = 'first'";
    database.connect().execute(offer, &[]).expect("an offer");
    let mut client = database.connect();
    let mut somebody = client.transaction().expect("a transaction");
    somebody.execute("select from cron_jobs where name = 'first' for update", &[]).unwrap();
    let quick = || only("quick", |_| Ok(String::new()));
    let _both = ["a", "b"].map(|name| Scheduler::start(database.url(), &options(name), quick()));
    let second = "select count(*) from cron_runs where job = 'second' and outcome = 'succeeded'";
    database.wait_for("the second runs", Duration::from_secs(20), 1, second);
}

/// By another replica's poll, from the rows alone.
#[test]
fn a_job_that_changes_its_group_while_it_runs_leaves_the_one_and_fills_the_other() {
    let database = Postgres::shared().migrated().without_jobs();
    let both = ["a", "b"]
        .map(|name| Scheduler::start(database.url(), &options(name), only("long", endless)));
    let job = |name: &str, of: &str| {
        let add = "insert into cron_jobs (name, function, schedule, slot, locked_until, job_group) \
                   values ($1, 'long', 'every 1h', now(), now(), nullif($2, ''))";
        database.connect().execute(add, &[&name, &of]).expect("a job");
    };
    let runs = |name: &str| until(name, SOON, || !server_of(&database, name).is_empty());
    job("old", "g");
    runs("old");
    job("next", "g");
    group(&database, "old", "other");
    runs("next");
    job("waits", "other");
    job("alone", "");
    runs("alone");
    assert_eq!(server_of(&database, "waits"), "", "`old` runs, and belongs to this group now");
    // Three run, one of `g` and one of `other`: nobody can bring a second one into a group.
    let sql = "update cron_jobs set job_group = 'g' where name = 'alone'";
    let refused = database.connect().execute(sql, &[]).expect_err("two run in a group");
    let refusal = refused.as_db_error().expect("a refusal");
    assert_eq!(refusal.constraint(), Some("one_run_a_group"));
    // Nor by the interface; a trigger stands in for the setting.
    let trigger = "create function moves() returns trigger language plpgsql as \
                   'begin new.job_group = ''g''; return new; end'; \
                   create trigger moves before update of schedule on cron_jobs \
                   for each row execute function moves()";
    database.connect().batch_execute(trigger).expect("a trigger");
    let replica = Local::start(database.url());
    let patch = "PATCH /api/cron/jobs/alone";
    let answer = ask(replica.addr, patch, &[], r#"{"schedule":"every 7m"}"#);
    assert_eq!((answer.status, answer.code().as_str()), (409, "job_running"));
    assert!(answer.json()["detail"].as_str().unwrap().contains("group"), "{}", answer.json());
    assert_eq!(database.number(RUNNING), 3);
    drop(both);
}
