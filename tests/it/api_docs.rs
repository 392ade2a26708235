//! The page of the API, in a real browser.

use crate::openapi::operations;
use crate::support::{Browser, Postgres, Process, Screen};

const IDLE: (&str, &str) = ("CRON_ENABLED", "false");

#[test]
fn requests_are_tried() {
    let Some(browser) = Browser::start() else { return };
    let database = Postgres::shared().migrated();
    let replica = Process::start(database.url(), &[IDLE, ("API_TOKEN", "open-sesame")]);
    let sent = |place: &str, body: &str| {
        browser.fill(&format!("{place} textarea"), body);
        browser.click(&format!("{place} button.main"));
    };
    let told = |place: &str, status: &str| {
        let place = format!("{place} .try > .said");
        browser.until(status, || browser.text(&place).starts_with(status));
    };
    browser.look_with(Screen::Desktop, "light");
    browser.open(replica.addr, "/api-docs#createUser");
    browser.wait_for(operations().len(), "article.operation");
    browser.click("#createUser .try > summary");
    sent("#createUser", "{\"balance\": 9223372036854775807}");
    browser.wait_for(1, "dialog[open] input");
    browser.fill("dialog input", "open-sesame");
    browser.click("dialog .main");
    told("#createUser", "201");
    let answer = browser.text("#createUser .answer");
    for part in ["\"balance\": 9223372036854775807", "Location: /api/users/2"] {
        assert!(answer.contains(part), "{part}: {answer}");
    }
    let curl = browser.text("#createUser .curl");
    assert!(curl.contains("$API_TOKEN") && !curl.contains("open-sesame"), "{curl}");

    browser.click("#changeBalance .try > summary");
    sent("#changeBalance", "{\"userId\": 1, \"amount\": -20000}");
    told("#changeBalance", "409");
    let answer = browser.text("#changeBalance .answer");
    assert!(answer.contains("insufficient_funds"), "{answer}");
    drop(replica);
    sent("#changeBalance", "{\"userId\": 1, \"amount\": -1}");
    told("#changeBalance", "No answer");
    assert_eq!(database.number("select balance from users where id = 1"), 10_000);
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn operations_are_found_and_the_address_keeps_what_is_looked_for() {
    let Some(browser) = Browser::start() else { return };
    let database = Postgres::shared().migrated();
    let replica = Process::start(database.url(), &[IDLE]);
    browser.look_with(Screen::Desktop, "light");
    browser.open(replica.addr, "/api-docs");
    browser.wait_for(operations().len(), "article:not([hidden])");
    let slash = "new KeyboardEvent('keydown', {key: '/', bubbles: true})";
    browser.run(&format!("document.body.dispatchEvent({slash})"));
    assert_eq!(browser.run("return document.activeElement.id"), "find");
    browser.fill("#find", "stop run");
    browser.wait_for(1, "article:not([hidden])");
    browser.wait_for(1, "#stopRun:not([hidden])");
    assert_eq!(browser.text("#found"), format!("1 of {} operations", operations().len()));
    assert_eq!(browser.run("return location.search"), "?find=stop+run");

    browser.open(replica.addr, "/api-docs?find=/API/balance#readMetrics");
    browser.wait_for(operations().len(), "article:not([hidden])");
    browser.open(replica.addr, "/api-docs?find=/API/balance");
    browser.wait_for(1, "article:not([hidden])");
    browser.fill("#find", "no such thing");
    browser.wait_for(0, "article:not([hidden])");
    assert_eq!(browser.text("#found"), "No operation matches.");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn an_example_is_chosen_a_key_is_made_and_refusals_are_listed() {
    let Some(browser) = Browser::start() else { return };
    let database = Postgres::shared().migrated();
    let replica = Process::start(database.url(), &[IDLE]);
    browser.look_with(Screen::Desktop, "light");
    browser.open(replica.addr, "/api-docs");
    browser.wait_for(operations().len(), "article.operation");
    let refusals = browser.text("#changeBalance .common").replace('\n', " ");
    assert!(refusals.contains("400 invalid_json invalid_request 405"), "{refusals}");
    let example = || browser.text("#changeBalance table + label + pre");
    let before = example();
    browser.choose("#changeBalance table + label select", "1");
    browser.until("another example is shown", || example() != before);
    browser.click("#changeBalance .try > summary");
    let key = || {
        browser.click("#changeBalance [type=button]");
        let field = "return document.querySelector('#changeBalance [name=Idempotency-Key]').value";
        browser.run(field).as_str().expect("a text").to_owned()
    };
    let (first, second) = (key(), key());
    assert!(first.len() == 32 && first != second, "{first} {second}");
    browser.until("the command has the key", || {
        browser.text("#changeBalance .curl").contains(&format!("Idempotency-Key: {second}"))
    });
    assert_eq!(browser.complaints(), [""; 0]);
}
