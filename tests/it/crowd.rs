//! Thousands of jobs of which very many are due at one instant: nobody who ends or renews waits for
//! those who look and claim.
//!
//! `CROWD_JOBS` jobs (400 unless told), in `CROWD_GROUPS` groups (0: in none), of which `CROWD_DUE`
//! (120) are due at one instant; `CROWD_SCHEDULERS` (4), whose handicap is `CROWD_HANDICAP_MS` (0).
//! Every other run lasts for a second, the others end at once.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use balanced::cron::{Context, Failure, Functions};
use postgres::types::ToSql;

use crate::support::{
    Database, Postgres, Scheduler, endless, number, only, options, seconds, until,
};

const SOON: Duration = Duration::from_secs(30);
const END_MAX_SECONDS: f64 = 1.0;
const FIGURES: &str = "\
with server as (
    select count(*) as runs from cron_runs group by server
), run as (
    select extract(epoch from started_at - scheduled_at)::float8 as late from cron_runs
)
select format('late by %s s in the median and %s s at most; %s to %s runs on each',
    round(percentile_cont(0.5) within group (order by late)::numeric, 3),
    round(max(late)::numeric, 3), (select min(runs) from server), (select max(runs) from server))
from run";

/// The instants at which functions have returned, by the clock of the machine that the database is
/// on, too.
type Returns = Arc<Mutex<Vec<(i64, SystemTime)>>>;

fn functions(returns: &Returns) -> Functions {
    let short = Arc::clone(returns);
    let long = Arc::clone(returns);
    let note = |returns: &Returns, context: &Context| {
        returns.lock().unwrap().push((context.run_id(), SystemTime::now()));
        Ok::<String, Failure>(String::new())
    };
    only("short", move |context| note(&short, context)).with("long", move |context| {
        context.wait(Duration::from_secs(1))?;
        note(&long, context)
    })
}

/// The jobs, of which the first `due` wait for one instant some seconds from now.
fn fill(database: &Database, jobs: i64, due: i64, groups: i64) {
    let sql = "insert into cron_jobs (name, function, schedule, slot, locked_until, job_group) \
               select 'job-' || n, case when n % 2 = 0 then 'short' else 'long' end, 'every 1h', \
               at, at, case when $3::bigint > 0 then 'group-' || n % $3 end \
               from generate_series(1, $1::bigint) n cross join lateral (select now() + \
               case when n <= $2::bigint then interval '4 s' else interval '1 h' end as at) slot";
    let mut client = database.connect();
    let params: [&(dyn ToSql + Sync); 3] = [&jobs, &due, &groups];
    client.execute(sql, &params).expect("jobs");
    client.batch_execute("vacuum analyze cron_jobs").expect("statistics");
}

#[test]
fn no_end_waits_for_a_crowd_that_is_due_at_one_instant() {
    let count = |name, default| number(name, default) as i64;
    let (jobs, due) = (count("CROWD_JOBS", 400), count("CROWD_DUE", 120));
    let (groups, schedulers) = (count("CROWD_GROUPS", 0), count("CROWD_SCHEDULERS", 4));
    let database = Postgres::shared().migrated().without_jobs();
    let returns = Returns::default();
    let handicap = Duration::from_millis(number("CROWD_HANDICAP_MS", 0));
    fill(&database, jobs, due, groups);
    let _all: Vec<Scheduler> = (0..schedulers)
        .map(|index| {
            let mut options = options(&format!("replica-{index}"));
            (options.lease, options.poll) = (Duration::from_secs(15), Duration::from_millis(500));
            options.handicap = handicap;
            Scheduler::start(database.url(), &options, functions(&returns))
        })
        .collect();
    let ended = "select count(*) from cron_runs where outcome = 'succeeded'";
    database.wait_for("all have run", Duration::from_secs(500), due, ended);
    assert_eq!(database.number("select count(*) from cron_runs"), due, "each once");
    let figures = database.text(FIGURES);
    let waits = waits(&database, &returns);
    let most = waits.iter().fold(0f64, |most, wait| most.max(*wait));
    println!(
        "{due} of {jobs} jobs due at once, {groups} groups, {schedulers} schedulers, handicap \
         {handicap:?}: {figures}; ends waited {most:.3} s at most"
    );
    assert!(most < END_MAX_SECONDS, "an end waited for {most} s");
}

/// How long each end waited from the function's return until it was written, in seconds.
fn waits(database: &Database, returns: &Returns) -> Vec<f64> {
    let since_1970 = |at: SystemTime| {
        at.duration_since(SystemTime::UNIX_EPOCH).expect("a clock that is right").as_secs_f64()
    };
    let (runs, returned): (Vec<i64>, Vec<f64>) =
        returns.lock().unwrap().iter().map(|(run, at)| (*run, since_1970(*at))).unzip();
    let sql = "select extract(epoch from finished_at)::float8 - returned from cron_runs \
               join unnest($1::bigint[], $2::float8[]) as own (id, returned) using (id)";
    let rows = database.connect().query(sql, &[&runs, &returned]).expect("waits");
    assert_eq!(rows.len(), runs.len());
    rows.iter().map(|row| row.get(0)).collect()
}

/// With 10,000 jobs in 100 groups, of which none is due, for `REST_SECONDS` (6 unless told). Each
/// look is one statement, which reads the pause once.
#[test]
fn a_replica_at_rest_looks_twice_a_second() {
    const REPLICAS: usize = 4;
    let database = Postgres::shared().migrated().without_jobs();
    fill(&database, 10_000, 0, 100);
    let replicas = [(); REPLICAS].map(|()| {
        let mut options = options("a");
        options.poll = Duration::from_millis(500);
        Scheduler::start(database.url(), &options, only("short", |_| Ok(String::new())))
    });
    let has_looked = |replica: &Scheduler| replica.text().contains("\ncron_due_jobs 0\n");
    until("all have looked", SOON, || replicas.iter().all(has_looked));
    // While its connections are opened, a replica looks more often; and sessions note what they
    // have done a second late.
    thread::sleep(Duration::from_secs(3));
    let looks = "select seq_scan from pg_stat_user_tables where relname = 'cron_pause'";
    let (before, begun) = (database.number(looks), Instant::now());
    thread::sleep(seconds("REST_SECONDS", 6));
    let looks = (database.number(looks) - before) as f64;
    let rate = looks / begun.elapsed().as_secs_f64() / REPLICAS as f64;
    println!("{rate:.2} looks a second of each replica at rest");
    assert!((1.0..2.5).contains(&rate), "{rate} looks a second");
}

/// The other replica is there to show that the jobs that are left are free for everybody.
#[test]
fn a_replica_that_holds_as_many_runs_as_it_may_claims_nothing() {
    let database = Postgres::shared().migrated().without_jobs();
    database.add_due_jobs(5, "long");
    let mut two = options("two");
    (two.handicap, two.max_runs) = (Duration::ZERO, Some(2));
    let first = Scheduler::start(database.url(), &two, only("long", endless));
    until("it has looked and left three", SOON, || first.text().contains("cron_due_jobs 3\n"));
    let held =
        |server: &str| format!("select count(*) from cron_jobs where holder like '{server}#%'");
    assert_eq!(database.number(&held("two")), 2);
    let _other = Scheduler::start(database.url(), &options("other"), only("long", endless));
    database.wait_for("the other has the rest", SOON, 3, &held("other"));
    assert_eq!(database.number(&held("two")), 2);
}
