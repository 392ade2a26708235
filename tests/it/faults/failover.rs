//! Two database servers: a primary and a standby that follows it synchronously.

use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use super::bank::Bank;
use crate::support::{Database, Postgres, Process, change, get, post, seed, until};

const REPLICAS: usize = 3;
const JOBS: i64 = 10;
const SOON: Duration = Duration::from_secs(60);
const LEASE: Duration = Duration::from_secs(3);
/// How long replicas may take to find the new primary.
const FOUND_MAX: Duration = Duration::from_secs(10);
/// What an old primary acknowledges for so long beside the promoted one may be lost.
const LEFT_WITHIN: Duration = Duration::from_secs(2);
/// More than a pool has connections.
const READERS: usize = 16;
const RUNNING: &str =
    "select count(*) from cron_jobs where holder is not null and locked_until > now()";

struct Pair {
    primary: Postgres,
    standby: Postgres,
}

impl Pair {
    /// A statement that waited for the promotion could be cancelled by what is still replayed.
    fn promote(&self) {
        let mut admin = self.standby.admin();
        admin.execute("select pg_promote(false)", &[]).expect("a promotion");
        until("it is promoted", SOON, || {
            let answer = admin.query_one("select pg_is_in_recovery()", &[]).expect("an answer");
            !answer.get::<_, bool>(0)
        });
    }

    fn asynchronous() -> Pair {
        let primary = Postgres::lend();
        let standby = primary.lend_standby();
        let follows = "select count(*) from pg_stat_replication where state = 'streaming'";
        primary.first_database().wait_for("the standby follows", SOON, 1, follows);
        Pair { primary, standby }
    }

    fn start() -> Pair {
        let Pair { primary, standby } = Pair::asynchronous();
        // Only now, or the standby would wait for one of its own once it is promoted.
        let synchronous = "alter system set synchronous_standby_names = '*'";
        let mut admin = primary.admin();
        admin.batch_execute(synchronous).expect("a setting");
        admin.batch_execute("select pg_reload_conf()").expect("a reload");
        let follows = "select count(*) from pg_stat_replication where sync_state = 'sync'";
        primary.first_database().wait_for("the standby follows", SOON, 1, follows);
        Pair { primary, standby }
    }

    /// An address that names both, and takes whichever can be written to.
    fn url(&self) -> String {
        let (_, standby) = self.standby.url().split_once("host=").expect("a host");
        let (standby, _) = standby.split_once('&').expect("more parameters");
        let primary = self.primary.url();
        format!("{primary}&host={standby}&target_session_attrs=read-write")
    }

    fn replicas(&self) -> Vec<Process> {
        let start = |number| {
            let (name, lease) = (format!("replica-{number}"), LEASE.as_secs().to_string());
            let variables = [
                ("REPLICA_NAME", name.as_str()),
                ("JOB_MIN_SECONDS", "600"),
                ("CRON_LEASE_SECONDS", &lease),
                ("CRON_HANDICAP_MS", "300"),
            ];
            Process::start(&self.url(), &variables)
        };
        let replicas = (1..=REPLICAS).map(start).collect();
        self.primary.first_database().wait_for("all jobs run", SOON, JOBS, RUNNING);
        replicas
    }
}

/// Waits until each replica changes balances in the new primary; how long that took.
fn until_found(addrs: &[SocketAddr]) -> Duration {
    let start = Instant::now();
    for addr in addrs {
        until("the replica has found the new primary", SOON, || {
            post(*addr, "/api/balance", &change(1, 1)).status == 200
                && get(*addr, "/health").status == 200
        });
    }
    start.elapsed()
}

/// Runs that the failover interrupted run again, and those that it did not go on: a lease whose
/// renewal was acknowledged is in the new primary, too.
fn judge_jobs(database: &Database) {
    thread::sleep(LEASE * 2);
    database.wait_for("all jobs run under a lease", SOON, JOBS, RUNNING);
    let open = "select count(*) from cron_runs where outcome is null";
    assert_eq!(database.number(open), JOBS, "a run of the old primary is left open");
}

