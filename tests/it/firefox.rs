//! The dashboard in a second browser, and as it is used by somebody who has no mouse.

use crate::support::{Browser, Postgres, Process, post};

#[test]
fn the_dashboard_is_used_by_keyboard_alone() {
    use_by_keyboard(Browser::firefox());
}

#[test]
fn the_same_works_in_chromium() {
    use_by_keyboard(Browser::start());
}

fn use_by_keyboard(browser: Option<Browser>) {
    let Some(browser) = browser else { return };
    let database = Postgres::shared().migrated().without_jobs();
    database.add_job_calling("pi", "estimate-pi", "every 1h");
    let quick =
        [("CRON_HANDICAP_MS", "0"), ("CRON_LEASE_SECONDS", "3"), ("JOB_MIN_SECONDS", "120")];
    let replica = Process::start(database.url(), &quick);
    assert_eq!(post(replica.addr, "/api/users", r#"{"balance":70}"#).status, 201);
    browser.open(replica.addr, "/");
    browser.wait_for(1, "#job-pi .sign.running");
    browser.tab_to("#new-job");
    browser.press("Enter");
    browser.wait_for(1, "#edit[open]");
    browser.press("nightly Tab count-primes Tab Tab every Space 7h Enter");
    browser.wait_for(0, "#edit");
    let schedule = "select schedule from cron_jobs where name = 'nightly'";
    assert_eq!(database.text(schedule), "every 7h");
    browser.wait_for(1, "#new-job:focus");
    browser.tab_to("[aria-label='Actions for pi']");
    browser.press("Enter");
    browser.wait_for(5, "#menu-pi button");
    browser.press("Tab Tab Tab Enter");
    browser.wait_for(1, "#stop[open]");
    browser.press("Enter");
    browser.wait_for(0, "#stop");
    browser.wait_for(1, "[aria-label='Actions for pi']:focus");
    browser.wait_for(1, "#job-pi .sign.stopped");
    browser.tab_to("#user-id");
    browser.press("Control+a 2 Enter");
    browser.until("the user is shown", || browser.text("#user-title") == "User 2: 70");
    browser.tab_to("[name=amount]");
    browser.press("5 Enter");
    let done = "User 2: withdrew 5, balance 65.";
    browser.until(done, || browser.text("#balance-said") == done);
    assert_eq!(database.number("select balance from users where id = 2"), 65);
    assert_eq!(browser.complaints(), [""; 0]);
}
