//! What `balanced jobs` prints: documents of the service as text for people. Pure.

use balanced::timestamp;
use serde_json::Value;

/// The characters of a line of `list`.
const WIDTH: usize = 80;
/// The most of them that a server's name gets; the job's name gets what is left.
const SERVER_WIDTH: usize = 20;
/// What `show` says of a job, where it is set: the word for it, and its place in the document.
const SHOWN: [(&str, &str); 35] = [
    ("job", "/name"),
    ("description", "/description"),
    ("owner", "/owner"),
    ("function", "/function"),
    ("arguments", "/arguments"),
    ("schedule", "/schedule"),
    ("enabled", "/enabled"),
    ("max seconds", "/maxSeconds"),
    ("retries", "/retries"),
    ("retry after seconds", "/retryAfterSeconds"),
    ("start within seconds", "/startWithinSeconds"),
    ("catch up", "/catchUp"),
    ("group", "/group"),
    ("state", "/state"),
    ("waits for", "/waitsFor/reason"),
    ("  job", "/waitsFor/job"),
    ("failing", "/failing"),
    ("overdue", "/overdue"),
    ("stop requested", "/stopRequested"),
    ("next run", "/nextRunAt"),
    ("attempt", "/attempt"),
    ("next attempt", "/nextAttemptAt"),
    ("run", "/runId"),
    ("  server", "/server"),
    ("  for", "/scheduledAt"),
    ("  started", "/startedAt"),
    ("  seconds", "/elapsedSeconds"),
    ("  progress", "/progress"),
    ("  last seen", "/lastSeenAt"),
    ("last run", "/lastRun/runId"),
    ("  outcome", "/lastRun/outcome"),
    ("  server", "/lastRun/server"),
    ("  finished", "/lastRun/finishedAt"),
    ("  seconds", "/lastRun/durationSeconds"),
    ("  detail", "/lastRun/detail"),
];

/// The jobs as aligned columns, and a line more for what does not go well.
pub(super) fn list(document: &Value) -> String {
    let jobs = document["jobs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut rows = vec![["JOB", "STATE", "SERVER", "ELAPSED", "NEXT"].map(str::to_owned)];
    rows.extend(jobs.iter().map(|job| row(job, &document["now"])));
    let longest = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let mut widths = [0, 1, 2, 3, 4].map(|column| longest(column).unwrap_or_default());
    widths[2] = widths[2].min(SERVER_WIDTH);
    let others: usize = widths[1..].iter().map(|width| width + 2).sum();
    widths[0] = widths[0].min(WIDTH.saturating_sub(others));
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| cut(cell, width));
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(&format!("{}\n", line.trim_end()));
    }
    for what in ["failing", "overdue"] {
        let named = jobs.iter().filter(|job| job[what] == true);
        text.extend(named.map(|job| format!("{what}: {}\n", plain(&job["name"]))));
    }
    if let Some(reason) = document["pause"].get("reason") {
        let until = document["pause"]["until"].as_str().unwrap_or("somebody resumes them");
        let line = format!("all are paused until {until}: {}", plain(reason));
        text.push_str(&format!("{}\n", cut(&line, WIDTH).trim_end()));
    }
    text
}

fn row(job: &Value, now: &Value) -> [String; 5] {
    let elapsed = job["elapsedSeconds"].as_f64().map(|seconds| span(seconds as i64));
    let instant = |value: &Value| value.as_str().and_then(timestamp::parse);
    let left =
        instant(&job["nextRunAt"]).zip(instant(now)).map(|(next, now)| (next - now).num_seconds());
    let next =
        left.map(|left| if left < 1 { "now".to_owned() } else { format!("in {}", span(left)) });
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let server = job["server"].as_str().map(str::to_owned);
    [plain(&job["name"]), plain(&job["state"]), or_none(server), or_none(elapsed), or_none(next)]
}

/// A time in its two largest units.
fn span(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// The text in so many characters.
fn cut(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        true => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
        false => format!("{text:width$}"),
    }
}

/// What is set of a job below this place of its document, a line each.
pub(super) fn show(job: &Value, below: &str) -> String {
    let shown = SHOWN.iter().filter(|(_, place)| place.starts_with(below));
    let lines = shown.filter_map(|(word, place)| {
        let value = job.pointer(place).filter(|value| !value.is_null())?;
        Some(format!("{word:<22}{}\n", plain(value)))
    });
    lines.collect()
}

/// A text as it is, and anything else as JSON. Control characters, which a terminal might obey, are
/// shown as `?`.
fn plain(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.replace(char::is_control, "?")
}

