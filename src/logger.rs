//! The log, on standard error: one line an event, readable alone, made for `grep`.
//!
//! ```text
//! 2026-11-21T13:51:02.11Z [INFO] event=run_started job=sample-pi run=17 late_seconds=0.4 server=a
//! ```
//!
//! A value that can hold anything else than letters, digits and `._:/+=-` is quoted as Rust quotes
//! a text, so nothing that a stranger sends can begin a line of its own. `server` is the replica
//! that writes, and always last: logs of several replicas may be merged, and a blank follows every
//! other value (`grep 'run=17 '`). `actor` is the name of a request's token. Units stand last in a
//! name. `reason` says why, `hint` what comes next or what to do. `info` is life, `warn` needs a
//! look, `error` needs somebody to act.
//!
//! # Events
//!
//! Each with its levels, its fields (some of them only where they make sense) and what it means. A
//! test holds the code to this list (`tests/it/logs.rs`).
//!
//! A replica:
//!
//! - `started` (info) version, listen: the settings are right, and the port is taken
//! - `time_zones` (info) release, source: which time zones are in use, and where they come from
//! - `serving` (info) url: migrated and ready
//! - `draining` (info): told to end
//! - `listening_ended` (info) hint: no connection is taken any more
//! - `stopped` (info, warn) reason: the last line; a reason where something was left
//! - `process_ends` (error) job, run, thread, exit_code, reason, hint: it ends itself, for the
//!   jobs' sake, or because it cannot go on
//! - `panic` (error) thread, reason: a bug, whatever it ended
//! - `library_panicked` (debug) thread, reason: the HTTP library's way to say that a client has
//!   gone
//! - `capacity` (debug) connections, descriptors: what this machine's limits allow
//! - `few_connections` (warn) connections, hint: they allow few
//! - `cron_off` (info) hint: this replica runs no jobs
//! - `tls_not_verified` (warn) hint: whoever answers is taken for the database
//! - `password_file_ignored` (warn) reason: others may read it, or it cannot be read
//! - `tokens_read` (info) tokens: again, after SIGHUP: so many count from now on
//! - `tokens_not_read` (error) reason, hint: the file has faults, so the tokens from before count
//!
//! The database:
//!
//! - `database_away` (warn) reason, retry_ms, hint: once for an outage
//! - `database_ready` (info): the first answer, or the first after an outage
//! - `database_not_durable` (warn) hint: a crash of its machine can lose what was acknowledged
//! - `snapshots_not_seen` (info) reason: somebody has taken away the right to see them, so the
//!   metrics of the oldest snapshot stay empty
//! - `host_left` (warn) host, reason: its connections are ended, for another is the primary or
//!   nobody knows which is
//! - `host_taken_again` (info) host
//! - `host_not_asked` (warn) host, reason: it is there, and does not say which server it is
//! - `hosts_not_compared` (warn) reason, hint: this database does not let anybody tell
//! - `pool_connection_lost` (debug) reason
//! - `migrations_waiting` (info, warn) reason: another replica applies them, or a table is locked
//! - `migration_applied` (info) migration
//! - `schema_newer` (warn) migration, hint: a newer program has migrated the database
//!
//! Runs:
//!
//! - `run_started` (info) job, run, attempt, late_seconds: a run begins
//! - `run_taken_over` (warn) job, run, attempt, late_seconds, from_run, from_server, reason: it
//!   begins, for one whose lease ran out
//! - `run_abandoned` (warn) job, run, from_server, reason: closed for a replica whose lease ran
//!   out; nobody takes the job over, for it is paused, deleted or of another build
//! - `run_not_started` (error) job, run, reason, hint: no thread was left
//! - `run_cancelled` (info, warn) job, run, reason, hint: its function has returned before its end
//! - `run_overdue` (warn) job, run, seconds, reason, hint: its function does not return
//! - `run_timed_out` (warn) job, run, reason, returned_after_seconds: its function has returned,
//!   which took longer than it may
//! - `run_stopped` (info, warn) job, run, from_server, reason: its function has returned, or
//!   another replica has closed the run, because somebody asked to stop it
//! - `run_ended` (info, warn) job, run, attempt, outcome, duration_seconds, detail: it is in the
//!   history
//! - `retry_waits` (info) job, run, attempt, retry_seconds: this try of its slot comes after a time
//! - `run_lost` (warn) job, run, outcome, duration_seconds, reason: its end was not written
//! - `step_waits` (warn) job, run, reason, retry_ms: a step of a run waits for the database
//! - `record_waits` (warn) job, run, reason, retry_ms: the end of a run waits for the database
//! - `run_not_recorded` (error) job, run, outcome, reason, hint: the database refuses every end of
//!   it, so its lease is left to run out
//! - `runs_cancelled` (info) runs, reason: all of a replica that drains
//! - `runs_left` (warn) runs, hint: some have not returned within the grace time
//! - `leases_not_renewed` (warn) runs, reason: once for each time that it fails
//! - `leases_renewed_again` (info) runs
//!
//! Claims:
//!
//! - `claims_wait` (info, debug) due, claimed, runs, wait_seconds, hint: other replicas come first
//!   for a while
//! - `claims_stop` (warn) reason, hint: no job is claimed, for want of a connection
//! - `claims_paused` (info) reason, since, until, actor, hint: everything is paused, by a request
//! - `claims_go_on` (info) reason
//! - `claim_refused` (error) reason, hint: the database does not let a due job be run; once until
//!   a poll without it
//! - `clock_jumped` (warn) seconds, hint: the database's clock; below 0 it was set back
//! - `job_mended` (info) job, seconds: its lease, or the slot that it waits for, was from so far
//!   in the future
//! - `last_successes_not_read` (warn) reason: `cron_last_success_timestamp_seconds` knows only what
//!   succeeds from now on
//! - `poll_failed` (warn) reason: no job could be looked for; once for an outage
//! - `function_unknown` (warn) job, function, hint: a job of another build is due
//!
//! Jobs, changed:
//!
//! - `job_done` (info) job, run, schedule, hint: it was to run once, and is disabled now
//! - `job_paused` (error) job, run, schedule, reason: its schedule names no further instant
//! - `job_created` (info) job, request_id, actor, function, schedule, enabled: by a request
//! - `job_changed` (info) job, request_id, actor, function, schedule, enabled: by a request: what
//!   it asked for
//! - `job_deleted` (info) job, request_id, actor: by a request
//! - `job_requested` (info) job, request_id, actor: "run now", by a request
//! - `run_stop_asked` (info) job, run, request_id, actor: a run is to be stopped, by a request
//! - `all_paused` (info) request_id, actor, reason: everything, by a request
//! - `all_resumed` (info) request_id, actor: by a request
//! - `jobs_applied` (info) request_id, actor, created, changed, deleted, unchanged, dry_run: how
//!   many jobs a set has made so, or would have, by a request
//!
//! Requests:
//!
//! - `request_denied` (warn) request_id, actor, method, path, reason, denied: no token, one
//!   without the scope, or a page of another site; one in 10 s tells how many
//! - `request_refused` (warn, error) request_id, actor, method, path, reason, hint: by the
//!   database; nothing was done
//! - `request_unanswered` (error) request_id, actor, method, path, reason, hint: by the database,
//!   after it was sent
//! - `request_unsent` (debug) request_id, actor, method, path, reason: the database was away, or
//!   not in time
//! - `handler_panicked` (error) request_id, actor, method, path: answered 500; the `panic` is the
//!   line before
//! - `answered` (debug) request_id, actor, method, path, status, duration_ms, taken: each request;
//!   `taken` by its client
//! - `metrics_not_written` (error) request_id, actor, reason: answered 500; a bug
//! - `request_cut_off` (debug) request_id, method, path, status: refused, and its connection ended
//! - `requests_left_unanswered` (warn) grace_ms: when the grace time was over
//! - `connection_lost` (warn) peer, announced_bytes, hint: nothing can end what the library keeps
//!   for a body beyond all memory
//! - `connections_held_back` (warn) connections, max, hint: more come than can be borne; once in
//!   10 s
//! - `connections_not_held_back` (debug) reason
//!
//! The listener:
//!
//! - `accept_loop_ended` (warn) reason, hint: no connection is taken
//! - `accept_loop_not_replaced` (warn) reason, retry_ms: once; tried again
//! - `accept_loop_replaced` (info) hint
//! - `no_thread_left` (error) thread, reason: the system has none to give
//!
//! All else:
//!
//! - `library` (any) source, text: what a crate beneath has to say; the driver tells each statement
//!   at `LOG_LEVEL=trace`

