//! The watch over the trust window: cancels what can no longer rely on its lease, and ends the
//! process rather than let a run outlive it. Never touches the database, nor waits for who does;
//! never writes the log itself either, for whoever reads that may have stopped reading.

use std::process;
use std::thread;
use std::time::{Duration, Instant};

use log::error;

use super::held::Held;
use super::running::Running;
use crate::shutdown::say;

/// The exit code of a process that ended itself to keep a job single.
pub const LEASE_LOST: i32 = 3;

/// Between two looks.
const TICK: Duration = Duration::from_millis(50);

/// Watches as long as there are runs, or can be.
pub(super) fn run(held: &Held) {
    while held.wait_for_a_run() {
        for run in held.list() {
            if run.cancelled().is_some() && run.exit_at().is_some_and(|at| Instant::now() >= at) {
                exit(&run);
            }
        }
        thread::sleep(TICK);
    }
}

fn exit(run: &Running) -> ! {
    let (job, run) = (run.claimed.job.clone(), run.claimed.run_id);
    say(move || {
        error!(
            "event=process_ends job={job} run={run} exit_code={LEASE_LOST} reason=\"the function \
             has not returned and its lease is about to end: another replica will run the job\""
        );
    });
    process::exit(LEASE_LOST)
}
