//! The functions that this build's jobs call. Which job calls which, and when, is in the table
//! `cron_jobs`; the ten it begins with are made by `sql/0004_sample_jobs.sql`.

mod books;
mod pruning;
mod runs;
mod samples;

use std::time::Duration;

use crate::cron::{Context, Failure, Functions};

/// What the functions are told from outside.
#[derive(Clone, Copy, Debug)]
pub struct FunctionOptions {
    /// The least time each run takes: its work comes first, and the rest is waited out.
    pub least: Duration,
    /// How long finished runs are kept, in days.
    pub run_history_days: u32,
}

/// All functions of this build.
pub fn functions(options: FunctionOptions) -> Functions {
    let FunctionOptions { least, run_history_days: days } = options;
    Functions::new()
        // Compares every balance with the sum of its changes; fails on a difference.
        .with("reconcile-balances", paced(least, books::reconcile))
        // Checks that each change follows from the one before it; fails where one does not.
        .with("audit-ledger", paced(least, books::audit))
        // Writes the number of users and the sum of their balances into today's row.
        .with("snapshot-daily-totals", paced(least, books::snapshot))
        // Finds the largest balances.
        .with("rank-balances", paced(least, books::rank))
        // Deletes idempotency keys that have been kept for a day.
        .with("prune-idempotency-keys", paced(least, pruning::idempotency_keys))
        // Deletes runs older than the history is kept, but for each job's last.
        .with("prune-run-history", paced(least, move |pace| pruning::runs(pace, days)))
        // Counts the runs of the last day by outcome.
        .with("summarize-runs", paced(least, runs::summarize))
        // Counts prime numbers, in steps spread over the time.
        .with("count-primes", paced(least, samples::count_primes))
        // Adds up a series for pi, in steps spread over the time.
        .with("estimate-pi", paced(least, samples::estimate_pi))
}

/// A run and the least time it takes.
struct Pace<'a> {
    context: &'a Context,
    least: Duration,
}

/// Between two looks at the time that is waited out.
const TICK: Duration = Duration::from_secs(1);

/// A function that does `work` first, then waits out what is left of `least`.
fn paced(
    least: Duration,
    work: impl Fn(&Pace<'_>) -> Result<String, Failure> + Send + Sync + 'static,
) -> impl Fn(&Context) -> Result<String, Failure> + Send + Sync + 'static {
    move |context| {
        let pace = Pace { context, least };
        let result = work(&pace);
        if result != Err(Failure::Cancelled) {
            while let Some(left) = pace.time_left() {
                context.wait(left.min(TICK))?;
                pace.report(1.0);
            }
        }
        result
    }
}

impl Pace<'_> {
    /// Notes that this share of the work is done, from 0 to 1, and goes on.
    fn done(&self, share: f64) -> Result<(), Failure> {
        self.report(share);
        self.context.check()
    }

    /// Waits for a part of the least time, so that the steps are spread over it.
    fn rest(&self, part: f64) -> Result<(), Failure> {
        self.context.wait(self.least.mul_f64(part))
    }

    /// A run is no further than its work, nor than its time.
    fn report(&self, share: f64) {
        let elapsed = self.context.elapsed();
        let time = elapsed.as_secs_f64() / self.least.as_secs_f64().max(f64::MIN_POSITIVE);
        self.context.set_progress(share.min(time).min(1.0));
    }

    fn time_left(&self) -> Option<Duration> {
        let left = self.least.saturating_sub(self.context.elapsed());
        (!left.is_zero()).then_some(left)
    }
}
