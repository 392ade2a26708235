//! One run, from its claim to its record: call the function, whatever it does, and write how it
//! ended.

use std::any::Any;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use log::{Level, error, info, log, warn};

use super::function::{Context, Failure, Functions};
use super::held::Held;
use super::history::last_successes;
use super::lease::{Claimed, End, Leases, Next, Orphan, Outcome, Standing};
use super::running::{Reason, Running};
use super::schedule::Schedule;
use crate::db::{Attempt, Db, Error};
use crate::metrics::Metrics;

/// What every run of a replica shares.
pub(super) struct Runner {
    pub(super) leases: Arc<Leases>,
    pub(super) functions: Functions,
    pub(super) held: Held,
    /// For the functions' steps.
    pub(super) steps: Arc<Db>,
    /// For the ends of runs, which must not wait for steps.
    pub(super) records: Db,
    pub(super) metrics: Arc<Metrics>,
}

const STACK_BYTES: usize = 512 * 1024;
/// The longest one try to record an end waits for a connection.
const CONNECTION_WAIT: Duration = Duration::from_secs(1);
/// Between two tries to record an end while the database is away.
const RECORD_RETRY: Duration = Duration::from_millis(250);

/// What became of the record of a run.
#[derive(Debug)]
enum Record {
    /// Then, in seconds since 1970.
    Written(f64),
    /// Somebody else has closed the run, or its job is gone.
    Lost,
}

impl Runner {
    /// Starts the thread of a run that is held already; false when there is none left.
    pub(super) fn start(self: &Arc<Runner>, running: Arc<Running>) -> bool {
        self.count_start(&running.claimed);
        let runner = Arc::clone(self);
        let run = Arc::clone(&running);
        let spawned = spawn(&running.claimed.job, move || runner.run(&run));
        if let Err(error) = &spawned {
            self.end_without_a_thread(&running, error);
        }
        spawned.is_ok()
    }

    /// Once: what was counted before this process is known to the history alone.
    pub(super) fn read_last_successes(&self) {
        match self.steps.run(&Attempt::within(CONNECTION_WAIT), last_successes) {
            Ok(jobs) => {
                for (job, at) in jobs {
                    self.metrics.runs.know(&job);
                    at.into_iter().for_each(|at| self.metrics.runs.succeeded(&job, at));
                }
            }
            Err(error) => warn!("event=last_successes_not_read reason={:?}", error.reason()),
        }
    }

    fn run(&self, running: &Arc<Running>) {
        let _held = LetGo { running, runner: self };
        log_start(running);
        let end = self.call(running);
        running.returned();
        log_cancelled(running);
        let seconds = Instant::now().saturating_duration_since(running.started).as_secs_f64();
        let expelled = matches!(running.reason(), Some(Reason::Expired | Reason::Lost));
        if expelled {
            self.metrics.runs.lease_lost();
        }
        let record = self.record(running, &end);
        log_end(running, &end, &record, seconds);
        match record {
            Record::Written(at) => self.count_end(running, &end, seconds, at),
            Record::Lost if !expelled => self.metrics.runs.lease_lost(),
            Record::Lost => {}
        }
    }

    /// Before the run has a thread: what the claim did is done, whatever becomes of it.
    fn count_start(&self, claimed: &Claimed) {
        if let Some(orphan) = &claimed.taken_from {
            self.metrics.runs.taken_over();
            self.metrics.runs.abandoned(&orphan.job);
        }
        self.metrics.runs.claimed(&claimed.job, claimed.late_seconds);
    }

    fn count_end(&self, running: &Running, end: &End, seconds: f64, at: f64) {
        let (job, outcome) = (&running.claimed.job, end.outcome);
        self.metrics.runs.ended(job, outcome.as_str(), seconds);
        if outcome == Outcome::Succeeded {
            self.metrics.runs.succeeded(job, at);
        }
    }

    fn end_without_a_thread(&self, running: &Arc<Running>, error: &io::Error) {
        let _held = LetGo { running, runner: self };
        let (job, run, reason) = (&running.claimed.job, running.claimed.run_id, error.to_string());
        error!(
            "event=run_not_started job={job} run={run} reason={reason:?} hint=\"no thread left: \
             raise the limit of threads; another replica runs the job\""
        );
        running.returned();
        let detail = format!("{} had no thread left: {error}", self.leases.server);
        let end = End { outcome: Outcome::Cancelled, detail, progress: 0.0 };
        // Once: this is the scheduler's thread. Else the lease runs out.
        if let Ok(Some(Record::Written(at))) = self.try_to_record(running, &end) {
            self.count_end(running, &end, 0.0, at);
        }
    }

