//! One key, one change: also for twins that arrive at once, and after a refusal.

use crate::support::{Answer, Local, Postgres, ask, at_once, change, get, post};

fn keyed(replica: &Local, key: &str, body: &str) -> Answer {
    ask(replica.addr, "POST /api/balance", &[&format!("Idempotency-Key: {key}")], body)
}

fn replayed(answer: &Answer) -> bool {
    answer.header("idempotency-replayed") == Some("true")
}

#[test]
fn a_second_request_gets_the_first_result() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    let first = keyed(&replica, "\"order-7\"", &change(1, -2));
    assert_eq!((first.status, first.balance(), replayed(&first)), (200, 9_998, false));
    post(replica.addr, "/api/balance", &change(1, -100));
    for spelling in ["\"order-7\"", "order-7", "  order-7"] {
        let again = keyed(&replica, spelling, &change(1, -2));
        assert_eq!((again.status, again.balance(), replayed(&again)), (200, 9_998, true));
        assert_eq!(again.json(), first.json());
    }
    assert_eq!(get(replica.addr, "/api/users/1").balance(), 9_898);
    database.assert_books_balance();
}

#[test]
fn a_refusal_is_a_result_too() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    let first = keyed(&replica, "k", &change(1, -10_001));
    assert_eq!((first.code(), replayed(&first)), ("insufficient_funds".to_owned(), false));
    post(replica.addr, "/api/balance", &change(1, 50_000));
    let again = keyed(&replica, "k", &change(1, -10_001));
    assert_eq!((again.json(), replayed(&again)), (first.json(), true));
    let too_much = keyed(&replica, "m", &change(1, i64::MAX));
    assert_eq!(too_much.code(), "amount_out_of_range");
    let again = keyed(&replica, "m", &change(1, i64::MAX));
    assert_eq!((again.json(), replayed(&again)), (too_much.json(), true));
    assert_eq!(get(replica.addr, "/api/users/1").balance(), 60_000);
}

#[test]
fn another_amount_under_the_same_key_is_refused() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    keyed(&replica, "k", &change(1, -2));
    let other = keyed(&replica, "k", &change(1, -3));
    assert_eq!((other.status, other.code()), (422, "idempotency_key_reused".to_owned()));
    assert!(!replayed(&other));
    assert_eq!(get(replica.addr, "/api/users/1").balance(), 9_998);
}

#[test]
fn a_key_belongs_to_its_user_and_an_unknown_user_or_a_wrong_body_stores_nothing() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    assert_eq!(keyed(&replica, "k", &change(2, -2)).code(), "user_not_found");
    assert_eq!(keyed(&replica, "k", "{\"userId\":1}").code(), "invalid_request");
    assert_eq!(keyed(&replica, "k", &change(1, 0)).code(), "invalid_request");
    assert_eq!(database.number("select count(*) from idempotency_keys"), 0);
    post(replica.addr, "/api/users", "{\"balance\":10}");
    assert_eq!(keyed(&replica, "k", &change(2, -2)).balance(), 8);
    assert_eq!(keyed(&replica, "k", &change(1, -2)).balance(), 9_998);
    database.assert_books_balance();
}

#[test]
fn what_is_not_a_key_is_told_so() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    for key in ["", "\"\"", "\"open", &"k".repeat(256)] {
        let answer = keyed(&replica, key, &change(1, -2));
        assert_eq!((answer.status, answer.code()), (400, "invalid_request".to_owned()), "{key}");
        assert_eq!(answer.json()["field"], "Idempotency-Key");
    }
    assert_eq!(keyed(&replica, &"k".repeat(255), &change(1, -2)).status, 200);
}

/// On one replica several changes of a user are in the database at once, too.
#[test]
fn twenty_twins_change_the_balance_once_and_all_get_the_same_answer() {
    [1, 3].into_iter().for_each(change_as_twins);
}

/// Twenty at once on so many replicas, key after key, with deposits beside them.
fn change_as_twins(replicas: usize) {
    const TWINS: usize = 20;
    const KEYS: usize = 15;
    let database = Postgres::shared().migrated();
    let replicas: Vec<Local> = (0..replicas).map(|_| Local::start(database.url())).collect();
    let mut applied = 0;
    for key in 0..KEYS {
        let header = format!("Idempotency-Key: twin-{key}");
        let answers = at_once(TWINS, &replicas, |_, client| {
            let answer = client.ask("POST /api/balance", &[&header], &change(1, -900));
            client.ask("POST /api/balance", &[], &change(1, 1));
            answer
        });
        let fresh: Vec<_> = answers.iter().filter(|answer| !replayed(answer)).collect();
        assert_eq!(fresh.len(), 1, "key {key}: one attempt is the first");
        for answer in &answers {
            assert_eq!((answer.status, answer.json()), (fresh[0].status, fresh[0].json()));
        }
        applied += usize::from(fresh[0].status == 200);
    }
    assert!((10..=12).contains(&applied), "10,000 covers 11 changes of 900: {applied}");
    let expected = 10_000 + TWINS * KEYS - applied * 900;
    let expected = i64::try_from(expected).unwrap();
    assert_eq!(get(replicas[0].addr, "/api/users/1").balance(), expected);
    database.assert_books_balance();
}

