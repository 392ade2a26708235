//! The ledger as people read it: lists by any condition, in two forms, and balances of then.

mod long;

use balanced::timestamp;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::support::{
    Answer, Client, Database, Local, Postgres, Random, ask, change, get, post, seed,
};

/// One row, as the test knows it.
#[derive(Clone, Debug)]
struct Row {
    number: i64,
    amount: i64,
    reference: Option<String>,
    at: DateTime<Utc>,
}

/// The user's rows, by number.
fn rows(database: &Database, user_id: i64) -> Vec<Row> {
    let sql = "select id, amount, reference, created_at from balance_changes \
               where user_id = $1 order by id";
    let rows = database.connect().query(sql, &[&user_id]).expect("rows");
    let row = |row: &postgres::Row| Row {
        number: row.get(0),
        amount: row.get(1),
        reference: row.get(2),
        at: row.get(3),
    };
    rows.iter().map(row).collect()
}

fn refused(answer: &Answer, field: &str) {
    assert_eq!((answer.status, answer.code()), (400, "invalid_request".to_owned()), "{field}");
    assert_eq!(answer.json()["field"], field, "{}", answer.json());
}

/// So many changes of the user 2, who has none of another's: three at each instant, and half-way
/// the clock jumps back by ten minutes.
fn fill(database: &Database, count: i64) {
    let sql = format!(
        "with made as (
            select n, case n when 1 then 1000000000 else n * 7919 % 1009 - 505 end as amount,
                timestamptz '2020-01-01 00:00:00Z' + n / 3 * interval '1 second'
                    - case when n > {count} / 2 then interval '10 minutes' else '0' end as clock
            from generate_series(1::bigint, {count}) as n
        )
        insert into balance_changes (user_id, id, amount, balance_after, created_at, reference)
        select 2, n, case amount when 0 then 1 else amount end,
            sum(case amount when 0 then 1 else amount end) over (order by n),
            max(clock) over (order by n), case when n % 1000 = 7 then 'rare-' || n % 7 end
        from made;
        insert into users (balance, changes, changed_at)
        select balance_after, id, created_at from balance_changes
        where user_id = 2 order by id desc limit 1"
    );
    database.connect().batch_execute(&sql).expect("rows");
    database.assert_books_balance();
}

/// The instant of some row, or one so near that it differs in what is before it.
fn near(random: &mut Random, rows: &[Row]) -> DateTime<Utc> {
    let nanos = [-1_000, -1, 0, 1, 999, 1_000, 1_000_000_000];
    let nanos = nanos[random.below(nanos.len())];
    rows[random.below(rows.len())].at + TimeDelta::nanoseconds(nanos)
}

fn written(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Nanos, true)
}

#[test]
fn every_condition_selects_what_a_recount_does() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    let mut random = Random(seed("LEDGER_SEED"));
    let mut client = Client::connect(replica.addr);
    for _ in 0..150 {
        let mut body = json!({"userId": 1, "amount": 1 + random.below(9)});
        if random.below(2) == 0 {
            body["reference"] = json!(format!("order-{}", random.below(4)));
        }
        assert_eq!(client.ask("POST /api/balance", &[], &body.to_string()).status, 200);
    }
    let rows = rows(&database, 1);
    for _ in 0..400 {
        assert_selects(&mut client, &mut random, &rows);
    }
}

