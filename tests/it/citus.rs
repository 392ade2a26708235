//! The functions of `deploy/citus.sql` and the statements that they stand for give the same answers
//! and leave the same books. The functions are plain ones: a PostgreSQL without Citus has them too.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::slice::from_ref;
use std::time::{Duration, Instant};

use postgres::error::SqlState;
use serde_json::Value;

use crate::support::{
    Answer, Database, Local, Postgres, Random, ask, at_once, change, get, seed, until,
};
use crate::tidy::ROOT;

const SOON: Duration = Duration::from_secs(20);
const ROUNDS: usize = 400;

/// A database with three users, the last of whom has all that 64 bits can hold.
fn with_users() -> Database {
    let database = Postgres::shared().migrated();
    let fill = "insert into users (balance, changes) values (20, 1), (9223372036854775807, 1);
        insert into balance_changes (user_id, id, amount, balance_after)
        select id, 1, balance, balance from users where id > 1";
    database.connect().batch_execute(fill).expect("users");
    database
}

/// Has the functions, and counts their calls.
fn with_functions() -> Database {
    let database = with_users();
    let sql = std::fs::read_to_string(format!("{ROOT}/deploy/citus.sql")).expect("citus.sql");
    let functions = sql.split("create function ").skip(1).map(|text| {
        let (function, _) = text.split_once("\n$$;").expect("the end of a function");
        format!("create function {function}\n$$;")
    });
    let functions: String = functions.collect();
    database.connect().batch_execute(&functions).expect("the functions");
    let count = "do $$ begin
        execute format('alter database %I set track_functions = pl', current_database()); end $$";
    database.connect().batch_execute(count).expect("a setting");
    database
}

fn calls(database: &Database, name: &str) -> i64 {
    database.number(&format!(
        "select coalesce(sum(calls), 0)::bigint from pg_stat_user_functions \
         where funcname = '{name}'"
    ))
}

struct Asked {
    user_id: i64,
    amount: i64,
    key: Option<usize>,
    reference: Option<&'static str>,
}

impl Asked {
    fn any(random: &mut Random) -> Asked {
        let amounts = [1, 7, 2_000, i64::MAX, -1, -7, -2_000, i64::MIN];
        Asked {
            user_id: [1, 1, 2, 2, 3, 99][random.below(6)],
            amount: amounts[random.below(amounts.len())],
            key: [None, Some(random.below(20))][random.below(2)],
            reference: [None, Some("order-7"), Some("it's")][random.below(3)],
        }
    }

    fn send(&self, addr: SocketAddr) -> Answer {
        let key = self.key.map(|key| format!("Idempotency-Key: key-{key}"));
        let body = match self.reference {
            None => change(self.user_id, self.amount),
            Some(reference) => format!(
                "{{\"userId\":{},\"amount\":{},\"reference\":\"{reference}\"}}",
                self.user_id, self.amount
            ),
        };
        let headers: Vec<&str> = key.iter().map(String::as_str).collect();
        ask(addr, "POST /api/balance", &headers, &body)
    }
}

/// What a client can tell two answers apart by.
fn told(answer: &Answer) -> (u16, bool, Value) {
    let mut body = answer.json();
    // Drawn anew by each database.
    if let Some(id) = body.get_mut("setId") {
        *id = Value::from(id.as_str().expect("an id").len());
    }
    (answer.status, answer.header("idempotency-replayed").is_some(), body)
}

fn books(database: &Database) -> Vec<String> {
    let sql = "select (users.id, balance, changes, changed_at is null)::text from users
        union all select (user_id, id, amount, balance_after, reference, actor)::text
        from balance_changes
        union all select (user_id, key, amount, outcome, balance, number, reference)::text
        from idempotency_keys
        union all select (key, user_ids, amounts, reference, balances, numbers, refused)::text
        from set_keys order by 1";
    database.connect().query(sql, &[]).expect(sql).iter().map(|row| row.get(0)).collect()
}

