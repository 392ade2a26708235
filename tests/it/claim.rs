//! Many schedulers against many due jobs: each slot is run once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use balanced::cron::Functions;
use postgres::types::ToSql;
use postgres::{Client, Statement};

use crate::interleavings::statements::text;
use crate::support::{Database, Postgres, Scheduler, number, only, options, seconds};

const SCHEDULERS: usize = 8;
const JOBS: usize = 200;
const SOON: Duration = Duration::from_secs(60);
const CLAIM_MAX_MS: f64 = 1.0;

/// Counts wrongly as soon as two do it at the same time.
fn count_carelessly(counter: &AtomicUsize) {
    let count = counter.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(1));
    counter.store(count + 1, Ordering::Relaxed);
}

/// They race for `CLAIM_RACE_SECONDS`, 5 unless told, and until each job has run.
#[test]
fn schedulers_that_race_for_short_jobs_run_each_slot_once() {
    let database = Postgres::shared().migrated().without_jobs();
    let jobs: Vec<String> = (0..JOBS).map(|number| format!("job-{number}")).collect();
    for job in &jobs {
        database.add_job(job, "every 1s");
    }
    let counters: Arc<Vec<AtomicUsize>> = Arc::new((0..JOBS).map(|_| 0.into()).collect());
    let mut schedulers = Vec::new();
    for number in 0..SCHEDULERS {
        let mut options = options(&format!("replica-{number}"));
        (options.handicap, options.poll) = (Duration::ZERO, Duration::from_millis(20));
        options.lease = Duration::from_secs(15);
        let functions =
            jobs.iter().enumerate().fold(Functions::new(), |functions, (index, job)| {
                let counters = Arc::clone(&counters);
                functions.with(job, move |_| {
                    count_carelessly(&counters[index]);
                    Ok(String::new())
                })
            });
        schedulers.push(Scheduler::start(database.url(), &options, functions));
    }
    std::thread::sleep(seconds("CLAIM_RACE_SECONDS", 5));
    let all = "select count(distinct job_id) from cron_runs where outcome = 'succeeded'";
    database.wait_for("each job has run", SOON, JOBS as i64, all);
    for scheduler in &schedulers {
        scheduler.0.begin_drain();
    }
    for scheduler in &schedulers {
        assert!(scheduler.0.wait_drained(Instant::now() + SOON));
    }
    let count = |sql: &str| database.number(sql);
    let runs = count("select count(*) from cron_runs where outcome = 'succeeded'");
    // Claimed at the moment of the drain, and given back.
    let others = "select count(*) from cron_runs where outcome not in ('succeeded', 'cancelled')";
    assert_eq!(count(others), 0);
    let slots = "select count(distinct (job_id, scheduled_at)) from cron_runs
        where outcome = 'succeeded'";
    assert_eq!(count(slots), runs, "a slot was run twice");
    let counted: usize = counters.iter().map(|counter| counter.load(Ordering::Relaxed)).sum();
    assert_eq!(i64::try_from(counted).unwrap(), runs, "two ran at the same time");
    let servers = count("select count(distinct server) from cron_runs");
    assert!(servers > 1, "no race: one scheduler ran everything");
    println!("{runs} runs of {JOBS} jobs on {servers} schedulers");
}

