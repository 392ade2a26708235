//! One call of a function: what it is given, and what becomes of its run.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use log::{info, warn};

use super::functions::Functions;
use super::job::settings::Arguments;
use super::lease::{Claimed, End, Leases, Orphan, Outcome};
use super::running::{Reason, Running};
use crate::db::{Db, Deadline, FromDatabase, Session};

/// Why a function did not complete its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The function stopped because its run was cancelled. Unless somebody asked to stop it, or its
    /// tries are used up, the same slot is run again.
    Cancelled,
    /// The work failed, for this reason, which the history shows. The same slot is tried again, or
    /// the job waits for its next one.
    Failed(String),
}

/// What a function is given: its run, and the way to make steps in the database.
pub struct Context {
    pub(super) running: Arc<Running>,
    pub(super) db: Arc<Db>,
}

/// The longest wait for a connection before a step checks again whether the run is cancelled.
const CONNECTION_WAIT: Duration = Duration::from_secs(1);
/// The pause between two tries of a step.
const RETRY: Duration = Duration::from_millis(200);

impl Functions {
    /// Calls the function of a run, and returns the run's end. A panic in the function makes the
    /// run fail, and nothing else. `server` is this replica's name.
    pub(super) fn call(&self, context: &Context, server: &str) -> End {
        let result = panic::catch_unwind(AssertUnwindSafe(|| self.result(context)));
        let failed = |panic: Box<dyn Any + Send>| Err(Failure::Failed(text_of(panic.as_ref())));
        end_of(result.unwrap_or_else(failed), &context.running, server)
    }

    fn result(&self, context: &Context) -> Result<String, Failure> {
        let running = &context.running;
        log_start(running);
        let name = &running.claimed.function;
        // The trust window may have ended before the claim was answered.
        let result = context.check().and_then(|()| match self.get(name) {
            Some(function) => function(context),
            None => Err(Failure::Failed(format!("this build has no function `{name}`"))),
        });
        log_cancelled(running);
        result
    }
}

impl Context {
    /// The name of the job, which is not that of the function.
    pub fn job(&self) -> &str {
        &self.running.claimed.job
    }

    /// The job's arguments, as they were when the run was claimed.
    pub fn arguments(&self) -> &Arguments {
        &self.running.claimed.arguments
    }

    /// The id of the run, as the history shows it.
    pub fn run_id(&self) -> i64 {
        self.running.claimed.run_id
    }

    /// Which try of its slot this is: 1 for the first. A run that takes over from another, or goes
    /// on after a drain, is the same try.
    pub fn attempt(&self) -> i32 {
        self.running.claimed.attempt
    }

    /// The fencing token, larger with each claim of the job. Another system that refuses a smaller
    /// token than it has seen is safe from a function whose replica has lost the job.
    pub fn token(&self) -> i64 {
        self.running.claimed.token
    }

    /// How long ago this process started the run, by its own clock.
    pub fn elapsed(&self) -> Duration {
        self.running.elapsed()
    }

    /// A function has to call this before each step, and to return on an error.
    ///
    /// # Errors
    /// [`Failure::Cancelled`] when the replica is shut down or can no longer rely on the lease,
    /// when the run takes longer than it may, or when somebody asks to stop it.
    pub fn check(&self) -> Result<(), Failure> {
        match self.running.cancelled() {
            Some(_) => Err(Failure::Cancelled),
            None => Ok(()),
        }
    }

    /// Waits for `time`, or until the run is cancelled.
    ///
    /// # Errors
    /// [`Failure::Cancelled`] as soon as the run is cancelled.
    pub fn wait(&self, time: Duration) -> Result<(), Failure> {
        if self.running.wait(time) { Err(Failure::Cancelled) } else { Ok(()) }
    }

    /// Sets how much is done, from 0 to 1. The next renewal of the lease makes it visible.
    pub fn set_progress(&self, done: f64) {
        self.running.set_progress(done);
    }

    /// Adds a line to the log of this run. The next renewal of the lease makes it visible, or the
    /// end of the run. A control character becomes a space, and a line is cut after 1,000
    /// characters. The log keeps the last 1,000 lines, and of these the last 64 KB.
    pub fn say(&self, line: &str) {
        self.running.say(line);
    }

