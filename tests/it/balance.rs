//! Balances stay exact: alone, in a crowd, and at the edges of what they can hold.

use std::thread;

use crate::support::{Answer, Client, Local, Postgres, at_once, change, get, post};

#[test]
fn a_change_goes_up_and_down_and_is_recorded() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    let answer = post(replica.addr, "/api/balance", &change(1, -2));
    assert_eq!(
        (answer.status, answer.json()),
        (200, serde_json::json!({"userId":1,"balance":9998,"number":2}))
    );
    assert_eq!(post(replica.addr, "/api/balance", &change(1, 7)).balance(), 10_005);
    assert_eq!(get(replica.addr, "/api/users/1").balance(), 10_005);
    let changes = get(replica.addr, "/api/users/1/changes").json();
    let seen: Vec<(i64, i64)> = changes["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["amount"].as_i64().unwrap(), row["balanceAfter"].as_i64().unwrap()))
        .collect();
    assert_eq!(seen, [(7, 10_005), (-2, 9_998), (10_000, 10_000)]);
    assert_eq!(changes["next"], serde_json::Value::Null);
    database.assert_books_balance();
}

#[test]
fn a_balance_is_never_negative() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    let answer = post(replica.addr, "/api/balance", &change(1, -10_001));
    assert_eq!((answer.status, answer.code()), (409, "insufficient_funds".to_owned()));
    assert_eq!((answer.balance(), answer.json()["amount"].as_i64()), (10_000, Some(-10_001)));
    assert_eq!(post(replica.addr, "/api/balance", &change(1, -10_000)).balance(), 0);
    assert_eq!(post(replica.addr, "/api/balance", &change(1, -1)).balance(), 0);
    database.assert_books_balance();
}

#[test]
fn the_edges_of_64_bits_are_exact() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    let to_the_edge = i64::MAX - 10_000;
    assert_eq!(post(replica.addr, "/api/balance", &change(1, to_the_edge)).balance(), i64::MAX);
    for amount in [1, i64::MAX] {
        let answer = post(replica.addr, "/api/balance", &change(1, amount));
        assert_eq!((answer.status, answer.code()), (409, "amount_out_of_range".to_owned()));
    }
    let answer = post(replica.addr, "/api/balance", &change(1, i64::MIN));
    assert_eq!((answer.code(), answer.balance()), ("insufficient_funds".to_owned(), i64::MAX));
    assert_eq!(post(replica.addr, "/api/balance", &change(1, -i64::MAX)).balance(), 0);
    let answer = post(replica.addr, "/api/balance", &change(1, i64::MIN));
    assert_eq!((answer.code(), answer.balance()), ("insufficient_funds".to_owned(), 0));
}

#[test]
fn users_are_created_read_and_listed() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    let created = post(replica.addr, "/api/users", "{\"balance\":500}");
    assert_eq!((created.status, created.header("location")), (201, Some("/api/users/2")));
    assert_eq!(created.json(), serde_json::json!({"userId":2,"balance":500}));
    assert_eq!(post(replica.addr, "/api/users", "{\"balance\":0}").json()["userId"], 3);
    assert_eq!(get(replica.addr, "/api/users/2").json(), created.json());
    assert_eq!(get(replica.addr, "/api/users/99").code(), "user_not_found");
    assert_eq!(get(replica.addr, "/api/users/99/changes").code(), "user_not_found");
    assert_eq!(post(replica.addr, "/api/balance", &change(99, 1)).code(), "user_not_found");

    let first = get(replica.addr, "/api/users?limit=2").json();
    assert_eq!(first["users"].as_array().unwrap().len(), 2);
    let next = first["next"].as_i64().unwrap();
    let second = get(replica.addr, &format!("/api/users?limit=2&after={next}")).json();
    assert_eq!(second, serde_json::json!({"users":[{"userId":3,"balance":0}],"next":null}));
    let full = get(replica.addr, "/api/users?limit=3").json();
    assert_eq!(
        (full["users"].as_array().unwrap().len(), &full["next"]),
        (3, &serde_json::Value::Null)
    );
    assert_eq!(get(replica.addr, "/api/users/3/changes").json()["changes"], serde_json::json!([]));
    database.assert_books_balance();
}

