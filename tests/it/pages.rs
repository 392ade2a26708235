//! The pages, in a real browser, against real replicas.

mod history;
mod job;
mod jobs;
mod money;
mod timeline;
mod zones;

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::{Browser, Database, Postgres, Process};
use crate::tokens::TokenFile;

const SOON: Duration = Duration::from_secs(30);
const BALANCE: &str = "select balance from users where id = 1";

/// Runs are short, and told of often.
const QUICK: [(&str, &str); 4] = [
    ("CRON_HANDICAP_MS", "0"),
    ("CRON_LEASE_SECONDS", "3"),
    ("CRON_POLL_MS", "100"),
    ("JOB_MIN_SECONDS", "10"),
];

fn replica(database: &Database, name: &str, addr: SocketAddr, more: &[(&str, &str)]) -> Process {
    let addr = addr.to_string();
    let mut variables = QUICK.to_vec();
    variables.extend([("REPLICA_NAME", name), ("LISTEN_ADDR", &addr)]);
    variables.extend_from_slice(more);
    Process::start(database.url(), &variables)
}

/// Adds runs of the job `pi` on the server `replica-1` that have just ended.
fn add_runs(database: &Database, runs: u32, outcome: &str) {
    let sql = format!(
        "insert into cron_runs (job_id, job, function, token, server, scheduled_at, started_at, \
         finished_at, outcome, detail) \
         select id, name, function, n + (select count(*) from cron_runs), 'replica-1', now(), \
         now(), now(), '{outcome}', '' from cron_jobs, generate_series(1, {runs}) n \
         where name = 'pi'"
    );
    database.connect().batch_execute(&sql).unwrap();
}

fn any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// A database with one job, which waits for an hour.
fn with_a_waiting_job() -> Database {
    let database = Postgres::shared().migrated().without_jobs();
    database.add_job_calling("pi", "estimate-pi", "every 1h");
    let later = "update cron_jobs set slot = now() + interval '1 h', \
                 locked_until = now() + interval '1 h'";
    database.connect().batch_execute(later).unwrap();
    database
}

/// What is out of sight is not read anew.
fn look_at(browser: &Browser, selector: &str) {
    browser.wait_for(1, selector);
    browser.run(&format!("document.querySelector({selector:?}).scrollIntoView()"));
}

/// Two clicks before any answer can be there.
fn twice(browser: &Browser, selector: &str) {
    let one = format!("document.querySelector({selector:?}).click()");
    browser.run(&format!("{one}; {one}"));
}

#[test]
fn the_page_asks_for_a_token_until_it_is_right_and_then_remembers_it() {
    let Some(browser) = Browser::start() else { return };
    let database = with_a_waiting_job();
    let file = TokenFile::new("page");
    let looker = file.write(&[("looker", &["read"])]).remove(0);
    let variables = [("API_TOKEN", "open-sesame"), ("API_TOKENS_FILE", &file.path())];
    let replica = replica(&database, "replica-7", any(), &variables);
    browser.open(replica.addr, "/");
    browser.wait_for(1, "[aria-label=Token][open] input");
    browser.click("[aria-label=Token] button[value='']");
    browser.wait_for(1, "#lost:not([hidden])");
    let told = browser.text("#lost");
    assert!(told.contains("To give another token, load this page again."), "{told}");

    browser.open(replica.addr, "/");
    for token in ["open-says-me", &looker] {
        let field = "return document.querySelector('[aria-label=Token][open] input')?.value";
        browser.until("the token is asked for", || browser.run(field) == "");
        browser.fill("[aria-label=Token] input", token);
        browser.click("[aria-label=Token] .main");
    }
    browser.wait_for(1, "#job-pi[data-state=waiting]");
    let title = || browser.text("#user-title");
    browser.until("the balance is shown", || title() == "User 1: 10\u{202f}000");
    job::act(&browser, "pi", "Pause");
    let told = || browser.text("#jobs-said");
    browser.until("what is missing is told", || told().contains("lacks the scope jobs"));

    browser.open(replica.addr, "/api-docs");
    browser.fill("#token", "open-sesame");
    browser.open(replica.addr, "/");
    browser.wait_for(1, "#job-pi[data-state=waiting]");
    job::act(&browser, "pi", "Pause");
    browser.wait_for(1, "#job-pi[data-state=paused]");
    browser.click("a[href$=metrics]");
    browser.until("metrics are read", || browser.text("body").contains("database_up 1"));
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn a_page_is_there_in_one_answer_also_while_the_database_is_away() {
    let Some(browser) = Browser::start() else { return };
    let replica = Process::spawn(&mut Process::command("host=/nowhere user=nobody", &[]));
    browser.open(replica.addr, "/");
    browser.wait_for(1, "#lost:not([hidden])");
    let told = browser.text("#lost");
    assert!(told.starts_with("The service cannot answer now ("), "{told}");
    let loaded = "return performance.getEntriesByType('resource') \
                  .filter(one => one.initiatorType !== 'fetch').length";
    assert_eq!(browser.run(loaded), 0, "nothing is loaded but what the script asks for");
    let painted = "return performance.getEntriesByName('first-contentful-paint').length";
    browser.until("it is painted", || browser.run(painted) == 1);
    assert_eq!(browser.complaints(), [""; 0]);
}