fn created(replica: &Local, key: &str, balance: i64) -> Answer {
    let key = format!("Idempotency-Key: {key}");
    ask(replica.addr, "POST /api/users", &[&key], &format!("{{\"balance\":{balance}}}"))
}

#[test]
fn a_user_is_created_once_under_a_key_and_the_first_answer_is_given_again() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    let first = created(&replica, "\"sign-up-7\"", 50);
    assert_eq!((first.status, first.balance(), replayed(&first)), (201, 50, false));
    let location = first.header("location").expect("a path").to_owned();
    let user_id = first.json()["userId"].as_i64().unwrap();
    assert_eq!(keyed(&replica, "sign-up-7", &change(user_id, -20)).balance(), 30);
    for spelling in ["\"sign-up-7\"", "sign-up-7"] {
        let again = created(&replica, spelling, 50);
        assert_eq!((again.status, replayed(&again)), (201, true));
        assert_eq!(again.header("location"), Some(&*location));
        assert_eq!(again.body, first.body);
    }
    assert_eq!(get(replica.addr, &location).balance(), 30);
    let other = created(&replica, "sign-up-7", 51);
    assert_eq!((other.status, other.code()), (422, "idempotency_key_reused".to_owned()));
    assert!(!replayed(&other) && other.header("location").is_none());
    for key in ["", "\"open", &"k".repeat(256)] {
        let answer = created(&replica, key, 50);
        assert_eq!((answer.status, &answer.json()["field"]), (400, &"Idempotency-Key".into()));
    }
    assert_eq!(created(&replica, "negative", -1).code(), "invalid_request");
    let poor = created(&replica, "poor", 0);
    assert_eq!((poor.balance(), created(&replica, "poor", 0).json()), (0, poor.json()));
    assert_eq!(database.number("select count(*) from creation_keys"), 2);
    assert_eq!(database.number("select count(*) from users"), 3);
    database.assert_books_balance();
}

/// In every other round the twins do not agree about the opening balance: the first one decides.
#[test]
fn twenty_twins_on_three_replicas_create_one_user() {
    const TWINS: usize = 20;
    const ROUNDS: usize = 50;
    let database = Postgres::shared().migrated();
    let replicas: Vec<Local> = (0..3).map(|_| Local::start(database.url())).collect();
    let balance = |round: usize, twin: usize| 100 + (round % 2 * (twin % 2)) as i64;
    for round in 0..ROUNDS {
        let key = format!("Idempotency-Key: round-{round}");
        let answers = at_once(TWINS, &replicas, |twin, client| {
            let body = format!("{{\"balance\":{}}}", balance(round, twin));
            client.ask("POST /api/users", &[&key], &body)
        });
        let (made, refused): (Vec<_>, Vec<_>) =
            answers.iter().partition(|answer| answer.status == 201);
        assert_eq!(made.iter().filter(|answer| !replayed(answer)).count(), 1, "round {round}");
        for answer in &made {
            assert_eq!(answer.header("location"), made[0].header("location"));
            assert_eq!(answer.body, made[0].body);
        }
        assert!(refused.iter().all(|answer| answer.code() == "idempotency_key_reused"));
        let agree = (0..TWINS).filter(|twin| balance(round, *twin) == made[0].balance()).count();
        assert_eq!(made.len(), agree, "round {round}");
    }
    let rounds = i64::try_from(ROUNDS).unwrap();
    assert_eq!(database.number("select count(*) from users"), 1 + rounds);
    assert_eq!(database.number("select count(*) from creation_keys"), rounds);
    database.assert_books_balance();
}

/// On a cluster that table lies elsewhere than the users (deploy/citus.sql).
#[test]
fn a_user_without_a_key_is_created_while_the_table_of_those_keys_is_locked() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    let mut other = database.connect();
    other.batch_execute("begin; lock table creation_keys in access exclusive mode").unwrap();
    let user = post(replica.addr, "/api/users", "{\"balance\":50}");
    assert_eq!(user.status, 201, "{}", user.json());
    assert_eq!((user.balance(), replayed(&user)), (50, false));
    other.batch_execute("commit").unwrap();
    database.assert_books_balance();
}
