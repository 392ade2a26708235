//! Standard error: the live table where it is a terminal, elsewhere a line now and then.

use std::env;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, StderrLock, Write as _};
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::termios::tcgetwinsize;

use super::table::{self, Row, Size, Tone, View};

/// Where standard error is no terminal.
const LINE_PAUSE: Duration = Duration::from_secs(10);
/// The screen beside the one with the shell's lines, without cursor, and without wrapping: a resize
/// or a key that is pressed spoils nothing there.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// Whether the terminal shows the table's screen.
static ENTERED: AtomicBool = AtomicBool::new(false);

/// Shows a view; the terminal is as before when this is dropped.
pub(super) struct Screen {
    terminal: bool,
    coloured: bool,
    next_line: Instant,
}

impl Screen {
    /// A table on a terminal, lines elsewhere; colours unless `NO_COLOR` is set.
    pub(super) fn new() -> Screen {
        let dumb = env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let terminal = io::stderr().is_terminal() && !dumb;
        let coloured = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        // What is written to the table's screen goes with it: a panic's words, too.
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            drop(leave());
            usual(panic);
        }));
        Screen { terminal, coloured, next_line: Instant::now() }
    }

    /// Shows how things are.
    pub(super) fn show(&mut self, view: &View<'_>) {
        let mut stderr = io::stderr().lock();
        let now = Instant::now();
        let mut text = String::new();
        if self.terminal {
            if !ENTERED.swap(true, Ordering::Relaxed) {
                text.push_str(ENTER);
            }
            let size = size();
            text.push_str(&frame(&table::rows(view, size), size.lines, self.coloured));
        } else if now >= self.next_line {
            self.next_line = now + LINE_PAUSE;
            text = table::line(view) + "\n";
        }
        // One write, so that nothing flickers.
        let _ = stderr.write_all(text.as_bytes());
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        drop(leave());
    }
}

/// Makes the terminal as it was; nobody else can write to it while the lock is kept.
pub(super) fn leave() -> StderrLock<'static> {
    let mut stderr = io::stderr().lock();
    if ENTERED.swap(false, Ordering::Relaxed) {
        let _ = stderr.write_all(LEAVE.as_bytes());
    }
    stderr
}

/// As it is now: people resize terminals.
fn size() -> Size {
    let size = tcgetwinsize(io::stderr()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
    size.map_or(Size { columns: 80, lines: 24 }, |size| Size {
        columns: size.ws_col.into(),
        lines: size.ws_row.into(),
    })
}

/// Writes over the frame before, on all lines. Each is wiped before it is written: behind a full
/// one the cursor stands on its last character. And no end of a line stands behind the last, as
/// that would scroll.
fn frame(rows: &[Row], lines: usize, coloured: bool) -> String {
    let mut text = String::from("\x1b[H");
    for line in 0..lines {
        text.push_str(if line > 0 { "\r\n\x1b[2K" } else { "\x1b[2K" });
        let _ = match rows.get(line) {
            Some(Row { tone: Tone::Alarm, text: row }) if coloured => {
                write!(text, "\x1b[1;31m{row}\x1b[0m")
            }
            Some(Row { tone: Tone::Faint, text: row }) if coloured => {
                write!(text, "\x1b[2m{row}\x1b[0m")
            }
            Some(Row { text: row, .. }) => write!(text, "{row}"),
            None => Ok(()),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_writes_over_the_one_before_and_colours_only_where_asked() {
        let row = |tone, text: &str| Row { tone, text: text.to_owned() };
        let rows = [row(Tone::Alarm, "stalled"), row(Tone::Faint, "paused"), row(Tone::Plain, "x")];
        let plain = "\x1b[H\x1b[2Kstalled\r\n\x1b[2Kpaused\r\n\x1b[2Kx\r\n\x1b[2K";
        assert_eq!(frame(&rows, 4, false), plain);
        let coloured = frame(&rows, 4, true);
        assert_eq!(coloured.matches("\x1b[0m").count(), 2);
        assert_eq!(coloured.replace("\x1b[1;31m", "").matches("\x1b[2m").count(), 1);
    }
}
