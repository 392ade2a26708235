//! The pages behind a proxy that gives the service a path of its own, and another `Host`.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::openapi::operations;
use crate::support::{Browser, Child, Postgres, Process, free_addr, program, until};

const SOON: Duration = Duration::from_secs(30);
/// Browsers leave the field out where the connection is not safe; here it always is.
const WITHOUT_SEC_FETCH_SITE: &str = "http-request del-header Sec-Fetch-Site";

/// HAProxy, which knows the service as `/balanced/` and nothing besides.
struct Proxy {
    _child: Child,
    file: PathBuf,
}

impl Proxy {
    fn start(addr: SocketAddr, replica: SocketAddr, rule: &str) -> Option<Proxy> {
        let file = std::env::temp_dir().join(format!("balanced-prefix-{}.cfg", addr.port()));
        let settings = format!(
            "defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  \
             timeout server 60s\nlisten prefix\n  bind {addr}\n  \
             http-request return status 404 unless {{ path_beg /balanced/ }}\n  \
             http-request replace-path /balanced(/.*) \\1\n  \
             http-request set-header Host inner.example\n  {rule}\n  server replica {replica}\n"
        );
        fs::write(&file, settings).expect("a file of settings");
        let mut command = Command::new(program("haproxy")?);
        let child = Child::spawn(command.arg("-db").arg("-f").arg(&file).stdout(Stdio::null()));
        until("the proxy listens", SOON, || TcpStream::connect(addr).is_ok());
        Some(Proxy { _child: child, file })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}

#[test]
fn both_pages_and_their_links_work_below_a_path() {
    let Some(browser) = Browser::start() else { return };
    let database = Postgres::shared().migrated().without_jobs();
    database.add_job_calling("pi", "estimate-pi", "every 1h");
    let replica = Process::start(database.url(), &[("CRON_ENABLED", "false")]);
    let addr = free_addr();
    let Some(_proxy) = Proxy::start(addr, replica.addr, "") else { return };
    let is_at = |path: &str| {
        let at = || browser.run("return location.pathname");
        browser.until(path, || at() == path);
    };
    browser.open(addr, "/balanced/");
    browser.wait_for(1, "#job-pi");
    browser.click("button[aria-label='Actions for pi']");
    browser.wait_for(1, "#menu-pi button:first-child");
    browser.click("#menu-pi button:first-child");
    browser.wait_for(1, "#job-pi[data-state=paused]");
    browser.fill("[name=amount]", "2");
    browser.click("[value=withdraw]");
    browser.until("it is done", || browser.text("#balance-said").starts_with("User 1: withdrew 2"));
    browser.wait_for(1, "#lost[hidden]");

    browser.click("#user a[href$='/users/1']");
    is_at("/balanced/users/1");
    browser.wait_for(2, "#changes tr");
    browser.click("a.brand");
    is_at("/balanced/");
    browser.wait_for(1, "#job-pi");
    browser.click("nav a[href$='/api-docs']");
    is_at("/balanced/api-docs");
    browser.wait_for(operations().len(), "article.operation");
    browser.click("#changeBalance .try > summary");
    browser.click("#changeBalance button.main");
    let told = || browser.text("#changeBalance .try > .said");
    browser.until("it is answered", || told().starts_with("200"));
    let curl = browser.text("#changeBalance .curl");
    assert!(curl.contains(&format!("'http://{addr}/balanced/api/balance'")), "{curl}");
    let server = "fetch('openapi.json').then(answer => answer.json() \
                  .then(({servers}) => new URL(servers[0].url, answer.url).pathname))";
    assert_eq!(browser.settle(server), json!("/balanced/"));
    browser.click("nav a[href='.']");
    is_at("/balanced/");
    browser.wait_for(1, "#job-pi");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn the_pages_own_changes_pass_where_the_browser_or_a_setting_says_whose_they_are() {
    let Some(browser) = Browser::start() else { return };
    let database = Postgres::shared().migrated().without_jobs();
    let refusal = "A page of another site may not change anything here";
    for (rule, is_trusted, told) in [
        ("", false, "User 1: withdrew 2"),
        (WITHOUT_SEC_FETCH_SITE, false, refusal),
        (WITHOUT_SEC_FETCH_SITE, true, "User 1: withdrew 2"),
    ] {
        let addr = free_addr();
        let own = format!("http://{addr}");
        let origins = if is_trusted { &own } else { "https://friend.example" };
        let settings = [("CRON_ENABLED", "false"), ("TRUSTED_ORIGINS", origins)];
        let replica = Process::start(database.url(), &settings);
        let Some(_proxy) = Proxy::start(addr, replica.addr, rule) else { return };
        browser.open(addr, "/balanced/");
        browser.wait_for(1, "#balance");
        browser.fill("[name=amount]", "2");
        browser.click("[value=withdraw]");
        browser.until(told, || browser.text("#balance-said").starts_with(told));
        assert_eq!(browser.count("#unknown"), 0, "what was refused was not made");
    }
    assert_eq!(database.number("select balance from users where id = 1"), 9_996);
}
