//! The upgrade from the build before the numbers: its replicas work before, during and after the
//! migration, and beside those of this build.
//!
//! `UPGRADE_CHANGES` is how many changes the ledger has before it (20,000 unless told).

mod delivered;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use balanced::migrate::{MIGRATIONS, run};
use balanced::shutdown::Signal;
use postgres::error::SqlState;
use postgres::types::ToSql;
use postgres::{Client, Row, Statement};
use serde_json::Value::Null;

use crate::support::{
    Client as Http, Database, Local, Postgres, Random, SetOnDrop, ask, change, number, target,
    until,
};

/// What the delivered build applies.
const DELIVERED: usize = 7;
const USERS: i64 = 500;
const OLD_REPLICAS: u64 = 3;
const NEW_CLIENTS: u64 = 2;
/// So much is done before the migration, and again beside the new replica.
const ENOUGH: u64 = 300;
const SOON: Duration = Duration::from_secs(120);

/// Many users with some changes, and user 1 with half of all. The ids have gaps, the changes of the
/// users come in turns, and the clock was set back by a day after the opening of user 1.
const FILL: &str = "\
insert into users (balance) select 0 from generate_series(2, $2::bigint);
create temporary table made as
select n, case when n % 2 = 0 then 1 else 2 + n * 7919 % ($2::bigint - 1) end as user_id
from generate_series(1, $1::bigint) n;
insert into balance_changes (user_id, id, amount, balance_after, created_at)
overriding system value
select user_id, 10 + n * 3, 5, 5 * row_number() over (partition by user_id order by n)
        + case user_id when 1 then 10000 else 0 end, now() - interval '1 day' + n * interval '1 ms'
from made;
update users set balance = (select sum(amount) from balance_changes where user_id = users.id)
where id in (select user_id from made);
select setval(pg_get_serial_sequence('balance_changes', 'id'), 100 + $1::bigint * 3);
insert into idempotency_keys (user_id, key, amount, outcome, balance, attempt)
values (1, 'of-the-old', 5, 'changed', 10005, gen_random_uuid());
analyze";

/// Changes with an earlier instant than the one before.
const EARLIER: &str = "\
select count(*) from (
    select created_at < lag(created_at) over (partition by user_id order by id) as earlier
    from balance_changes
) as change
where earlier";

fn delivered(changes: u64) -> Database {
    let database = Postgres::shared().empty();
    let target = target(database.url(), "tests");
    run(&target, &MIGRATIONS[..DELIVERED], &Signal::new()).expect("the delivered schema");
    let fill = FILL.replace("$1", &changes.to_string()).replace("$2", &USERS.to_string());
    database.connect().batch_execute(&fill).expect("a ledger");
    database
}

fn upgrade(database: &Database) {
    let target = target(database.url(), "tests");
    run(&target, MIGRATIONS, &Signal::new()).expect("the migrations");
}

/// A connection of a replica of the delivered build, with what it has prepared.
struct Old {
    client: Client,
    statements: HashMap<&'static str, Statement>,
}

impl Old {
    fn connect(database: &Database) -> Old {
        let mut client = database.connect();
        client.batch_execute("set lock_timeout = 5000").expect("a limit");
        Old { client, statements: HashMap::new() }
    }

    fn ask(&mut self, sql: &'static str, params: &[&(dyn ToSql + Sync)]) -> Vec<Row> {
        self.try_ask(sql, params).expect(sql)
    }

