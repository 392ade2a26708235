//! Debian's Chromium, steered through its driver: WebDriver (W3C) over HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::SCRIPT_LIMIT_MS;
use super::own::Own;
use crate::support::{ask, free_addr, program};

const ARGUMENTS: [&str; 8] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-sync",
    "--no-first-run",
];

pub(crate) struct Chromium {
    addr: SocketAddr,
    session: String,
    files: Own,
}

impl Chromium {
    pub(super) fn start() -> Option<Chromium> {
        let (chromium, driver) = (program("chromium")?, program("chromedriver")?);
        let addr = free_addr();
        let own = Own::start(addr, |_| {
            let mut command = Command::new(driver);
            command.arg(format!("--port={}", addr.port()));
            command
        });
        let mut arguments = ARGUMENTS.map(str::to_owned).to_vec();
        arguments.push(format!("--user-data-dir={}", own.folder().display()));
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "timeouts": {"script": SCRIPT_LIMIT_MS},
            "goog:chromeOptions": {"binary": chromium, "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let mut chromium = Chromium { addr, session: String::new(), files: own };
        let session = chromium.command("/session", &capabilities);
        chromium.session = session["sessionId"].as_str().expect("a session").to_owned();
        Some(chromium)
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Value {
        self.command(&format!("/session/{}/{path}", self.session), body)
    }

    /// A command of Chromium's own protocol.
    pub(super) fn own(&self, command: &str, parameters: &Value) -> Value {
        self.post("goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    /// Saves what a page gives as a file, in a folder that ends with the browser.
    pub(super) fn save_files(&self) -> PathBuf {
        let folder = self.files.folder().join("saved");
        let parameters = json!({"behavior": "allow", "downloadPath": folder});
        self.own("Browser.setDownloadBehavior", &parameters);
        folder
    }

    /// What it complained of since this was last asked, but for requests that failed.
    pub(super) fn complaints(&self) -> Vec<String> {
        let log = self.post("se/log", &json!({"type": "browser"}));
        let entries = log.as_array().expect("a log").iter();
        let entries = entries.filter(|entry| entry["source"] != "network");
        entries.map(|entry| entry["message"].to_string()).collect()
    }

    fn command(&self, path: &str, body: &Value) -> Value {
        let host = format!("Host: {}", self.addr);
        let head = format!("POST {path}");
        let answer = ask(self.addr, &head, &[&host, "Connection: close"], &body.to_string());
        let mut document = answer.json();
        assert_eq!(answer.status, 200, "{path}: {}", document["value"]["message"]);
        document["value"].take()
    }
}