    /// Calls the function; a panic in it is a failure like any other.
    fn call(&self, running: &Arc<Running>) -> End {
        let context = Context {
            running: Arc::clone(running),
            leases: Arc::clone(&self.leases),
            db: Arc::clone(&self.steps),
        };
        let name = &running.claimed.function;
        let result = match self.functions.get(name) {
            Some(function) => panic::catch_unwind(AssertUnwindSafe(|| function(&context)))
                .unwrap_or_else(|panic| Err(Failure::Failed(text_of(panic.as_ref())))),
            None => Err(Failure::Failed(format!("this build has no function `{name}`"))),
        };
        end_of(result, running, &self.leases)
    }

    /// Writes the end, however long the database is away: until somebody else has taken the job
    /// over, it is still true.
    fn record(&self, running: &Running, end: &End) -> Record {
        let mut told = false;
        loop {
            match self.try_to_record(running, end) {
                Ok(Some(record)) => return record,
                Ok(None) => {} // The schedule was changed in between: look again.
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        let Claimed { job, run_id: run, .. } = &running.claimed;
                        let (reason, retry_ms) = (error.reason(), RECORD_RETRY.as_millis());
                        warn!(
                            "event=record_waits job={job} run={run} reason={reason:?} \
                             retry_ms={retry_ms}"
                        );
                    }
                    thread::sleep(RECORD_RETRY);
                }
            }
        }
    }

    fn try_to_record(&self, running: &Running, end: &End) -> Result<Option<Record>, Error> {
        let attempt = Attempt::within(CONNECTION_WAIT);
        let run = &running.claimed;
        // One for both statements: where many runs end at once, each waits for it once.
        let mut connection = self.records.connection(&attempt)?;
        match connection.run(&attempt, |session| self.leases.standing(session, run))? {
            Standing::Gone(closed) => Ok(Some(match closed.filter(|closed| end.is(closed)) {
                Some(closed) => Record::Written(closed.at),
                None => Record::Lost,
            })),
            Standing::Held { schedule, slot, requested, now } => {
                // A slot that was run is behind, even if the clock was set back meanwhile.
                let now = if requested { now } else { now.max(slot) };
                let next = match end.outcome {
                    Outcome::Cancelled | Outcome::Abandoned => Next::SameSlot,
                    Outcome::Succeeded | Outcome::Failed => Schedule::parse(&schedule)
                        .ok()
                        .and_then(|schedule| schedule.next(slot, now))
                        .map_or(Next::Paused, Next::Slot),
                };
                let write = |session: &mut _| self.leases.end(session, run, &schedule, end, next);
                let written = connection.run(&attempt, write)?;
                if written.is_some() && matches!(next, Next::Paused) {
                    let (job, run) = (&run.job, run.run_id);
                    error!(
                        "event=job_paused job={job} run={run} schedule={schedule:?} \
                         reason=\"the schedule names no further instant\""
                    );
                }
                Ok(written.map(Record::Written))
            }
        }
    }
}

/// Lets the run go however its thread ends: what is not held is not renewed.
struct LetGo<'a> {
    running: &'a Running,
    runner: &'a Runner,
}

impl Drop for LetGo<'_> {
    fn drop(&mut self) {
        self.running.returned();
        self.runner.metrics.runs.let_go();
        self.runner.held.remove(self.running);
    }
}

fn spawn(job: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(format!("run {job}")).stack_size(STACK_BYTES).spawn(run).map(drop)
}

/// What the function's answer, or its silence, means for the history.
fn end_of(result: Result<String, Failure>, running: &Running, leases: &Leases) -> End {
    let progress = running.progress();
    let end = |outcome, detail| End { outcome, detail, progress };
    match (result, running.reason()) {
        (Ok(detail), _) => End { outcome: Outcome::Succeeded, detail, progress: 1.0 },
        (Err(Failure::Failed(text)), _) => end(Outcome::Failed, text),
        (Err(Failure::Cancelled), Some(Reason::Drained)) => {
            end(Outcome::Cancelled, format!("{} was shut down", leases.server))
        }
        (Err(Failure::Cancelled), Some(Reason::Expired | Reason::Lost)) => {
            let server = &leases.server;
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

/// Why a run was cancelled has been said, and so has why it was abandoned.
fn log_end(running: &Running, end: &End, record: &Record, seconds: f64) {
    let Claimed { job, run_id: run, .. } = &running.claimed;
    let (outcome, detail) = (end.outcome.as_str(), &end.detail);
    let level = match (record, end.outcome) {
        (Record::Lost, _) => {
            warn!(
                "event=run_lost job={job} run={run} outcome={outcome} \
                 duration_seconds={seconds:.3} reason=\"the lease was not held any more: nothing \
                 written\""
            );
            return;
        }
        (Record::Written(_), Outcome::Succeeded | Outcome::Cancelled) => Level::Info,
        (Record::Written(_), Outcome::Failed | Outcome::Abandoned) => Level::Warn,
    };
    log!(
        level,
        "event=run_ended job={job} run={run} outcome={outcome} duration_seconds={seconds:.3} \
         detail={detail:?}"
    );
}
