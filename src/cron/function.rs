//! What a job calls: a function of this build, and what the function is given.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::warn;

use super::lease::Leases;
use super::running::{Reason, Running};
use crate::db::{self, Db, Deadline, Session};

/// Does a job's work, from its beginning, each time it is called.
///
/// A run can break off at any point, and the same slot is then run again: at least once. So a
/// function works in steps which can be repeated, and asks [`Context::check`] between them, at
/// least several times a second while it computes. It answers with a short result for the history.
pub type Function = Arc<dyn Fn(&Context) -> Result<String, Failure> + Send + Sync>;

/// Why a function did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It was told to return.
    Cancelled,
    /// Something went wrong: the text for the history.
    Failed(String),
}

/// The functions of this build, by name.
#[derive(Clone, Default)]
pub struct Functions(BTreeMap<String, Function>);

/// One run, as its function sees it.
pub struct Context {
    pub(super) running: Arc<Running>,
    pub(super) leases: Arc<Leases>,
    pub(super) db: Arc<Db>,
}

/// The longest a step waits for a connection before the run's state is looked at again.
const CONNECTION_WAIT: Duration = Duration::from_secs(1);
/// Between two tries to reach a database that is away.
const RETRY: Duration = Duration::from_millis(200);

impl Functions {
    /// None.
    pub fn new() -> Functions {
        Functions::default()
    }

    /// The same with one more. A second one of the same name takes the place of the first.
    pub fn with(
        mut self,
        name: &str,
        function: impl Fn(&Context) -> Result<String, Failure> + Send + Sync + 'static,
    ) -> Functions {
        self.0.insert(name.to_owned(), Arc::new(function));
        self
    }

    /// All names, sorted.
    pub fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    pub(super) fn get(&self, name: &str) -> Option<Function> {
        self.0.get(name).cloned()
    }
}

impl Context {
    /// The job's name.
    pub fn job(&self) -> &str {
        &self.running.claimed.job
    }

    /// The run's id, as the history shows it.
    pub fn run_id(&self) -> i64 {
        self.running.claimed.run_id
    }

    /// The fencing token: rises with each claim of the job. What a function writes to a place that
    /// can compare it is safe even from a holder that does not know yet that it has lost the job.
    pub fn token(&self) -> i64 {
        self.running.claimed.token
    }

    /// For how long the run has been going on.
    pub fn elapsed(&self) -> Duration {
        Instant::now().saturating_duration_since(self.running.started)
    }

    /// To be asked before each step.
    ///
    /// # Errors
    /// [`Failure::Cancelled`]: the replica is about to end, or its lease cannot be relied on.
    pub fn check(&self) -> Result<(), Failure> {
        match self.running.cancelled() {
            Some(_) => Err(Failure::Cancelled),
            None => Ok(()),
        }
    }

    /// Waits.
    ///
    /// # Errors
    /// [`Failure::Cancelled`], as soon as it is so.
    pub fn wait(&self, time: Duration) -> Result<(), Failure> {
        match self.running.wait(time) {
            true => Err(Failure::Cancelled),
            false => Ok(()),
        }
    }

    /// Tells how much is done, from 0 to 1; people see it with the next renewal of the lease.
    pub fn set_progress(&self, done: f64) {
        self.running.set_progress(done);
    }

    /// Runs one step in the database: one transaction that holds the job's lease, so that steps of
    /// two runs of a job never interleave. Each of its statements may take a sixth of a lease, and
    /// at most 10 s, and must answer with little: a result that its reader does not take keeps the
    /// lease. While the database is away the step waits for it, and a step of which it is not known
    /// whether it was done is done again: it must be one that can be repeated.
    ///
    /// # Errors
    /// [`Failure::Cancelled`], or [`Failure::Failed`] when the database refuses the step.
    pub fn step<T>(
        &self,
        mut work: impl FnMut(&mut Session) -> Result<T, postgres::Error>,
    ) -> Result<T, Failure> {
        let mut told = false;
        loop {
            self.check()?;
            let deadline = Deadline::within(CONNECTION_WAIT);
            let connection = self.db.connection(&deadline);
            // The wait for a connection may have been longer than the lease can be relied on.
            self.check()?;
            let fenced = |session: &mut Session| {
                session.transaction(|session| {
                    match self.leases.hold(session, &self.running.claimed)? {
                        Some(true) => work(session).map(Step::Done),
                        Some(false) => Ok(Step::Expired),
                        None => Ok(Step::Lost),
                    }
                })
            };
            match connection.and_then(|mut connection| connection.run(&deadline, fenced)) {
                Ok(Step::Done(done)) => return Ok(done),
                Ok(Step::Lost) => self.running.cancel(Reason::Lost),
                // The database's clock has jumped: the lease can still be renewed.
                Ok(Step::Expired) => {}
                Err(error) if !error.is_passing() || error.is_too_long() => {
                    return Err(error.into());
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

/// What became of a step whose lease was looked at.
enum Step<T> {
    Done(T),
    /// The lease has ended, and nobody has taken the job yet.
    Expired,
    /// The job is another's.
    Lost,
}

impl From<db::Error> for Failure {
    fn from(error: db::Error) -> Failure {
        Failure::Failed(error.to_string())
    }
}