/// What a set of jobs has changed, or would: a line for each job, and the counts.
pub(super) fn applied(document: &Value) -> String {
    let list = |field: &str| document[field].as_array().cloned().unwrap_or_default();
    let (created, changed, deleted) = (list("created"), list("changed"), list("deleted"));
    let would = if document["dryRun"] == true { "would be " } else { "" };
    let mut text = String::new();
    for name in &created {
        text.push_str(&format!("{would}created: {}\n", plain(name)));
    }
    for job in &changed {
        let fields: Vec<String> = list_of(&job["fields"]);
        text.push_str(&format!("{would}changed: {}: {}\n", plain(&job["name"]), fields.join(", ")));
    }
    for name in &deleted {
        text.push_str(&format!("{would}deleted: {}\n", plain(name)));
    }
    for name in list_of(&document["over"]) {
        text.push_str(&format!("{would}disabled, since its schedule is over: {name}\n"));
    }
    let counts = [created.len(), changed.len(), deleted.len()];
    let [created, changed, deleted] = counts;
    let unchanged = &document["unchanged"];
    text.push_str(&format!(
        "{would}{created} created, {changed} changed, {deleted} deleted, {unchanged} unchanged\n"
    ));
    text
}

/// Why a set that was tried would be refused; none if it would not.
pub(super) fn hindrance(document: &Value) -> Option<String> {
    let running = list_of(&document["running"]).join(", ");
    let why = "it would be refused now, since of the jobs to delete these run";
    (!running.is_empty()).then(|| format!("{why}: {running}"))
}

fn list_of(values: &Value) -> Vec<String> {
    values.as_array().into_iter().flatten().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_is_aligned_and_fits_80_characters_whatever_the_names_are() {
        let document = json!({
            "now": "2026-03-01T12:00:00.000000Z",
            "jobs": [
                {"name": "a", "state": "waiting", "server": null, "elapsedSeconds": null,
                 "nextRunAt": "2026-03-01T12:04:12.500000Z", "failing": true},
                {"name": "nightly", "state": "running", "server": "replica-1",
                 "elapsedSeconds": 3_725.5, "nextRunAt": "2026-03-02T12:00:00.000000Z"},
                {"name": "due", "state": "due", "server": null, "elapsedSeconds": null,
                 "nextRunAt": "2026-03-01T11:59:00.000000Z", "overdue": false},
                {"name": "paused", "state": "paused", "nextRunAt": null},
            ],
        });
        let text = "\
JOB      STATE    SERVER     ELAPSED  NEXT
a        waiting  -          -        in 4m12s
nightly  running  replica-1  1h02m    in 1d00h
due      due      -          -        now
paused   paused   -          -        -
failing: a
";
        assert_eq!(list(&document), text);
        let mut long = document;
        long["pause"] = json!({"reason": "x".repeat(999), "until": null});
        let paused = list(&long).lines().last().unwrap_or_default().to_owned();
        assert!(paused.starts_with("all are paused until somebody resumes them: xxx"), "{paused}");
        long["jobs"][1]["name"] = json!("n".repeat(63));
        long["jobs"][1]["server"] = json!("s".repeat(100));
        long["jobs"][1]["elapsedSeconds"] = json!(i64::from(i32::MAX));
        for line in list(&long).lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
    }

    #[test]
    fn a_job_is_shown_as_far_as_it_is_set_and_no_terminal_obeys_it() {
        let job = json!({
            "name": "a", "state": "waiting", "enabled": true, "arguments": {"limit": 5},
            "owner": null, "lastRun": {"runId": 7, "outcome": "failed", "detail": "a\u{1b}[2J\nb"},
        });
        let text = "\
job                   a
arguments             {\"limit\":5}
enabled               true
state                 waiting
last run              7
  outcome             failed
  detail              a?[2J?b
";
        assert_eq!(show(&job, ""), text);
    }

    #[test]
    fn a_set_is_told_job_by_job_with_a_summary() {
        let mut document = json!({
            "dryRun": false, "created": ["a", "b"], "deleted": ["d"], "unchanged": 7,
            "changed": [{"name": "c", "fields": ["enabled", "schedule"]}],
        });
        let done = "created: a\ncreated: b\nchanged: c: enabled, schedule\ndeleted: d\n\
                    2 created, 1 changed, 1 deleted, 7 unchanged\n";
        assert_eq!(applied(&document), done);
        document["dryRun"] = json!(true);
        assert!(applied(&document).lines().all(|line| line.starts_with("would be ")));
    }
}
