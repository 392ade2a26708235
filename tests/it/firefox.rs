//! The dashboard in a second browser, and as it is used by somebody who has no mouse.

use crate::support::{Browser, Postgres, Process};

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
    let database = Postgres::shared().migrated();
    let replica = Process::start(database.url(), &[("CRON_ENABLED", "false")]);
    browser.open(replica.addr, "/");
    browser.wait_for(10, "#job-rows tr");
    browser.tab_to("[aria-label='Schedule of sample-pi']");
    browser.press("Shift+Tab Tab Enter");
    browser.wait_for(1, "#schedule[open]");
    browser.press("Control+a every Space 7h Enter");
    browser.wait_for(0, "#schedule[open]");
    let schedule = "select schedule from cron_jobs where name = 'sample-pi'";
    assert_eq!(database.text(schedule), "every 7h");
    assert_eq!(browser.complaints(), [""; 0]);
}
