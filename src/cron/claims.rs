//! Looks for due jobs and claims them, one at a time.
//!
//! No replica knows of another, and still they share the jobs evenly: a replica that holds n jobs
//! claims an offered job only `handicap(n)` after the offer, an instant that all replicas read from
//! the same row. So the replica that holds the fewest jobs claims first.

mod handicap;
mod wave;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use log::{error, info, warn};

use super::function::Context;
use super::functions::Functions;
use super::lease::{Clock, End, Leases, Outcome};
use super::pause::Pause;
use super::replica::Replica;
use super::running::Running;
use crate::db::{Db, Dedicated, Error, Lack};
use crate::shutdown::Signal;
use handicap::handicap;
use wave::Wave;

pub(super) struct Claims {
    pub(super) replica: Arc<Replica>,
    /// Begun after the first poll. Connections for steps wait for it: the poll's own comes first.
    pub(super) looked: Signal,
    pub(super) functions: Functions,
    /// The connections for the functions' steps.
    pub(super) steps: Arc<Db>,
    pub(super) handicap: Duration,
    /// A replica that holds so many runs claims nothing.
    pub(super) max_runs: usize,
    /// The database's clock; none before the first poll.
    pub(super) clock: Option<Clock>,
    /// True when the database's clock has jumped forward, so that leases may have run out early.
    pub(super) leases_have_ended: bool,
    /// Whether rows may be left that were written before the database's clock was set back.
    pub(super) perhaps_set_back: bool,
    /// Why there is no connection for steps; none when there is one.
    pub(super) lack: Option<Lack>,
    /// When the system last refused a thread for a run.
    pub(super) no_thread: Option<Instant>,
    pub(super) told: Logged,
}

/// What was already logged, so that it is not logged at every poll.
#[derive(Default)]
pub(super) struct Logged {
    wave: Wave,
    pause: Option<Pause>,
    /// Due jobs whose function this build lacks, each as `job function`.
    unknown: Vec<String>,
    /// True when the last poll failed.
    failing: bool,
    /// True when it was logged that there is no connection for steps, and not yet that there is.
    lack: bool,
    /// How many writes were refused since the last poll without a refusal.
    refusals: u64,
}

/// The stack of a run's thread.
const STACK_BYTES: usize = 512 * 1024;
/// After the system has refused a thread, nothing is claimed for this long.
const THREAD_RETRY: Duration = Duration::from_secs(5);

impl Claims {
    /// Offers the due jobs, then claims one after the other while the handicap allows it. True when
    /// it stopped early because other work came first, or because there were more to offer: then it
    /// has to be called again at once.
    pub(super) fn poll(&mut self, connection: &mut Dedicated, until: Instant) -> bool {
        match self.try_to_poll(connection, until) {
            Ok(interrupted) => {
                self.told.failing = false;
                self.steps.health().note_claimable(self.obstacle().map_or(Ok(()), Err));
                interrupted
            }
            Err(error) => {
                self.rest(error.reason());
                self.replica.metrics.runs.due_unknown();
                if !std::mem::replace(&mut self.told.failing, true) {
                    warn!("event=poll_failed reason={:?}", error.reason());
                }
                false
            }
        }
    }

    fn try_to_poll(&mut self, connection: &mut Dedicated, until: Instant) -> Result<bool, Error> {
        let (looked, refusals) = (Instant::now(), self.told.refusals);
        let clock = &mut self.clock;
        let offers = connection.run(|session| self.replica.leases.offer(session, clock))?;
        self.looked.begin();
        self.note_a_jump(offers.jump);
        self.tell_unknown(&offers.unknown);
        self.told.wave.begin(offers.due);
        self.replica.metrics.runs.paused(offers.pause.is_some());
        Pause::tell_change(&mut self.told.pause, offers.pause);
        let is_over = || Instant::now() >= until;
        let mut interrupted = offers.is_cut;
        interrupted |= !is_over() && self.perhaps_set_back && self.mend(connection, until)?;
        for job_id in offers.orphaned.iter().take_while(|_| !is_over()) {
            let freed = connection.run(|session| Leases::free(session, *job_id));
            let orphan = self.unless_refused(freed)?.flatten();
            orphan.into_iter().for_each(|orphan| orphan.tell(&self.replica.metrics));
        }
        let (mut left, mut refused) = (offers.due, 0);
        self.check_step_connection();
        while left > 0 && self.may_claim() && self.replica.held.count() < self.max_runs {
            if is_over() || self.replica.held.has_ended() {
                interrupted = true;
                break;
            }
            let handicap = handicap(self.replica.held.count(), self.handicap);
            let age = offers.oldest + looked.elapsed();
            if age < handicap {
                self.told.wave.tell_wait(left, self.replica.held.count(), handicap - age);
                break;
            }
            let claimed = self.claim(connection, handicap, refused);
            match self.unless_refused(claimed)? {
                Some(true) => self.told.wave.claimed += 1,
                Some(false) => break,
                None => refused += 1,
            }
            left -= 1;
            self.check_step_connection();
        }
        if self.told.refusals == refusals {
            self.told.refusals = 0;
        }
        match self.lack.is_some() {
            true => self.replica.metrics.runs.due_unknown(),
            false => self.replica.metrics.runs.due(usize::try_from(left).unwrap_or_default()),
        }
        Ok(interrupted)
    }