/// Asks for a list by random conditions.
fn assert_selects(client: &mut Client, random: &mut Random, rows: &[Row]) {
    let some = |random: &mut Random| rows[random.below(rows.len())].clone();
    let given = |random: &mut Random| random.below(3) == 0;
    let before = given(random).then(|| some(random).number + 1);
    let after = given(random).then(|| some(random).number - 1);
    let mut instants = [0; 2].map(|_| given(random).then(|| near(random, rows)));
    if instants.iter().all(Option::is_some) {
        instants.sort();
    }
    let [from, to] = instants;
    let reference = given(random).then(|| format!("order-{}", random.below(5)));
    let limit = 1 + random.below(60);

    let mut query = format!("limit={limit}");
    let texts = [
        ("before", before.map(|number| number.to_string())),
        ("after", after.map(|number| number.to_string())),
        ("from", from.map(written)),
        ("to", to.map(written)),
        ("reference", reference.clone()),
    ];
    for (name, value) in texts {
        value.iter().for_each(|value| query.push_str(&format!("&{name}={value}")));
    }
    let selected: Vec<&Row> = rows
        .iter()
        .rev()
        .filter(|row| before.is_none_or(|before| row.number < before))
        .filter(|row| after.is_none_or(|after| row.number > after))
        .filter(|row| from.is_none_or(|from| row.at >= from))
        .filter(|row| to.is_none_or(|to| row.at < to))
        .filter(|row| reference.is_none() || row.reference == reference)
        .collect();
    let shown = &selected[..limit.min(selected.len())];
    let next = (selected.len() > limit).then(|| shown[limit - 1].number);
    let answer = client.ask(&format!("GET /api/users/1/changes?{query}"), &[], "").json();
    let answered = answer["changes"].as_array().unwrap().iter().map(|change| Row {
        number: change["number"].as_i64().unwrap(),
        amount: change["amount"].as_i64().unwrap(),
        reference: change["reference"].as_str().map(str::to_owned),
        at: timestamp::parse(change["createdAt"].as_str().unwrap()).unwrap(),
    });
    let all = |rows: Vec<Row>| format!("{rows:?}");
    let expected = all(shown.iter().map(|row| (*row).clone()).collect());
    assert_eq!(all(answered.collect()), expected, "{query}");
    assert_eq!(answer["next"], json!(next), "{query}");
}

#[test]
fn conditions_end_where_they_say_and_what_is_none_is_refused() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    fill(&database, 9);
    let numbers = |query: &str| -> Vec<i64> {
        let page = get(replica.addr, &format!("/api/users/2/changes?{query}")).json();
        let changes = page["changes"].as_array().unwrap_or_else(|| panic!("{query}: {page}"));
        changes.iter().map(|change| change["number"].as_i64().unwrap()).collect()
    };
    // Numbers 1 and 2 at 0:00:00, from 3 on at 0:00:01, since the clock jumped back.
    for (query, expected) in [
        ("from=2020-01-01T00:00:01Z", 3..10),
        ("from=2020-01-01T00:00:01.000001Z", 10..10),
        ("to=2020-01-01T00:00:01Z", 1..3),
        ("to=2020-01-01T00:00:01.000000001Z", 1..10),
        ("to=2020-01-01T00:00:00Z", 1..1),
        ("from=2020-01-01T01:00:00+01:00&to=2020-01-01T01:00:01+01:00", 1..3),
        ("from=2020-01-01T00:00:01Z&to=2020-01-01T00:00:01Z", 1..1),
        ("from=1066-10-14T00:00:00Z&to=9999-12-31T23:59:59Z", 1..10),
        ("from=2020-01-01T00:00:01Z&before=8&after=1", 3..8),
        ("before=4&after=&from=&to=&limit=&format=", 1..4),
        ("after=9", 1..1),
        ("before=0", 1..1),
    ] {
        assert_eq!(numbers(query), expected.rev().collect::<Vec<_>>(), "{query}");
    }
    for (query, field) in [
        ("from=2020-01-01T00:00:00", "from"),
        ("to=2020-01-01", "to"),
        ("from=2020-01-02T00:00:00Z&to=2020-01-01T00:00:00Z", "from"),
        ("before=-1", "before"),
        ("after=1.5", "after"),
        ("limit=1001", "limit"),
        ("format=xml", "format"),
        ("reference=", "reference"),
        ("at=2020-01-01T00:00:00Z", "at"),
        ("from=2020-01-01T00:00:00Z&from=2020-01-01T00:00:00Z", "from"),
    ] {
        refused(&get(replica.addr, &format!("/api/users/2/changes?{query}")), field);
    }
    let answer = get(replica.addr, "/api/users/2/changes?from=2020-01-01T00:00:00").json();
    assert!(answer["detail"].as_str().unwrap().contains("2026-03-01T13:00:00+01:00"), "{answer}");
    for query in ["from=2020-01-01T00:00:00Z", "to=2020-01-01T00:00:00Z", "reference=a", ""] {
        let nobody = get(replica.addr, &format!("/api/users/99/changes?{query}"));
        assert_eq!((nobody.status, nobody.code()), (404, "user_not_found".to_owned()), "{query}");
    }
}

