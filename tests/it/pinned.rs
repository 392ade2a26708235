//! What a session would inherit from its role or its database is not trusted.

use std::thread;
use std::time::Duration;

use balanced::db::{Limits, Manager};
use r2d2::ManageConnection;

use crate::support::{Database, Local, Postgres, change, get, post, target};

/// Each would break a promise.
const ADVERSE: [&str; 8] = [
    "default_transaction_isolation = 'serializable'",
    "synchronous_commit = off",
    "statement_timeout = '300ms'",
    "lock_timeout = '1ms'",
    "idle_in_transaction_session_timeout = '1ms'",
    "timezone = 'Asia/Kolkata'",
    "jit = on",
    "jit_above_cost = 0",
];

fn inherit(database: &Database, settings: &[&str]) {
    let mut client = database.connect();
    for setting in settings {
        let sql = format!(
            "do $$ begin execute format('alter database %I set {}', current_database()); end $$",
            setting.replace('\'', "''")
        );
        client.batch_execute(&sql).expect(setting);
    }
}

fn shown(database: &Database, setting: &str) -> String {
    let limits = Limits::for_requests(Duration::from_secs(30));
    let mut session = Manager::new(target(database.url(), "pinned"), limits).connect().unwrap();
    let row = session.query_one("select current_setting($1)", &[&setting]).unwrap();
    row.get(0)
}

#[test]
fn every_session_is_pinned_whatever_it_inherits() {
    let database = Postgres::shared().migrated();
    inherit(&database, &ADVERSE);
    for (setting, value) in [
        ("default_transaction_isolation", "read committed"),
        ("synchronous_commit", "on"),
        ("statement_timeout", "10s"),
        ("lock_timeout", "5s"),
        ("idle_in_transaction_session_timeout", "10s"),
        ("timezone", "UTC"),
        ("jit", "off"),
    ] {
        assert_eq!(shown(&database, setting), value, "{setting}");
    }
}

#[test]
fn a_stronger_promise_stays() {
    let database = Postgres::shared().migrated();
    for (inherited, pinned) in [
        ("off", "on"),
        ("local", "on"),
        ("remote_write", "on"),
        ("on", "on"),
        ("remote_apply", "remote_apply"),
    ] {
        inherit(&database, &[&format!("synchronous_commit = {inherited}")]);
        assert_eq!(shown(&database, "synchronous_commit"), pinned, "{inherited}");
    }
}

#[test]
fn changes_of_one_user_wait_for_each_other_whatever_is_inherited() {
    let database = Postgres::shared().migrated();
    inherit(&database, &ADVERSE);
    // Two replicas, so that the database has to keep the changes apart.
    let replicas = [Local::start(database.url()), Local::start(database.url())];
    thread::scope(|scope| {
        for client in 0..8 {
            let addr = replicas[client % 2].addr;
            scope.spawn(move || {
                for _ in 0..50 {
                    let answer = post(addr, "/api/balance", &change(1, -2));
                    assert_eq!(answer.status, 200, "{}", answer.json());
                }
            });
        }
    });
    assert_eq!(get(replicas[0].addr, "/api/users/1").balance(), 10_000 - 2 * 8 * 50);
}

#[test]
fn what_was_acknowledged_survives_a_crash_whatever_is_inherited() {
    let server = Postgres::lend();
    let database = server.prepared();
    let late = ["synchronous_commit = off", "wal_writer_delay = '10s'"];
    inherit(&database, &late[..1]);
    let server_wide = format!("alter system set {}", late[1]);
    server.admin().batch_execute(&server_wide).unwrap();
    server.admin().batch_execute("select pg_reload_conf()").unwrap();
    let replica = Local::start(database.url());
    for number in 1..=20 {
        let answer = post(replica.addr, "/api/balance", &change(1, -2));
        assert_eq!(answer.status, 200, "{number}: {}", answer.json());
    }
    server.crash_and_restart();
    assert_eq!(database.number("select balance from users where id = 1"), 10_000 - 40);
    database.assert_books_balance();
}
