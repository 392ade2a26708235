//! Sets of changes: all or none, whatever is refused, sent again, or wrong.

mod crowds;
use postgres::SimpleQueryMessage;
use serde_json::{Value, json};

use crate::interleavings::statements::text;
use crate::support::{Answer, Client, Database, Local, Postgres, ask, change, get, post};

const POST: &str = "POST /api/changes";

/// The body of a set without a reference.
fn set(changes: &[(i64, i64)]) -> String {
    let changes: Vec<String> =
        changes.iter().map(|(user_id, amount)| change(*user_id, *amount)).collect();
    format!("{{\"changes\":[{}]}}", changes.join(","))
}

fn keyed(replica: &Local, key: &str, body: &str) -> Answer {
    ask(replica.addr, POST, &[&format!("Idempotency-Key: {key}")], body)
}

fn is_replayed(answer: &Answer) -> bool {
    answer.header("idempotency-replayed") == Some("true")
}

/// Users 1 to 4, with 10,000, 100, 100 and nothing.
fn with_four_users() -> (Database, Local) {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    for balance in [100, 100, 0] {
        post(replica.addr, "/api/users", &format!("{{\"balance\":{balance}}}"));
    }
    (database, replica)
}

fn assert_untouched(database: &Database) {
    let touched = "select count(*) from users where balance <> \
                   (array[10000, 100, 100, 0])[id] or changes <> (array[1, 1, 1, 0])[id]";
    assert_eq!(database.number(touched), 0);
    assert_eq!(database.number("select count(*) from balance_changes"), 3);
}

#[test]
fn a_set_is_applied_as_a_whole_and_told_in_its_order() {
    let (database, replica) = with_four_users();
    let body = r#"{"changes":[{"userId":3,"amount":40},{"userId":1,"amount":-42},
        {"userId":2,"amount":2}],"reference":"order-7","balanced":true}"#;
    let answer = post(replica.addr, "/api/changes", body);
    assert_eq!(answer.status, 200, "{}", answer.json());
    assert!(!is_replayed(&answer));
    let told = answer.json();
    let changes = json!([
        {"userId":3,"balance":140,"number":2},
        {"userId":1,"balance":9958,"number":2},
        {"userId":2,"balance":102,"number":2},
    ]);
    assert_eq!(told["changes"], changes);
    let set_id = told["setId"].as_str().expect("an id");
    let rows = format!(
        "select count(*) from balance_changes where set_id = '{set_id}' \
         and reference = 'order-7' and actor is null and (user_id, id, amount, balance_after) in \
         ((3, 2, 40, 140), (1, 2, -42, 9958), (2, 2, 2, 102))"
    );
    assert_eq!(database.number(&rows), 3);
    assert_eq!(database.number("select count(*) from set_keys"), 0);
    let other = post(replica.addr, "/api/changes", &set(&[(1, -1), (2, 9)])).json();
    assert_ne!(other["setId"], told["setId"]);
    assert_eq!(post(replica.addr, "/api/balance", &change(1, 1)).json()["number"], 4);
    database.assert_books_balance();
}

#[test]
fn a_later_change_has_no_earlier_instant_whatever_the_clock_does() {
    let (database, replica) = with_four_users();
    let ahead = "update users set changed_at = now() + interval '1 h' where id = 2";
    database.connect().batch_execute(ahead).unwrap();
    assert_eq!(post(replica.addr, "/api/changes", &set(&[(1, -1), (2, 1)])).status, 200);
    let kept = "select count(*) from balance_changes join users on users.id = user_id \
                where set_id is not null and created_at = changed_at \
                and (created_at > clock_timestamp() + interval '50 min') = (user_id = 2)";
    assert_eq!(database.number(kept), 2);
}

#[test]
fn a_set_is_refused_as_a_whole_by_the_first_that_does_not_fit() {
    let (database, replica) = with_four_users();
    let refused = |changes: &[(i64, i64)]| {
        let answer = post(replica.addr, "/api/changes", &set(changes));
        assert_untouched(&database);
        (answer.status, answer.code(), answer.json())
    };
    let (status, code, told) = refused(&[(1, -1), (3, -101), (2, -200), (4, 5)]);
    assert_eq!((status, code.as_str()), (409, "insufficient_funds"));
    assert_eq!([&told["userId"], &told["balance"], &told["amount"]], [3, 100, -101]);
    let (status, code, told) = refused(&[(3, i64::MAX), (2, -200)]);
    assert_eq!((status, code.as_str()), (409, "amount_out_of_range"));
    assert_eq!([&told["userId"], &told["amount"]], [&json!(3), &json!(i64::MAX)]);
    assert_eq!(told["balance"], Value::Null);
    let (_, code, told) = refused(&[(2, i64::MIN), (4, i64::MAX), (3, i64::MIN)]);
    assert_eq!((code.as_str(), &told["userId"]), ("insufficient_funds", &json!(2)));
    // Who is unknown comes before what is not covered.
    let (status, code, told) = refused(&[(1, -20_000), (99, 1), (0, 1)]);
    assert_eq!((status, code.as_str()), (404, "user_not_found"));
    assert_eq!(told["detail"], "there is no user 99");
    let told = post(replica.addr, "/api/changes", &set(&[(4, i64::MAX), (2, -100)])).json();
    assert_eq!(told["changes"][0]["balance"], i64::MAX);
    database.assert_books_balance();
}