    fn try_ask(
        &mut self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, postgres::Error> {
        let Old { client, statements } = self;
        let statement = statements.entry(sql).or_insert_with(|| client.prepare(sql).expect(sql));
        client.query(&*statement, params)
    }

    /// How many changes do not follow from the one before, by the delivered audit.
    fn wrong_changes(&mut self) -> i64 {
        let (mut user_id, mut id, mut balance, mut wrong) = (0_i64, 0_i64, 0_i64, 0);
        while let [row] = &self.ask(delivered::AUDIT, &[&user_id, &id, &balance, &5_000_i64])[..] {
            (user_id, id, balance) = (row.get("user_id"), row.get("id"), row.get("balance_after"));
            wrong += row.get::<_, i64>("wrong");
        }
        wrong
    }

    /// The users whose balance is not the sum of their changes, by the delivered reconciliation.
    fn wrong_balances(&mut self) -> Vec<i64> {
        let (mut after, mut wrong) = (0_i64, Vec::new());
        loop {
            let rows = self.ask(delivered::RECONCILE, &[&after, &200_i64, &100_i64]);
            let Some(last) = rows[0].get("last") else { return wrong };
            after = last;
            wrong.extend(rows[0].get::<_, Vec<i64>>("wrong"));
            for user_id in rows[0].get::<_, Vec<i64>>("long") {
                if !self.is_sum_of_many(user_id) {
                    wrong.push(user_id);
                }
            }
        }
    }

    fn is_sum_of_many(&mut self, user_id: i64) -> bool {
        let user = self.ask(delivered::LONG, &[&user_id]).remove(0);
        let (mut after, mut total) = (0_i64, 0_i64);
        loop {
            let params: &[&(dyn ToSql + Sync)] =
                &[&user_id, &after, &user.get::<_, i64>("last"), &5_000_i64];
            let part = self.ask(delivered::SUM, params).remove(0);
            let Some(read) = part.get("last") else {
                return user.get::<_, i64>("balance") == total;
            };
            after = read;
            total += part.get::<_, &str>("total").parse::<i64>().unwrap();
        }
    }
}

/// What the clients of both builds were told, and how long one of the old ones waited at most.
#[derive(Default)]
struct Told {
    old: AtomicU64,
    new: AtomicU64,
    /// Waited for the migration for longer than a request may: told "not applied".
    refused: AtomicU64,
    wait_max_ms: AtomicU64,
}

/// The first one half of the time.
fn any_user(random: &mut Random) -> i64 {
    1 + [0, random.below(USERS as usize) as i64][random.below(2)]
}

/// Makes changes with the delivered statements, and reads, until it is told to end.
fn work_as_old(database: &Database, told: &Told, end: &AtomicBool, seed: u64) {
    let mut old = Old::connect(database);
    let mut random = Random(seed);
    for round in 0.. {
        if end.load(Ordering::Relaxed) {
            return;
        }
        let user_id = any_user(&mut random);
        let (amount, key) = ([-1_i64, 2][random.below(2)], format!("{seed}-{round}"));
        let begun = Instant::now();
        let rows = match round % 6 {
            0 | 1 => old.try_ask(delivered::CHANGE, &[&user_id, &amount]),
            2 => old.try_ask(delivered::CHANGE_ONCE, &[&user_id, &amount, &key]),
            3 => old.try_ask(delivered::CREATE, &[&7_i64]),
            4 => old.try_ask(delivered::CREATE_ONCE, &[&7_i64, &key]),
            _ => old.try_ask(delivered::CHANGES, &[&user_id, &i64::MAX, &20_i64]),
        };
        let waited = u64::try_from(begun.elapsed().as_millis()).unwrap();
        told.wait_max_ms.fetch_max(waited, Ordering::Relaxed);
        match rows {
            Ok(rows) if round % 6 == 5 => assert_follows(&rows),
            Ok(rows) => {
                assert!(round % 6 > 1 || rows[0].get::<_, Option<i64>>("after").is_some());
                told.old.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                told.refused.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => panic!("the old replica was told {error:?}"),
        }
    }
}

/// A page of the delivered build, newest first.
fn assert_follows(page: &[Row]) {
    for pair in page.windows(2) {
        let after = |row: &Row| row.get::<_, i64>("balance_after");
        assert_eq!(after(&pair[0]), after(&pair[1]) + pair[0].get::<_, i64>("amount"));
        assert!(pair[0].get::<_, i64>("id") > pair[1].get::<_, i64>("id"));
    }
}

fn work_as_new(addr: SocketAddr, told: &Told, end: &AtomicBool, seed: u64) {
    let mut client = Http::connect(addr);
    let mut random = Random(seed);
    while !end.load(Ordering::Relaxed) {
        let user_id = any_user(&mut random);
        let amount = [-1, 2][random.below(2)];
        let answer = client.ask("POST /api/balance", &[], &change(user_id, amount));
        assert_eq!(answer.status, 200, "{:?}", answer.json());
        told.new.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn replicas_of_the_delivered_build_work_before_during_and_after_the_upgrade() {
    let changes = number("UPGRADE_CHANGES", 20_000);
    let database = delivered(changes);
    let count = "select count(*) from balance_changes";
    let before = database.number(count);
    assert_eq!(database.number(EARLIER), 1, "the clock was not set back");
    let replica = Local::start(database.url());
    let (told, end) = (Told::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        let _end = SetOnDrop(&end);
        let (database, told, end) = (&database, &told, &end);
        for seed in 0..OLD_REPLICAS {
            scope.spawn(move || work_as_old(database, told, end, seed));
        }
        let enough = |what, told: &AtomicU64| {
            let goal = told.load(Ordering::Relaxed) + ENOUGH;
            until(what, SOON, || told.load(Ordering::Relaxed) >= goal);
        };
        enough("changes before the upgrade", &told.old);
        told.wait_max_ms.store(0, Ordering::Relaxed);
        let begun = Instant::now();
        upgrade(database);
        let took = begun.elapsed();
        enough("changes of the old replicas after it", &told.old);
        println!(
            "{changes} changes: the upgrade took {took:.2?}; an old replica waited {} ms at most, \
             and was refused {} times",
            told.wait_max_ms.load(Ordering::Relaxed),
            told.refused.load(Ordering::Relaxed)
        );
        for seed in 0..NEW_CLIENTS {
            let addr = replica.addr;
            scope.spawn(move || work_as_new(addr, told, end, 100 + seed));
        }
        enough("changes of the new replica", &told.new);
        enough("changes of the old replicas beside it", &told.old);
        let mut old = Old::connect(database);
        assert_eq!((old.wrong_changes(), old.wrong_balances()), (0, vec![]));
    });
    let made = told.old.into_inner() + told.new.into_inner();
    assert_eq!(database.number(count), before + i64::try_from(made).unwrap());
    database.assert_books_balance();
    assert_eq!(database.number(EARLIER), 0);
}

#[test]
fn a_key_that_one_build_has_stored_is_replayed_by_the_other() {
    let database = delivered(1_000);
    upgrade(&database);
    let (replica, mut old) = (Local::start(database.url()), Old::connect(&database));
    let keyed = |key: &str, amount| {
        let key = format!("Idempotency-Key: {key}");
        let answer = ask(replica.addr, "POST /api/balance", &[&key], &change(1, amount));
        assert_eq!(answer.status, 200, "{:?}", answer.json());
        (answer.header("idempotency-replayed") == Some("true"), answer.json())
    };
    let (replayed, answer) = keyed("of-the-old", 5);
    // Nobody knows any more which change it was.
    assert_eq!(
        (replayed, answer["balance"].as_i64(), &answer["number"]),
        (true, Some(10_005), &Null)
    );
    let (replayed, first) = keyed("of-the-new", 3);
    assert_eq!((replayed, first["number"].as_i64()), (false, Some(502)));
    let again = old.ask(delivered::CHANGE_ONCE, &[&1_i64, &3_i64, &"of-the-new"]).remove(0);
    assert_eq!(Some(again.get("balance")), first["balance"].as_i64());
    assert!(again.get::<_, bool>("replayed"));
    database.assert_books_balance();
}

/// It would go on at an old number, and report a change that follows from no other.
#[test]
fn a_run_that_reads_changes_by_their_old_ids_begins_anew() {
    let database = delivered(1_000);
    let claim = "with run as (insert into cron_runs
            (job_id, job, function, token, server, scheduled_at, started_at)
        select id, name, function, 1, 'old', slot, now() from cron_jobs
        where function in ('audit-ledger', 'rank-balances') returning id, job_id)
        update cron_jobs set token = 1, holder = 'old#1', run_id = run.id,
            locked_until = now() + interval '1 hour' from run where run.job_id = cron_jobs.id";
    database.connect().batch_execute(claim).expect("two runs");
    upgrade(&database);
    let mut old = Old::connect(&database);
    let mut is_held = |function: &str| {
        let id = format!("select id from cron_jobs where function = '{function}'");
        let id = database.number(&id);
        !old.ask(delivered::HOLD, &[&id, &1_i64, &"old#1"]).is_empty()
    };
    assert_eq!((is_held("audit-ledger"), is_held("rank-balances")), (false, true));
    assert_eq!(database.outcomes("audit-ledger"), ["cancelled on old"]);
    let due =
        "select count(*) from cron_jobs where function = 'audit-ledger' and locked_until < now()
        and holder is null and slot < now() and enabled";
    assert_eq!(database.number(due), 1);
}

/// Whoever has begun has what it still needs before the migration locks that.
#[test]
fn the_upgrade_and_what_it_waits_for_do_not_wait_for_each_other() {
    let database = delivered(1_000);
    let waits = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'";
    let locks = "select count(*) from pg_locks
        where relation = 'creation_keys'::regclass and mode like 'AccessExcl%' and not granted";
    let (mut step, mut creation) = (database.connect(), database.connect());
    step.batch_execute(
        "begin; select from cron_jobs where function = 'audit-ledger' for key share",
    )
    .expect("a step has begun");
    creation.batch_execute("begin; select from creation_keys").expect("a creation has begun");
    thread::scope(|scope| {
        let upgrade = scope.spawn(|| upgrade(&database));
        database.wait_for("the upgrade waits for the step", SOON, 1, waits);
        step.batch_execute("select max(id) from balance_changes; commit").expect("the step");
        until("the upgrade waits for the creation", SOON, || database.number(locks) == 1);
        creation
            .batch_execute(
                "with user_2 as (update users set balance = balance where id = 2),
                    none as (insert into balance_changes (user_id, amount, balance_after)
                        select 2, 1, 1 where false)
                insert into creation_keys (key, user_id, balance) values ('k', 2, 0);
                commit",
            )
            .expect("the creation");
        upgrade.join().expect("upgraded");
    });
    database.assert_books_balance();
}
