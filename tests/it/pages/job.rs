//! The page of a job and of a run, and the dialogs in which jobs are made, changed and deleted.

use serde_json::json;

use super::{any, replica, with_a_waiting_job};
use crate::support::{Browser, Database, ask, from_npm};

/// Clicks the button of these words within an element; Preact leaves the mark alone.
fn press(browser: &Browser, within: &str, words: &str) {
    let marked = format!(
        "document.querySelectorAll('[data-next]').forEach(one => delete one.dataset.next); \
         const found = [...document.querySelectorAll({:?})]; \
         const one = found.find(one => one.innerText.startsWith({words:?})); \
         if (one) one.dataset.next = ''; return !!one",
        format!("{within} button")
    );
    browser.until(words, || browser.run(&marked) == true);
    browser.click("[data-next]");
}

/// Chooses from the menu of a job.
pub(super) fn act(browser: &Browser, job: &str, words: &str) {
    browser.wait_for(1, &format!("[aria-label='Actions for {job}'][aria-expanded=false]"));
    browser.click(&format!("button[aria-label='Actions for {job}']"));
    press(browser, &format!("#menu-{job}"), words);
}

fn told(browser: &Browser, words: &str) {
    browser.until(words, || browser.text("#jobs-said") == words);
}

fn settings(database: &Database, job: &str) -> String {
    let columns = "concat_ws(' ', arguments, schedule, description, max_seconds)";
    database.text(&format!("select {columns} from cron_jobs where name = '{job}'"))
}

#[test]
fn a_job_is_made_changed_and_deleted_in_dialogs() {
    make_change_and_delete(Browser::start());
}

#[test]
fn a_job_is_made_changed_and_deleted_in_dialogs_in_firefox() {
    make_change_and_delete(Browser::firefox());
}

