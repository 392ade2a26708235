//! Money on the pages: nobody pays twice, or in another's place.

use std::fs;

use super::{BALANCE, SOON, any, replica, twice, with_a_waiting_job};
use crate::support::{Browser, Database, free_addr, post, until};

const BALANCE_2: &str = "select balance from users where id = 2";
const WAITING: &str = "select count(*) from pg_stat_activity \
                       where wait_event_type = 'Lock' and datname = current_database()";
const NO_CRON: [(&str, &str); 1] = [("CRON_ENABLED", "false")];

/// The text that a person sees, with plain spaces.
fn text(browser: &Browser, selector: &str) -> String {
    browser.text(selector).replace('\u{202f}', " ")
}

fn shows(browser: &Browser, selector: &str, what: &str) {
    browser.until(what, || text(browser, selector) == what);
}

fn told(browser: &Browser, what: &str) {
    shows(browser, "#balance-said", what);
}

fn give(browser: &Browser, amount: &str, way: &str) {
    browser.fill("[name=amount]", amount);
    press(browser, way);
}

/// Presses the button as the keyboard does: two clicks of the driver follow each other so soon that
/// they are a double click, which the page takes for one.
fn press(browser: &Browser, way: &str) {
    browser.run(&format!("document.querySelector('[value={way}]').click()"));
}

/// What the page has sent that may change something.
fn sent(browser: &Browser) -> usize {
    let sent = "return performance.getEntriesByType('resource') \
                .filter(one => one.name.endsWith('/api/balance')).length";
    browser.run(sent).as_u64().and_then(|count| count.try_into().ok()).expect("a count")
}

