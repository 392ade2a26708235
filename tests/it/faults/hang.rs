//! A database that hangs instead of failing: the driver waits for as long as that lasts, and
//! nothing else does. What requests are told is in `deadline`; here the jobs, and the time.
//!
//! `HANG_SECONDS` is how long it hangs (8 unless told), `HANG_LEASE_SECONDS` the lease (3).

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::support::{Database, Postgres, Process, change, get, number, post, seconds, until};

const JOBS: i64 = 10;
const SOON: Duration = Duration::from_secs(60);
const RECOVERY_MAX: Duration = Duration::from_secs(10);
const RUNNING: &str =
    "select count(*) from cron_jobs where holder is not null and locked_until > now()";

pub(super) fn lease() -> Duration {
    seconds("HANG_LEASE_SECONDS", 3)
}

/// A replica that runs all jobs.
pub(super) fn busy_replica(database: &Database, command: &mut std::process::Command) -> Process {
    command.env("CRON_LEASE_SECONDS", number("HANG_LEASE_SECONDS", 3).to_string()).envs([
        ("CRON_HANDICAP_MS", "0"),
        ("JOB_MIN_SECONDS", "600"),
        ("CRON_POLL_MS", "250"),
    ]);
    let replica = Process::spawn(command);
    database.wait_for("all jobs run", SOON, JOBS, RUNNING);
    // A function that hangs in the driver rightly ends the process; these are to have done their
    // work, and wait for their time to pass.
    let working = "select count(*) from pg_stat_activity where datname = current_database() \
                   and state = 'active' and pid <> pg_backend_pid() and query not like '%renewed%'";
    let mut calm = 0;
    until("the functions only wait", SOON, || {
        calm = if database.number(working) == 0 { calm + 1 } else { 0 };
        calm == 50
    });
    replica
}

/// What must be so while nothing comes back from the database, by the log and by what answers at
/// `ask`, until `time` has passed.
pub(super) fn judge_silence(
    replica: &Process,
    silent_since: DateTime<Utc>,
    ask: &dyn Fn(&str) -> u16,
    time: Duration,
) {
    until("not ready", Duration::from_secs(4), || ask("/health/ready") == 503);
    assert_eq!(ask("/health/live"), 200);
    let cancelled = || replica.log().matches("event=run_cancelled").count();
    until("the runs are cancelled", lease(), || cancelled() == usize::try_from(JOBS).unwrap());
    let log = replica.log();
    let last = log.lines().rfind(|line| line.contains("event=run_cancelled")).expect("a line");
    let last: DateTime<Utc> = last.split(' ').next().unwrap().parse().expect("an instant");
    let took = (last - silent_since).to_std().unwrap_or_default();
    println!("all runs cancelled {took:.1?} after the last word, of a lease of {:?}", lease());
    assert!(took < lease(), "cancelled when the leases have ended: {took:?}");
    let passed = || (Utc::now() - silent_since).to_std().unwrap_or_default();
    thread::sleep(time.saturating_sub(passed()));
    assert_eq!((ask("/health/ready"), ask("/health/live")), (503, 200));
}

/// What must be so soon after it has come back.
pub(super) fn judge_recovery(database: &Database, back: Instant, changes: &dyn Fn() -> bool) {
    until("it changes balances again", RECOVERY_MAX, changes);
    println!("balances change again after {:.1?}", back.elapsed());
    let again = "select count(*) from cron_runs where finished_at is null and token > 1";
    database.wait_for("all jobs run again", RECOVERY_MAX, JOBS, again);
    println!("all jobs run again after {:.1?}", back.elapsed());
    assert!(back.elapsed() < RECOVERY_MAX, "{:?}", back.elapsed());
    let left = "select count(*) from cron_runs where outcome is distinct from 'abandoned' \
                and finished_at is not null and outcome <> 'cancelled'";
    assert_eq!(database.number(left), 0, "each run that broke off is closed");
    database.assert_books_balance();
}

/// Every process of the server stands still; its kernel goes on to acknowledge what is sent.
#[test]
fn a_stopped_database_costs_the_runs_and_nothing_else() {
    let server = Postgres::lend();
    let database = server.prepared();
    let mut replica = busy_replica(&database, &mut Process::command(database.url(), &[]));
    let addr: SocketAddr = replica.addr;
    let paused = server.pause();
    let silent_since = Utc::now();
    let time = seconds("HANG_SECONDS", 8);
    judge_silence(&replica, silent_since, &|path| get(addr, path).status, time);
    assert!(replica.is_alive(), "{}", replica.log());
    drop(paused);
    let changes = || post(addr, "/api/balance", &change(1, 1)).status == 200;
    judge_recovery(&database, Instant::now(), &changes);
}
