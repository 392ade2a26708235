//! The servers and their runs on the dashboard.

use super::{SOON, add_runs, any, look_at, replica, with_a_waiting_job};
use crate::support::{Browser, free_addr, post};

/// The text of an element of a picture, which has no `innerText`.
pub(super) fn text_of(browser: &Browser, selector: &str) -> String {
    let text = browser
        .run(&format!("return document.querySelector({selector:?})?.textContent.trim() ?? ''"));
    text.as_str().expect("a text").to_owned()
}

#[test]
fn a_killed_replicas_takeover_appears_and_so_does_a_server_that_stops() {
    let Some(browser) = Browser::start() else { return };
    let database = with_a_waiting_job();
    let mut first = replica(&database, "replica-1", any(), &[("JOB_MIN_SECONDS", "60")]);
    let (addr, idle) = (free_addr(), [("CRON_ENABLED", "false")]);
    let second = replica(&database, "replica-2", addr, &idle);
    browser.open(second.addr, "/");
    browser.wait_for(1, "#job-pi[data-state=waiting]");
    assert_eq!(post(addr, "/api/cron/jobs/pi/run", "").status, 202);
    browser.wait_for(1, "#job-pi[data-state=running]");
    assert_eq!(browser.text("#job-pi [data-label=Server]"), "replica-1");
    first.signal("-KILL");
    first.wait(SOON);
    browser.wait_for(1, "#job-pi[data-state=stalled]");
    let lane = |server: &str| text_of(&browser, &format!("[data-server={server}] .seen"));
    browser.until("the server looks dead", || lane("replica-1").starts_with("! last seen "));
    let _third = replica(&database, "replica-3", any(), &[]);
    let server = || browser.text("#job-pi [data-label=Server]");
    browser.until("another replica runs it", || server() == "replica-3");
    look_at(&browser, "#timeline");
    browser.wait_for(1, ".takeover title");
    let words = browser.run("return document.querySelector('.takeover title').textContent");
    assert_eq!(words, "pi: taken over by replica-3 from replica-1");
    look_at(&browser, "#history");
    browser.wait_for(1, "#history-rows .abandoned");
    assert!(lane("replica-1").starts_with("! last seen "), "{}", lane("replica-1"));
    assert!(lane("replica-3").starts_with("1 running, seen "), "{}", lane("replica-3"));

    drop(second);
    browser.wait_for(1, "#lost:not([hidden])");
    let told = browser.text("#lost");
    assert!(told.starts_with(&format!("{addr} does not answer (No connection)")), "{told}");
    let _again = replica(&database, "replica-2", addr, &idle);
    browser.wait_for(1, "#lost[hidden]");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn the_keyboard_reaches_each_run_and_its_page() {
    let Some(browser) = Browser::start() else { return };
    let database = with_a_waiting_job();
    add_runs(&database, 3, "succeeded");
    let replica = replica(&database, "replica-7", any(), &[("CRON_ENABLED", "false")]);
    browser.open(replica.addr, "/");
    browser.wait_for(3, "#timeline a");
    assert_eq!(browser.count("#timeline a[tabindex='0']"), 1, "one stop of the Tab key");
    browser.tab_to("#timeline a");
    let ids = browser
        .run("return [...document.querySelectorAll('#timeline a')].map(one => one.dataset.run)");
    let told = |run: usize| {
        let run = format!("(run {})", ids[run].as_str().expect("an id"));
        browser.until(&run, || browser.text("#run-told").ends_with(&run));
    };
    browser.press("Left");
    told(1);
    browser.press("Left");
    told(0);
    browser.press("Right");
    told(1);
    browser.press("Enter");
    let path = format!("/runs/{}", ids[1].as_str().expect("an id"));
    browser.until(&path, || browser.run("return location.pathname") == path.as_str());
    assert_eq!(browser.complaints(), [""; 0]);
}

/// Each run as a line of its own would be thinner than a line.
#[test]
fn where_a_server_has_too_many_runs_it_shows_how_many() {
    let Some(browser) = Browser::start() else { return };
    let database = with_a_waiting_job();
    add_runs(&database, 303, "failed");
    let replica = replica(&database, "replica-7", any(), &[("CRON_ENABLED", "false")]);
    browser.open(replica.addr, "/?range=15m");
    browser.wait_for(1, "#timeline a");
    browser.wait_for(1, "#timeline a[aria-label='303 runs']");
    assert!(browser.text("#servers h2").ends_with("in the last 15 minutes"));
    browser.tab_to("#timeline a");
    let told = || browser.text("#run-told");
    browser.until("what they became", || told().ends_with("303 runs, 303 failed"));
    browser.press("Enter");
    browser.wait_for(12, "#history-rows .failed");
    browser.choose("#filters [name=outcome]", "succeeded");
    browser.wait_for(0, "#history-rows tr");
    browser.until("why", || browser.text("#history-said") == "No run matches.");
    let chosen = browser.run("return document.querySelector('#filters [name=server]').value");
    assert_eq!(chosen, "replica-1");
    assert_eq!(browser.complaints(), [""; 0]);
}