/// The fields of each line, as RFC 4180 says.
fn read_csv(text: &str) -> Vec<Vec<String>> {
    let (mut lines, mut line, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut chars, mut quoted) = (text.chars().peekable(), false);
    while let Some(char) = chars.next() {
        match char {
            '"' if quoted && chars.next_if_eq(&'"').is_some() => field.push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => line.push(std::mem::take(&mut field)),
            '\r' if !quoted => {
                assert_eq!(chars.next(), Some('\n'));
                line.push(std::mem::take(&mut field));
                lines.push(std::mem::take(&mut line));
            }
            char => field.push(char),
        }
    }
    assert!(line.is_empty() && field.is_empty() && !quoted, "the last line has no end: {text}");
    lines
}

/// The address of the next page, beside that of this one.
fn next(answer: &Answer) -> Option<String> {
    let link = answer.header("link")?;
    let address = link.strip_prefix('<').and_then(|rest| rest.strip_suffix(">; rel=\"next\""));
    Some(format!("/api/users/1/{}", address.unwrap_or_else(|| panic!("{link}"))))
}

#[test]
fn a_list_in_csv_is_the_same_list_page_by_page() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    let nasty = ["a,b", "\"", "\"\"quoted\"\"", "=1+1", "@cmd", " ", ",", "a;b", "'", "\\", "<>&"];
    for reference in nasty {
        let body = json!({"userId": 1, "amount": 1, "reference": reference}).to_string();
        assert_eq!(post(replica.addr, "/api/balance", &body).status, 200);
    }
    let named = "update balance_changes set actor = '\"by\", name' where id = 2";
    database.connect().batch_execute(named).unwrap();
    let whole = get(replica.addr, "/api/users/1/changes").json();
    let whole = whole["changes"].as_array().unwrap();
    assert_eq!(whole[nasty.len() - 1]["actor"], "\"by\", name");
    assert_eq!(whole.len(), nasty.len() + 1);
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let names = ["number", "amount", "balanceAfter", "reference", "setId", "createdAt", "actor"];
    let expected: Vec<Vec<String>> = whole
        .iter()
        .map(|row| names.map(|name| shown(&row[name]).replace("null", "")).to_vec())
        .collect();
    for (query, headers) in [
        ("format=csv&limit=5&to=2126-01-01T00:00:00+01:00", &["Accept: application/json"][..]),
        ("limit=1", &["Accept: text/html;q=0.1", "Accept: text/csv"]),
        ("limit=12&before=&after=", &["Accept: text/csv, */*;q=0.5"]),
    ] {
        let mut path = Some(format!("/api/users/1/changes?{query}"));
        let mut read = Vec::new();
        while let Some(this) = path {
            let answer = ask(replica.addr, &format!("GET {this}"), headers, "");
            let media_type = "text/csv; charset=utf-8; header=present";
            assert_eq!((answer.status, answer.header("content-type")), (200, Some(media_type)));
            let mut lines = read_csv(std::str::from_utf8(&answer.body).unwrap());
            assert_eq!(lines.remove(0), names);
            assert!(!lines.is_empty(), "{this}: an empty page follows the last one");
            read.extend(lines);
            path = next(&answer);
        }
        assert_eq!(read, expected, "{query}");
    }
    let json = get(replica.addr, "/api/users/1/changes?limit=5&format=json&from=");
    let link = "<changes?limit=5&format=json&from=&before=8>; rel=\"next\"";
    assert_eq!((json.header("link"), &json.json()["next"]), (Some(link), &json!(8)));
    let wrong = ask(replica.addr, "GET /api/users/1/changes?limit=x", &["Accept: text/csv"], "");
    refused(&wrong, "limit");
}

