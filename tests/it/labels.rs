//! The words that clients give: what a change was for, and what another system calls a user.

use serde_json::{Value, json};

use crate::support::{Answer, Database, Local, Postgres, ask, at_once, change, get, post};

fn referring(reference: &Value) -> String {
    json!({"userId": 1, "amount": -2, "reference": reference}).to_string()
}

fn named(balance: i64, external_id: &Value) -> String {
    json!({"balance": balance, "externalId": external_id}).to_string()
}

/// What is no label: too long, empty, not printable, not ASCII, not a text.
fn no_labels() -> Vec<Value> {
    let texts = [&"x".repeat(256), "", "a\u{7}b", "a\nb", "\u{7f}", "caf\u{e9}", "a\0"];
    texts.iter().map(|text| json!(text)).chain([json!(7), Value::Null, json!(["a"])]).collect()
}

/// All that a request might have left behind.
fn rows(database: &Database) -> i64 {
    database.number(
        "select (select count(*) from users) + (select count(*) from balance_changes) + \
         (select count(*) from idempotency_keys) + (select count(*) from creation_keys) + \
         (select count(*) from external_ids)",
    )
}

#[test]
fn what_is_no_label_is_refused_by_its_name_and_nothing_is_changed() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    let before = rows(&database);
    let refused = |answer: Answer, field: &str| {
        let told = (answer.status, answer.code(), answer.json()["field"].clone());
        assert_eq!(told, (400, "invalid_request".to_owned(), json!(field)));
    };
    let key = ["Idempotency-Key: k"];
    for label in no_labels() {
        for headers in [&key[..], &[]] {
            let body = referring(&label);
            refused(ask(replica.addr, "POST /api/balance", headers, &body), "reference");
            let body = named(5, &label);
            refused(ask(replica.addr, "POST /api/users", headers, &body), "externalId");
        }
    }
    for text in
        [String::new(), "x".repeat(256), "a%0Ab".to_owned(), "%C3%A9".to_owned(), "%FF".to_owned()]
    {
        refused(get(replica.addr, &format!("/api/users/1/changes?reference={text}")), "reference");
        refused(get(replica.addr, &format!("/api/users?externalId={text}")), "externalId");
    }
    assert_eq!(rows(&database), before);
    assert_eq!(get(replica.addr, "/api/users/1").balance(), 10_000);
}

#[test]
fn a_change_is_found_by_its_reference() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    let long = "~".repeat(255);
    let encoded = [("order-7", "order-7"), ("a b&c=\"1\"", "a%20b%26c%3D%221%22"), (&long, &long)];
    for (reference, _) in encoded {
        assert_eq!(post(replica.addr, "/api/balance", &referring(&json!(reference))).status, 200);
        assert_eq!(post(replica.addr, "/api/balance", &change(1, 2)).status, 200);
    }
    assert_eq!(post(replica.addr, "/api/balance", &referring(&json!("order-7"))).status, 200);
    let numbers = |text: &str| -> Vec<i64> {
        let found = get(replica.addr, &format!("/api/users/1/changes?reference={text}")).json();
        let found = found["changes"].as_array().unwrap();
        found.iter().map(|change| change["number"].as_i64().unwrap()).collect()
    };
    assert_eq!(numbers("order-7"), [8, 2]);
    assert_eq!((numbers(encoded[1].1), numbers(&long)), (vec![4], vec![6]));
    assert_eq!(numbers("a+b%26c%3D%221%22"), [4], "as URLSearchParams and most libraries write it");
    assert!(numbers("a%2Bb%26c%3D%221%22").is_empty(), "a plus");
    assert_eq!((numbers("order"), numbers("ORDER-7"), numbers("order-7%20")), Default::default());
    let changes = get(replica.addr, "/api/users/1/changes?limit=2").json();
    let references = [&changes["changes"][0]["reference"], &changes["changes"][1]["reference"]];
    assert_eq!(references, [&json!("order-7"), &Value::Null]);
    database.assert_books_balance();
}

