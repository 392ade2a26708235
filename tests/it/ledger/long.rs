//! A long ledger: its answers are those of a recount, and cost no more than a short one's.

use std::time::Instant;

use postgres::SimpleQueryMessage;
use serde_json::{Value, json};

use super::{Row, fill, near, rows, written};
use crate::interleavings::statements::text;
use crate::support::{Client, Database, Local, Postgres, Random, get, number, seed};

/// The balance at random instants is a recount's, before and after rows were lost.
#[test]
fn the_balance_at_any_instant_of_a_long_ledger_is_a_recount() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    let count = i64::try_from(number("LEDGER_ROWS", 20_000)).unwrap();
    fill(&database, count);
    let mut random = Random(seed("LEDGER_SEED"));
    let rows = rows(&database, 2);
    let spent = assert_recounted(&replica, &mut random, &rows, |_| true);
    println!("{count} changes: {spent:.3} ms for the balance at an instant, by HTTP");

    // The last row of many instants, the first rows, the last ones, and many at one place.
    let lost = "delete from balance_changes where user_id = 2 and (id % 6 = 2 or id < 100 \
                or id > $1::bigint - 5 or id between $1 / 4 and $1 / 3)";
    database.connect().execute(lost, &[&count]).expect("lost rows");
    assert_recounted(&replica, &mut random, &rows, |number| {
        let within = (count / 4..=count / 3).contains(&number);
        !(number % 6 == 2 || number < 100 || number > count - 5 || within)
    });
    let missing = get(replica.addr, "/api/users/2/balance?number=1");
    assert_eq!((missing.status, missing.code()), (404, "not_found".to_owned()));
    let first = format!("/api/users/2/balance?at={}", written(rows[50].at));
    let detail = get(replica.addr, &first).json()["detail"].clone();
    assert_eq!(detail, "the user 2 had no change up to that instant");
}

/// Looks up 1,000 instants, and gives the mean time of one in milliseconds. Of all the rows that
/// ever were, some may be lost.
fn assert_recounted(
    replica: &Local,
    random: &mut Random,
    rows: &[Row],
    is_left: impl Fn(i64) -> bool,
) -> f64 {
    const LOOKS: usize = 1_000;
    let mut sum = 0;
    let mut left = Vec::new();
    for row in rows {
        sum += row.amount;
        left.extend(is_left(row.number).then_some((row, sum)));
    }
    let mut client = Client::connect(replica.addr);
    let mut spent = 0.0;
    for _ in 0..LOOKS {
        let at = near(random, rows);
        let begun = Instant::now();
        let target = format!("GET /api/users/2/balance?at={}", written(at));
        let answer = client.ask(&target, &[], "");
        spent += begun.elapsed().as_secs_f64() * 1_000.0;
        match left[..left.partition_point(|(row, _)| row.at <= at)].last() {
            Some((row, sum)) => {
                let number = answer.json()["number"].clone();
                assert_eq!((answer.balance(), number), (*sum, json!(row.number)), "{at}");
            }
            None => assert_eq!(answer.code(), "user_not_found", "{at}"),
        }
    }
    spent / LOOKS as f64
}

/// Pages of the database that a statement reads, by a plan that knows no parameter, as the driver's
/// prepared ones do after a while.
fn pages_read(database: &Database, statement: &str, arguments: &str) -> i64 {
    let sql = text("src/balance/ledger.rs", statement);
    let prepare = format!("set plan_cache_mode = force_generic_plan; prepare s as {sql}");
    let mut session = database.connect();
    session.batch_execute(&prepare).expect("a statement");
    let explain = format!("explain (analyze, buffers, format json) execute s({arguments})");
    let plan = session.simple_query(&explain).expect("a plan");
    let row = plan.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    let plan: Value = serde_json::from_str(row.expect("a row")).expect("JSON");
    let pages = |kind: &str| plan[0]["Plan"][kind].as_i64().expect("buffers");
    pages("Shared Hit Blocks") + pages("Shared Read Blocks")
}

#[test]
fn neither_a_list_nor_a_look_up_reads_more_of_a_longer_ledger() {
    let database = Postgres::shared().migrated();
    fill(&database, 100_000);
    let whole = database.number("select pg_relation_size('balance_changes') / 8192");
    let middle = "'2020-01-01 04:00:00Z'";
    for analyzed in [false, true] {
        if analyzed {
            database.connect().batch_execute("analyze balance_changes").expect("statistics");
        }
        for (statement, arguments, pages_max) in [
            ("FIND", format!("2, {middle}"), 100),
            ("LIST", "2, 40000, 50000, 101".to_owned(), 30),
            ("LIST_REFERENCE", "2, 0, 9223372036854775807, 21, 'rare-3'".to_owned(), 60),
            ("READ_AFTER", "2, 50000".to_owned(), 10),
        ] {
            let pages = pages_read(&database, statement, &arguments);
            let what = format!("{statement}, analyzed {analyzed}: {pages} of {whole} pages");
            assert!(pages > 0 && pages <= pages_max, "{what}");
        }
    }
}