use std::io::{LineWriter, Stderr, stderr};
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record, SetLoggerError};
use simplelog::{ConfigBuilder, WriteLogger};

/// What is written to a pipe at once stays together up to this many bytes, and lines are shorter.
const LINE_BYTES: usize = 4_096;

/// Adds what every line has.
struct Signed {
    lines: Box<WriteLogger<LineWriter<Stderr>>>,
    server: String,
}

/// Logs from now on what is at least as grave as `level`, in the name of this replica.
///
/// # Errors
/// When there is a logger already.
pub fn init(level: LevelFilter, server: &str) -> Result<(), SetLoggerError> {
    let format = ConfigBuilder::new()
        .set_time_format_rfc3339()
        .set_thread_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        // What the server library says of its accept loop is said here with what is done about it.
        .add_filter_ignore_str("tiny_http")
        .build();
    // The library writes each part of a line by itself, and standard error keeps nothing back:
    // lines of replicas that share a pipe would be mixed, and each cost some 40 system calls.
    let whole_lines = LineWriter::with_capacity(LINE_BYTES, stderr());
    let lines = WriteLogger::new(level, format, whole_lines);
    log::set_boxed_logger(Box::new(Signed { lines, server: server.to_owned() }))?;
    log::set_max_level(level);
    Ok(())
}

