//! Sets beside each other and beside whatever else locks users.

use std::collections::HashSet;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use super::{POST, is_replayed, keyed, set, with_four_users};
use crate::support::{
    Client, Database, Local, LocalOptions, Postgres, Random, ask, at_once, change, get, post, seed,
    until,
};

const SOON: Duration = Duration::from_secs(20);
const WAITS_FOR_A_LOCK: &str = "select count(*) from pg_stat_activity \
                                where wait_event_type = 'Lock' and datname = current_database()";

fn three_replicas(database: &Database) -> Vec<Local> {
    (0..3).map(|_| Local::start(database.url())).collect()
}

fn deadlocks(database: &Database) -> i64 {
    database.number("select deadlocks from pg_stat_database where datname = current_database()")
}

/// A set waits for a user whose balance is changed meanwhile, in either direction and with a key
/// and without: it is decided by what it finds after the wait.
#[test]
fn a_set_that_waits_is_decided_by_the_balances_that_it_finds_then() {
    for (before, meanwhile, amount, covered) in
        [(100, -60, -60, false), (10, 60, -60, true), (i64::MAX, -60, 60, true)]
    {
        for key in [&[][..], &["Idempotency-Key: k"]] {
            let (database, replica) = with_four_users();
            let mut holder = database.connect();
            let opens = format!("update users set balance = {before} where id = 2");
            holder.batch_execute(&opens).unwrap();
            let mut held = holder.transaction().unwrap();
            let change = "update users set balance = balance + $1, changes = changes + 1 \
                          where id = 2";
            held.execute(change, &[&meanwhile]).unwrap();
            let answer = thread::scope(|scope| {
                let body = set(&[(3, -amount), (2, amount)]);
                let asked = scope.spawn(move || ask(replica.addr, POST, key, &body));
                database.wait_for("the set waits", SOON, 1, WAITS_FOR_A_LOCK);
                held.commit().unwrap();
                asked.join().unwrap()
            });
            let now = before + meanwhile;
            let told = answer.json();
            let what = format!("{before} and {meanwhile}: {told}");
            if covered {
                let changed = serde_json::json!({"userId":2,"balance":now + amount,"number":3});
                assert_eq!(told["changes"][1], changed, "{what}");
            } else {
                assert_eq!((answer.code().as_str(), answer.balance()), ("insufficient_funds", now));
            }
            let left = if covered { now + amount } else { now };
            assert_eq!(database.number("select balance from users where id = 2"), left, "{what}");
        }
    }
}

#[test]
fn twenty_twins_on_three_replicas_are_applied_once_and_told_the_same() {
    const TWINS: usize = 20;
    const ROUNDS: usize = 15;
    let (database, replica) = with_four_users();
    drop(replica);
    let replicas = three_replicas(&database);
    let mut applied = 0;
    for round in 0..ROUNDS {
        let key = format!("Idempotency-Key: round-{round}");
        let answers = at_once(TWINS, &replicas, |_, client| {
            let answer = client.ask(POST, &[&key], &set(&[(4, 900), (1, -900)]));
            client.ask("POST /api/balance", &[], &change(1, 1));
            answer
        });
        let fresh: Vec<_> = answers.iter().filter(|answer| !is_replayed(answer)).collect();
        assert_eq!(fresh.len(), 1, "round {round}: one attempt is the first");
        for answer in &answers {
            assert_eq!((answer.status, &answer.body), (fresh[0].status, &fresh[0].body));
        }
        applied += i64::from(fresh[0].status == 200);
    }
    assert!((10..=12).contains(&applied), "10,000 covers 11 sets of 900: {applied}");
    assert_eq!(get(replicas[0].addr, "/api/users/4").balance(), applied * 900);
    assert_eq!(deadlocks(&database), 0);
    database.assert_books_balance();
}