    /// Runs one step: one transaction that holds the job's lease, so that the steps of two runs of
    /// a job never interleave. Each statement may take a sixth of the lease's length, and 10 s at
    /// most. It has to return few rows, since nobody can take the job over before they are read.
    /// While the database is away the step waits for it. If it is not known whether a step was
    /// done, it is done again, so it has to be one that can be repeated.
    ///
    /// # Errors
    /// [`Failure::Cancelled`], or [`Failure::Failed`] when the database refuses the step.
    pub fn step<T>(
        &self,
        mut work: impl FnMut(&mut Session) -> FromDatabase<T>,
    ) -> Result<T, Failure> {
        let mut told = false;
        loop {
            self.check()?;
            let deadline = Deadline::within(CONNECTION_WAIT);
            let connection = self.db.connection(&deadline);
            // The trust window may have ended during the wait for a connection.
            self.check()?;
            let fenced = |session: &mut Session| {
                session.transaction(|session| {
                    match Leases::hold(session, &self.running.claimed)? {
                        Some(true) => return work(session).map(Some),
                        // The database's clock has jumped forward: the lease can still be renewed.
                        Some(false) => {}
                        None => self.running.cancel(Reason::Lost),
                    }
                    Ok(None)
                })
            };
            match connection.and_then(|mut connection| connection.run(&deadline, fenced)) {
                Ok(Some(done)) => return Ok(done),
                Ok(None) => {}
                Err(error) if !error.is_passing() || error.is_too_long() => {
                    return Err(Failure::Failed(error.to_string()));
                }
                Err(error) if !told => {
                    let (job, run, reason) = (self.job(), self.run_id(), error.reason());
                    let retry_ms = RETRY.as_millis();
                    warn!(
                        "event=step_waits job={job} run={run} reason={reason:?} \
                         retry_ms={retry_ms}"
                    );
                    told = true;
                }
                Err(_) => {}
            }
            self.wait(RETRY)?;
        }
    }
}

/// The end of the run, from the function's result and the reason for which it was cancelled.
fn end_of(result: Result<String, Failure>, running: &Running, server: &str) -> End {
    let progress = running.progress();
    let end = |outcome, detail| End { outcome, detail, progress };
    match (result, running.reason()) {
        (Ok(detail), _) => End { outcome: Outcome::Succeeded, detail, progress: 1.0 },
        (Err(failure), Some(reason @ (Reason::TimedOut | Reason::Stopped))) => {
            let text = match failure {
                Failure::Failed(text) => format!(": {text}"),
                Failure::Cancelled => String::new(),
            };
            match (reason, running.claimed.time_max) {
                (Reason::TimedOut, Some(max)) => {
                    let max = max.as_secs();
                    end(Outcome::TimedOut, format!("it took longer than {max} s{text}"))
                }
                _ => end(Outcome::Stopped, format!("somebody asked to stop it{text}")),
            }
        }
        (Err(Failure::Failed(text)), _) => end(Outcome::Failed, text),
        (Err(Failure::Cancelled), Some(Reason::ShutDown)) => {
            end(Outcome::Cancelled, format!("{server} was shut down"))
        }
        (Err(Failure::Cancelled), Some(Reason::Expired | Reason::Lost)) => {
            end(Outcome::Abandoned, format!("{server} could not renew its lease in time"))
        }
        (Err(Failure::Cancelled), _) => {
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
    let Claimed { job, run_id: run, attempt, start, taken_from, .. } = &running.claimed;
    let late = start.late_seconds;
    match taken_from {
        None => {
            info!("event=run_started job={job} run={run} attempt={attempt} late_seconds={late:.3}");
        }
        Some(Orphan { run_id: from_run, server: from_server, .. }) => warn!(
            "event=run_taken_over job={job} run={run} attempt={attempt} late_seconds={late:.3} \
             from_run={from_run} from_server={from_server} reason=\"its lease ran out\""
        ),
    }
}

fn log_cancelled(running: &Running) {
    let Claimed { job, run_id: run, .. } = &running.claimed;
    match running.reason() {
        None => {}
        Some(Reason::ShutDown) => info!(
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
        Some(Reason::TimedOut) => warn!(
            "event=run_timed_out job={job} run={run} reason=\"it took longer than its job's \
             maxSeconds\" returned_after_seconds={:.3}",
            running.elapsed().as_secs_f64()
        ),
        Some(Reason::Stopped) => {
            info!("event=run_stopped job={job} run={run} reason=\"somebody asked to stop it\"");
        }
    }
}