#[test]
fn a_withdrawal_beyond_the_balance_shows_the_refusal() {
    let Some(browser) = Browser::start() else { return };
    let database = with_a_waiting_job();
    let replica = replica(&database, "replica-7", any(), &NO_CRON);
    browser.open(replica.addr, "/");
    shows(&browser, "#user-title", "User 1: 10 000");
    give(&browser, "10001", "withdraw");
    told(&browser, "Not enough: the balance is 10 000, you asked for 10 001.");
    assert_eq!(database.number(BALANCE), 10_000);
    give(&browser, "9999", "withdraw");
    told(&browser, "User 1: withdrew 9 999, balance 1.");
    shows(&browser, "#balance", "1");
    assert_eq!(database.number(BALANCE), 1);
    // Beyond what a script's own numbers can tell apart.
    give(&browser, "9007199254740992", "deposit");
    shows(&browser, "#balance", "9 007 199 254 740 993");
    give(&browser, "9223372036854775807", "deposit");
    told(&browser, "Too much: a balance is at most 9 223 372 036 854 775 807.");
    browser.wait_for(3, "#changes tr");
    browser.fill("[name=amount]", "1");
    twice(&browser, "[value=withdraw]");
    told(&browser, "User 1: withdrew 1, balance 9 007 199 254 740 992.");
    shows(&browser, "#balance", "9 007 199 254 740 992");
    assert_eq!(browser.count("#changes tr"), 4, "the second click was no second withdrawal");
    let referring = r#"{"userId":1,"amount":1,"reference":"<b>order-7</b>"}"#;
    assert_eq!(post(replica.addr, "/api/balance", referring).status, 200);
    browser.until("the reference is shown", || browser.text("#changes tr").contains("<b>order-7"));
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn jobs_stay_live_while_the_balance_cannot_be_read() {
    let Some(browser) = Browser::start() else { return };
    let database = with_a_waiting_job();
    let replica = replica(&database, "replica-7", any(), &[]);
    browser.open(replica.addr, "/");
    shows(&browser, "#balance", "10 000");
    browser.run("document.querySelector('#user').scrollIntoView()");
    let mut other = database.connect();
    other.batch_execute("begin; lock table users in access exclusive mode").unwrap();
    shows(&browser, "#user-said.alarm", "The balance cannot be read (No answer within 4 s).");
    database.connect().batch_execute("update cron_jobs set enabled = false").unwrap();
    browser.wait_for(1, "#job-pi[data-state=paused]");
    browser.wait_for(1, "#lost[hidden]");
    assert_eq!(text(&browser, "#balance"), "10 000", "it keeps its place");
    other.batch_execute("commit").unwrap();
    browser.wait_for(0, "#user-said.alarm");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn nobody_pays_who_is_not_shown() {
    look_up_before_paying(Browser::start());
}

#[test]
fn nobody_pays_who_is_not_shown_in_firefox() {
    look_up_before_paying(Browser::firefox());
}

fn look_up_before_paying(browser: Option<Browser>) {
    let Some(browser) = browser else { return };
    let database = with_a_waiting_job();
    let replica = replica(&database, "replica-7", any(), &NO_CRON);
    assert_eq!(post(replica.addr, "/api/users", r#"{"balance":500}"#).status, 201);
    for (path, address) in [("/", "/?user=2"), ("/users/1", "/users/2")] {
        let (first, second) = (database.number(BALANCE), database.number(BALANCE_2));
        browser.open(replica.addr, path);
        browser
            .until("the user is shown", || text(&browser, "#user-title").starts_with("User 1: "));
        assert_eq!(browser.text("[value=withdraw]"), "Withdraw from user 1");
        browser.fill("#user-id", "2");
        give(&browser, "1", "withdraw");
        told(&browser, "This is user 2 now: press again to withdraw.");
        shows(&browser, "#user-title", &format!("User 2: {second}"));
        assert_eq!(browser.run("return location.pathname + location.search"), address);
        assert_eq!(browser.text("[value=withdraw]"), "Withdraw from user 2");
        assert_eq!((database.number(BALANCE), sent(&browser)), (first, 0));
        press(&browser, "withdraw");
        told(&browser, &format!("User 2: withdrew 1, balance {}.", second - 1));
        let now = (database.number(BALANCE), database.number(BALANCE_2));
        assert_eq!(now, (first, second - 1));
        browser.run("history.back()");
        browser.until("the first user is back", || {
            text(&browser, "#user-title").starts_with("User 1: ")
        });
        assert_eq!(browser.run("return document.querySelector('#user-id').value"), "1");
    }
    for (id, words) in [
        ("3", "There is no user 3."),
        ("x", "A user's id is a whole number, such as 7."),
        (
            "9223372036854775808",
            "A user's id has at most 19 digits: the largest is 9223372036854775807.",
        ),
    ] {
        browser.fill("#user-id", id);
        give(&browser, "1", "withdraw");
        shows(&browser, "#user-said", words);
    }
    assert_eq!(sent(&browser), 1, "by the users that were shown");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn amounts_are_taken_as_people_write_them_and_nothing_is_guessed() {
    let Some(browser) = Browser::start() else { return };
    let database = with_a_waiting_job();
    let replica = replica(&database, "replica-7", any(), &NO_CRON);
    browser.open(replica.addr, "/users/1");
    shows(&browser, "#user-title", "User 1: 10 000");
    let mut balance = 10_000;
    for amount in
        ["1000", " 1,000 ", "1 000", "1'000", "1\u{202f}000", "1\u{a0}000", "1\u{2009}000"]
    {
        give(&browser, amount, "withdraw");
        balance -= 1_000;
        let left =
            if balance < 1_000 { "0".to_owned() } else { format!("{} 000", balance / 1_000) };
        told(&browser, &format!("User 1: withdrew 1 000, balance {left}."));
        assert_eq!(database.number(BALANCE), balance);
    }
    let fraction = "Give a whole number, such as 200.";
    let sign = "The button says which way: give the amount without a sign.";
    for (amount, words) in [
        ("2.5", fraction),
        ("-1", sign),
        ("1.000", fraction),
        ("\u{2212}1", sign),
        ("1,00", fraction),
        ("0", "Give an amount above 0, such as 200."),
        ("1,000,00", fraction),
        (
            "9223372036854775808",
            "An amount has at most 19 digits: the largest is 9 223 372 036 854 775 807.",
        ),
    ] {
        give(&browser, amount, "withdraw");
        told(&browser, words);
    }
    assert_eq!((database.number(BALANCE), sent(&browser)), (3_000, 7));
    assert_eq!(browser.complaints(), [""; 0]);
}

/// Opens the page and withdraws 10, while the user's row is locked until the client commits.
fn withdraw_at_a_locked_row(browser: &Browser, database: &Database) -> postgres::Client {
    let mut other = database.connect();
    other.batch_execute("begin; select from users where id = 1 for update").unwrap();
    give(browser, "10", "withdraw");
    told(browser, "Sending …");
    until("it waits for the row", SOON, || database.number(WAITING) == 1);
    other
}

#[test]
fn a_change_without_an_answer_is_known_after_a_reload_and_made_once() {
    finish_after_a_reload(Browser::start());
}

#[test]
fn a_change_without_an_answer_is_known_after_a_reload_and_made_once_in_firefox() {
    finish_after_a_reload(Browser::firefox());
}

fn finish_after_a_reload(browser: Option<Browser>) {
    let Some(browser) = browser else { return };
    let database = with_a_waiting_job();
    let replica = replica(&database, "replica-7", any(), &NO_CRON);
    browser.open(replica.addr, "/users/1");
    shows(&browser, "#user-title", "User 1: 10 000");
    let mut other = withdraw_at_a_locked_row(&browser, &database);
    browser.open(replica.addr, "/");
    shows(&browser, "#unknown p", "Unknown whether 10 was withdrawn from user 1.");
    give(&browser, "7", "withdraw");
    told(&browser, "First check and finish the change below, or forget it.");
    other.batch_execute("commit").unwrap();
    until("it was made", SOON, || database.number(BALANCE) == 9_990);
    browser.click("#finish");
    told(&browser, "User 1: withdrew 10, balance 9 990.");
    shows(&browser, "#balance", "9 990");
    browser.wait_for(0, "#unknown");
    browser.open(replica.addr, "/users/1");
    shows(&browser, "#user-title", "User 1: 9 990");
    assert_eq!(browser.count("#unknown"), 0);
    assert_eq!(database.number(BALANCE), 9_990);
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn a_change_at_a_replica_that_dies_is_finished_by_the_next() {
    let Some(browser) = Browser::start() else { return };
    let database = with_a_waiting_job();
    let addr = free_addr();
    let mut first = replica(&database, "replica-1", addr, &NO_CRON);
    browser.open(addr, "/users/1");
    shows(&browser, "#user-title", "User 1: 10 000");
    let mut other = withdraw_at_a_locked_row(&browser, &database);
    first.signal("-KILL");
    first.wait(SOON);
    shows(&browser, "#unknown p", "Unknown whether 10 was withdrawn from user 1.");
    told(&browser, "No connection.");
    browser.click("#finish");
    told(&browser, "No connection.");
    shows(&browser, "#unknown p", "Unknown whether 10 was withdrawn from user 1.");
    let _second = replica(&database, "replica-2", addr, &NO_CRON);
    other.batch_execute("commit").unwrap();
    browser.click("#finish");
    told(&browser, "User 1: withdrew 10, balance 9 990.");
    browser.wait_for(0, "#unknown");
    database.assert_books_balance();
    assert_eq!(database.number(BALANCE), 9_990);
    assert_eq!(browser.complaints(), [""; 0]);
}

/// The door's 400 may come after the change was made, and a 503 says that it was not.
#[test]
fn only_an_answer_that_leaves_it_open_is_kept_for_later() {
    let Some(browser) = Browser::start() else { return };
    let database = with_a_waiting_job();
    let replica = replica(&database, "replica-7", any(), &NO_CRON);
    browser.open(replica.addr, "/");
    shows(&browser, "#user-title", "User 1: 10 000");
    browser.run(
        "const real = fetch; window.fetch = (path, options) => options.method !== 'POST' \
         ? real(path, options) : Promise.resolve(new Response(JSON.stringify(window.problem), \
         {status: window.problem.status}));",
    );
    for (status, outcome, words, kept) in [
        (503, "not_applied", "The service cannot answer now (503).", 0),
        (400, "unknown", "Said.", 1),
    ] {
        browser.run(&format!(
            "window.problem = {{status: {status}, code: 'c', outcome: '{outcome}', detail: 'said'}}"
        ));
        give(&browser, "1", "withdraw");
        told(&browser, words);
        browser.wait_for(kept, "#unknown");
    }
    assert_eq!(browser.complaints(), [""; 0]);
}

/// A minute apart, from the first of January 2020 on, each of 1; every hundredth has a reference.
fn with_many_changes() -> Database {
    let database = with_a_waiting_job();
    let many = "insert into balance_changes \
                (user_id, id, amount, balance_after, created_at, reference) \
                select 2, n, 1, n, timestamptz '2020-01-01 00:00:00Z' + n * interval '1 min', \
                case when n % 100 = 7 then '<b>rare</b>' end \
                from generate_series(1::bigint, 2500) n; \
                insert into users (balance, changes, changed_at) values (2500, 2500, now())";
    database.connect().batch_execute(many).unwrap();
    database.assert_books_balance();
    database
}

#[test]
fn all_changes_of_a_user_can_be_reached_and_stay_while_they_are_read() {
    let Some(browser) = Browser::start() else { return };
    let database = with_many_changes();
    let replica = replica(&database, "replica-7", any(), &NO_CRON);
    let first = |number: &str| {
        browser.until(number, || text(&browser, "#changes td") == number);
    };
    let deposit = || {
        let made = post(replica.addr, "/api/balance", r#"{"userId":2,"amount":1}"#);
        assert_eq!(made.status, 200);
    };
    browser.open(replica.addr, "/users/2");
    browser.wait_for(50, "#changes tr");
    first("2 500");
    deposit();
    first("2 501");
    browser.click("#older");
    first("2 451");
    deposit();
    shows(&browser, "#fresh", "1 newer change");
    first("2 451");
    browser.click("#newer");
    first("2 502");
    browser.run("getSelection().selectAllChildren(document.querySelector('#changes td'))");
    deposit();
    shows(&browser, "#fresh", "1 newer change");
    first("2 502");
    browser.click("#fresh");
    first("2 503");
    browser.fill("#jump input", "42");
    browser.click("#jump button");
    first("42");
    browser.run("history.back()");
    first("2 503");
    browser.fill("#jump input", "2,504");
    browser.click("#jump button");
    shows(&browser, "#list-said", "User 2 has the changes 1 to 2 503.");

    browser.fill("[name=reference]", "<b>rare</b>");
    browser.click("#filters button");
    browser.wait_for(25, "#changes tr");
    assert_eq!(text(&browser, "#changes [data-label=Reference]"), "<b>rare</b>");
    browser.open(replica.addr, "/users/2?from=2020-01-01T01:00:00Z&to=2020-01-01T01:40:00Z");
    browser.wait_for(40, "#changes tr");
    first("99");
    browser.until("the balance then", || text(&browser, "#then").ends_with(": 100"));
    browser.open(replica.addr, "/users/2?to=yesterday");
    let wrong = || browser.text("#changes-card > .alarm");
    browser.until("what is wrong", || wrong().starts_with("to must be an instant"));
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn all_changes_that_are_chosen_are_in_the_file() {
    let Some(browser) = Browser::start() else { return };
    let database = with_many_changes();
    let replica = replica(&database, "replica-7", any(), &NO_CRON);
    let folder = browser.save_files();
    let saved = |told: &str| {
        browser.click("#download");
        shows(&browser, "#list-said", told);
        let file = folder.join("user-2-changes.csv");
        until("the file is whole", SOON, || file.exists());
        let text = fs::read_to_string(&file).unwrap();
        fs::remove_file(&file).unwrap();
        text
    };
    browser.open(replica.addr, "/users/2?before=77");
    browser.wait_for(50, "#changes tr");
    let all = saved("The file has 2 500 changes.");
    let mut lines = all.lines();
    assert!(lines.next().is_some_and(|names| names.starts_with("number,amount,balanceAfter")));
    let numbers = lines.map(|line| line.split(',').next().unwrap().parse::<u32>().unwrap());
    assert!(numbers.eq((1..=2_500).rev()), "{all}");
    browser.open(replica.addr, "/users/2?reference=%3Cb%3Erare%3C/b%3E");
    browser.wait_for(25, "#changes tr");
    assert_eq!(saved("The file has 25 changes.").matches("\"<b>rare</b>\"").count(), 25);
    assert_eq!(browser.complaints(), [""; 0]);
}
