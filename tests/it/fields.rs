//! Header fields that decide something: given twice, or asking for what is not done here.

use crate::support::{Client, Local, LocalOptions, Postgres, ask, change, get};

#[test]
fn two_values_of_a_field_that_decides_are_refused_and_two_equal_ones_are_one() {
    let database = Postgres::shared().migrated();
    let token = Some("correct-horse");
    let replica = Local::start_with(database.url(), LocalOptions { token, ..Default::default() });
    let own = format!("Origin: http://{}", replica.addr);
    let host = format!("Host: {}", replica.addr);
    let right = "Authorization: Bearer correct-horse";
    for (name, one, other) in [
        ("Idempotency-Key", "Idempotency-Key: a", "idempotency-key: b"),
        ("Authorization", right, "Authorization: Bearer wrong-horse"),
        ("Origin", own.as_str(), "Origin: http://evil.example"),
        ("Sec-Fetch-Site", "Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"),
    ] {
        for pair in [[one, other], [other, one]] {
            let fields = [&pair[..], &[&host, right]].concat();
            for head in ["POST /api/balance", "DELETE /api/cron/jobs/sample-pi"] {
                let answer = ask(replica.addr, head, &fields, &change(1, -2));
                assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"));
                assert_eq!(answer.json()["field"], name, "{fields:?}");
            }
        }
        let fields = [&[one, one][..], &[&host, right]].concat();
        assert_eq!(ask(replica.addr, "POST /api/users", &fields, r#"{"balance":0}"#).status, 201);
    }
    let read = |path: &str, fields: &[&str]| ask(replica.addr, path, fields, "");
    assert_eq!(read("GET /api/users/1", &[right]).balance(), 10_000);
    assert_eq!(read("GET /api/cron/jobs/sample-pi", &[right]).status, 200);
    // Of two tokens a proxy may have looked at the other.
    let refused = read("GET /api/users/1", &[right, "Authorization: Bearer wrong-horse"]);
    assert_eq!(refused.json()["field"], "Authorization");
}

/// As .NET and PowerShell write it.
#[test]
fn a_byte_order_mark_is_passed_by() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    let body = format!("\u{feff}{}", change(1, -2));
    assert_eq!(ask(replica.addr, "POST /api/balance", &[], &body).balance(), 9_998);
    let settings = "\u{feff}{\"enabled\":false}";
    assert_eq!(ask(replica.addr, "PATCH /api/cron/jobs/sample-pi", &[], settings).status, 200);
}

#[test]
fn a_coded_body_is_refused_with_what_would_be_read() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    let mut client = Client::connect(replica.addr);
    for coding in ["gzip", "Deflate", "br", "identity, gzip", "zstd\r\nContent-Encoding: identity"]
    {
        let field = format!("Content-Encoding: {coding}");
        for head in [
            "POST /api/balance",
            "POST /api/users",
            "PUT /api/cron/jobs/sample-pi",
            "PATCH /api/cron/jobs/sample-pi",
        ] {
            let answer = client.ask(head, &[&field], &change(1, -2));
            let told = (answer.status, answer.code(), answer.header("accept-encoding"));
            assert_eq!(told, (415, "unsupported_encoding".to_owned(), Some("identity")));
        }
    }
    for coding in ["", "identity", "IDENTITY, identity"] {
        let field = format!("Content-Encoding: {coding}");
        assert_eq!(client.ask("POST /api/balance", &[&field], &change(1, -2)).status, 200);
    }
    assert_eq!(get(replica.addr, "/api/users/1").balance(), 9_994);
}