    /// False when there is nothing to claim. Skips the `refused` oldest offers: a job that the
    /// database does not let be claimed must not keep the other jobs from being run.
    fn claim(
        &mut self,
        connection: &mut Dedicated,
        handicap: Duration,
        refused: i64,
    ) -> Result<bool, Error> {
        let held: Vec<i64> =
            self.replica.held.list().iter().map(|run| run.claimed.job_id).collect();
        let attempted = Instant::now();
        let claim = |session: &mut _| self.replica.leases.claim(session, handicap, &held, refused);
        let Some(claimed) = connection.run(claim)? else { return Ok(false) };
        if let Some(orphan) = &claimed.taken_from {
            self.replica.metrics.runs.takeovers.inc();
            self.replica.metrics.runs.closed(&orphan.job, Outcome::Abandoned.name());
        }
        let missed = claimed.missed();
        let late_seconds = missed.is_none().then_some(claimed.start.late_seconds);
        self.replica.metrics.runs.claimed(&claimed.job, late_seconds);
        if claimed.attempt > 1 {
            self.replica.metrics.runs.retries.inc();
        }
        let running = Arc::new(Running::new(claimed, attempted, self.replica.leases.term));
        self.replica.held.add(Arc::clone(&running));
        if let Some(detail) = missed {
            let end = End { outcome: Outcome::Missed, detail, progress: 0.0 };
            self.replica.held.ended(&running, end);
        } else if let Err(error) = self.start(&running) {
            self.no_thread = Some(Instant::now());
            let (job, run) = (&running.claimed.job, running.claimed.run_id);
            error!(
                "event=run_not_started job={job} run={run} reason={:?} hint=\"no thread left: \
                 raise the limit of threads; another replica runs the job\"",
                error.to_string()
            );
            let detail = format!("{} had no thread left: {error}", self.replica.leases.server);
            self.replica
                .held
                .ended(&running, End { outcome: Outcome::Cancelled, detail, progress: 0.0 });
        }
        Ok(true)
    }

    /// Starts the thread of a run, which has to be in `held` already.
    fn start(&self, running: &Arc<Running>) -> io::Result<()> {
        let (functions, replica) = (self.functions.clone(), Arc::clone(&self.replica));
        let context = Context { running: Arc::clone(running), db: Arc::clone(&self.steps) };
        let name = format!("run {}", running.claimed.job);
        let run = move || {
            let end = functions.call(&context, &replica.leases.server);
            replica.held.ended(&context.running, end);
        };
        thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(run).map(drop)
    }

    fn may_claim(&self) -> bool {
        let is_fit = self.steps.health().is_fit();
        self.obstacle().is_none() && is_fit && !self.replica.held.is_draining()
    }

    /// Why no further run can be started at present; none when one can.
    fn obstacle(&self) -> Option<String> {
        let no_thread = self.no_thread.is_some_and(|since| since.elapsed() < THREAD_RETRY);
        match &self.lack {
            Some(Lack::Refused(reason)) => Some(reason.clone()),
            Some(Lack::UnderWay(_)) => Some("a connection for steps is being opened".to_owned()),
            None => no_thread.then(|| "no thread is left for another run".to_owned()),
        }
    }

    /// Checks for a connection for steps. Without one, a run would only keep its job from others.
    fn check_step_connection(&mut self) {
        let lack = self.steps.lack();
        match &lack {
            Some(Lack::Refused(reason)) if lack != self.lack => {
                warn!(
                    "event=claims_stop reason={reason:?} hint=\"a run needs a connection for its \
                     steps: no job is claimed before there is one\""
                );
                self.told.lack = true;
            }
            None if std::mem::take(&mut self.told.lack) => {
                info!("event=claims_go_on reason=\"there is a connection for steps\"");
            }
            _ => {}
        }
        self.lack = lack;
    }

    /// Notes in `health` why this replica does not poll at present.
    pub(super) fn rest(&self, reason: &str) {
        self.steps.health().note_claimable(Err(reason.to_owned()));
    }

    fn note_a_jump(&mut self, jump: Option<f64>) {
        let Some(seconds) = jump else { return };
        let back = seconds < 0.0;
        self.perhaps_set_back |= back;
        self.leases_have_ended |= !back;
        let hint = match back {
            true => "leases and slots from before are put right",
            false => "nobody loses a job by that: takeovers wait for a lease's length",
        };
        warn!("event=clock_jumped seconds={seconds:.1} hint={hint:?}");
    }

    /// Corrects some rows that were written before the database's clock was set back. True when it
    /// has corrected any, so that there may be more; a refused write is tried at the next poll.
    fn mend(&mut self, connection: &mut Dedicated, until: Instant) -> Result<bool, Error> {
        let result = connection.run(|session| Leases::mend(session, until));
        let Some(mended) = self.unless_refused(result)? else { return Ok(false) };
        for (job, seconds) in &mended.jobs {
            info!("event=job_mended job={job} seconds={seconds:.1}");
        }
        self.perhaps_set_back = mended.are_left;
        Ok(!mended.jobs.is_empty())
    }

    /// None when the database refuses the write itself: the other jobs do not wait for that.
    fn unless_refused<T>(&mut self, result: Result<T, Error>) -> Result<Option<T>, Error> {
        let error = match result {
            Err(error) if !error.is_passing() => error,
            result => return result.map(Some),
        };
        self.replica.metrics.runs.writes_refused.inc();
        self.told.refusals += 1;
        if self.told.refusals == 1 {
            error!(
                "event=claim_refused reason={:?} hint=\"the database does not let a due job be \
                 run; the others are\"",
                error.reason()
            );
        }
        Ok(None)
    }

    fn tell_unknown(&mut self, unknown: &[String]) {
        for new in unknown.iter().filter(|known| !self.told.unknown.contains(known)) {
            let (job, function) = new.split_once(' ').unwrap_or((new, ""));
            warn!(
                "event=function_unknown job={job} function={function} hint=\"left to replicas of \
                 another build\""
            );
        }
        self.told.unknown = unknown.to_vec();
    }
}
