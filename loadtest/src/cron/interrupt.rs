//! Ctrl-C: the first one ends the watch, a second one the program.

use std::cell::Cell;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Instant;

use super::screen;

/// As shells say it of a program that Ctrl-C has ended.
const EXIT_INTERRUPTED: i32 = 130;

/// Whether the watch shall end.
pub(super) struct Interrupt {
    told: Receiver<()>,
    set: Cell<bool>,
}

impl Interrupt {
    /// Takes over SIGINT, SIGTERM and SIGHUP.
    ///
    /// # Errors
    /// The system does not let it, as a sentence.
    pub(super) fn on_signals() -> Result<Interrupt, String> {
        let (tell, told) = mpsc::channel();
        let twice = AtomicBool::new(false);
        let handler = move || {
            if twice.swap(true, Ordering::Relaxed) {
                let _alone = screen::leave();
                process::exit(EXIT_INTERRUPTED);
            }
            let _ = tell.send(());
        };
        ctrlc::set_handler(handler).map_err(|error| format!("no signal can be taken: {error}"))?;
        Ok(Interrupt { told, set: Cell::new(false) })
    }

    /// Waits until `instant`, or less: whether the watch shall end.
    pub(super) fn wait_until(&self, instant: Instant) -> bool {
        if !self.set.get() {
            let left = instant.saturating_duration_since(Instant::now());
            self.set.set(self.told.recv_timeout(left).is_ok());
        }
        self.set.get()
    }

    /// Whether the watch shall end.
    pub(super) fn is_set(&self) -> bool {
        self.wait_until(Instant::now())
    }
}
