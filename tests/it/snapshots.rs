//! What keeps dead row versions in the database, and so makes a hot row slower, is seen.

use std::time::Duration;

use crate::metrics::{sum, text};
use crate::rights::{grants, login};
use crate::support::{Database, Postgres, Process, change, post, until};

const SOON: Duration = Duration::from_secs(20);
const CHANGES: usize = 30;

/// A replica whose user has only the rights that it needs, and its database, on a server where
/// nobody else is.
fn alone() -> (Postgres, Database, Process) {
    let server = Postgres::lend();
    let database = server.prepared();
    let url = login(&database, "sees_little");
    database.connect().batch_execute(&grants("sees_little")).expect("the grants");
    let replica = Process::start(&url, &[("CRON_ENABLED", "false")]);
    (server, database, replica)
}

fn changes(replica: &Process) {
    for _ in 0..CHANGES {
        assert_eq!(post(replica.addr, "/api/balance", &change(1, -2)).status, 200);
    }
}

/// Transactions since the oldest that is needed, and for how many seconds it has been that.
fn oldest(replica: &Process) -> (f64, f64) {
    let text = text(replica.addr);
    let of = |unit: &str| sum(&text, &format!("database_oldest_snapshot_{unit}"), &[]);
    (of("transactions"), of("seconds"))
}

#[test]
fn a_forgotten_transaction_is_seen_by_a_user_with_few_rights_and_so_is_its_end() {
    let (server, database, replica) = alone();
    let released = |what: &str| {
        until(what, SOON, || {
            let (transactions, seconds) = oldest(&replica);
            transactions < CHANGES as f64 && seconds < 2.0
        });
    };
    let reads = "begin isolation level repeatable read; select count(*) from users";
    let writes = "begin; insert into users (balance) values (0)";
    for (what, forgotten) in [("a snapshot", reads), ("a writer", writes)] {
        released("nothing is held");
        let mut psql = database.connect();
        psql.batch_execute(forgotten).expect(what);
        changes(&replica);
        until(what, SOON, || {
            let (transactions, seconds) = oldest(&replica);
            transactions >= CHANGES as f64 && seconds > 2.0
        });
        psql.batch_execute("rollback").unwrap();
        changes(&replica);
    }
    released("all have ended");
    // A snapshot of another database holds nothing up here.
    let mut elsewhere = server.admin();
    elsewhere.batch_execute("begin isolation level repeatable read; select 1").unwrap();
    changes(&replica);
    released("the probe has asked again");
    assert!(oldest(&replica).0 < CHANGES as f64);
}

/// The standby was asked to keep what its readers need, and then it died.
#[test]
fn a_slot_whose_standby_is_gone_is_seen_until_it_is_dropped() {
    let (server, _database, replica) = alone();
    let mut primary = server.admin();
    primary.execute("select pg_create_physical_replication_slot('left_over')", &[]).unwrap();
    let standby = server.lend_standby();
    let mut follows = standby.admin();
    for setting in ["primary_slot_name = 'left_over'", "hot_standby_feedback = on"] {
        follows.batch_execute(&format!("alter system set {setting}")).expect(setting);
    }
    follows.execute("select pg_reload_conf()", &[]).unwrap();
    let asks = "select xmin is not null from pg_replication_slots";
    until("the standby has asked", SOON, || primary.query_one(asks, &[]).unwrap().get(0));
    drop(follows);
    standby.stop();
    changes(&replica);
    until("the slot", SOON, || {
        let (transactions, seconds) = oldest(&replica);
        transactions >= CHANGES as f64 && seconds > 2.0
    });
    primary.execute("select pg_drop_replication_slot('left_over')", &[]).unwrap();
    until("nothing is held", SOON, || oldest(&replica).0 < CHANGES as f64);
}

#[test]
fn a_replica_that_may_not_see_them_is_as_healthy_as_ever() {
    let (_server, database, replica) = alone();
    for view in ["pg_stat_activity", "pg_replication_slots"] {
        let revoke = format!("revoke select on {view} from public");
        database.connect().batch_execute(&revoke).unwrap();
    }
    until("nothing is known of snapshots", SOON, || oldest(&replica).0.is_nan());
    assert_eq!(sum(&text(replica.addr), "database_up", &[]), 1.0);
    assert_eq!(sum(&text(replica.addr), "database_durable", &[]), 0.0, "as tests have it");
    changes(&replica);
    let log = replica.log();
    assert_eq!(log.matches("event=snapshots_not_seen").count(), 1, "{log}");
    assert!(!log.contains("event=database_away"), "{log}");
}
