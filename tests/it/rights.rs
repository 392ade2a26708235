//! A user of the database that owns nothing, and may do only what docs/configuration.md lists.

use std::time::Duration;

use crate::support::{Database, Postgres, Process, ask, change, get, post, until};
use crate::tidy::ROOT;

const SOON: Duration = Duration::from_secs(20);

/// A login of its own for one database, whose URL this is.
pub(crate) fn login(database: &Database, name: &str) -> String {
    let mut client = database.connect();
    client.batch_execute(&format!("create role {name} login")).expect("a role");
    database.url().replace("user=postgres", &format!("user={name}"))
}

/// The statements that docs/configuration.md gives, for this user.
pub(crate) fn grants(name: &str) -> String {
    let page = format!("{ROOT}/docs/configuration.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let (_, rest) = page.split_once("A user with few rights").expect("its heading");
    let (_, rest) = rest.split_once("```sql\n").expect("statements");
    let grants = rest.split_once("```").expect("their end").0;
    assert!(grants.contains(" to balanced;"), "{grants}");
    grants.replace(" to balanced;", &format!(" to {name};"))
}

#[test]
fn a_user_with_rights_in_tables_alone_can_do_everything() {
    let database = Postgres::shared().migrated();
    let url = login(&database, "few_rights");
    database.connect().batch_execute(&grants("few_rights")).expect("the grants");
    let replica = Process::start(&url, &[("JOB_MIN_SECONDS", "0"), ("CRON_HANDICAP_MS", "0")]);
    let addr = replica.addr;
    assert_eq!(post(addr, "/api/balance", &change(1, -2)).status, 200);
    assert_eq!(post(addr, "/api/users", "{\"balance\":100}").status, 201);
    let set = format!("{{\"changes\":[{},{}]}}", change(1, -2), change(2, 2));
    let key = ["Idempotency-Key: set"];
    assert_eq!(ask(addr, "POST /api/changes", &key, &set).status, 200);
    let run = "select count(distinct job) from cron_runs where outcome = 'succeeded'";
    database.wait_for("each job was run", SOON, 10, run);
    assert_eq!(database.number("select count(*) from cron_runs where outcome = 'failed'"), 0);
    for (path, status) in [("/api/cron/jobs", 200), ("/api/cron/history", 200), ("/health", 200)] {
        assert_eq!(get(addr, path).status, status, "{path}");
    }
    assert!(!replica.log().contains("ERROR"), "{}", replica.log());
    database.assert_books_balance();
}

#[test]
fn a_right_that_is_missing_is_named_at_the_start() {
    let database = Postgres::shared().migrated();
    let url = login(&database, "too_few_rights");
    let grants = grants("too_few_rights").replacen("update on users", "references on users", 1);
    database.connect().batch_execute(&grants).expect("the grants");
    let mut replica = Process::spawn(&mut Process::command(&url, &[]));
    let status = replica.wait(SOON);
    assert!(!status.success());
    let log = replica.log();
    assert!(log.contains("the user too_few_rights lacks the right to update in users"), "{log}");
}

/// Its rights are taken away while it serves.
#[test]
fn what_the_database_refuses_for_good_is_not_to_be_tried_again() {
    let database = Postgres::shared().migrated();
    let url = login(&database, "fewer_rights");
    database.connect().batch_execute(&grants("fewer_rights")).expect("the grants");
    let replica = Process::start(&url, &[("CRON_ENABLED", "false")]);
    database.connect().batch_execute("revoke update on users from fewer_rights").unwrap();
    let answer = post(replica.addr, "/api/balance", &change(1, -2));
    assert_eq!((answer.status, answer.code().as_str()), (500, "internal"));
    assert_eq!(answer.json()["outcome"], "not_applied");
    assert_eq!(answer.header("Retry-After"), None);
    until("the log has the database's word", SOON, || {
        replica.log().contains("permission denied for table users (42501)")
    });
}