#[test]
fn a_key_stands_for_one_reference() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    let send = |key: &str, body: &str| {
        ask(replica.addr, "POST /api/balance", &[&format!("Idempotency-Key: {key}")], body)
    };
    let first = send("with", &referring(&json!("order-7")));
    assert_eq!(first.json(), json!({"userId": 1, "balance": 9_998, "number": 2}));
    assert_eq!(send("without", &change(1, -2)).json()["number"], 3);
    for (key, body) in [
        ("with", referring(&json!("order-8"))),
        ("with", change(1, -2)),
        ("without", referring(&json!("order-7"))),
    ] {
        let other = send(key, &body);
        assert_eq!((other.status, other.code()), (422, "idempotency_key_reused".to_owned()));
    }
    let again = send("with", &referring(&json!("order-7")));
    assert_eq!((again.json(), again.header("idempotency-replayed")), (first.json(), Some("true")));
    assert_eq!(database.number("select count(*) from balance_changes where user_id = 1"), 3);
    database.assert_books_balance();
}

#[test]
fn an_external_id_is_of_one_user_who_is_found_by_it() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    let created = post(replica.addr, "/api/users", &named(5, &json!("customer 17")));
    let user = json!({"userId": 2, "balance": 5, "externalId": "customer 17"});
    assert_eq!((created.status, created.json()), (201, user.clone()));
    assert_eq!(get(replica.addr, "/api/users/2").json(), user);
    for balance in [5, 6] {
        let again = post(replica.addr, "/api/users", &named(balance, &json!("customer 17")));
        assert_eq!((again.status, again.code()), (409, "external_id_taken".to_owned()));
        assert_eq!(again.json()["userId"], 2);
    }
    let find = |text: &str| get(replica.addr, &format!("/api/users?externalId={text}")).json();
    assert_eq!(find("customer%2017"), json!({"users": [user], "next": null}));
    assert_eq!(find("customer"), json!({"users": [], "next": null}));
    assert_eq!(find("customer+17"), find("customer%2017"));
    // A number that was given to a user who then was not created is not used.
    assert_eq!(database.number("select count(*) from users"), 2);
    database.assert_books_balance();
}

#[test]
fn a_creation_with_a_key_and_an_external_id_is_replayed_or_refused() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    let create = |key: &str, body: &str| {
        ask(replica.addr, "POST /api/users", &[&format!("Idempotency-Key: {key}")], body)
    };
    let first = create("k", &named(5, &json!("a")));
    assert_eq!(first.status, 201);
    let again = create("k", &named(5, &json!("a")));
    assert_eq!((again.status, again.header("idempotency-replayed")), (201, Some("true")));
    assert_eq!((again.json(), again.header("location")), (first.json(), first.header("location")));
    for body in [named(5, &json!("b")), named(6, &json!("a")), "{\"balance\":5}".to_owned()] {
        let other = create("k", &body);
        assert_eq!((other.status, other.code()), (422, "idempotency_key_reused".to_owned()));
    }
    // Another key does not help to a second user; and is free for another one.
    assert_eq!(create("l", &named(5, &json!("a"))).code(), "external_id_taken");
    assert_eq!(create("l", &named(5, &json!("c"))).status, 201);
    assert_eq!(database.number("select count(*) from users"), 3);
    database.assert_books_balance();
}

#[test]
fn twenty_twins_of_one_external_id_on_three_replicas_are_one_user() {
    const TWINS: usize = 20;
    const USERS: usize = 12;
    let database = Postgres::shared().migrated();
    let replicas: Vec<Local> = (0..3).map(|_| Local::start(database.url())).collect();
    for user in 0..USERS {
        let body = named(7, &json!(format!("twin-{user}")));
        let answers =
            at_once(TWINS, &replicas, |_, client| client.ask("POST /api/users", &[], &body));
        let (created, refused): (Vec<_>, Vec<_>) =
            answers.iter().partition(|answer| answer.status == 201);
        assert_eq!((created.len(), refused.len()), (1, TWINS - 1), "user {user}");
        for answer in refused {
            assert_eq!((answer.status, answer.code()), (409, "external_id_taken".to_owned()));
            assert_eq!(answer.json()["userId"], created[0].json()["userId"]);
        }
    }
    assert_eq!(database.number("select count(*) from users"), 1 + USERS as i64);
    assert_eq!(database.number("select count(*) from external_ids"), USERS as i64);
    database.assert_books_balance();
}
