//! The jobs on the dashboard.

use super::timeline::text_of;
use super::{add_runs, any, look_at, replica, with_a_waiting_job};
use crate::support::{Browser, Postgres, Screen};

#[test]
fn jobs_appear_with_a_bar_that_moves_and_end_in_the_history() {
    let Some(browser) = Browser::start() else { return };
    let database = Postgres::shared().migrated();
    // The page is there before the jobs run, however long a busy machine takes to load it.
    let idle = replica(&database, "replica-1", any(), &[("CRON_ENABLED", "false")]);
    browser.open(idle.addr, "/");
    browser.wait_for(10, "tr[data-state=due]");
    let _replica = replica(&database, "replica-7", any(), &[]);
    browser.wait_for(10, "tr[data-state=running]");
    assert_eq!(browser.text("#counts .running"), "10 running");
    let lane = || text_of(&browser, "[data-server=replica-7] .seen");
    assert!(lane().starts_with("10 running, seen "), "{}", lane());
    let bar = || {
        let value = "return document.querySelector('#job-sample-pi progress').value";
        browser.run(value).as_f64().expect("a number")
    };
    browser.until("some of it is done", || bar() > 0.0);
    let before = bar();
    assert!(before < 1.0);
    browser.until("the bar has moved", || bar() > before);
    browser.wait_for(1, "#job-sample-pi .sign.succeeded");
    let last = browser.text("#job-sample-pi [data-label='Last run']");
    assert!(last.contains("on replica-7") && last.contains("pi is about 3.14159"), "{last}");
    look_at(&browser, "#timeline");
    browser.wait_for(10, ".run.succeeded");
    look_at(&browser, "#history");
    browser.wait_for(10, "#history-rows .succeeded");
    browser.fill("#filters [name=job]", "sample-pi\u{e007}");
    browser.wait_for(1, "#history-rows tr");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn a_failing_job_comes_first_and_is_counted_also_in_the_title() {
    see_what_fails(Browser::start());
}

#[test]
fn a_failing_job_comes_first_and_is_counted_also_in_the_title_in_firefox() {
    see_what_fails(Browser::firefox());
}

fn see_what_fails(browser: Option<Browser>) {
    let Some(browser) = browser else { return };
    let database = with_a_waiting_job();
    database.add_job_calling("audit", "audit-ledger", "every 1h");
    add_runs(&database, 1, "failed");
    let replica = replica(&database, "replica-7", any(), &[("CRON_ENABLED", "false")]);
    browser.open(replica.addr, "/");
    browser.wait_for(2, "#job-rows tr");
    browser.wait_for(1, "#job-rows tr:first-child#job-pi .condition.failing");
    assert_eq!(browser.run("return document.title"), "(1) balanced");
    assert_eq!(browser.text("#counts .failing"), "1 failing");
    browser.click("#counts .failing");
    browser.wait_for(1, "#job-rows tr");
    browser.open(replica.addr, browser.run("return location.search").as_str().unwrap());
    browser.wait_for(1, "#counts .failing[aria-pressed=true]");
    assert_eq!(browser.count("#job-rows tr"), 1, "the address keeps what is chosen");
    browser.click("#counts .failing");
    browser.wait_for(2, "#job-rows tr");
    browser.run("history.back()");
    browser.wait_for(1, "#job-rows tr");
    add_runs(&database, 1, "succeeded");
    browser.until("it does not fail any more", || browser.text("#counts").contains("0 failing"));
    assert_eq!(browser.run("return document.title"), "balanced");
    assert_eq!(browser.text("#jobs-left"), "No job matches.");
    assert_eq!(browser.complaints(), [""; 0]);
}

/// What is drawn later must not push aside what somebody reads or is about to press.
#[test]
fn nothing_moves_while_the_page_loads() {
    let Some(browser) = Browser::start() else { return };
    let database = with_a_waiting_job();
    add_runs(&database, 30, "succeeded");
    let replica = replica(&database, "replica-7", any(), &[("CRON_ENABLED", "false")]);
    for screen in [Screen::Desktop, Screen::Phone] {
        browser.look_with(screen, "light");
        browser.open(replica.addr, "/");
        browser.wait_for(12, "#history-rows tr");
        browser.wait_for(1, "#timeline svg");
        let read = "return performance.getEntriesByType('resource').length > 8";
        browser.until("all was read again", || browser.run(read) == true);
        let shifts = "new Promise(tell => { \
            const sum = list => list.getEntries().reduce((sum, {value}) => sum + value, 0); \
            const options = {type: 'layout-shift', buffered: true}; \
            new PerformanceObserver(list => tell(sum(list))).observe(options); \
            setTimeout(tell, 1000, 0); })";
        let moved = browser.settle(shifts).as_f64().expect("a sum");
        assert!(moved < 0.05, "{screen:?}: {moved}");
    }
}

#[test]
fn very_many_jobs_are_found_by_a_part_of_their_names() {
    let Some(browser) = Browser::start() else { return };
    let database = with_a_waiting_job();
    let many = "insert into cron_jobs (name, function, schedule, slot, locked_until) \
                select 'job-' || n, 'estimate-pi', 'every 1h', now() + interval '1 h', \
                now() + interval '1 h' from generate_series(1, 20000) n; \
                update cron_jobs set slot = now(), locked_until = now() where name = 'pi'";
    database.connect().batch_execute(many).unwrap();
    let replica = replica(&database, "replica-7", any(), &[("CRON_ENABLED", "false")]);
    browser.open(replica.addr, "/");
    browser.wait_for(100, "#job-rows tr");
    assert_eq!(browser.text("#jobs-left"), "and 19\u{202f}901 more");
    let first = browser.text("#job-rows tr a");
    assert_eq!(first, "pi", "the last by its name, and the one that is due");
    browser.fill("#find", "job-9999");
    browser.wait_for(1, "#job-rows tr");
    browser.fill("#find", "job-1999");
    browser.wait_for(11, "#job-rows tr");
    assert_eq!(browser.text("#jobs-left"), "");
    browser.fill("#find", "job-2");
    browser.click("#counts .waiting");
    browser.wait_for(100, "#job-rows tr");
    let all = format!("http://{}/?find=job-2&state=waiting", replica.addr);
    browser.until("what is looked for stands in the address", || {
        browser.run("return location.href") == all.as_str()
    });
    assert_eq!(browser.complaints(), [""; 0]);
}
