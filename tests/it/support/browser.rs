//! A real browser, steered through WebDriver (W3C): Debian's Chromium and its driver.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::child::Child;
use super::{ask, free_addr, program, until};

/// One browser with one window and a profile of its own; ended with the test.
pub(crate) struct Browser {
    driver: Child,
    addr: SocketAddr,
    session: String,
    profile: PathBuf,
}

/// The member that holds an element's id in every answer (WebDriver, 12.1).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
const SOON: Duration = Duration::from_secs(40);
/// Between two looks at a page: its own work needs the machine, too.
const PAUSE: Duration = Duration::from_millis(50);

/// What a page is looked at with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Screen {
    Desktop,
    Phone,
}

impl Screen {
    pub(crate) fn width(self) -> u64 {
        match self {
            Screen::Desktop => 1_360,
            Screen::Phone => 390,
        }
    }
}

impl Browser {
    /// Starts one; none where it is missing.
    pub(crate) fn start() -> Option<Browser> {
        let (chromium, driver) = (program("chromium")?, program("chromedriver")?);
        let addr = free_addr();
        let profile = std::env::temp_dir().join(format!("balanced-browser-{}", addr.port()));
        let mut command = Command::new(driver);
        command.arg(format!("--port={}", addr.port())).stdout(Stdio::null()).process_group(0);
        let driver = Child::spawn(&mut command);
        let mut browser = Browser { driver, addr, session: String::new(), profile };
        until("the browser's driver listens", SOON, || TcpStream::connect(addr).is_ok());
        let folder = format!("--user-data-dir={}", browser.profile.display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-dev-shm-usage",
            "--disable-sync",
            "--no-first-run",
            &folder,
        ];
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            // A check of a whole page takes long beside other tests.
            "timeouts": {"script": 120_000},
            "goog:chromeOptions": {"binary": chromium, "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let session = browser.command("POST", "/session", &capabilities);
        browser.session = session["sessionId"].as_str().expect("a session").to_owned();
        Some(browser)
    }

    pub(crate) fn open(&self, addr: SocketAddr, path: &str) {
        self.post("url", &json!({"url": format!("http://{addr}{path}")}));
    }

    /// What the script, the body of a function, returns.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({"script": script, "args": []}))
    }

    /// The same, of an expression that is a promise.
    pub(crate) fn settle(&self, promise: &str) -> Value {
        let script =
            format!("const done = arguments[0]; ({promise}).then(done, String).then(done)");
        self.post("execute/async", &json!({"script": script, "args": []}))
    }

    /// The text that a person sees in the first element of this selector.
    pub(crate) fn text(&self, selector: &str) -> String {
        let text = self.run(&format!("return document.querySelector({selector:?})?.innerText"));
        text.as_str().unwrap_or_default().to_owned()
    }

    /// How many elements have this selector.
    pub(crate) fn count(&self, selector: &str) -> usize {
        let count = self.run(&format!("return document.querySelectorAll({selector:?}).length"));
        count.as_u64().and_then(|count| count.try_into().ok()).expect("a count")
    }

    /// Waits until so many elements have this selector.
    pub(crate) fn wait_for(&self, count: usize, selector: &str) {
        self.until(selector, || self.count(selector) == count);
    }

    /// Waits until something about the page is so.
    pub(crate) fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        until(what, SOON, || {
            std::thread::sleep(PAUSE);
            is_so()
        });
    }

    /// Clicks as a person does: what is hidden, covered or disabled cannot be.
    pub(crate) fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.post(&format!("element/{element}/click"), &json!({}));
    }

    /// Types into a field, in place of what it held.
    pub(crate) fn fill(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.post(&format!("element/{element}/clear"), &json!({}));
        self.post(&format!("element/{element}/value"), &json!({"text": text}));
    }

    /// Chooses an option of a list.
    pub(crate) fn choose(&self, selector: &str, option: &str) {
        self.click(&format!("{selector} option[value={option:?}]"));
    }

    fn element(&self, selector: &str) -> String {
        let query = json!({"using": "css selector", "value": selector});
        let found = self.post("element", &query);
        found[ELEMENT].as_str().unwrap_or_else(|| panic!("{selector}: {found}")).to_owned()
    }

    /// Another screen, and the scheme of colours that its person likes.
    pub(crate) fn look_with(&self, screen: Screen, scheme: &str) {
        let mobile = matches!(screen, Screen::Phone);
        let size = json!({
            "width": screen.width(),
            "height": 850,
            "deviceScaleFactor": 1,
            "mobile": mobile,
        });
        self.emulate("setDeviceMetricsOverride", &size);
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.emulate("setEmulatedMedia", &json!({"features": features}));
    }

    fn emulate(&self, what: &str, parameters: &Value) {
        self.order(&format!("Emulation.{what}"), parameters);
    }

    /// Saves what a page gives as a file, in a folder that ends with the browser.
    pub(crate) fn save_files(&self) -> PathBuf {
        let folder = self.profile.join("saved");
        let parameters = json!({"behavior": "allow", "downloadPath": folder});
        self.order("Browser.setDownloadBehavior", &parameters);
        folder
    }

    fn order(&self, command: &str, parameters: &Value) {
        self.post("goog/cdp/execute", &json!({"cmd": command, "params": parameters}));
    }

    /// What the browser complained of since this was last asked, but for requests that failed.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = self.post("se/log", &json!({"type": "browser"}));
        let entries = log.as_array().expect("a log").iter();
        let entries = entries.filter(|entry| entry["source"] != "network");
        entries.map(|entry| entry["message"].to_string()).collect()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.command("POST", &format!("/session/{}/{path}", self.session), body)
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        let host = format!("Host: {}", self.addr);
        let head = format!("{method} {path}");
        let answer = ask(self.addr, &head, &[&host, "Connection: close"], &body.to_string());
        let mut document = answer.json();
        assert_eq!(answer.status, 200, "{method} {path}: {}", document["value"]["message"]);
        document["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver alone would leave the browser's many processes.
        self.driver.signal_group("-KILL");
        let gone = || std::fs::remove_dir_all(&self.profile).is_ok() || !self.profile.exists();
        until("nobody writes into the profile", SOON, gone);
    }
}