fn make_change_and_delete(browser: Option<Browser>) {
    let Some(browser) = browser else { return };
    let database = with_a_waiting_job();
    let replica = replica(&database, "replica-7", any(), &[]);
    browser.open(replica.addr, "/");
    press(&browser, "main", "New job");
    browser.wait_for(1, "#edit[open]");
    browser.fill("#edit-name", "nightly");
    browser.choose("#edit-function", "count-primes");
    browser.fill("#edit-schedule", "every tuesday");
    browser.wait_for(1, "#meaning .alarm");
    browser.fill("#edit-schedule", "0 3 * * 2 Europe/Berlin");
    browser.wait_for(5, "#meaning li time");
    let meaning = browser.text("#meaning");
    assert!(meaning.contains("at 03:00 on every Tuesday, Europe/Berlin"), "{meaning}");
    browser.fill("#edit-arguments", "{\"above\": 7}");
    press(&browser, "#edit", "Make it");
    browser.wait_for(1, "#edit-arguments[aria-invalid=true]:focus");
    let about = browser.text("#edit-arguments-about");
    assert!(about.contains("\"below\": a whole number"), "the server's own words: {about}");
    browser.fill("#edit-arguments", "{\"below\": 700}");
    browser.click("#edit summary");
    browser.fill("#edit-maxSeconds", "600");
    press(&browser, "#edit", "Make it");
    told(&browser, "nightly is made.");
    browser.wait_for(0, "dialog");
    let made = "{\"below\":700} 0 3 * * 2 Europe/Berlin 600";
    assert_eq!(settings(&database, "nightly"), made);

    press(&browser, "main", "New job");
    browser.wait_for(1, "#edit[open]");
    browser.fill("#edit-name", "nightly");
    browser.choose("#edit-function", "estimate-pi");
    browser.fill("#edit-schedule", "every 1h");
    press(&browser, "#edit", "Make it");
    browser.wait_for(1, "#edit-name[aria-invalid=true]:focus");
    assert_eq!(settings(&database, "nightly"), made, "no job is replaced");
    press(&browser, "#edit", "Cancel");
    browser.wait_for(0, "dialog");

    act(&browser, "nightly", "Edit");
    browser.wait_for(1, "#edit[open]");
    let change = r#"{"schedule": "every 7h"}"#;
    let other = ask(replica.addr, "PATCH /api/cron/jobs/nightly", &[], change);
    assert_eq!(other.status, 200);
    browser.fill("#edit-description", "Warms a processor");
    press(&browser, "#edit", "Save");
    let said = || browser.text("#edit .said");
    browser.until("it is told", || said().starts_with("Somebody has changed it meanwhile"));
    assert!(said().contains("→ every 7h"), "{}", said());
    press(&browser, "#edit", "Read it again");
    browser.wait_for(1, "#edit .said.fine");
    press(&browser, "#edit", "Save");
    told(&browser, "nightly is changed.");
    let both = "{\"below\":700} every 7h Warms a processor 600";
    assert_eq!(settings(&database, "nightly"), both);

    act(&browser, "nightly", "Delete");
    browser.wait_for(1, "#delete[open]");
    browser.fill("#delete-typed", "nightly-2");
    press(&browser, "#delete", "Delete it");
    browser.wait_for(1, "#delete-typed[aria-invalid=true]:focus");
    assert_eq!(database.number("select count(*) from cron_jobs where name = 'nightly'"), 1);
    browser.fill("#delete-typed", "nightly");
    press(&browser, "#delete", "Delete it");
    told(&browser, "nightly is deleted. Its history stays.");
    browser.wait_for(0, "[aria-label='Actions for nightly']");
    assert_eq!(database.number("select count(*) from cron_jobs"), 1);
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn a_run_is_watched_and_stopped_on_pages_that_have_addresses() {
    watch_and_stop(Browser::start());
}

#[test]
fn a_run_is_watched_and_stopped_on_pages_that_have_addresses_in_firefox() {
    watch_and_stop(Browser::firefox());
}

fn watch_and_stop(browser: Option<Browser>) {
    let Some(browser) = browser else { return };
    let database = with_a_waiting_job();
    let replica = replica(&database, "replica-7", any(), &[("JOB_MIN_SECONDS", "120")]);
    let is_at = |path: &str| {
        browser.until(path, || browser.run("return location.pathname") == path);
    };
    browser.open(replica.addr, "/jobs/pi");
    act(&browser, "pi", "Pause");
    told(&browser, "pi is paused.");
    act(&browser, "pi", "Run now");
    told(&browser, "pi is paused. Resume it first.");
    browser.run("document.activeElement.closest('[popover]').hidePopover()");
    act(&browser, "pi", "Resume");
    browser.wait_for(1, "#state .sign.waiting");
    told(&browser, "pi is resumed.");
    act(&browser, "pi", "Run now");
    told(&browser, "pi will start within seconds.");
    browser.wait_for(1, "#state .sign.running");
    let run = database.number("select id from cron_runs");
    browser.click("#state a");
    is_at(&format!("/runs/{run}"));
    let lines = || browser.count("#log div");
    browser.until("it says something", || lines() > 0);
    let before = lines();
    browser.until("it says more", || lines() > before);
    browser.click("#stop-run");
    press(&browser, "#stop", "Stop this run");
    told(&browser, &format!("Run {run} of pi is told to stop."));
    browser.wait_for(1, ".facts .sign.stopped");
    browser.wait_for(0, "#stop-run");
    browser.run("history.back()");
    is_at("/jobs/pi");
    browser.wait_for(1, ".durations .stopped");
    browser.wait_for(2, "#changes li");
    assert!(browser.text("#changes").contains("resumed"));

    for (path, place, words) in [
        ("/jobs/nobody", "#no-job", "There is no job nobody."),
        ("/runs/77", "#no-run", "There is no run 77"),
    ] {
        browser.open(replica.addr, path);
        browser.until(words, || browser.text(place).starts_with(words));
    }
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn everything_is_paused_with_a_reason_and_resumed() {
    let Some(browser) = Browser::start() else { return };
    let database = with_a_waiting_job();
    let replica = replica(&database, "replica-7", any(), &[]);
    browser.open(replica.addr, "/");
    press(&browser, "main", "Pause all jobs");
    browser.wait_for(1, "#pause[open]");
    browser.fill("#pause-reason", "The disk is full");
    browser.choose("#pause-until", "60");
    press(&browser, "#pause", "Pause all jobs");
    browser.wait_for(1, "#paused:not([hidden])");
    assert!(browser.text("#paused").contains("The disk is full"));
    let ends = "select count(*) from cron_pause where until between now() + interval '50 min' \
                and now() + interval '61 min'";
    assert_eq!(database.number(ends), 1);
    act(&browser, "pi", "Run now");
    told(&browser, "pi will start when the pause of all jobs ends.");
    press(&browser, "#paused", "Resume all jobs");
    told(&browser, "The pause is over: jobs run again.");
    browser.wait_for(1, "#paused[hidden]");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn axe_finds_nothing_in_menus_dialogs_and_pages_of_jobs() {
    let Some(axe) = from_npm("axe", "axe-core/axe.min.js") else { return };
    let Some(browser) = Browser::start() else { return };
    let axe = std::fs::read_to_string(axe).expect("axe.min.js");
    let database = with_a_waiting_job();
    let replica = replica(&database, "replica-7", any(), &[("JOB_MIN_SECONDS", "60")]);
    let is_fine = |what: &str| {
        browser.run(&axe);
        let found = "axe.run().then(all => all.violations.map(one => \
                     `${one.id}: ${one.nodes.map(node => node.target).join()}`))";
        assert_eq!(browser.settle(found), json!([]), "{what}");
    };
    browser.open(replica.addr, "/jobs/pi");
    act(&browser, "pi", "Run now");
    browser.wait_for(1, "#state .sign.running");
    is_fine("a job's page");
    for (words, dialog) in [("Edit", "#edit[open]"), ("Stop", "#stop[open]")] {
        browser.click("[aria-label='Actions for pi']");
        browser.wait_for(5, "#menu-pi button");
        is_fine("the menu");
        press(&browser, "#menu-pi", words);
        browser.wait_for(1, dialog);
        is_fine(dialog);
        press(&browser, dialog, "Cancel");
        browser.wait_for(0, "dialog");
    }
    browser.click("#state a");
    browser.wait_for(1, "#log");
    is_fine("a run's page");
}