#[test]
fn a_balance_is_read_now_at_an_instant_and_after_a_change() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    for amount in [-1, -10, 100] {
        assert_eq!(post(replica.addr, "/api/balance", &change(1, amount)).status, 200);
    }
    let balance = |query: &str| get(replica.addr, &format!("/api/users/1/balance?{query}"));
    let rows = rows(&database, 1);
    let mut sum = 0;
    for row in &rows {
        sum += row.amount;
        let at = timestamp::text(&row.at);
        let expected = json!({"userId": 1, "balance": sum, "number": row.number, "asOf": at});
        assert_eq!(balance(&format!("number={}", row.number)).json(), expected);
        assert_eq!(balance(&format!("at={at}")).json(), expected);
    }
    let now = balance("at=&number=").json();
    assert_eq!((&now["balance"], &now["number"]), (&json!(10_089), &json!(4)));
    let as_of = timestamp::parse(now["asOf"].as_str().unwrap()).unwrap();
    assert!(as_of >= rows[3].at, "{now}");
    assert_eq!(post(replica.addr, "/api/users", "{\"balance\":0}").status, 201);
    let empty = get(replica.addr, "/api/users/2/balance").json();
    assert_eq!((&empty["balance"], &empty["number"]), (&json!(0), &json!(0)));

    let early = timestamp::text(&(rows[0].at - TimeDelta::microseconds(1)));
    for (user, query, code) in [
        (1, format!("at={early}"), "user_not_found"),
        (2, format!("at={}", timestamp::text(&rows[3].at)), "user_not_found"),
        (99, format!("at={early}"), "user_not_found"),
        (99, "number=1".to_owned(), "user_not_found"),
        (99, String::new(), "user_not_found"),
        (1, "number=5".to_owned(), "not_found"),
        (2, "number=1".to_owned(), "not_found"),
    ] {
        let answer = get(replica.addr, &format!("/api/users/{user}/balance?{query}"));
        assert_eq!((answer.status, answer.code().as_str()), (404, code), "{user} {query}");
    }
    let detail = balance("number=5").json()["detail"].clone();
    assert_eq!(detail, "there is no such change: the user 1 has had 4");
    for (query, field) in [
        ("at=9999-12-31T23:59:59Z", "at"),
        ("at=2026-03-01T12:00:00", "at"),
        ("number=0", "number"),
        ("number=1&at=2020-01-01T00:00:00Z", "number"),
        ("before=1", "before"),
    ] {
        refused(&balance(query), field);
    }
}

/// The user's last change is of an instant that the clock will reach in an hour.
#[test]
fn after_the_clock_has_jumped_back_the_ledger_goes_on_from_its_last_instant() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    assert_eq!(post(replica.addr, "/api/balance", &change(1, -1)).balance(), 9_999);
    let jump = "update users set changed_at = changed_at + interval '1 hour' where id = 1; \
                update balance_changes set created_at = users.changed_at from users \
                where user_id = 1 and users.id = 1 and balance_changes.id = users.changes";
    database.connect().batch_execute(jump).expect("a jump");
    for amount in [-10, -100] {
        assert_eq!(post(replica.addr, "/api/balance", &change(1, amount)).status, 200);
    }
    let rows = rows(&database, 1);
    assert!(rows[1].at > rows[0].at && rows[1..].iter().all(|row| row.at == rows[1].at));
    let last = timestamp::text(&rows[3].at);
    refused(&get(replica.addr, &format!("/api/users/1/balance?at={last}")), "at");
    let now: DateTime<Utc> =
        database.connect().query_one("select clock_timestamp()", &[]).unwrap().get(0);
    let then = get(replica.addr, &format!("/api/users/1/balance?at={}", timestamp::text(&now)));
    assert_eq!((then.balance(), &then.json()["number"]), (10_000, &json!(1)));
    assert_eq!(get(replica.addr, "/api/users/1/balance").balance(), 9_889);
    let page = get(replica.addr, &format!("/api/users/1/changes?from={last}")).json();
    assert_eq!(page["changes"].as_array().unwrap().len(), 3);
}