#[test]
fn the_functions_answer_and_write_what_the_statements_do() {
    let mut random = Random(seed("CITUS_SEED"));
    let (plain, called) = (with_users(), with_functions());
    let (by_statement, by_function) = (Local::start(plain.url()), Local::start(called.url()));
    let mut seen = BTreeSet::new();
    for round in 0..ROUNDS {
        let asked = Asked::any(&mut random);
        let (one, other) = (asked.send(by_statement.addr), asked.send(by_function.addr));
        assert_eq!(told(&one), told(&other), "round {round}");
        seen.insert(one.json()["code"].as_str().unwrap_or("changed").to_owned());
    }
    let all = [
        "amount_out_of_range",
        "changed",
        "idempotency_key_reused",
        "insufficient_funds",
        "user_not_found",
    ];
    assert_eq!(seen, BTreeSet::from(all.map(str::to_owned)));
    assert_eq!(books(&plain), books(&called));
    called.assert_books_balance();
    for name in ["change_balance", "change_balance_once"] {
        until("the replica has called the function", SOON, || calls(&called, name) > 0);
        assert_eq!(calls(&plain, name), 0);
    }
}

/// The body of a set, perhaps with a user who is not there. About one in five can be applied.
fn any_set(random: &mut Random) -> String {
    let users = [[1, 2, 3], [2, 1, 3], [3, 2, 1], [1, 99, 2]][random.below(4)];
    let amounts = [1, 7, i64::MAX, -1, -7, -2_000, -i64::MAX];
    let changes: Vec<String> = users[..2 + random.below(2)]
        .iter()
        .map(|user_id| change(*user_id, amounts[random.below(amounts.len())]))
        .collect();
    let reference = ["", ",\"reference\":\"order-7\""][random.below(2)];
    format!("{{\"changes\":[{}]{reference}}}", changes.join(","))
}

#[test]
fn the_function_for_sets_answers_and_writes_what_the_statement_does() {
    let mut random = Random(seed("CITUS_SEED"));
    let (plain, called) = (with_users(), with_functions());
    let (by_statement, by_function) = (Local::start(plain.url()), Local::start(called.url()));
    let (mut sent, mut seen) = (Vec::<(Option<String>, String)>::new(), BTreeSet::new());
    for round in 0..ROUNDS {
        // Half of them are sent again, and a key may be another set's.
        let (key, body) = match random.below(2) {
            1 if round > 0 => sent[random.below(round)].clone(),
            _ => {
                let key = format!("Idempotency-Key: set-{}", random.below(60));
                ([None, Some(key)][random.below(2)].clone(), any_set(&mut random))
            }
        };
        let headers: Vec<&str> = key.iter().map(String::as_str).collect();
        let send = |addr| ask(addr, "POST /api/changes", &headers, &body);
        let (one, other) = (send(by_statement.addr), send(by_function.addr));
        assert_eq!(told(&one), told(&other), "round {round}: {body}");
        let (code, replayed) = (one.json()["code"].clone(), told(&one).1);
        seen.insert(format!("{} {replayed}", code.as_str().unwrap_or("changed")));
        sent.push((key, body));
    }
    for outcome in [
        "amount_out_of_range false",
        "changed false",
        "changed true",
        "idempotency_key_reused false",
        "insufficient_funds false",
        "insufficient_funds true",
        "user_not_found false",
    ] {
        assert!(seen.contains(outcome), "{outcome}: {seen:?}");
    }
    assert_eq!(books(&plain), books(&called));
    called.assert_books_balance();
    until("the replica has called it", SOON, || calls(&called, "change_balances") > 0);
}

/// In opposite orders, each under a key that all clients send.
#[test]
fn racing_calls_of_the_function_for_sets_never_wait_for_each_other() {
    const TWINS: usize = 6;
    let database = with_functions();
    let replica = Local::start(database.url());
    let made = at_once(TWINS, from_ref(&replica), |twin, client| {
        let sets = (0..20).map(|round| {
            let (from, to) = [(1, 2), (2, 1)][(round + twin) % 2];
            let body = format!("{{\"changes\":[{},{}]}}", change(from, -1), change(to, 1));
            let key = format!("Idempotency-Key: {from}-{round}");
            let answer = client.ask("POST /api/changes", &[&key], &body);
            assert_eq!(answer.status, 200, "{:?}", answer.json());
            usize::from(!told(&answer).1)
        });
        sets.sum::<usize>()
    });
    assert_eq!(made.into_iter().sum::<usize>(), 40, "a set under each key, made once");
    assert_eq!(database.number("select count(distinct set_id) from balance_changes"), 40);
    database.assert_books_balance();
}

