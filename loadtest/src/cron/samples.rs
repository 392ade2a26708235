//! Made-up readings and runs for the tests of this command. Instants are seconds after an origin.

use super::moment::Moment;
use super::status::{Job, LastRun, Outcome, Run, State, Status};

/// The instant `seconds` after the origin, within the hour.
pub(super) fn at(seconds: u32) -> Moment {
    let text = format!("2026-11-21T07:{:02}:{:02}.000000Z", seconds / 60, seconds % 60);
    Moment::try_from(text).expect("an instant")
}

/// What `server` answers at `now`.
pub(super) fn status(server: &str, now: u32, jobs: Vec<Job>) -> Status {
    Status { now: at(now), served_by: server.to_owned(), jobs }
}

/// A job that waits.
pub(super) fn waiting(name: &str) -> Job {
    Job {
        name: name.to_owned(),
        schedule: "every 5m".to_owned(),
        enabled: true,
        state: State::Waiting,
        server: None,
        run_id: None,
        started_at: None,
        elapsed_seconds: None,
        progress: None,
        next_run_at: Some(at(300)),
        last_run: None,
    }
}

/// A job that runs.
pub(super) fn running(name: &str, server: &str, run_id: i64, started: u32) -> Job {
    Job {
        state: State::Running,
        server: Some(server.to_owned()),
        run_id: Some(run_id),
        started_at: Some(at(started)),
        elapsed_seconds: Some(30.0),
        progress: Some(0.25),
        ..waiting(name)
    }
}

/// A job's last run, of two minutes.
pub(super) fn ended(run_id: i64, server: &str, outcome: Outcome) -> LastRun {
    let detail = Some("why".to_owned());
    LastRun { run_id, server: server.to_owned(), outcome, duration_seconds: 120.0, detail }
}

/// A run that succeeded.
pub(super) fn succeeded(job: &str, server: &str, run_id: i64, (from, to): (u32, u32)) -> Run {
    Run {
        run_id,
        job: job.to_owned(),
        server: server.to_owned(),
        outcome: Outcome::Succeeded,
        started_at: at(from),
        finished_at: at(to),
        duration_seconds: f64::from(to - from),
    }
}