#[test]
fn a_set_sent_again_under_its_key_gets_the_first_result() {
    let (database, replica) = with_four_users();
    let body = set(&[(2, -100), (1, 100)]);
    let first = keyed(&replica, "\"transfer-7\"", &body);
    assert_eq!((first.status, is_replayed(&first)), (200, false), "{}", first.json());
    post(replica.addr, "/api/balance", &change(2, 500));
    let mended = body.replace('}', " }").replace("],", "] , \"balanced\":true,");
    for same in [&body, &mended] {
        let again = keyed(&replica, "transfer-7", same);
        assert_eq!((again.status, is_replayed(&again)), (200, true));
        assert_eq!(again.body, first.body);
    }
    let poor = keyed(&replica, "poor", &set(&[(1, 1), (3, -101)]));
    assert_eq!((poor.code(), is_replayed(&poor)), ("insufficient_funds".to_owned(), false));
    let large = keyed(&replica, "large", &set(&[(1, i64::MAX), (3, -1)]));
    assert_eq!(large.code(), "amount_out_of_range");
    post(replica.addr, "/api/changes", &set(&[(3, 500), (1, -10_100)]));
    for (key, changes, told) in
        [("poor", [(1, 1), (3, -101)], poor), ("large", [(1, i64::MAX), (3, -1)], large)]
    {
        let again = keyed(&replica, key, &set(&changes));
        assert_eq!((again.status, is_replayed(&again)), (409, true));
        assert_eq!(again.body, told.body);
    }
    assert_eq!(get(replica.addr, "/api/users/3").balance(), 600);
    database.assert_books_balance();
}

#[test]
fn whatever_differs_under_a_key_is_told_and_nothing_is_changed() {
    let (database, replica) = with_four_users();
    let with = |reference: &str, changes| {
        set(changes).replace("]}", &format!("],\"reference\":\"{reference}\"}}"))
    };
    let first = [(1, -3), (2, 3)];
    assert_eq!(keyed(&replica, "k", &with("r", &first)).status, 200);
    let before = database.number("select count(*) from balance_changes");
    for other in [
        set(&first),
        with("s", &first),
        with("r", &[(2, 3), (1, -3)]),
        with("r", &[(1, 3), (2, -3)]),
        with("r", &[(1, -3), (2, 4)]),
        with("r", &[(1, -3), (3, 3)]),
        with("r", &[(3, -3), (4, 3)]),
        with("r", &[(1, -3), (2, 3), (3, 1)]),
    ] {
        let answer = keyed(&replica, "k", &other);
        assert_eq!((answer.status, answer.code().as_str()), (422, "idempotency_key_reused"));
        assert!(!is_replayed(&answer), "{other}");
    }
    assert_eq!(database.number("select count(*) from balance_changes"), before);
    // A key of sets is no key of changes, nor of users.
    let key = ["Idempotency-Key: k"];
    assert_eq!(ask(replica.addr, "POST /api/balance", &key, &change(1, 5)).balance(), 10_002);
    assert_eq!(ask(replica.addr, "POST /api/users", &key, "{\"balance\":0}").status, 201);
    database.assert_books_balance();
}

#[test]
fn what_is_unknown_unbalanced_or_wrong_stores_no_key() {
    let (database, replica) = with_four_users();
    let body = set(&[(1, -3), (5, 3)]);
    assert_eq!(keyed(&replica, "k", &body).code(), "user_not_found");
    let unbalanced = set(&[(1, -3), (2, 2)]).replace("]}", "],\"balanced\":true}");
    let answer = keyed(&replica, "k", &unbalanced);
    assert_eq!((answer.status, answer.code().as_str()), (422, "unbalanced"));
    assert_eq!(answer.json()["detail"], "the amounts add up to -1, and `balanced` demands 0");
    let most = set(&[(1, i64::MAX), (2, i64::MAX)]).replace("]}", "],\"balanced\":true}");
    assert_eq!(keyed(&replica, "k", &most).code(), "unbalanced");
    assert_eq!(keyed(&replica, "k", "{}").code(), "invalid_request");
    assert_untouched(&database);
    assert_eq!(database.number("select count(*) from set_keys"), 0);
    post(replica.addr, "/api/users", "{\"balance\":0}");
    assert_eq!(keyed(&replica, "k", &body).status, 200);
}