#[test]
fn changes_are_paged_newest_first_without_a_gap() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    for _ in 0..9 {
        post(replica.addr, "/api/balance", &change(1, -1));
    }
    let mut seen = Vec::new();
    let mut path = "/api/users/1/changes?limit=4".to_owned();
    loop {
        let page = get(replica.addr, &path).json();
        let rows = page["changes"].as_array().unwrap().clone();
        seen.extend(rows.iter().map(|row| row["balanceAfter"].as_i64().unwrap()));
        let Some(next) = page["next"].as_i64() else {
            break;
        };
        path = format!("/api/users/1/changes?limit=4&before={next}");
    }
    assert_eq!(seen, (9_991..=10_000).collect::<Vec<_>>());
}

/// On one replica several changes of a user are in the database at once, too.
#[test]
fn a_crowd_takes_exactly_what_is_there() {
    [1, 3].into_iter().for_each(withdraw_in_a_crowd);
}

/// 30 clients, twice as many withdrawals as the balance covers.
fn withdraw_in_a_crowd(replicas: usize) {
    const CLIENTS: usize = 30;
    const EACH: usize = 40;
    let database = Postgres::shared().migrated();
    let replicas: Vec<Local> = (0..replicas).map(|_| Local::start(database.url())).collect();
    let covered = CLIENTS * EACH / 2;
    let opening = i64::try_from(covered).unwrap() * 2;
    let user = post(replicas[0].addr, "/api/users", &format!("{{\"balance\":{opening}}}"));
    let user_id = user.json()["userId"].as_i64().unwrap();

    let answers = at_once(CLIENTS, &replicas, |_, client| {
        let withdraw = |_| client.ask("POST /api/balance", &[], &change(user_id, -2));
        (0..EACH).map(withdraw).collect::<Vec<_>>()
    });
    let answers: Vec<Answer> = answers.into_iter().flatten().collect();
    let (applied, refused): (Vec<&Answer>, Vec<&Answer>) =
        answers.iter().partition(|answer| answer.status == 200);
    assert_eq!((applied.len(), refused.len()), (covered, covered));
    let mut balances: Vec<i64> = applied.iter().map(|answer| answer.balance()).collect();
    balances.sort_unstable();
    let expected: Vec<i64> = (0..opening).step_by(2).collect();
    assert_eq!(balances, expected, "each success leaves a balance of its own");
    for answer in refused {
        assert_eq!(answer.code(), "insufficient_funds");
        assert!(answer.balance() < 2, "{:?}", answer.json());
    }
    database.assert_books_balance();
}

/// The statement's snapshot is older than a row it has waited for: its figure lies.
#[test]
fn a_refusal_never_reports_a_balance_that_covers_the_amount() {
    [1, 4].into_iter().for_each(provoke_refusals);
}

fn provoke_refusals(replicas: usize) {
    let database = Postgres::shared().migrated();
    let replicas: Vec<Local> = (0..replicas).map(|_| Local::start(database.url())).collect();
    let user = post(replicas[0].addr, "/api/users", "{\"balance\":5}").json();
    let user_id = user["userId"].as_i64().unwrap();
    let refusals: usize = thread::scope(|scope| {
        let clients: Vec<_> = (0..20)
            .map(|index: i64| {
                let addr = replicas[index as usize % replicas.len()].addr;
                scope.spawn(move || {
                    let mut client = Client::connect(addr);
                    let amount = if index % 2 == 0 { -7 } else { 5 };
                    let mut refusals = 0;
                    for _ in 0..60 {
                        let answer = client.ask("POST /api/balance", &[], &change(user_id, amount));
                        if answer.status == 409 {
                            assert!(answer.balance() + amount < 0, "{:?}", answer.json());
                            refusals += 1;
                        }
                    }
                    refusals
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert!(refusals > 0, "nothing was refused: the test has shown nothing");
    database.assert_books_balance();
}
