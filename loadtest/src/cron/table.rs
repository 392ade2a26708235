//! The live table on a terminal; elsewhere a line now and then.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::time::{Duration, Instant};

use super::status::{Job, State, Status};
use crate::report::grouped;

/// Where standard error is no terminal.
const LINE_PAUSE: Duration = Duration::from_secs(10);
/// More jobs than this do not fit a terminal of 24 lines; its height is not known here.
const ROWS_MAX: usize = 16;
const NAME_WIDTH: usize = 22;
const SERVER_WIDTH: usize = 14;
const BAR_CELLS: usize = 20;

/// Shows on standard error how the jobs are; a table is wiped when this is dropped.
pub(super) struct Live {
    terminal: bool,
    /// Lines of the table that stand there.
    lines: usize,
    next_line: Instant,
}

impl Live {
    /// A table on a terminal, lines elsewhere.
    pub(super) fn new() -> Live {
        let terminal = std::io::stderr().is_terminal();
        Live { terminal, lines: 0, next_line: Instant::now() }
    }

    /// Shows `status`, the time left, and how many of all targets answered.
    pub(super) fn show(&mut self, status: &Status, left: Duration, targets: (usize, usize)) {
        let now = Instant::now();
        let mut text = String::new();
        if self.terminal {
            let rows = table(status, left, targets);
            // One write, so that nothing flickers; what is too wide is cut by the terminal, as a
            // line that wraps would count as two.
            text.push_str(&self.up());
            text.push_str("\x1b[?7l");
            for row in &rows {
                let _ = writeln!(text, "{row}\x1b[K");
            }
            text.push_str("\x1b[J\x1b[?7h");
            self.lines = rows.len();
        } else if now >= self.next_line {
            self.next_line = now + LINE_PAUSE;
            let (header, servers) = (header(status, left, targets), servers(status));
            let _ = writeln!(text, "{header}; {servers}");
        }
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    fn up(&self) -> String {
        match self.lines {
            0 => String::new(),
            lines => format!("\r\x1b[{lines}A"),
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if self.lines > 0 {
            let _ = write!(std::io::stderr(), "{}\x1b[J", self.up());
        }
    }
}

fn table(status: &Status, left: Duration, targets: (usize, usize)) -> Vec<String> {
    let mut rows = vec![header(status, left, targets), String::new()];
    rows.push(format!(
        "{:NAME_WIDTH$} {:7} {:SERVER_WIDTH$} {:>6} progress",
        "job", "state", "server", "time"
    ));
    let mut jobs: Vec<_> = status.jobs.iter().collect();
    match jobs.len() > ROWS_MAX {
        true => jobs.sort_by_key(|job| (job.state, job.name.as_str())),
        false => jobs.sort_by_key(|job| job.name.as_str()),
    }
    rows.extend(jobs.iter().take(ROWS_MAX).map(|job| row(job, status)));
    if let Some(more) = jobs.len().checked_sub(ROWS_MAX).filter(|more| *more > 0) {
        rows.push(format!("… and {} more", grouped(more as u64)));
    }
    rows.push(String::new());
    rows.push(servers(status));
    rows
}

fn header(status: &Status, left: Duration, (answered, all): (usize, usize)) -> String {
    let left = clock(left.as_secs_f64().ceil());
    let count = |state: State| {
        let count = status.jobs.iter().filter(|job| job.state == state).count();
        format!("{} {}", grouped(count as u64), state.name())
    };
    let counts = State::ALL.map(count).join(", ");
    format!("{left} left  {counts}  {answered} of {all} targets")
}

fn servers(status: &Status) -> String {
    let mut jobs: BTreeMap<&str, u64> = BTreeMap::new();
    let running = status.jobs.iter().filter(|job| job.state == State::Running);
    for server in running.filter_map(|job| job.server.as_deref()) {
        *jobs.entry(server).or_default() += 1;
    }
    let counts = jobs.iter().map(|(server, jobs)| format!("{} {jobs}", harmless(server)));
    format!("jobs per server: {}", counts.collect::<Vec<_>>().join(", "))
}

fn row(job: &Job, status: &Status) -> String {
    let name = cut_end(&job.name);
    let server = cut_beginning(job.server.as_deref().unwrap_or_default());
    let time = job.elapsed_seconds.map_or_else(String::new, clock);
    let how = match job.open_run() {
        Some(_) => bar(job.progress.unwrap_or_default()),
        None => next_run(job, status),
    };
    let state = job.state.name();
    let row = format!("{name:NAME_WIDTH$} {state:7} {server:SERVER_WIDTH$} {time:>6} {how}");
    row.trim_end().to_owned()
}

fn bar(progress: f64) -> String {
    let progress = progress.clamp(0.0, 1.0);
    let full = (progress * BAR_CELLS as f64) as usize;
    // Not "100%" before it is.
    let percent = (progress * 100.0) as u64;
    format!("{}{} {percent:>3}%", "█".repeat(full), "░".repeat(BAR_CELLS - full))
}

fn next_run(job: &Job, status: &Status) -> String {
    let next = job.next_run_at.filter(|_| job.state == State::Waiting);
    match next.map(|next| next.seconds_since(status.now).max(0.0).ceil() as u64) {
        None => String::new(),
        Some(seconds) if seconds < 120 => format!("in {seconds} s"),
        Some(seconds) if seconds < 7_200 => format!("in {} min", seconds / 60),
        Some(seconds) if seconds < 172_800 => format!("in {} h", seconds / 3_600),
        Some(seconds) => format!("in {} days", seconds / 86_400),
    }
}

/// Minutes and seconds.
fn clock(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// Names of jobs differ at their beginning.
fn cut_end(name: &str) -> String {
    match name.chars().count() > NAME_WIDTH {
        true => name.chars().take(NAME_WIDTH - 1).chain(['…']).collect(),
        false => name.to_owned(),
    }
}

/// Names of servers differ at their end: `host:port`.
fn cut_beginning(server: &str) -> String {
    let server = harmless(server);
    match server.chars().count().checked_sub(SERVER_WIDTH).filter(|more| *more > 0) {
        Some(more) => ['…'].into_iter().chain(server.chars().skip(more + 1)).collect(),
        None => server.into_owned(),
    }
}

/// Without anything a terminal would obey.
pub(super) fn harmless(text: &str) -> Cow<'_, str> {
    match text.contains(char::is_control) {
        true => Cow::Owned(text.replace(char::is_control, " ")),
        false => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{running, status, waiting};
    use super::*;

    const LEFT: Duration = Duration::from_millis(101_200);

    #[test]
    fn a_table_is_readable() {
        let jobs = vec![waiting("b-second"), running("a-first", "replica-1", 1, 0)];
        let rows = table(&status("replica-2", 258, jobs), LEFT, (4, 5));
        assert_eq!(
            rows,
            [
                "1:42 left  1 running, 1 waiting, 0 due, 0 paused, 0 stalled  4 of 5 targets",
                "",
                "job                    state   server           time progress",
                "a-first                running replica-1        0:30 █████░░░░░░░░░░░░░░░  25%",
                "b-second               waiting                       in 42 s",
                "",
                "jobs per server: replica-1 1",
            ]
        );
    }

    #[test]
    fn it_fits_a_small_terminal() {
        let long = "x".repeat(63);
        let job = |number: i64| {
            let name = format!("{number:02}{long}");
            Job { progress: Some(1.0), ..running(&name, "a-host-of-many-letters:3001", number, 0) }
        };
        let jobs = vec![waiting("00"); 2].into_iter().chain((1..=30).map(job)).collect();
        let rows = table(&status("r", 0, jobs), LEFT, (5, 5));
        assert!(rows.len() < 24, "{} rows", rows.len());
        assert!(rows.iter().all(|row| row.chars().count() < 80), "{rows:#?}");
        assert!(rows[3].starts_with("01xxxxxxxxxxxxxxxxxxx… running …"), "who runs is first");
        assert!(rows[3].contains("ters:3001"), "{}", rows[3]);
        assert!(rows.contains(&"… and 16 more".to_owned()), "{rows:#?}");
    }

    #[test]
    fn a_name_cannot_command_the_terminal() {
        assert_eq!(harmless("a\x1b[2Jb\n"), "a [2Jb ");
    }
}
