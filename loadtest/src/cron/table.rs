//! The live table, as rows that fit a terminal of any size. Nothing here touches one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use super::chronicle::{Chronicle, Event};
use super::status::{Job, Outcome, State, Status};
use crate::report::grouped;

const NAME_COLUMNS_MIN: usize = 10;
const SERVER_COLUMNS_MIN: usize = 9;
const STATE_COLUMNS: usize = 7;
const TIME_COLUMNS: usize = 5;
/// Names of jobs are cut rather than this: a bar, or when a job runs next and how it ended last.
const REST_COLUMNS_WISHED: usize = 25;
const BAR_COLUMNS_MIN: usize = 5;
const BAR_COLUMNS_MAX: usize = 40;
/// A bar of a server's jobs.
const JOBS_COLUMNS_MAX: u64 = 8;
const SILENT_LINES_MAX: usize = 3;
const SERVER_LINES_MAX: usize = 3;
/// So many events are worth leaving out jobs for.
const EVENT_LINES_MIN: usize = 3;
/// From so many lines on there is room for empty ones.
const AIRY_LINES: usize = 20;
/// A server that is not seen for longer may be gone.
const UNSEEN_SECONDS: f64 = 15.0;

/// What is shown.
pub(super) struct View<'a> {
    /// The newest reading.
    pub(super) status: Option<&'a Status>,
    /// How long ago it was read.
    pub(super) age: Duration,
    /// For how long has been watched.
    pub(super) watched: Duration,
    /// How long is still to be watched; none: until Ctrl-C.
    pub(super) left: Option<Duration>,
    /// How many targets there are.
    pub(super) targets: usize,
    /// Those that show nothing: for how long, and why.
    pub(super) silent: Vec<(Duration, &'a str)>,
    pub(super) chronicle: &'a Chronicle,
}

/// A terminal's.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) lines: usize,
}

/// One line, no longer than the terminal is wide.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) tone: Tone,
    pub(super) text: String,
}

/// What colours say once more; the text says it already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Faint,
    Alarm,
}

impl View<'_> {
    fn is_lost(&self) -> bool {
        self.silent.len() == self.targets
    }

    /// What has passed since the reading, as long as there are readings.
    fn seconds_since(&self) -> f64 {
        if self.is_lost() { 0.0 } else { self.age.as_secs_f64() }
    }
}

/// The whole table; at most as many rows as the terminal has lines.
pub(super) fn rows(view: &View<'_>, size: Size) -> Vec<Row> {
    let airy = usize::from(size.lines >= AIRY_LINES);
    let mut rows = vec![row(Tone::Plain, header(view))];
    rows.extend(silence(view));
    if let Some(status) = view.status {
        let servers = servers(status, view.chronicle, size.columns);
        let events = &view.chronicle.events;
        let events_min = match events.len().min(EVENT_LINES_MIN) {
            0 => 0,
            some => some + airy,
        };
        let around = rows.len() + 2 * airy + 1 + servers.len() + events_min;
        empty(&mut rows, airy);
        rows.extend(jobs(view, status, size.columns, size.lines.saturating_sub(around)));
        empty(&mut rows, airy);
        rows.extend(servers);
        let room = size.lines.saturating_sub(rows.len() + airy).min(events.len());
        if room > 0 {
            empty(&mut rows, airy);
            rows.extend(events.iter().skip(events.len() - room).map(event));
        }
    }
    rows.truncate(size.lines);
    for row in &mut rows {
        row.text = cut_end(&harmless(&row.text), size.columns);
    }
    rows
}

/// The same in one line, for a log.
pub(super) fn line(view: &View<'_>) -> String {
    let mut parts = vec![header(view)];
    parts.extend(silence(view).into_iter().map(|row| row.text));
    if let Some(status) = view.status.filter(|_| !view.is_lost()) {
        let servers = jobs_by_server(status, view.chronicle);
        let one = |(server, jobs): (&&str, &u64)| format!("{server} {jobs}");
        let servers = servers.iter().map(one).collect::<Vec<_>>().join(", ");
        parts.push(format!("jobs per server: {servers}"));
    }
    harmless(&parts.join("; ")).into_owned()
}

fn header(view: &View<'_>) -> String {
    let time = match view.left {
        Some(left) => format!("{} left", clock(left.as_secs_f64().ceil())),
        None => format!("watched {}", clock(view.watched.as_secs_f64())),
    };
    let answer = view.targets - view.silent.len();
    let targets = format!("{answer}/{} targets", view.targets);
    let Some(status) = view.status else { return format!("{time}  {targets}") };
    let count = |state: State| {
        let count = status.jobs.iter().filter(|job| job.state == state).count();
        let shown = count > 0 || state == State::Running;
        shown.then(|| format!("{} {}", grouped(count as u64), state.name()))
    };
    let counts: Vec<_> = State::ALL.into_iter().filter_map(count).collect();
    let now = status.now.time_of_day();
    format!("{now}  {time}  {targets}  {}", counts.join(", "))
}