impl Signed {
    fn write(&self, record: &Record<'_>, text: std::fmt::Arguments<'_>) {
        let server = &self.server;
        let mut signed = Record::builder();
        signed.metadata(record.metadata().clone());
        self.lines.log(&signed.args(format_args!("{text} server={server}")).build());
    }
}

impl Log for Signed {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.lines.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        let (source, text) = (record.target(), record.args());
        if source.split("::").next() == Some(env!("CARGO_PKG_NAME")) {
            self.write(record, *text);
        } else if record.level() <= Level::Info || log::max_level() == LevelFilter::Trace {
            let text = text.to_string();
            self.write(record, format_args!("event=library source={source} text={text:?}"));
        }
    }

    fn flush(&self) {
        self.lines.flush();
    }
}

/// Keeps what strangers can cause out of the log: one line in 10 s, 1.5 MB a day, however often it
/// happens.
#[derive(Default)]
pub struct Seldom {
    logged: Option<Instant>,
    unlogged: u64,
}

impl Seldom {
    const PAUSE: Duration = Duration::from_secs(10);

    /// How often it has happened since the last line, this time included; `None` if it is too early
    /// for another line.
    pub fn count(&mut self, now: Instant) -> Option<u64> {
        self.unlogged += 1;
        if self.logged.is_some_and(|at| now.saturating_duration_since(at) < Seldom::PAUSE) {
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_logged_in_a_line_now_and_then() {
        let mut seldom = Seldom::default();
        let start = Instant::now();
        let logged: Vec<_> =
            (0..25_000).filter_map(|ms| seldom.count(start + Duration::from_millis(ms))).collect();
        assert_eq!(logged, [1, 10_000, 10_000]);
    }
}
