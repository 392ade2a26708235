//! Migrations: raced by five, and refused with a clear word when a file is not what it was.

use std::sync::Barrier;
use std::thread;

use balanced::migrate::{Fault, MIGRATIONS, Migration, run};
use balanced::shutdown::Signal;

use crate::support::{Database, Postgres, target};

fn migrate(database: &Database, migrations: &[Migration]) -> Result<(), Fault> {
    run(&target(database.url(), "tests"), migrations, &Signal::new())
}

fn refusal(database: &Database, migrations: &[Migration]) -> String {
    match migrate(database, migrations) {
        Err(Fault::Refused(reason)) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

/// Whether the database numbers the changes that come without a number.
fn numbers_for_earlier_builds(database: &Database) -> bool {
    database.number("select count(*) from pg_trigger where tgname = 'number_the_change'") == 1
}

const FIRST: Migration = Migration { name: "0001_a.sql", sql: "create table a (x integer);" };
const SECOND: Migration = Migration { name: "0002_b.sql", sql: "create table b (x integer);" };

#[test]
fn five_replicas_on_an_empty_database_apply_each_file_once() {
    for _ in 0..3 {
        let database = Postgres::shared().empty();
        let start = Barrier::new(5);
        thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| {
                    start.wait();
                    migrate(&database, MIGRATIONS).expect("migrated");
                });
            }
        });
        let applied = database.number("select count(*) from schema_migrations");
        assert_eq!(applied, i64::try_from(MIGRATIONS.len()).unwrap());
        assert_eq!(database.number("select balance from users where id = 1"), 10_000);
        assert_eq!(database.number("select count(*) from users"), 1);
        assert!(!numbers_for_earlier_builds(&database), "no earlier build was here");
        database.assert_books_balance();
    }
}

#[test]
fn a_second_start_changes_nothing() {
    let database = Postgres::shared().empty();
    migrate(&database, &[FIRST]).unwrap();
    migrate(&database, &[FIRST]).unwrap();
    migrate(&database, &[FIRST, SECOND]).unwrap();
    assert_eq!(database.number("select count(*) from schema_migrations"), 2);
}

/// The files up to the fourth were delivered together, and what was written with them stays.
#[test]
fn a_delivered_schema_with_data_in_it_is_upgraded() {
    let database = Postgres::shared().empty();
    migrate(&database, &MIGRATIONS[..4]).expect("the delivered schema");
    let fill = "insert into users (balance) values (7); \
                insert into balance_changes (user_id, amount, balance_after) values (2, 7, 7); \
                insert into idempotency_keys (user_id, key, amount, outcome, balance, attempt) \
                values (2, 'k', 7, 'changed', 7, gen_random_uuid())";
    database.connect().batch_execute(fill).unwrap();
    migrate(&database, MIGRATIONS).expect("upgraded");
    let applied = database.number("select count(*) from schema_migrations");
    assert_eq!(applied, i64::try_from(MIGRATIONS.len()).unwrap());
    assert_eq!(database.number("select count(*) from idempotency_keys"), 1);
    assert_eq!(database.number("select count(*) from cron_jobs"), 10);
    assert!(numbers_for_earlier_builds(&database), "replicas of an earlier build may run on");
    database.assert_books_balance();
}

#[test]
fn a_changed_file_is_refused() {
    let database = Postgres::shared().empty();
    migrate(&database, &[FIRST]).unwrap();
    let changed = Migration { sql: "create table a (x bigint);", ..FIRST };
    let reason = refusal(&database, &[changed]);
    assert!(reason.contains("sql/0001_a.sql was changed after it had been applied"), "{reason}");
}

#[test]
fn a_renamed_or_missing_file_is_refused() {
    let database = Postgres::shared().empty();
    migrate(&database, &[FIRST, SECOND]).unwrap();
    let other = Migration { name: "0002_c.sql", ..SECOND };
    let reason = refusal(&database, &[FIRST, other]);
    assert!(reason.contains("sql/0002_b.sql") && reason.contains("sql/0002_c.sql"), "{reason}");
    let reason = refusal(&database, &[SECOND]);
    assert!(reason.contains("is missing"), "{reason}");
    database.connect().execute("delete from schema_migrations where number = 1", &[]).unwrap();
    let reason = refusal(&database, &[FIRST, SECOND]);
    assert!(reason.contains("sql/0001_a.sql, which comes before it, was not"), "{reason}");
}

#[test]
fn a_broken_file_names_its_line_and_leaves_nothing_behind() {
    let database = Postgres::shared().empty();
    let sql = "create table b (x integer);\nselec 1;";
    let reason = refusal(&database, &[FIRST, Migration { sql, ..SECOND }]);
    assert!(reason.contains("sql/0002_b.sql fails at line 2"), "{reason}");
    assert!(reason.contains("syntax error"), "{reason}");
    let tables = "select count(*) from information_schema.tables where table_schema = 'public'";
    assert_eq!(database.number(tables), 0);
    migrate(&database, &[FIRST, SECOND]).expect("mended");
}

#[test]
fn a_newer_schema_does_not_stop_an_older_program() {
    let database = Postgres::shared().empty();
    migrate(&database, &[FIRST, SECOND]).unwrap();
    migrate(&database, &[FIRST]).expect("a warning only");
}

/// An upgrade of the system under the database changes the order of its languages, and with it what
/// an index finds.
#[test]
fn what_clients_write_is_compared_byte_by_byte() {
    let database = Postgres::shared().migrated();
    let of_a_language = "select count(*) from pg_attribute \
        where attrelid in ('users'::regclass, 'balance_changes'::regclass, \
                'external_ids'::regclass, 'set_keys'::regclass) \
            and attname in ('external_id', 'reference', 'key') \
            and attcollation <> 'pg_catalog.\"C\"'::regcollation";
    assert_eq!(database.number(of_a_language), 0);
    let index = "select count(*) from pg_index \
        where indexrelid = 'balance_changes_by_reference'::regclass \
            and 'pg_catalog.\"C\"'::regcollation = any(indcollation)";
    assert_eq!(database.number(index), 1);
    let mut client = database.connect();
    let list = crate::interleavings::statements::text("src/balance/ledger.rs", "LIST_REFERENCE");
    client.batch_execute("set plan_cache_mode = force_generic_plan").unwrap();
    client.batch_execute("set enable_seqscan = off; set enable_bitmapscan = off").unwrap();
    client.batch_execute(&format!("prepare list as {list}")).unwrap();
    let plan = client.simple_query("explain execute list (1, 0, 9, 9, 'order-7')").unwrap();
    let plan = format!("{plan:?}");
    assert!(plan.contains("balance_changes_by_reference"), "{plan}");
}
