//! A real browser with one window and files of its own, steered by the commands of WebDriver (W3C).

mod chromium;
mod firefox;
mod own;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use self::chromium::Chromium;
use self::firefox::Firefox;
use super::until;

pub(crate) enum Browser {
    Chromium(Chromium),
    Firefox(Firefox),
}

/// The member that holds an element's id in every answer (WebDriver, 12.1).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
const SOON: Duration = Duration::from_secs(40);
/// Between two looks at a page: its own work needs the machine, too.
const PAUSE: Duration = Duration::from_millis(50);
/// A check of a whole page takes long beside other tests.
const SCRIPT_LIMIT_MS: u64 = 120_000;
/// More than a page has places where Tab stops.
const TABS_MAX: usize = 300;

/// The keys that have names here, and what WebDriver takes for them (17.4.2).
const KEYS: [(&str, char); 9] = [
    ("Tab", '\u{e004}'),
    ("Enter", '\u{e006}'),
    ("Escape", '\u{e00c}'),
    ("Space", ' '),
    ("Backspace", '\u{e003}'),
    ("Left", '\u{e012}'),
    ("Up", '\u{e013}'),
    ("Right", '\u{e014}'),
    ("Down", '\u{e015}'),
];
/// The keys that are held while another is pressed.
const HELD: [(&str, char); 2] = [("Shift+", '\u{e008}'), ("Control+", '\u{e009}')];

/// What a page is looked at with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Screen {
    Desktop,
    Tablet,
    Phone,
    /// The desktop's, at 200 %.
    Zoomed,
}

/// What every page is looked at with, and how.
pub(crate) const LOOKS: [(Screen, &str); 7] = [
    (Screen::Desktop, "light"),
    (Screen::Desktop, "forced"),
    (Screen::Desktop, "print"),
    (Screen::Tablet, "dark"),
    (Screen::Phone, "light"),
    (Screen::Phone, "dark"),
    (Screen::Zoomed, "light"),
];

impl Screen {
    pub(crate) fn width(self) -> u64 {
        match self {
            Screen::Desktop => 1_360,
            Screen::Tablet => 820,
            Screen::Phone => 390,
            Screen::Zoomed => 680,
        }
    }
}

impl Browser {
    /// Starts Chromium; none where it is missing.
    pub(crate) fn start() -> Option<Browser> {
        Chromium::start().map(Browser::Chromium)
    }

    /// The same, of Firefox.
    pub(crate) fn firefox() -> Option<Browser> {
        Firefox::start().map(Browser::Firefox)
    }

    pub(crate) fn open(&self, addr: SocketAddr, path: &str) {
        self.post("url", &json!({"url": format!("http://{addr}{path}")}));
        // Tests count what a page has asked for, and a browser keeps 250 of these.
        self.run("performance.setResourceTimingBufferSize(100000)");
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
        self.until(&format!("{count} of {selector}"), || self.count(selector) == count);
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

    /// Presses keys as a person does who has only a keyboard: words between spaces. A word is a
    /// key's name, or else it is typed letter by letter; `Shift+` and `Control+` may stand before.
    pub(crate) fn press(&self, keys: &str) {
        let mut strokes = Vec::new();
        for word in keys.split(' ') {
            let held = HELD.iter().find(|(prefix, _)| word.starts_with(prefix));
            let plain = held.map_or(word, |(prefix, _)| &word[prefix.len()..]);
            let held = held.map(|(_, key)| *key);
            let press = |key: char| json!({"type": "keyDown", "value": key});
            let release = |key: char| json!({"type": "keyUp", "value": key});
            strokes.extend(held.map(press));
            match KEYS.iter().find(|(name, _)| *name == plain) {
                Some((_, key)) => strokes.extend([press(*key), release(*key)]),
                None => strokes.extend(plain.chars().flat_map(|key| [press(key), release(key)])),
            }
            strokes.extend(held.map(release));
        }
        let keyboard = json!({"type": "key", "id": "keyboard", "actions": strokes});
        self.post("actions", &json!({"actions": [keyboard]}));
    }

    /// Presses Tab until this element has the focus.
    pub(crate) fn tab_to(&self, selector: &str) {
        let is_there = format!("return document.activeElement.matches({selector:?})");
        let found = (0..TABS_MAX).any(|_| {
            self.press("Tab");
            self.run(&is_there) == true
        });
        assert!(found, "Tab does not lead to {selector}");
    }

    /// Another screen, and what its person likes or does: `light`, `dark`, `forced` (the system's
    /// few colours in place of the page's) or `print`. Only in Chromium.
    pub(crate) fn look_with(&self, screen: Screen, look: &str) {
        let scale = if matches!(screen, Screen::Zoomed) { 2 } else { 1 };
        let size = json!({
            "width": screen.width(),
            "height": 850 / scale,
            "deviceScaleFactor": scale,
            "mobile": matches!(screen, Screen::Tablet | Screen::Phone),
        });
        self.chromium().own("Emulation.setDeviceMetricsOverride", &size);
        let scheme = if look == "dark" { "dark" } else { "light" };
        let forced = if look == "forced" { "active" } else { "none" };
        let media = json!({
            "media": if look == "print" { "print" } else { "" },
            "features": [
                {"name": "prefers-color-scheme", "value": scheme},
                {"name": "forced-colors", "value": forced},
            ],
        });
        self.chromium().own("Emulation.setEmulatedMedia", &media);
    }

    /// A clock that shows another zone's time, for the pages that are opened after this. Only in
    /// Chromium.
    pub(crate) fn move_to(&self, zone: &str) {
        let zone = json!({"timezoneId": zone});
        self.chromium().own("Emulation.setTimezoneOverride", &zone);
    }

    /// Puts the whole page, as NAME.png, into the folder that `PICTURES` names, where it names one:
    /// some faults of a page only people see. Only in Chromium.
    pub(crate) fn screenshot(&self, name: &str) {
        let Some(folder) = std::env::var_os("PICTURES") else { return };
        let whole = json!({"captureBeyondViewport": true, "clip": self.run(
            "const {scrollWidth, scrollHeight} = document.documentElement;
             return {x: 0, y: 0, width: scrollWidth, height: scrollHeight, scale: 1};"
        )});
        let image = self.chromium().own("Page.captureScreenshot", &whole);
        let image = BASE64_STANDARD.decode(image["data"].as_str().expect("an image"));
        let file = Path::new(&folder).join(name).with_extension("png");
        std::fs::write(file, image.expect("base64")).expect("a file");
    }

    /// Saves what a page gives as a file, in this folder, which ends with the browser. Only in
    /// Chromium.
    pub(crate) fn save_files(&self) -> PathBuf {
        self.chromium().save_files()
    }

    /// What the browser complained of since this was last asked, but for requests that failed.
    pub(crate) fn complaints(&self) -> Vec<String> {
        match self {
            Browser::Chromium(chromium) => chromium.complaints(),
            Browser::Firefox(firefox) => firefox.complaints(),
        }
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        match self {
            Browser::Chromium(chromium) => chromium.post(path, body),
            Browser::Firefox(firefox) => firefox.post(path, body),
        }
    }

    fn chromium(&self) -> &Chromium {
        let Browser::Chromium(chromium) = self else { panic!("only Chromium can be told this") };
        chromium
    }
}
