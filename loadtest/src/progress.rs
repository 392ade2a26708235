//! One line on a terminal that says how far things are; silent anywhere else.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Often enough for the eye, rare enough to cost nothing.
const PAUSE: Duration = Duration::from_millis(100);

/// The line; it is wiped when this is dropped.
pub(crate) struct Progress {
    shown: bool,
    next: Option<Instant>,
}

impl Progress {
    /// Silent unless standard error is a terminal.
    pub(crate) fn new() -> Progress {
        let next = std::io::stderr().is_terminal().then(Instant::now);
        Progress { shown: false, next }
    }

    /// Shows what `line` says, at most ten times a second; `line` is not asked otherwise.
    pub(crate) fn show(&mut self, line: impl FnOnce() -> String) {
        let now = Instant::now();
        if self.next.is_some_and(|next| next <= now) {
            self.next = Some(now + PAUSE);
            self.shown = true;
            let _ = write!(std::io::stderr(), "\r{}\x1b[K", line());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
