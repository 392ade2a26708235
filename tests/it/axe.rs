//! Whether people can use the pages whatever they see and hear: by axe, on every kind of screen.
//! These tests take longest, so their name puts them first.

use crate::support::{Browser, LOOKS, Postgres, Process, from_npm};

#[test]
fn the_dashboard_keeps_nobody_out() {
    look_at_all("/", "#history-rows tr:nth-child(10) .succeeded", "#history");
}

#[test]
fn the_api_docs_keep_nobody_out() {
    look_at_all("/api-docs", "#sides:not([hidden])", "body");
}

#[test]
fn a_users_page_keeps_nobody_out() {
    look_at_all("/users/1", "#changes tr", "body");
}

/// Waits for what shows that all is there, with this part in sight.
fn look_at_all(path: &str, shows: &str, part: &str) {
    let Some(axe) = from_npm("axe", "axe-core/axe.min.js") else { return };
    let Some(browser) = Browser::start() else { return };
    let axe = std::fs::read_to_string(axe).expect("axe.min.js");
    let database = Postgres::shared().migrated();
    let schedule = "0 3 1-7,15-21 * 1-5 Europe/Berlin";
    database.add_job_calling(&"long-names".repeat(6), "estimate-pi", schedule);
    let server = format!("{}.example.internal:3001", "replica".repeat(6));
    let variables = [
        ("CRON_HANDICAP_MS", "0"),
        ("CRON_POLL_MS", "100"),
        ("JOB_MIN_SECONDS", "2"),
        ("REPLICA_NAME", &server),
    ];
    let replica = Process::start(database.url(), &variables);
    for (screen, look) in LOOKS {
        browser.look_with(screen, look);
        browser.open(replica.addr, path);
        browser.wait_for(1, part);
        browser.run(&format!("document.querySelector({part:?}).scrollIntoView()"));
        browser.wait_for(1, shows);
        // What was closed is drawn when it is opened, and may hold more of the kind.
        for _ in 0..2 {
            browser.run("document.querySelectorAll('details').forEach(one => one.open = true)");
        }
        browser.screenshot(&format!("{}-{screen:?}-{look}", path.replace('/', "page-")));
        browser.run(&axe);
        let found = browser.settle(
            "axe.run().then(all => all.violations.map(one => \
             `${one.impact} ${one.id}: ${one.nodes.map(node => node.target).join()}`))",
        );
        assert_eq!(found, serde_json::json!([]), "{path} {screen:?} {look}");
        let width = browser.run("return document.documentElement.scrollWidth");
        let fits = width.as_u64().expect("a width") <= screen.width();
        assert!(fits, "{path} {screen:?} {look} scrolls sideways");
    }
}
