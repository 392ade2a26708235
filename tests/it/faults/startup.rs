//! What is wrong when a replica starts, and that it says so with what to do about it. Wrong
//! settings and a taken port are in `replicas`.
//!
//! `STARTUP_SECONDS` is how long the database is away at first (3 unless told).

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Database, Postgres, Process, change, get, post, seconds, until};

const SOON: Duration = Duration::from_secs(30);

/// The exit code and the words of a replica that cannot start.
fn refusal(command: &mut Command) -> (Option<i32>, String) {
    let mut replica = Process::spawn(command);
    (replica.wait(SOON).code(), replica.log())
}

fn set(database: &Database, statement: &str) {
    database.connect().batch_execute(statement).expect(statement);
}

#[test]
fn a_database_that_is_away_at_first_is_waited_for() {
    let server = Postgres::lend();
    server.stop();
    let mut replica = Process::spawn(&mut Process::command(server.url(), &[]));
    let started = Instant::now();
    until("it says what it waits for", SOON, || {
        replica.log().contains("hint=\"is PostgreSQL running, and is DATABASE_URL right?")
    });
    while started.elapsed() < seconds("STARTUP_SECONDS", 3) {
        assert!(replica.is_alive(), "{}", replica.log());
        assert_eq!(get(replica.addr, "/health/live").status, 200);
        let ready = get(replica.addr, "/health/ready");
        assert_eq!((ready.status, ready.code().as_str()), (503, "not_ready"));
        let early = post(replica.addr, "/api/balance", &change(1, -2));
        assert_eq!((early.status, &early.json()["outcome"]), (503, &"not_applied".into()));
        thread::sleep(Duration::from_millis(200));
    }
    server.start();
    let back = Instant::now();
    until("ready", SOON, || get(replica.addr, "/health/ready").status == 200);
    println!("ready {:.1?} after the database", back.elapsed());
    assert_eq!(post(replica.addr, "/api/balance", &change(1, -2)).balance(), 9_998);
    assert_eq!(replica.log().matches("event=database_away").count(), 1, "{}", replica.log());
}

/// It takes the connection and says nothing: the driver by itself would wait for ever.
#[test]
fn a_replica_that_waits_for_a_frozen_database_can_be_ended() {
    let server = Postgres::lend();
    let frozen = server.pause();
    let mut replica = Process::spawn(&mut Process::command(server.url(), &[]));
    until("it says what it waits for", SOON, || {
        replica.log().contains("the server takes connections and says nothing")
    });
    let other = Process::spawn(&mut Process::command(server.url(), &[]));
    replica.signal("-TERM");
    assert_eq!(replica.wait(SOON).code(), Some(0), "{}", replica.log());
    drop(frozen);
    until("ready", SOON, || get(other.addr, "/health/ready").status == 200);
}

#[test]
fn a_newer_schema_is_a_warning_and_the_replica_runs() {
    let database = Postgres::shared().migrated();
    set(
        &database,
        "insert into schema_migrations (number, name, checksum) \
         values (9999, '9999_later.sql', 'x')",
    );
    let replica = Process::start(database.url(), &[]);
    let log = replica.log();
    assert!(log.contains("[WARN] event=schema_newer migration=9999_later.sql hint="), "{log}");
    assert_eq!(post(replica.addr, "/api/balance", &change(1, -2)).balance(), 9_998);
}

#[test]
fn a_changed_migration_is_refused_with_what_to_do() {
    let database = Postgres::shared().migrated();
    set(&database, "update schema_migrations set checksum = 'other' where number = 2");
    let (code, text) = refusal(&mut Process::command(database.url(), &[]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("sql/0002_idempotency_keys.sql was changed after it had been"), "{text}");
    assert!(text.contains("restore it, and put the change into a new file"), "{text}");
}

/// A standby, say, that may be promoted while the replica waits.
#[test]
fn a_read_only_database_is_waited_for_and_told_what_to_do() {
    let database = Postgres::shared().empty();
    let set_read_only = |value: &str| {
        let name = database.url().split("///").nth(1).unwrap().split('?').next().unwrap();
        let statement =
            format!("alter database {name} set default_transaction_read_only = {value}");
        // Of a session that began before, and may write.
        Postgres::shared().admin().batch_execute(&statement).expect("a setting");
    };
    set_read_only("on");
    let replica = Process::spawn(&mut Process::command(database.url(), &[]));
    until("it says what is wrong", SOON, || {
        let log = replica.log();
        log.contains("the database is read-only, and its schema is not as this program needs it")
            && log.contains("target_session_attrs=read-write")
    });
    assert_eq!(get(replica.addr, "/health/ready").status, 503);
    set_read_only("off");
    until("ready", SOON, || get(replica.addr, "/health/ready").status == 200);

    // One that was migrated before serves as soon as it can, and says why it does not.
    set_read_only("on");
    let late = Process::spawn(&mut Process::command(database.url(), &[]));
    until("it says why it is not ready", SOON, || {
        let ready = get(late.addr, "/health/ready");
        ready.status == 503 && ready.json()["detail"] == "the database is read-only"
    });
    let answer = post(late.addr, "/api/balance", &change(1, -2));
    assert_eq!((answer.status, &answer.json()["outcome"]), (503, &"not_applied".into()));
    set_read_only("off");
    until("ready", SOON, || get(late.addr, "/health/ready").status == 200);
    assert_eq!(post(late.addr, "/api/balance", &change(1, -2)).balance(), 9_998);
}