/// `CLAIM_RUNS` runs are in the history, 100,000 unless told. Where it is set, a claim has to be as
/// fast as is promised.
#[test]
fn among_ten_thousand_jobs_and_many_runs_nothing_reads_a_whole_table() {
    let runs = number("CLAIM_RUNS", 100_000);
    let database = Postgres::shared().migrated().without_jobs();
    let fill = format!(
        "insert into cron_jobs (name, function, schedule, slot, locked_until, job_group) \
         select 'job-' || n, 'quick', 'every 1h', now() + interval '1 h', now() + interval '1 h', \
         'group-' || n % 100 from generate_series(1, 10000) n; \
         insert into cron_runs (job_id, job, function, token, server, scheduled_at, started_at, \
         finished_at, outcome) select n % 10000, 'job-' || n % 10000, 'quick', n, 'z', now(), \
         now(), now(), 'succeeded' from generate_series(1, {runs}) n"
    );
    database.connect().batch_execute(&fill).unwrap();
    database.add_job("quick", "every 1s");
    database.connect().batch_execute("vacuum analyze cron_jobs").unwrap();
    database.connect().batch_execute("vacuum analyze cron_runs").unwrap();
    // Behind the statistics' back, as it always is: open runs come and go, and jobs come due.
    let open = "insert into cron_runs (job_id, job, function, token, server, scheduled_at, \
                started_at) select -n, 'gone', 'quick', 1, 'z', now(), now() \
                from generate_series(1, 500) n; \
                update cron_jobs set locked_until = now() where name < 'job-4'";
    database.connect().batch_execute(open).unwrap();
    let whole = "select sum(seq_scan)::bigint from pg_stat_user_tables \
                 where relname in ('cron_jobs', 'cron_runs')";
    let before = database.number(whole);
    let indexes =
        "select idx_scan from pg_stat_user_indexes where indexrelname = 'cron_runs_by_end'";
    let by_end = database.number(indexes);
    let replica =
        Scheduler::start(database.url(), &options("a"), only("quick", |_| Ok(String::new())));
    let claims = "select least(idx_scan, 500) from pg_stat_user_indexes \
                  where indexrelname = 'one_open_run_a_job'";
    database.wait_for("500 claims in the statistics", SOON, 500, claims);
    // Once, at its start, it has looked for rows from before a clock was set back.
    assert_eq!(database.number(whole), before + 2, "a whole table was read");
    assert_eq!(database.number(indexes), by_end, "all open runs were read");
    drop(replica);
    let (claim, offer) = (median_of_claims(&database), median_of_offers(&database));
    println!("among {runs} runs: a claim takes {claim} ms, an offer {offer} ms (median)");
    assert!(std::env::var("CLAIM_RUNS").is_err() || claim < CLAIM_MAX_MS, "{claim} ms");
}

/// How long a statement has taken in the database, in milliseconds.
fn took(client: &mut Client, statement: &Statement, params: &[&(dyn ToSql + Sync)]) -> f64 {
    let plan = client.query(statement, params).expect("a plan");
    let last: &str = plan.last().expect("lines").get(0);
    let time = last.strip_prefix("Execution Time: ").and_then(|rest| rest.strip_suffix(" ms"));
    time.unwrap_or_else(|| panic!("{last}")).parse().expect("milliseconds")
}

/// Of a hundred claims, one in each group.
fn median_of_claims(database: &Database) -> f64 {
    let mut client = database.connect();
    let free = "update cron_jobs set holder = null, run_id = null, offered_at = null, \
                locked_until = now() - interval '1 s'; \
                update cron_jobs set offered_at = now() where id in \
                (select min(id) from cron_jobs where job_group is not null group by job_group)";
    client.batch_execute(free).expect("all are due");
    let claim =
        format!("explain (analyze, timing off) {}", text("src/cron/lease/claim.rs", "CLAIM"));
    let claim = client.prepare(&claim).expect("CLAIM");
    let (functions, held) = (vec!["quick"], Vec::<i64>::new());
    let each = (0..100).map(|number| {
        let holder = format!("a#{number}");
        took(&mut client, &claim, &[&functions, &0f64, &holder, &"a", &15f64, &held, &0i64])
    });
    let median = median(each.collect());
    let running = "select count(*) from cron_jobs where holder is not null";
    assert_eq!(database.number(running), 100, "each claimed one");
    median
}

/// While one job of each group runs and the 9,900 others are due, as they may be for hours.
fn median_of_offers(database: &Database) -> f64 {
    let mut client = database.connect();
    let offer = text("src/cron/lease/offer.rs", "OFFER");
    let offer = client.prepare(&format!("explain (analyze, timing off) {offer}")).expect("OFFER");
    let (functions, ages) = (vec!["quick"], vec![1e9f64]);
    let known = vec![client.query_one("select now()", &[]).unwrap().get::<_, SystemTime>(0)];
    let each = (0..20)
        .map(|_| took(&mut client, &offer, &[&functions, &60f64, &100i64, &ages, &known, &500i64]));
    let median = median(each.collect());
    let offers = "select count(offered_at) from cron_jobs";
    assert_eq!(database.number(offers), 1, "of the job that has no group");
    median
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
