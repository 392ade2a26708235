//! How many jobs there are of each kind.

use postgres::Row;
use serde::Serialize;

use crate::db::from_row;

/// The number of jobs by [`super::Job::state`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Jobs that a replica runs, and whose lease has not run out.
    pub running: i64,
    /// Jobs whose next slot is in the future.
    pub waiting: i64,
    /// Jobs whose slot has passed, and that no replica has claimed yet.
    pub due: i64,
    /// Jobs that do not run until they are enabled.
    pub paused: i64,
    /// Jobs whose lease has run out, and that no replica has taken over yet.
    pub stalled: i64,
}

/// The values of [`super::Job::state`].
pub const STATES: [&str; 5] = ["running", "waiting", "due", "paused", "stalled"];

/// The number of jobs that somebody may want to look at; one job can be counted several times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Conditions {
    /// Enabled jobs that are [`super::Tries::failing`].
    pub failing: i64,
    /// Jobs that are [`super::Tries::overdue`].
    pub overdue: i64,
    /// Enabled jobs whose last run is a slot that was not run.
    pub missed: i64,
    /// Jobs that run another try of their slot, or wait for it: [`super::Tries::attempt`] is
    /// larger than 1.
    pub retrying: i64,
}

/// The names of the [`Conditions`].
pub const CONDITIONS: [&str; 4] = ["failing", "overdue", "missed", "retrying"];

impl Counts {
    pub(super) fn of(row: &Row) -> Counts {
        from_row!(row => Counts { running, waiting, due, paused, stalled })
    }
}

impl Conditions {
    pub(super) fn of(row: &Row) -> Conditions {
        let of = |name| row.get(name);
        Conditions {
            failing: of("all_failing"),
            overdue: of("all_overdue"),
            missed: of("all_missed"),
            retrying: of("all_retrying"),
        }
    }
}
