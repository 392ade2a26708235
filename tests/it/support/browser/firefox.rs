//! Debian's Firefox, which has no driver there: this speaks Marionette, Firefox's own protocol
//! (remote/marionette in its source), and takes the same commands as a driver does.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::SCRIPT_LIMIT_MS;
use super::own::Own;
use crate::support::{free_addr, program};

/// Marionette itself keeps Firefox quiet as soon as it has started: these hold before that.
const QUIET: &str = r#"
user_pref("browser.aboutwelcome.enabled", false);
user_pref("browser.startup.page", 0);
user_pref("app.normandy.enabled", false);
user_pref("app.update.disabledForTesting", true);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("toolkit.telemetry.reportingpolicy.firstRun", false);
"#;
/// The errors of pages; a warning is none.
const COMPLAINTS: &str = "
    const isOfAPage = entry => entry instanceof Ci.nsIScriptError
        && !(entry.flags & Ci.nsIScriptError.warningFlag) && /^http/.test(entry.sourceName);
    const found = Services.console.getMessageArray().filter(isOfAPage).map(String);
    Services.console.reset();
    return found;";
/// Longer than a script may take: then Firefox itself says what is wrong.
const ANSWER_LIMIT: Duration = Duration::from_millis(SCRIPT_LIMIT_MS + 60_000);

pub(crate) struct Firefox {
    stream: TcpStream,
    _own: Own,
}

impl Firefox {
    pub(super) fn start() -> Option<Firefox> {
        let firefox = program("firefox-esr")?;
        let addr = free_addr();
        let own = Own::start(addr, |folder| {
            let settings = format!("{QUIET}user_pref(\"marionette.port\", {});\n", addr.port());
            fs::write(folder.join("user.js"), settings).expect("its settings");
            let mut command = Command::new(firefox);
            command.args(["--headless", "--marionette", "--remote-allow-system-access"]);
            command.arg("--profile").arg(folder).env("HOME", folder);
            command
        });
        let stream = TcpStream::connect(addr).expect("Marionette");
        stream.set_read_timeout(Some(ANSWER_LIMIT)).expect("a limit");
        let firefox = Firefox { stream, _own: own };
        assert_eq!(firefox.read()["marionetteProtocol"], 3);
        let capabilities = json!({"timeouts": {"script": SCRIPT_LIMIT_MS}});
        firefox.command("WebDriver:NewSession", &capabilities);
        Some(firefox)
    }

    /// As a driver does, by WebDriver's path.
    pub(super) fn post(&self, path: &str, body: &Value) -> Value {
        let mut body = body.clone();
        let path = path.split('/').collect::<Vec<_>>();
        let name = match path[..] {
            ["url"] => "Navigate",
            ["execute", "sync"] => "ExecuteScript",
            ["execute", "async"] => "ExecuteAsyncScript",
            ["element"] => "FindElement",
            ["element", _, "click"] => "ElementClick",
            ["element", _, "clear"] => "ElementClear",
            ["element", _, "value"] => "ElementSendKeys",
            ["actions"] => "PerformActions",
            _ => panic!("{path:?} is not known here"),
        };
        if let ["element", id, _] = path[..] {
            body["id"] = json!(id);
        }
        self.command(&format!("WebDriver:{name}"), &body)["value"].take()
    }

    /// What it complained of since this was last asked.
    pub(super) fn complaints(&self) -> Vec<String> {
        let enter =
            |context: &str| self.command("Marionette:SetContext", &json!({"value": context}));
        enter("chrome");
        let found = self.post("execute/sync", &json!({"script": COMPLAINTS, "args": []}));
        enter("content");
        found.as_array().expect("a list").iter().map(Value::to_string).collect()
    }

    /// One at a time, so that the next answer is this command's.
    fn command(&self, name: &str, parameters: &Value) -> Value {
        let message = json!([0, 1, name, parameters]).to_string();
        let message = format!("{}:{message}", message.len());
        (&self.stream).write_all(message.as_bytes()).expect("Firefox takes a command");
        let mut answer = self.read();
        assert!(answer[2].is_null(), "{name}: {}", answer[2]["message"]);
        answer[3].take()
    }

    /// A message: its length, a colon and JSON. Nothing comes after it before the next command.
    fn read(&self) -> Value {
        let mut stream = BufReader::new(&self.stream);
        let mut length = Vec::new();
        stream.read_until(b':', &mut length).expect("Firefox answers");
        length.pop();
        let length = String::from_utf8_lossy(&length).parse().expect("a length");
        let mut message = vec![0; length];
        stream.read_exact(&mut message).expect("the whole of it");
        serde_json::from_slice(&message).expect("JSON")
    }
}
