//! The functions that jobs can call in this build. The table `cron_jobs` says which job calls which
//! function, and when; `sql/0004_sample_jobs.sql` creates the first ten jobs.

mod books;
mod pruning;
mod runs;
mod samples;

use std::cell::Cell;
use std::time::Duration;

use serde_json::json;

use crate::cron::{Context, Failure, Functions};

/// The settings that the functions of this build use.
#[derive(Clone, Copy, Debug)]
pub struct FunctionOptions {
    /// The least time that a run takes: after its work it waits for the rest of this time.
    pub least: Duration,
    /// How many days the history keeps finished runs. It always keeps a job's last one.
    pub run_history_days: u32,
}

/// The functions of this build, with the names by which jobs call them.
pub fn functions(options: FunctionOptions) -> Functions {
    let FunctionOptions { least, run_history_days: days } = options;
    Functions::new()
        // Compares every balance with the sum of its changes; fails on a difference.
        .with("reconcile-balances", paced(least, books::reconcile))
        // Checks that each change follows from the one before it; fails where one does not.
        .with("audit-ledger", paced(least, books::audit))
        // Writes the number of users and the sum of their balances into today's row.
        .with("snapshot-daily-totals", paced(least, books::snapshot))
        // Finds the ten largest balances.
        .with("rank-balances", paced(least, books::rank))
        // Deletes idempotency keys older than 24 hours.
        .with("prune-idempotency-keys", paced(least, pruning::idempotency_keys))
        // Deletes runs that are older than the history is kept, except each job's last one.
        .with("prune-run-history", paced(least, move |pace| pruning::runs(pace, days)))
        // Counts the runs of the last 24 hours by outcome.
        .with("summarize-runs", paced(least, runs::summarize))
        // Counts prime numbers below one that it is given, in steps spread over the least time.
        .with_arguments(
            "count-primes",
            samples::BELOW_RULE,
            json!({"below": 1_000_000}),
            samples::below,
            paced_with(least, samples::count_primes),
        )
        // Estimates pi, in steps spread over the least time.
        .with("estimate-pi", paced(least, samples::estimate_pi))
}

type Params<'a> = &'a [&'a (dyn postgres::types::ToSql + Sync)];

/// A run and the least time it takes.
struct Pace<'a> {
    context: &'a Context,
    least: Duration,
    /// How many tenths of the work the log says are done.
    tenths: Cell<u8>,
}

/// The pause between two updates of the progress while the rest of `least` passes.
const TICK: Duration = Duration::from_secs(1);

/// Makes a function that does `work`, and then waits for the rest of `least`.
fn paced(
    least: Duration,
    work: impl Fn(&Pace<'_>) -> Result<String, Failure> + Send + Sync + 'static,
) -> impl Fn(&Context) -> Result<String, Failure> + Send + Sync + 'static {
    let work = paced_with(least, move |pace: &Pace<'_>, ()| work(pace));
    move |context| work(context, ())
}

/// The same for a function that takes arguments.
fn paced_with<T>(
    least: Duration,
    work: impl Fn(&Pace<'_>, T) -> Result<String, Failure> + Send + Sync + 'static,
) -> impl Fn(&Context, T) -> Result<String, Failure> + Send + Sync + 'static {
    move |context, arguments| {
        let pace = Pace { context, least, tenths: Cell::new(0) };
        let result = work(&pace, arguments);
        if result != Err(Failure::Cancelled) {
            while context.elapsed() < least {
                let left = least.saturating_sub(context.elapsed());
                context.wait(left.min(TICK))?;
                pace.report(1.0);
            }
        }
        result
    }
}

impl Pace<'_> {
    /// Sets the progress to the share of the work or of `least` that has passed, the smaller one.
    /// The log has a line for each tenth of the work.
    fn report(&self, share: f64) {
        let tenths = (share.clamp(0.0, 1.0) * 10.0) as u8;
        if tenths > self.tenths.replace(tenths.max(self.tenths.get())) {
            self.context.say(&format!("{} % of the work is done", u32::from(tenths) * 10));
        }
        let elapsed = self.context.elapsed();
        let time = elapsed.as_secs_f64() / self.least.as_secs_f64().max(f64::MIN_POSITIVE);
        self.context.set_progress(share.min(time).min(1.0));
    }
}
