//! One run, from its claim to its function's return, in a thread of its own.

use std::any::Any;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread;

use log::{info, warn};

use super::Replica;
use super::function::{Context, Failure, Functions};
use super::lease::{Claimed, End, Orphan, Outcome};
use super::running::{Reason, Running};
use crate::db::Db;

/// Starts runs, with what all of them share.
pub(super) struct Runner {
    pub(super) replica: Arc<Replica>,
    pub(super) functions: Functions,
    /// The connections for the functions' steps.
    pub(super) steps: Arc<Db>,
}

const STACK_BYTES: usize = 512 * 1024;

impl Runner {
    /// Starts the thread of a run, which has to be in `held` already.
    ///
    /// # Errors
    /// When the system can start no further thread.
    pub(super) fn start(&self, running: &Arc<Running>) -> io::Result<()> {
        let (running, replica) = (Arc::clone(running), Arc::clone(&self.replica));
        let context = Context { running: Arc::clone(&running), db: Arc::clone(&self.steps) };
        let name = format!("run {}", running.claimed.job);
        let (functions, server) = (self.functions.clone(), self.replica.leases.server.clone());
        let builder = thread::Builder::new().name(name).stack_size(STACK_BYTES);
        let run = move || {
            // A panic in the function makes the run fail, and nothing else.
            let result = panic::catch_unwind(AssertUnwindSafe(|| call(&functions, &context)));
            let failed = |panic: Box<dyn Any + Send>| Err(Failure::Failed(text_of(panic.as_ref())));
            let end = end_of(result.unwrap_or_else(failed), &running, &server);
            replica.held.ended(&running, end);
        };
        builder.spawn(run).map(drop)
    }
}

fn call(functions: &Functions, context: &Context) -> Result<String, Failure> {
    let running = &context.running;
    log_start(running);
    let name = &running.claimed.function;
    // The trust window may have ended before the claim was answered.
    let result = context.check().and_then(|()| match functions.get(name) {
        Some(function) => function(context),
        None => Err(Failure::Failed(format!("this build has no function `{name}`"))),
    });
    log_cancelled(running);
    result
}

/// The end of the run, from the function's result and the reason for which it was cancelled.
fn end_of(result: Result<String, Failure>, running: &Running, server: &str) -> End {
    let progress = running.progress();
    let end = |outcome, detail| End { outcome, detail, progress };
    match (result, running.reason()) {
        (Ok(detail), _) => End { outcome: Outcome::Succeeded, detail, progress: 1.0 },
        (Err(Failure::Failed(text)), _) => end(Outcome::Failed, text),
        (Err(Failure::Cancelled), Some(Reason::Drained)) => {
            end(Outcome::Cancelled, format!("{server} was shut down"))
        }
        (Err(Failure::Cancelled), Some(Reason::Expired | Reason::Lost)) => {
            end(Outcome::Abandoned, format!("{server} could not renew its lease in time"))
        }
        (Err(Failure::Cancelled), None) => {
            end(Outcome::Failed, "the function stopped although nobody had told it to".to_owned())
        }
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("without a text"))
}

fn log_start(running: &Running) {
    let Claimed { job, run_id: run, late_seconds: late, taken_from, .. } = &running.claimed;
    match taken_from {
        None => info!("event=run_started job={job} run={run} late_seconds={late:.3}"),
        Some(Orphan { run_id: from_run, server: from_server, .. }) => warn!(
            "event=run_taken_over job={job} run={run} late_seconds={late:.3} from_run={from_run} \
             from_server={from_server} reason=\"its lease ran out\""
        ),
    }
}

fn log_cancelled(running: &Running) {
    let Claimed { job, run_id: run, .. } = &running.claimed;
    match running.reason() {
        None => {}
        Some(Reason::Drained) => info!(
            "event=run_cancelled job={job} run={run} reason=\"this replica is shut down\" \
             hint=\"another one runs the job\""
        ),
        Some(Reason::Expired) => warn!(
            "event=run_cancelled job={job} run={run} reason=\"its lease could not be renewed in \
             time\" hint=\"whoever reaches the database first runs the job\""
        ),
        Some(Reason::Lost) => warn!(
            "event=run_cancelled job={job} run={run} reason=\"the database has given its lease to \
             somebody else\""
        ),
    }
}
