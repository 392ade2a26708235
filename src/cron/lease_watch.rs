//! Watches the trust windows: cancels a run that can no longer rely on its lease, and ends the
//! process before a run outlives its lease. Nothing may block this thread. So it uses no database,
//! and another thread writes its log lines: a write blocks when nobody reads the log any more.

use std::process;
use std::thread;
use std::time::{Duration, Instant};

use log::error;

use super::held::Held;
use super::running::Running;
use crate::shutdown::say;

/// The exit code of a process that ended itself because a run was about to outlive its lease.
pub const LEASE_LOST: i32 = 3;

/// The pause between two checks of all runs.
const TICK: Duration = Duration::from_millis(50);

/// Returns when this replica is shut down and holds no run any more.
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