/// Twins that name other users under one key wait for each other at the key alone.
#[test]
fn of_sets_of_different_users_under_one_key_the_first_is_applied_alone() {
    let (database, replica) = with_four_users();
    drop(replica);
    let replicas = three_replicas(&database);
    for round in 0..30 {
        let key = format!("Idempotency-Key: round-{round}");
        let answers = at_once(6, &replicas, |twin, client| {
            let pairs = [[(1, -1), (2, 1)], [(3, 1), (4, 1)], [(4, 2), (1, -2)]];
            client.ask(POST, &[&key], &set(&pairs[twin / 2]))
        });
        let told = |status| answers.iter().filter(move |answer| answer.status == status);
        assert_eq!((told(200).count(), told(422).count()), (2, 4), "round {round}");
        assert_eq!(told(200).filter(|answer| is_replayed(answer)).count(), 1);
    }
    let sets = "select count(distinct set_id) from balance_changes where set_id is not null";
    assert_eq!((database.number(sets), deadlocks(&database)), (30, 0));
    database.assert_books_balance();
}

/// Transfers in all orders, single changes with a key and without, and new users, on three
/// replicas. Balances are small, so many are refused.
#[test]
fn sets_in_all_orders_beside_all_other_changes_never_meet_in_a_deadlock() {
    const THREADS: u64 = 24;
    const ROUNDS: usize = 40;
    const USERS: usize = 5;
    let seed = seed("SETS_SEED");
    println!("SETS_SEED={seed}");
    let database = Postgres::shared().migrated();
    let fill = "insert into users (balance) select 0 from generate_series(2, 5)";
    database.connect().batch_execute(fill).unwrap();
    let replicas = three_replicas(&database);
    let start = Barrier::new(usize::try_from(THREADS).unwrap());
    let sums: Vec<i64> = thread::scope(|scope| {
        let threads = (0..THREADS).map(|thread| {
            let (start, replicas) = (&start, &replicas);
            scope.spawn(move || {
                let mut random = Random(seed ^ (thread + 1).rotate_left(32));
                let addr = replicas[random.below(3)].addr;
                let mut client = Client::connect(addr);
                let mut sum = 0;
                start.wait();
                for round in 0..ROUNDS {
                    // Keys that two threads share, as clients that repeat a request do.
                    let key = format!("Idempotency-Key: {}-{round}", thread / 2);
                    let key = [&*key];
                    let is_keyed = random.below(2);
                    let amount = 1 + i64::try_from(random.below(3_000)).unwrap();
                    let user_id = |number: usize| 1 + i64::try_from(number).unwrap();
                    let from = random.below(USERS);
                    let answer = match random.below(8) {
                        0 => client.ask("POST /api/users", &key[is_keyed..], "{\"balance\":0}"),
                        1 | 2 => {
                            let body = change(user_id(from), amount);
                            let head = "POST /api/balance";
                            let answer = client.ask(head, &key[is_keyed..], &body);
                            if answer.status == 200 && !is_replayed(&answer) {
                                sum += amount;
                            }
                            answer
                        }
                        _ => {
                            // To the others in turns, so in each order of the ids.
                            let others = 1 + random.below(USERS - 1);
                            let to = (1..=others).map(|step| (from + step) % USERS);
                            let mut changes: Vec<_> = to.map(|to| (user_id(to), amount)).collect();
                            let from = (user_id(from), -amount * changes.len() as i64);
                            changes.insert(random.below(others + 1), from);
                            client.ask(POST, &key[is_keyed..], &set(&changes))
                        }
                    };
                    let fine = [200, 201, 409, 422].contains(&answer.status);
                    assert!(fine, "{}", answer.json());
                }
                sum
            })
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|thread| thread.join().expect("a client")).collect()
    });
    let total = "select sum(balance)::bigint from users";
    assert_eq!(database.number(total), 10_000 + sums.iter().sum::<i64>());
    let broken = "select count(*) from (select from balance_changes where set_id is not null \
                  group by set_id having sum(amount) <> 0) as set";
    assert_eq!((database.number(broken), deadlocks(&database)), (0, 0));
    let sets = "select count(distinct set_id) from balance_changes where set_id is not null";
    println!("{} sets applied", database.number(sets));
    assert!(database.number(sets) > 100);
    database.assert_books_balance();
}

/// Two of eight workers are all that sets may hold.
#[test]
fn sets_that_wait_for_a_locked_user_hold_up_nobody_else() {
    let (database, replica) = with_four_users();
    let addr = replica.addr;
    let mut holder = database.connect();
    let mut lock = holder.transaction().unwrap();
    lock.query_one("select balance from users where id = 1 for update", &[]).unwrap();
    thread::scope(|scope| {
        let sets: Vec<_> = (0..40)
            .map(|_| scope.spawn(move || post(addr, "/api/changes", &set(&[(1, -1), (2, 1)]))))
            .collect();
        database.wait_for("as many as may be wait for the row", SOON, 2, WAITS_FOR_A_LOCK);
        until("the others are parked", SOON, || {
            let text = String::from_utf8(get(addr, "/metrics").body).unwrap();
            let waiting = text.lines().find_map(|line| line.strip_prefix("http_requests_waiting "));
            // Some may have waited for a second meanwhile, and are answered.
            waiting.is_some_and(|waiting| waiting.parse::<u32>().unwrap() >= 20)
        });
        for _ in 0..50 {
            assert_eq!(post(addr, "/api/balance", &change(3, 1)).status, 200);
        }
        assert!(database.number(WAITS_FOR_A_LOCK) <= 2);
        lock.commit().unwrap();
        for set in sets {
            let answer = set.join().unwrap();
            assert!(answer.status == 200 || answer.json()["outcome"] == "not_applied");
        }
    });
    let one = LocalOptions { workers: 1, pool_size: 1, ..LocalOptions::default() };
    let smallest = Local::start_with(database.url(), one);
    assert_eq!(post(smallest.addr, "/api/changes", &set(&[(3, -1), (2, 1)])).status, 200);
    database.assert_books_balance();
}

/// A set keeps the rows below a locked one, and single changes of those users wait for it in all
/// workers' hands: for a second, not for the five of other waits.
#[test]
fn a_set_that_waits_for_a_locked_user_gives_the_others_back_after_a_second() {
    let (database, replica) = with_four_users();
    let addr = replica.addr;
    let fill = "insert into users (balance) select 0 from generate_series(5, 10)";
    database.connect().batch_execute(fill).unwrap();
    let mut holder = database.connect();
    let mut lock = holder.transaction().unwrap();
    lock.query_one("select balance from users where id = 10 for update", &[]).unwrap();
    thread::scope(|scope| {
        let of_six: Vec<_> = (5..=10).map(|user_id| (user_id, 1)).collect();
        let begun = Instant::now();
        let whole = scope.spawn(move || post(addr, "/api/changes", &set(&of_six)));
        database.wait_for("the set waits", SOON, 1, WAITS_FOR_A_LOCK);
        let singles: Vec<_> = (0..15)
            .map(|n| scope.spawn(move || post(addr, "/api/balance", &change(5 + n % 5, 1))))
            .collect();
        assert_eq!(post(addr, "/api/balance", &change(4, 1)).status, 200);
        let refused = whole.join().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        assert_eq!(
            (refused.status, refused.json()["outcome"].as_str()),
            (503, Some("not_applied"))
        );
        for single in singles {
            assert_eq!(single.join().unwrap().status, 200);
        }
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        lock.commit().unwrap();
    });
    let again: Vec<_> = (5..=10).map(|user_id| (user_id, 1)).collect();
    assert_eq!(post(addr, "/api/changes", &set(&again)).status, 200);
    database.assert_books_balance();
}

/// Each request counts once, under what its client was told.
#[test]
fn a_set_is_counted_once() {
    let (_database, replica) = with_four_users();
    let fine = set(&[(1, -1), (2, 1)]);
    assert_eq!(keyed(&replica, "k", &fine).status, 200);
    assert!(is_replayed(&keyed(&replica, "k", &fine)));
    assert_eq!(keyed(&replica, "k", &set(&[(1, -2), (2, 1)])).status, 422);
    for changes in [[(1, 1), (4, -1)], [(1, i64::MAX), (2, 1)], [(1, 1), (99, 1)], [(1, 1), (2, 0)]]
    {
        assert_ne!(post(replica.addr, "/api/changes", &set(&changes)).status, 200);
    }
    let text = String::from_utf8(get(replica.addr, "/metrics").body).unwrap();
    let lines: HashSet<&str> = text.lines().collect();
    for outcome in [
        "changed",
        "insufficient_funds",
        "amount_out_of_range",
        "user_not_found",
        "idempotency_key_reused",
    ] {
        let line = format!("balance_changes_total{{outcome=\"{outcome}\"}} 1");
        assert!(lines.contains(&*line), "{line}\n{text}");
    }
    assert!(lines.contains("balance_changes_replayed_total 1"));
}