/// The standby is promoted while clients are at work, after the primary met with `accident`. What
/// was acknowledged longer after the promotion than `may_be_lost` is there.
fn judge_failover<T>(
    pair: &Pair,
    may_be_lost: Option<Duration>,
    accident: impl FnOnce(&Postgres) -> T,
) {
    let mut replicas = pair.replicas();
    let addrs: Vec<SocketAddr> = replicas.iter().map(|replica| replica.addr).collect();
    let seed = seed("FAILOVER_SEED");
    let bank = Bank::open(addrs[0]);
    let database = pair.standby.first_database();
    let (mut met, mut found, mut promoted) = (None, Duration::ZERO, Instant::now());
    let reports = bank.reports(&addrs, seed, || {
        thread::sleep(Duration::from_secs(1));
        met = Some(accident(&pair.primary));
        pair.promote();
        promoted = Instant::now();
        found = until_found(&addrs);
        thread::sleep(may_be_lost.unwrap_or_default() + Duration::from_secs(2));
    });
    let audit = bank.audit(&database, &reports, may_be_lost.map(|time| promoted + time));
    println!(
        "found {found:.1?} after the promotion; {} changes applied, {} lost, {:.1?} without any",
        audit.applied, audit.lost, audit.gap
    );
    assert!(found < FOUND_MAX, "{found:?}");
    judge_jobs(&database);
    replicas.iter_mut().for_each(|replica| assert!(replica.is_alive(), "{}", replica.log()));
    let fresh = Process::start(&pair.url(), &[("CRON_ENABLED", "false")]);
    let changes = || database.number("select count(*) from balance_changes");
    let before = changes();
    assert_eq!(post(fresh.addr, "/api/balance", &change(1, 1)).status, 200);
    assert_eq!(changes(), before + 1, "a fresh replica has taken the old primary");
    drop(met);
}

#[test]
fn replicas_find_a_promoted_standby_by_themselves_and_nothing_acknowledged_is_lost() {
    judge_failover(&Pair::start(), None, Postgres::crash);
}

/// As under Patroni, where its agent alone was killed: nobody stops the old one, and it waits for
/// no standby, so that it acknowledges what is lost.
#[test]
fn a_primary_that_goes_on_beside_the_promoted_one_is_left() {
    judge_failover(&Pair::asynchronous(), Some(LEFT_WITHIN), |_| ());
}

/// Its kernel goes on to acknowledge what is sent.
#[test]
fn a_primary_that_is_frozen_is_left_once_another_was_promoted() {
    judge_failover(&Pair::start(), None, Postgres::pause);
}

/// One of another origin comes up beside the one that is worked on.
#[test]
fn where_nothing_tells_two_primaries_apart_nobody_is_served() {
    let pair = Pair { primary: Postgres::lend(), standby: Postgres::lend() };
    pair.standby.stop();
    let replica = Process::start(&pair.url(), &[("CRON_ENABLED", "false")]);
    let status = || post(replica.addr, "/api/balance", &change(1, 1)).status;
    assert_eq!(status(), 200);
    pair.standby.start();
    let detail = || get(replica.addr, "/health/ready").json()["detail"].to_string();
    let folder = |server: &Postgres| server.folder().display().to_string();
    until("both are named", SOON, || {
        let detail = detail();
        let both = [&pair.primary, &pair.standby].iter().all(|one| detail.contains(&folder(one)));
        both && detail.contains("both take changes")
    });
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        assert_eq!(status(), 503, "{}", replica.log());
    }
    pair.standby.stop();
    until("the other is taken", SOON, || get(replica.addr, "/health/ready").status == 200);
    until("it is served", SOON, || status() == 200);
}

/// A switch-over without an end of the old primary: sessions that can only read are of no use.
#[test]
fn connections_to_a_demoted_primary_are_dropped() {
    let pair = Pair::start();
    let replicas = pair.replicas();
    let addrs: Vec<SocketAddr> = replicas.iter().map(|replica| replica.addr).collect();
    let mut admin = pair.primary.admin();
    for statement in [
        "alter system set default_transaction_read_only = on",
        "alter system set synchronous_standby_names = ''",
        "select pg_reload_conf()",
    ] {
        admin.batch_execute(statement).expect(statement);
    }
    pair.promote();
    let found = until_found(&addrs);
    println!("found {found:.1?} after the promotion");
    assert!(found < FOUND_MAX, "{found:?}");
    judge_jobs(&pair.standby.first_database());
    // Every connection of every pool, also those that nothing was asked of meanwhile.
    let balance = pair.standby.first_database().number("select balance from users where id = 1");
    let old = pair.primary.first_database().number("select balance from users where id = 1");
    assert_ne!(old, balance, "the old primary still tells the past");
    let start = Barrier::new(READERS * REPLICAS);
    thread::scope(|scope| {
        for addr in addrs.iter().cycle().take(READERS * REPLICAS) {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                for _ in 0..10 {
                    assert_eq!(get(*addr, "/api/users/1").balance(), balance);
                }
            });
        }
    });
}

/// Its kernel takes connections, so only silence tells: a replica that starts is not to wait for it
/// while the next host is ready.
#[test]
fn a_replica_that_starts_passes_by_a_frozen_primary() {
    let pair = Pair::start();
    drop(pair.replicas());
    let frozen = pair.primary.pause();
    pair.promote();
    let started = Instant::now();
    let replica = Process::start(&pair.url(), &[("CRON_ENABLED", "false")]);
    println!("ready {:.1?} after its start", started.elapsed());
    for _ in 0..20 {
        assert_eq!(post(replica.addr, "/api/balance", &change(1, 1)).status, 200);
    }
    drop(frozen);
}
