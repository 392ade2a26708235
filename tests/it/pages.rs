//! The pages, in a real browser, against real replicas.

mod money;

use std::net::SocketAddr;
use std::time::Duration;

use crate::openapi::operations;
use crate::support::{Browser, Database, Postgres, Process, Screen, free_addr, from_npm};
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
    assert_eq!(browser.text("#servers li"), "replica-7\n10");
    let bar = || {
        let value = "return document.querySelector('#job-sample-pi progress').value";
        browser.run(value).as_f64().expect("a number")
    };
    browser.until("some of it is done", || bar() > 0.0);
    let before = bar();
    assert!(before < 1.0);
    browser.until("the bar has moved", || bar() > before);
    browser.wait_for(1, "#job-sample-pi .outcome.succeeded");
    let last = browser.text("#job-sample-pi [data-label='Last run']");
    assert!(last.contains("on replica-7") && last.contains("pi is about 3.14159"), "{last}");
    browser.wait_for(10, "#history-rows .succeeded");
    browser.wait_for(10, ".run.succeeded");
    browser.choose("#filters [name=job]", "sample-pi");
    browser.wait_for(1, "#history-rows tr");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn a_job_is_paused_run_and_given_another_schedule_from_the_page() {
    let Some(browser) = Browser::start() else { return };
    let database = with_a_waiting_job();
    let replica = replica(&database, "replica-7", any(), &[]);
    browser.open(replica.addr, "/");
    browser.wait_for(1, "#job-pi[data-state=waiting]");
    browser.click("[aria-label='Pause pi']");
    browser.wait_for(1, "#job-pi[data-state=paused]");
    let enabled = "select count(*) from cron_jobs where enabled";
    assert_eq!(database.number(enabled), 0);
    browser.click("[aria-label='Resume pi']");
    browser.wait_for(1, "#job-pi[data-state=waiting]");
    assert_eq!(database.number(enabled), 1);

    browser.click("[aria-label='Schedule of pi']");
    browser.fill("#schedule input", "every now and then");
    browser.click("#schedule .main");
    browser.wait_for(1, "#schedule .alarm");
    assert_ne!(browser.text("#schedule .alarm"), "", "the server's own words");
    browser.fill("#schedule input", "every 2h");
    browser.click("#schedule .main");
    browser.wait_for(0, "#schedule[open]");
    assert_eq!(database.text("select schedule from cron_jobs"), "every 2h");

    browser.click("[aria-label='Run now: pi']");
    database.wait_for("it runs", SOON, 1, "select count(*) from cron_runs where outcome is null");
    browser.wait_for(1, "#job-pi[data-state=running]");
    assert_eq!(browser.text("#job-pi [data-label=Server]"), "replica-7");
    assert_eq!(browser.complaints(), [""; 0]);
}

/// Two clicks before any answer can be there.
fn twice(browser: &Browser, selector: &str) {
    let one = format!("document.querySelector({selector:?}).click()");
    browser.run(&format!("{one}; {one}"));
}

