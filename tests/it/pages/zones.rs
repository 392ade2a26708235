//! Instants in the zone of whoever looks, and in UTC.

use super::{any, look_at, replica, with_a_waiting_job};
use crate::support::Browser;

#[test]
fn a_field_says_the_same_instant_as_the_address_also_around_a_change_of_clocks() {
    let Some(browser) = Browser::start() else { return };
    let database = with_a_waiting_job();
    let replica = replica(&database, "replica-7", any(), &[("CRON_ENABLED", "false")]);
    for (zone, instant, shown) in [
        ("Europe/Berlin", "2026-10-24T23:30:00.000Z", "2026-10-25T01:30"),
        ("America/New_York", "2026-03-08T09:00:00.000Z", "2026-03-08T05:00"),
        ("UTC", "2026-03-08T09:00:00.000Z", "2026-03-08T09:00"),
    ] {
        browser.move_to(zone);
        browser.open(replica.addr, &format!("/?from={instant}"));
        browser.wait_for(1, "#filters [name=from]");
        let field = || browser.run("return document.querySelector('#filters [name=from]').value");
        browser.until(zone, || field().as_str().is_some_and(|text| text.starts_with(shown)));
        let again = browser.run("return instantOf(document.querySelector('[name=from]').value)");
        assert_eq!(again, instant, "{zone}");
    }
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn the_zone_is_named_and_can_be_changed_to_utc() {
    let Some(browser) = Browser::start() else { return };
    let database = with_a_waiting_job();
    let replica = replica(&database, "replica-7", any(), &[("CRON_ENABLED", "false")]);
    browser.move_to("Asia/Kolkata");
    browser.open(replica.addr, "/");
    browser.wait_for(1, "#zone");
    let title = "return document.querySelector('#job-pi [data-label=\"Next run\"] time')?.title";
    let told = || browser.run(title).as_str().unwrap_or_default().to_owned();
    browser.until("it is of that zone", || told().ends_with("GMT+5:30"));
    browser.choose("#zone", "UTC");
    browser.until("it is in UTC", || told().ends_with("UTC"));
    browser.open(replica.addr, "/");
    browser.wait_for(1, "#zone");
    browser.until("that is remembered", || told().ends_with("UTC"));
    assert_eq!(browser.complaints(), [""; 0]);
}

/// The browser tells of a change at each digit of a year.
#[test]
fn who_types_a_year_is_not_interrupted() {
    let Some(browser) = Browser::start() else { return };
    let database = with_a_waiting_job();
    let replica = replica(&database, "replica-7", any(), &[("CRON_ENABLED", "false")]);
    browser.move_to("Europe/Berlin");
    browser.open(replica.addr, "/?from=2026-10-24T10:00:00.000Z");
    look_at(&browser, "#history");
    browser.run("document.querySelector('#filters [name=from]').focus()");
    browser.press("Tab Tab 2025");
    let year = "return new URLSearchParams(location.search).get('from')?.slice(0, 4)";
    browser.until("the year is in the address", || browser.run(year) == "2025");
    let field = browser.run("return document.querySelector('#filters [name=from]').value");
    assert!(field.as_str().is_some_and(|text| text.starts_with("2025-10-24T12:00")), "{field}");
    assert_eq!(browser.complaints(), [""; 0]);
}