#[test]
fn every_wrong_field_is_told_by_its_place_and_nothing_is_changed() {
    let (database, replica) = with_four_users();
    let fine = r#"{"userId":1,"amount":-2}"#;
    let second = |change: &str| format!("{{\"changes\":[{fine},{change}]}}");
    let more = |more: &str| format!("{{\"changes\":[{fine},{}]{more}}}", change(2, 2));
    let many: Vec<(i64, i64)> = (1..=101).map(|user_id| (user_id, 1)).collect();
    let cases = [
        ("{}".to_owned(), "changes"),
        ("[]".to_owned(), "body"),
        (r#"{"changes":null}"#.to_owned(), "changes"),
        (r#"{"changes":{"userId":1,"amount":2}}"#.to_owned(), "changes"),
        (r#"{"changes":[]}"#.to_owned(), "changes"),
        (format!("{{\"changes\":[{fine}]}}"), "changes"),
        (set(&many), "changes"),
        (more(",\"changes\":[]"), "changes"),
        (second("7"), "changes[1]"),
        (second("[]"), "changes[1]"),
        (second("null"), "changes[1]"),
        (second("{}"), "changes[1].userId"),
        (second(r#"{"userId":2}"#), "changes[1].amount"),
        (second(r#"{"amount":2}"#), "changes[1].userId"),
        (second(r#"{"userId":"2","amount":2}"#), "changes[1].userId"),
        (second(r#"{"userId":2,"amount":2.0}"#), "changes[1].amount"),
        (second(r#"{"userId":2,"amount":9223372036854775808}"#), "changes[1].amount"),
        (second(r#"{"userId":2,"amount":0}"#), "changes[1].amount"),
        (second(r#"{"userId":2,"amount":2,"amount":2}"#), "changes[1].amount"),
        (second(r#"{"userId":2,"amount":2,"reference":"a"}"#), "changes[1].reference"),
        (second(r#"{"userId":1,"amount":2}"#), "changes[1].userId"),
        (more(",\"reference\":\"\""), "reference"),
        (more(",\"reference\":7"), "reference"),
        (more(",\"reference\":\"ü\""), "reference"),
        (more(",\"balanced\":1"), "balanced"),
        (more(",\"balanced\":null"), "balanced"),
        (more(",\"balanced\":true,\"balanced\":true"), "balanced"),
        (more(",\"note\":1"), "note"),
    ];
    for (body, field) in &cases {
        let answer = post(replica.addr, "/api/changes", body);
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"), "{body}");
        assert_eq!(answer.json()["field"], *field, "{body}");
    }
    let answer = keyed(&replica, "\"open", &more(""));
    assert_eq!((answer.status, &answer.json()["field"]), (400, &json!("Idempotency-Key")));
    assert_eq!(post(replica.addr, "/api/changes", "{\"changes\":[").code(), "invalid_json");
    assert_untouched(&database);
    assert_eq!(post(replica.addr, "/api/changes", &more(",\"balanced\":true")).status, 200);
}

#[test]
fn a_set_of_a_hundred_with_the_longest_numbers_is_taken_and_8_kb_are_the_limit() {
    let (database, replica) = with_four_users();
    let fill = "with made as (insert into users (id, balance, changes) select id, 1, 1 from \
                generate_series(9223372036854775708, 9223372036854775807) id returning id) \
                insert into balance_changes (user_id, id, amount, balance_after) \
                select id, 1, 1, 1 from made";
    database.connect().batch_execute(fill).unwrap();
    let changes: Vec<_> =
        (0..100).map(|number| (i64::MAX - number, i64::MAX - 99 + number)).collect();
    let reference = format!("],\"reference\":\"{}\"}}", "r".repeat(255));
    let body = set(&changes).replace("]}", &reference);
    assert!(body.len() < 7_000, "{}", body.len());
    // Each of its balances is 1, so the last one, of 2^63 - 1, does not fit.
    let refused = post(replica.addr, "/api/changes", &body);
    assert_eq!(refused.json()["userId"], i64::MAX - 99, "{}", refused.json());
    let most: Vec<_> = changes.iter().map(|(user_id, _)| (*user_id, i64::MAX - 1)).collect();
    let body = set(&most).replace("]}", &reference);
    let longest = format!("{body}{}", " ".repeat(8_192 - body.len()));
    for (length, status) in [(8_193, 413), (8_192, 200)] {
        let body = format!("{longest}{}", " ".repeat(length - 8_192));
        let answer = post(replica.addr, "/api/changes", &body);
        assert_eq!(answer.status, status, "{length} bytes: {}", answer.json());
        if status == 413 {
            assert_eq!(answer.json()["detail"], "a body may have at most 8192 bytes");
        }
    }
    let elsewhere = post(replica.addr, "/api/balance", &" ".repeat(1_025));
    assert_eq!(elsewhere.json()["detail"], "a body may have at most 1024 bytes");
    let of_sets = "select count(distinct set_id) from balance_changes where set_id is not null";
    assert_eq!(database.number(of_sets), 1);
    database.assert_books_balance();
}

/// The server library does not read a long body itself, nor one in chunks.
#[test]
fn behind_a_long_body_its_connection_goes_on() {
    let (database, replica) = with_four_users();
    let body = format!("{}{}", set(&[(1, -1), (2, 1)]), " ".repeat(5_000));
    let (head, length) = (format!("{POST} HTTP/1.1\r\nHost: x\r\n"), body.len());
    let next = "GET /api/users/2 HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut client = Client::connect(replica.addr);
    for (round, request) in (1..).zip([
        format!("{head}Content-Length: {length}\r\n\r\n{body}{next}"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n{next}"),
    ]) {
        let (first, rest) = request.split_at(2_000);
        client.send(first);
        client.send(rest);
        assert_eq!(client.receive().expect("an answer").status, 200);
        assert_eq!(client.receive().expect("an answer").balance(), 100 + round);
    }
    let (first, rest) = body.split_at(3_000);
    client.send(format!("{head}Content-Length: {length}\r\nExpect: 100-continue\r\n\r\n"));
    assert_eq!(client.receive().expect("a word to go on").status, 100);
    client.send(first);
    client.send(rest);
    assert_eq!(client.receive().expect("an answer").status, 200);
    database.assert_books_balance();
}

/// Whoever locks in another order than all others can be part of a deadlock.
#[test]
fn users_are_locked_in_the_order_of_their_ids_by_every_plan() {
    let (database, _replica) = with_four_users();
    let mut client = database.connect();
    let statement = text("src/balance/set.rs", "CHANGE_ALL");
    client.batch_execute(&format!("prepare changes as {statement}")).unwrap();
    let fill = "insert into users (balance) select 1 from generate_series(1, 20000); analyze users";
    for prepare in ["", "set plan_cache_mode = force_generic_plan", fill, "set enable_sort = off"] {
        client.batch_execute(prepare).unwrap();
        let explain = "explain (format json) execute changes \
                       (array[3, 1, 2], array[1, 1, -2], null, null, 'key')";
        let rows = client.simple_query(explain).unwrap();
        let plan = rows.iter().find_map(|row| match row {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        let plan: Value = serde_json::from_str(plan.expect("a plan")).unwrap();
        let parts = plan[0]["Plan"]["Plans"].as_array().unwrap();
        let locked = parts.iter().find(|part| part["Subplan Name"] == "CTE locked");
        let locked = locked.unwrap_or_else(|| panic!("{plan:#}"));
        // From the lock down; the limit of the wait is set before the first row is read.
        let outer = |part: &Value| {
            let below = part["Plans"].as_array()?;
            below.iter().find(|part| part["Parent Relationship"] == "Outer").cloned()
        };
        let chain: Vec<_> = std::iter::successors(Some(locked.clone()), outer).collect();
        let in_order = chain.iter().any(|part| {
            part["Sort Key"] == json!(["users.id"])
                || part["Node Type"] == "Index Scan" && part["Index Name"] == "users_pkey"
        });
        let is_limited = chain.iter().any(|part| part["One-Time Filter"].is_string());
        let is_as_meant = locked["Node Type"] == "LockRows" && in_order && is_limited;
        assert!(is_as_meant, "{prepare}: {plan:#}");
    }
}

/// A session's next statement may wait as long as before.
#[test]
fn the_limit_of_a_wait_ends_with_the_set() {
    let (database, _replica) = with_four_users();
    let mut client = database.connect();
    let statement = client.prepare(&text("src/balance/set.rs", "CHANGE_ALL")).unwrap();
    client.batch_execute("set lock_timeout = '5s'").unwrap();
    let none = None::<&str>;
    let (users, amounts) = (vec![2_i64, 1], vec![1_i64, -1]);
    client.query_one(&statement, &[&users, &amounts, &none, &none, &none]).unwrap();
    let limit: String = client.query_one("show lock_timeout", &[]).unwrap().get(0);
    assert_eq!(limit, "5s");
}