#[test]
fn a_hasty_hand_turns_one_page_of_the_history_at_a_time() {
    let Some(browser) = Browser::start() else { return };
    let database = with_a_waiting_job();
    let runs = "insert into cron_runs (job_id, job, function, token, server, scheduled_at, \
                started_at, finished_at, outcome, detail) \
                select 0, 'pi', 'estimate-pi', n, 'replica-1', now(), now(), now(), 'succeeded', \
                '' from generate_series(1, 30) n";
    database.connect().batch_execute(runs).unwrap();
    let replica = replica(&database, "replica-7", any(), &[]);
    browser.open(replica.addr, "/");
    browser.wait_for(12, "#history-rows tr");
    let newest = || browser.text("#history-rows td");
    let first = newest();
    for (page, rows) in [("page 2", 12), ("page 3", 6)] {
        twice(&browser, "#older");
        browser.until(page, || browser.text("#history-page") == page);
        assert_eq!(browser.count("#history-rows tr"), rows);
    }
    for page in ["page 2", "page 1"] {
        twice(&browser, "#newer");
        browser.until(page, || browser.text("#history-page") == page);
    }
    assert_eq!(newest(), first);
    assert_eq!(browser.complaints(), [""; 0]);
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
    browser.click("[aria-label='Run now: pi']");
    browser.wait_for(1, "#job-pi[data-state=running]");
    assert_eq!(browser.text("#job-pi [data-label=Server]"), "replica-1");
    first.signal("-KILL");
    first.wait(SOON);
    browser.wait_for(1, "#job-pi[data-state=stalled]");
    let _third = replica(&database, "replica-3", any(), &[]);
    let server = || browser.text("#job-pi [data-label=Server]");
    browser.until("another replica runs it", || server() == "replica-3");
    browser.wait_for(1, ".takeover title");
    let words = browser.run("return document.querySelector('.takeover title').textContent");
    assert_eq!(words, "pi: taken over by replica-3 from replica-1");
    browser.wait_for(1, "#history-rows .abandoned");

    drop(second);
    browser.wait_for(1, "#lost:not([hidden])");
    let told = browser.text("#lost");
    assert!(told.starts_with(&format!("{addr} does not answer (no connection)")), "{told}");
    let _again = replica(&database, "replica-2", addr, &idle);
    browser.wait_for(1, "#lost[hidden]");
    assert_eq!(browser.complaints(), [""; 0]);
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
    assert_eq!(browser.text("#jobs-left"), "and 19901 more");
    let first = browser.text("#job-rows tr b");
    assert_eq!(first, "pi", "the last by its name, and the one that is due");
    browser.fill("#find", "job-9999");
    browser.wait_for(1, "#job-rows tr");
    browser.fill("#find", "job-1999");
    browser.wait_for(11, "#job-rows tr");
    assert_eq!(browser.text("#jobs-left"), "");
    assert_eq!(browser.complaints(), [""; 0]);
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
    browser.until("the balance is shown", || browser.text("#balance") == "10\u{202f}000");
    browser.click("[aria-label='Pause pi']");
    let told = || browser.text("#jobs-said");
    browser.until("what is missing is told", || told().contains("lacks the scope `jobs`"));

    browser.open(replica.addr, "/api-docs");
    browser.fill("#token", "open-sesame");
    browser.open(replica.addr, "/");
    browser.wait_for(1, "#job-pi[data-state=waiting]");
    browser.click("[aria-label='Pause pi']");
    browser.wait_for(1, "#job-pi[data-state=paused]");
    browser.click("a[href=metrics]");
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
    assert!(told.starts_with("The service cannot tell ("), "{told}");
    let loaded = "return performance.getEntriesByType('resource') \
                  .filter(one => one.initiatorType !== 'fetch').length";
    assert_eq!(browser.run(loaded), 0, "nothing is loaded but what the script asks for");
    let painted = "return performance.getEntriesByName('first-contentful-paint').length";
    browser.until("it is painted", || browser.run(painted) == 1);
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn requests_are_tried_from_the_interfaces_page() {
    let Some(browser) = Browser::start() else { return };
    let database = with_a_waiting_job();
    let replica = replica(&database, "replica-7", any(), &[("API_TOKEN", "open-sesame")]);
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
    assert_eq!(database.number(BALANCE), 10_000);
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn axe_finds_nothing_to_complain_of() {
    let Some(axe) = from_npm("axe", "axe-core/axe.min.js") else { return };
    let Some(browser) = Browser::start() else { return };
    let axe = std::fs::read_to_string(axe).expect("axe.min.js");
    let database = Postgres::shared().migrated();
    database.add_job_calling(
        &"long-names".repeat(6),
        "estimate-pi",
        "0 3 1-7,15-21 * 1-5 Europe/Berlin",
    );
    let server = format!("{}.example.internal:3001", "replica".repeat(6));
    let replica = replica(&database, &server, any(), &[("JOB_MIN_SECONDS", "2")]);
    for (path, selector) in
        [("/", "#history-rows tr:nth-child(10) .succeeded"), ("/api-docs", "#sides:not([hidden])")]
    {
        for (screen, look) in crate::support::LOOKS {
            browser.look_with(screen, look);
            browser.open(replica.addr, path);
            browser.wait_for(1, selector);
            browser.run("document.querySelectorAll('details').forEach(one => one.open = true)");
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
}
