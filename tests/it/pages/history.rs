//! The history on the dashboard.

use super::{add_runs, any, look_at, replica, twice, with_a_waiting_job};
use crate::support::{Browser, Screen};

#[test]
fn a_hasty_hand_turns_one_page_of_the_history_at_a_time() {
    let Some(browser) = Browser::start() else { return };
    let database = with_a_waiting_job();
    add_runs(&database, 30, "succeeded");
    let replica = replica(&database, "replica-7", any(), &[]);
    browser.open(replica.addr, "/");
    browser.wait_for(12, "#history-rows tr");
    let newest = || browser.text("#history-rows td");
    let first = newest();
    let entries = || browser.run("return history.length").as_u64().expect("a number");
    for (page, rows) in [("page 2", 12), ("page 3", 6)] {
        let before = entries();
        twice(&browser, "#older");
        browser.until(page, || browser.text("#history-page") == page);
        assert_eq!(browser.count("#history-rows tr"), rows);
        assert_eq!(entries(), before + 1, "{page}: it was turned twice");
    }
    for page in ["page 2", "page 1"] {
        twice(&browser, "#newer");
        browser.until(page, || browser.text("#history-page") == page);
    }
    assert_eq!(newest(), first);
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn rows_keep_their_places_while_somebody_reads_them() {
    let Some(browser) = Browser::start() else { return };
    let database = with_a_waiting_job();
    add_runs(&database, 30, "succeeded");
    let replica = replica(&database, "replica-7", any(), &[("CRON_ENABLED", "false")]);
    browser.open(replica.addr, "/");
    browser.wait_for(12, "#history-rows tr");
    let rows = || {
        let rows = "return [...document.querySelectorAll('#history-rows tr')] \
                    .map(row => row.dataset.run).join()";
        browser.run(rows)
    };
    look_at(&browser, "#history");
    let newer = |words: &str| browser.until(words, || browser.text("#newest") == words);
    let first = rows();
    let select = "getSelection().selectAllChildren(document.querySelector('#history-rows tr'))";
    browser.run(select);
    add_runs(&database, 2, "failed");
    newer("2 newer runs");
    assert_eq!(rows(), first, "a selection stays where it is");
    browser.click("#newest");
    browser.wait_for(2, "#history-rows .failed");
    newer("Newest");
    browser.run("getSelection().removeAllRanges()");

    browser.click("#older");
    browser.until("the second page", || browser.text("#history-page") == "page 2");
    let second = rows();
    add_runs(&database, 1, "failed");
    newer("1 newer run");
    assert_eq!(rows(), second, "a page that was turned to stays as it is");
    let address = browser.run("return location.search");
    browser.open(replica.addr, &format!("/{}", address.as_str().expect("a query")));
    browser.wait_for(12, "#history-rows tr");
    assert_eq!(rows(), second, "the address leads to the same page");
    look_at(&browser, "#history");
    browser.click("#newest");
    browser.wait_for(3, "#history-rows .failed");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn it_is_not_asked_for_while_it_is_out_of_sight() {
    let Some(browser) = Browser::start() else { return };
    let database = with_a_waiting_job();
    database
        .connect()
        .batch_execute(
            "insert into cron_jobs (name, function, schedule, slot, locked_until) \
         select 'z-' || n, 'estimate-pi', 'every 1h', now() + interval '1 h', \
         now() + interval '1 h' from generate_series(1, 40) n",
        )
        .unwrap();
    let replica = replica(&database, "replica-7", any(), &[("CRON_ENABLED", "false")]);
    browser.look_with(Screen::Phone, "light");
    browser.open(replica.addr, "/");
    browser.wait_for(41, "#job-rows tr");
    let asked = || {
        let asked = "return performance.getEntriesByType('resource') \
                     .filter(one => one.name.includes('/history?')).length";
        browser.run(asked).as_u64().expect("a number")
    };
    let before = asked();
    assert_eq!(before, 2, "once for the timeline, once for the history");
    // With the second, what the first would have had asked for has been asked.
    for outcome in ["failed", "succeeded"] {
        add_runs(&database, 1, outcome);
        browser.wait_for(1, &format!("#job-pi .sign.{outcome}"));
    }
    assert_eq!(asked(), before);
    look_at(&browser, "#history");
    browser.wait_for(2, "#history-rows tr");
    assert_eq!(browser.complaints(), [""; 0]);
}