/// What is lost is said first: a table that stands still looks like one that is right.
fn silence(view: &View<'_>) -> Vec<Row> {
    let mut silent = view.silent.clone();
    silent.sort_by_key(|(since, _)| *since);
    let seconds = |time: &Duration| time.as_secs();
    if let Some((since, reason)) = silent.first().filter(|_| view.is_lost()) {
        let seen = if view.status.is_some() { "; below: what was seen last" } else { "" };
        let seconds = seconds(since);
        return vec![
            row(Tone::Alarm, format!("NO STATUS for {seconds} s; trying again{seen}")),
            row(Tone::Alarm, format!("  {reason}")),
        ];
    }
    let one = |(since, reason): &(Duration, &str)| {
        format!("no status for {} s: {reason}", seconds(since))
    };
    let mut rows: Vec<_> =
        silent.iter().take(SILENT_LINES_MAX).map(|silent| row(Tone::Alarm, one(silent))).collect();
    if let Some(more) = silent.len().checked_sub(SILENT_LINES_MAX).filter(|more| *more > 0) {
        rows.push(row(Tone::Alarm, format!("… and {more} more targets")));
    }
    rows
}

/// Columns of a table of jobs; what is left of a line is for its last one.
struct Columns {
    name: usize,
    server: usize,
    rest: usize,
}

impl Columns {
    fn fit(status: &Status, columns: usize) -> Columns {
        let longest = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
        let names = longest(&mut status.jobs.iter().map(|job| job.name.chars().count()));
        let servers = status.jobs.iter().filter_map(|job| job.server.as_deref());
        let servers = longest(&mut servers.map(|server| server.chars().count()));
        let server = servers.min(SERVER_COLUMNS_MIN.max(columns / 6)).max("server".len());
        let others = server + STATE_COLUMNS + TIME_COLUMNS + 4;
        let room = columns.saturating_sub(others + REST_COLUMNS_WISHED).max(NAME_COLUMNS_MIN);
        let name = names.min(room).max("job".len());
        Columns { name, server, rest: columns.saturating_sub(others + name) }
    }

    fn row(&self, [name, state, server, time, rest]: [&str; 5]) -> String {
        let Columns { name: name_columns, server: server_columns, .. } = *self;
        let (name, server) = (cut_end(name, name_columns), cut_beginning(server, server_columns));
        let row = format!(
            "{name:name_columns$} {state:STATE_COLUMNS$} {server:server_columns$} \
             {time:>TIME_COLUMNS$} {rest}"
        );
        row.trim_end().to_owned()
    }
}

/// All of them by name, or those that need a look first.
fn jobs(view: &View<'_>, status: &Status, columns: usize, lines: usize) -> Vec<Row> {
    let columns = Columns::fit(status, columns);
    let mut rows = vec![row(Tone::Faint, columns.row(["job", "state", "server", "time", ""]))];
    let mut jobs: Vec<_> = status.jobs.iter().collect();
    let fit = jobs.len() <= lines;
    match fit {
        true => jobs.sort_by_key(|job| job.name.as_str()),
        false => jobs.sort_by_key(|job| (urgency(job), job.name.as_str())),
    }
    let shown = if fit { lines } else { lines.saturating_sub(1) };
    rows.extend(jobs.iter().take(shown).map(|job| job_row(job, view, status, &columns)));
    if !fit {
        let more = grouped((jobs.len() - shown) as u64);
        rows.push(row(Tone::Faint, format!("… and {more} more")));
    }
    rows
}

fn urgency(job: &Job) -> u8 {
    match job.state {
        State::Stalled => 0,
        State::Running => 1,
        State::Due => 2,
        State::Waiting if has_failed(job) => 3,
        State::Waiting => 4,
        State::Paused => 5,
    }
}

fn has_failed(job: &Job) -> bool {
    job.last_run.as_ref().is_some_and(|run| run.outcome == Outcome::Failed)
}

fn job_row(job: &Job, view: &View<'_>, status: &Status, columns: &Columns) -> Row {
    let since = view.seconds_since();
    let time = job.elapsed_seconds.map_or_else(String::new, |elapsed| clock(elapsed + since));
    let rest = match job.open_run() {
        // As it was told: a bar that went on by itself would hide a job that does not.
        Some(_) => bar(job.progress.unwrap_or_default(), columns.rest),
        None => [next_run(job, status, since), last_run(job)]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("; "),
    };
    let tone = match job.state {
        _ if view.is_lost() => Tone::Faint,
        State::Stalled => Tone::Alarm,
        State::Running | State::Due => Tone::Plain,
        State::Waiting | State::Paused if has_failed(job) => Tone::Alarm,
        State::Waiting | State::Paused => Tone::Faint,
    };
    let server = job.server.as_deref().unwrap_or_default();
    row(tone, columns.row([&job.name, job.state.name(), server, &time, &rest]))
}