/// As the statement does, and the session's own limit holds again after it.
#[test]
fn the_function_for_sets_waits_for_a_locked_user_no_longer_than_a_second() {
    let database = with_functions();
    let mut holder = database.connect();
    let mut lock = holder.transaction().unwrap();
    lock.query_one("select from users where id = 2 for update", &[]).unwrap();
    let mut client = database.connect();
    client.batch_execute("set lock_timeout = '19s'; set statement_timeout = '20s'").unwrap();
    let call = "select from change_balances(array[1, 2], array[-1, 1], null, null, null)";
    let begun = Instant::now();
    let refused = client.query_one(call, &[]).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(refused.code(), Some(&SqlState::LOCK_NOT_AVAILABLE), "{refused}");
    lock.commit().unwrap();
    client.query_one(call, &[]).unwrap();
    let limit: String = client.query_one("show lock_timeout", &[]).unwrap().get(0);
    assert_eq!(limit, "19s");
}

/// Up to PostgreSQL 14 everybody may create a function in the schema `public`, of any types.
#[test]
fn functions_of_another_role_are_not_called() {
    let (plain, called) = (with_users(), with_functions());
    let functions = |types: &str| {
        let [of_one, of_one_once, of_all] = ["text, text", "text, text, text", "text, text, text"];
        let function = |name: &str, types: String| {
            format!(
                "create function {name}({types}) returns record language plpgsql as \
                 $$ begin raise 'called'; end $$;"
            )
        };
        function("change_balance", format!("{types}, {of_one}"))
            + &function("change_balance_once", format!("{types}, {of_one_once}"))
            + &function("change_balances", format!("{}, {of_all}", types.replace("nt", "nt[]")))
    };
    let stranger = "do $$ begin create role stranger; exception when others then end $$;
        grant create on schema public to stranger; set role stranger;";
    let same = functions("bigint, bigint");
    plain.connect().batch_execute(&format!("{stranger} {same}")).expect("functions");
    // Where the owner has some of the same name, these must not be taken for them.
    let similar = functions("text, text");
    called.connect().batch_execute(&format!("{stranger} {similar}")).expect("functions");
    for database in [plain, called] {
        let replica = Local::start(database.url());
        for key in [&[][..], &["Idempotency-Key: k"]] {
            assert_eq!(ask(replica.addr, "POST /api/balance", key, &change(1, -1)).status, 200);
            let set = format!("{{\"changes\":[{},{}]}}", change(1, -1), change(2, 1));
            assert_eq!(ask(replica.addr, "POST /api/changes", key, &set).status, 200);
        }
        database.assert_books_balance();
    }
}

/// Twins of each key and single changes meet at one user who cannot pay for all.
#[test]
fn racing_calls_of_the_functions_leave_what_racing_statements_leave() {
    const TWINS: usize = 8;
    for database in [with_users(), with_functions()] {
        let replica = Local::start(database.url());
        let addr = replica.addr;
        let answers = at_once(TWINS, from_ref(&replica), |_, _| {
            let keyed = (0..10).map(|key| (-3, Some(key)));
            keyed
                .chain([(-1, None), (-19, None), (1, None)])
                .map(|(amount, key)| Asked { user_id: 2, amount, key, reference: None }.send(addr))
                .collect::<Vec<_>>()
        });
        let answers: Vec<Answer> = answers.into_iter().flatten().collect();
        let first = answers.iter().filter(|answer| !told(answer).1);
        let made: Vec<&Answer> = first.filter(|answer| answer.status == 200).collect();
        let refused = answers.iter().filter(|answer| answer.status == 409);
        let covers = |answer: &Answer| {
            let figures = answer.json();
            figures["balance"].as_i64().unwrap() + figures["amount"].as_i64().unwrap() >= 0
        };
        assert!(refused.clone().count() > 0 && !refused.clone().any(covers));
        assert!(answers.iter().all(|answer| [200, 409].contains(&answer.status)));
        let replays = answers.iter().filter(|answer| told(answer).1).count();
        assert_eq!(replays, 10 * (TWINS - 1));
        let mut numbers: Vec<i64> =
            made.iter().map(|answer| answer.json()["number"].as_i64().unwrap()).collect();
        numbers.sort_unstable();
        let dense: Vec<i64> = (2..).take(numbers.len()).collect();
        assert_eq!(numbers, dense);
        let changes = get(addr, "/api/users/2/changes?limit=100").json();
        assert_eq!(changes["changes"].as_array().unwrap().len(), numbers.len() + 1);
        database.assert_books_balance();
    }
}
