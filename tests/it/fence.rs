//! Holders that are frozen at random points of a step, for longer than their leases: no step of
//! an old run is in the database after the first of the job's next run.
//!
//! `FREEZES` is how many there are (8), on four databases side by side; `FREEZE_SEED` repeats a
//! run.

use std::thread;
use std::time::Duration;

use crate::support::{Child, Database, Postgres, Random, number, seed, witness};

const LEASE: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_secs(30);
const JOBS: i64 = 4;
const DATABASES: u64 = 4;
const REPLICAS: [&str; 3] = ["a", "b", "c"];
/// Each step has written down the last step of earlier runs that it saw. Were another committed
/// later, the earlier runs' last step would be another in the end.
const LATE_STEPS: &str = "
select count(*) from fenced step
where seen is distinct from (
    select max(id) from fenced earlier where earlier.job = step.job and earlier.run_id < step.run_id
)";
const ALL_RUN: &str =
    "select count(*) from cron_jobs where locked_until > now() and holder is not null";

fn held_by(name: &str) -> String {
    format!("select count(*) from cron_jobs where holder like '{name}#%'")
}

/// Freezes one replica after the other until others have all its jobs; how many runs that met.
fn freeze(database: &Database, freezes: u64, mut random: Random) -> i64 {
    let replicas: Vec<Child> = REPLICAS.iter().map(|name| witness(database, name, LEASE)).collect();
    let mut frozen = 0;
    for _ in 0..freezes {
        database.wait_for("all run", SOON, JOBS, ALL_RUN);
        let one = random.below(REPLICAS.len());
        thread::sleep(random.millis(0..50));
        replicas[one].signal("-STOP");
        frozen += database.number(&held_by(REPLICAS[one]));
        database.wait_for("others have its jobs", SOON, 0, &held_by(REPLICAS[one]));
        thread::sleep(random.millis(0..200));
        replicas[one].signal("-CONT");
    }
    database.wait_for("all run", SOON, JOBS, ALL_RUN);
    frozen
}

#[test]
fn no_step_of_a_frozen_run_comes_after_the_first_of_the_next() {
    let (freezes, seed) = (number("FREEZES", 8) / DATABASES, seed("FREEZE_SEED"));
    let counts: Vec<(i64, i64, i64)> = thread::scope(|scope| {
        let one = |index| {
            let database = Postgres::shared().migrated().without_jobs().with_witness_table();
            for job in 0..JOBS {
                database.add_job_calling(&format!("job-{job}"), "fenced", "every 1h");
            }
            let frozen = freeze(&database, freezes, Random(seed.wrapping_add(index)));
            let steps = database.number("select count(*) from fenced");
            (frozen, steps, database.number(LATE_STEPS))
        };
        let threads: Vec<_> = (0..DATABASES).map(|index| scope.spawn(move || one(index))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a database")).collect()
    });
    let sum = |part: fn(&(i64, i64, i64)) -> i64| counts.iter().map(part).sum::<i64>();
    let (frozen, steps, late) = (sum(|it| it.0), sum(|it| it.1), sum(|it| it.2));
    println!("{frozen} runs frozen in {} freezes, {steps} steps, {late} late", freezes * DATABASES);
    assert!(frozen > 0 && steps > 0);
    assert_eq!(late, 0, "steps that did not see the last of an earlier run");
}