fn bar(progress: f64, columns: usize) -> String {
    let progress = progress.clamp(0.0, 1.0);
    // Not "100%" before it is.
    let percent = format!("{:>3}%", (progress * 100.0) as u64);
    let cells = columns.saturating_sub(percent.len() + 1).min(BAR_COLUMNS_MAX);
    let full = (progress * cells as f64) as usize;
    match cells < BAR_COLUMNS_MIN {
        true => percent,
        false => format!("{}{} {percent}", "█".repeat(full), "░".repeat(cells - full)),
    }
}

fn next_run(job: &Job, status: &Status, since: f64) -> Option<String> {
    let next = job.next_run_at.filter(|_| job.state == State::Waiting)?;
    let seconds = (next.seconds_since(status.now) - since).max(0.0).ceil() as u64;
    Some(match seconds {
        _ if seconds < 120 => format!("in {seconds} s"),
        _ if seconds < 7_200 => format!("in {} min", seconds / 60),
        _ if seconds < 172_800 => format!("in {} h", seconds / 3_600),
        _ => format!("in {} days", seconds / 86_400),
    })
}

/// The text of a failure is what a person looks for.
fn last_run(job: &Job) -> Option<String> {
    let last = job.last_run.as_ref()?;
    let (outcome, server) = (last.outcome.name(), &last.server);
    Some(match last.detail.as_deref().filter(|_| last.outcome == Outcome::Failed) {
        Some(detail) => format!("{outcome}: {detail}"),
        None => format!("{outcome} after {} on {server}", clock(last.duration_seconds)),
    })
}

fn jobs_by_server<'a>(status: &'a Status, chronicle: &'a Chronicle) -> BTreeMap<&'a str, u64> {
    let mut jobs: BTreeMap<&str, u64> =
        chronicle.seen.keys().map(|server| (server.as_str(), 0)).collect();
    let running = status.jobs.iter().filter(|job| job.state == State::Running);
    for server in running.filter_map(|job| job.server.as_deref()) {
        *jobs.entry(server).or_default() += 1;
    }
    jobs
}

/// As many beside each other as a line takes.
fn servers(status: &Status, chronicle: &Chronicle, columns: usize) -> Vec<Row> {
    let one = |(server, jobs): (&str, u64)| {
        let bar = "▪".repeat(usize::try_from(jobs.min(JOBS_COLUMNS_MAX)).unwrap_or_default());
        let unseen = chronicle.seen.get(server).map(|seen| status.now.seconds_since(*seen));
        let unseen = unseen.filter(|seconds| *seconds > UNSEEN_SECONDS);
        let unseen = unseen.map_or_else(String::new, |time| format!(" unseen {}", clock(time)));
        format!("{}{unseen}", format!("{server} {jobs} {bar}").trim_end())
    };
    let all: Vec<_> = jobs_by_server(status, chronicle).into_iter().map(one).collect();
    let width = all.iter().map(|one| one.chars().count()).max().unwrap_or(0) + 2;
    let beside = (columns / width).max(1);
    let lines = all.chunks(beside);
    let more = all.len().saturating_sub(beside * SERVER_LINES_MAX);
    let mut rows: Vec<_> = lines
        .take(SERVER_LINES_MAX)
        .map(|line| line.iter().map(|one| format!("{one:width$}")).collect::<String>())
        .map(|line| row(Tone::Plain, line.trim_end().to_owned()))
        .collect();
    if more > 0 {
        rows.push(row(Tone::Faint, format!("… and {} more servers", grouped(more as u64))));
    }
    rows
}

fn event(event: &Event) -> Row {
    let tone = if event.alarm { Tone::Alarm } else { Tone::Plain };
    row(tone, format!("{}  {}", event.at.time_of_day(), event.text))
}

fn row(tone: Tone, text: String) -> Row {
    Row { tone, text }
}

fn empty(rows: &mut Vec<Row>, count: usize) {
    rows.extend((0..count).map(|_| row(Tone::Plain, String::new())));
}

/// Minutes and seconds, from 100 minutes on hours and minutes.
fn clock(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    match seconds < 6_000 {
        true => format!("{}:{:02}", seconds / 60, seconds % 60),
        false => format!("{}h{:02}", seconds / 3_600, seconds / 60 % 60),
    }
}

/// Names of jobs differ at their beginning.
fn cut_end(text: &str, columns: usize) -> String {
    match text.chars().count() > columns {
        true => text.chars().take(columns.saturating_sub(1)).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

/// Names of servers differ at their end: `host:port`.
fn cut_beginning(text: &str, columns: usize) -> String {
    match text.chars().count().checked_sub(columns).filter(|more| *more > 0) {
        Some(more) => ['…'].into_iter().chain(text.chars().skip(more + 1)).collect(),
        None => text.to_owned(),
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
mod tests;
