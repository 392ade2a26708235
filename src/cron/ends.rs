//! Writes the ends of runs, one after the other. Tries each again until the history has it, or
//! until another replica has closed the run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{Level, error, info, log, warn};

use super::lease::{Claimed, Clock, End, Ended, Outcome, Written};
use super::replica::Replica;
use super::running::{Reason, Running};
use super::said::ascii;
use super::telling::tell;
use crate::db::{Dedicated, Error, Stage};

/// The ends that this replica still has to write.
pub(super) struct Ends {
    replica: Arc<Replica>,
    all: Vec<Ending>,
}

/// The end of a run whose function has returned, and the tries to write it.
struct Ending {
    run: Arc<Running>,
    end: End,
    refusals: u32,
    /// Whether the metrics have counted that the run lost its lease.
    is_counted: bool,
    /// Whether it was logged that this end could not be written yet.
    told: bool,
    /// When the first try was due.
    since: Instant,
    try_at: Instant,
}

/// The pause between two tries. While the job is locked it is the time since the first try, from
/// `PAUSE_MIN` up to this: so it doubles.
const RETRY: Duration = Duration::from_millis(250);
const PAUSE_MIN: Duration = Duration::from_millis(8);
/// A job that is locked for longer than this is logged.
const LOCKED_MAX: Duration = Duration::from_secs(1);
/// After so many refusals an end is replaced by a plainer one (`refused`): after 1 min of tries, or
/// after 5 s of refusals that will not pass, since each of those counts as 12.
const REFUSALS_MAX: u32 = 240;
const REFUSALS_OF_A_LASTING_ONE: u32 = 12;

impl Ending {
    fn new(run: Arc<Running>, end: End) -> Ending {
        let now = Instant::now();
        Ending { run, end, refusals: 0, is_counted: false, told: false, since: now, try_at: now }
    }
}

impl Ends {
    pub(super) fn new(replica: Arc<Replica>) -> Ends {
        Ends { replica, all: Vec::new() }
    }

    /// When the next try is due; none when there is nothing to write.
    pub(super) fn next(&self) -> Option<Instant> {
        self.all.iter().map(|ending| ending.try_at).min()
    }

    /// Tries to write the ends that are due. After `until` it begins no try except the first. True
    /// when the replica now holds fewer runs than before.
    pub(super) fn write(
        &mut self,
        connection: &mut Dedicated,
        clock: &Clock,
        until: Option<Instant>,
    ) -> bool {
        let held = self.replica.held.count();
        for (run, end) in self.replica.held.take_ended() {
            let mut ending = Ending::new(run, end);
            self.count_a_loss(&mut ending, false);
            self.all.push(ending);
        }
        let mut tried = false;
        for mut ending in std::mem::take(&mut self.all) {
            let started = Instant::now();
            let is_over = tried && until.is_some_and(|until| started >= until);
            if ending.try_at > started || is_over {
                self.all.push(ending);
                continue;
            }
            tried = true;
            if ending.run.has_lines() {
                tell(connection, &[Arc::clone(&ending.run)]);
            }
            let (run, end) = (&ending.run.claimed, &ending.end);
            let checkpoint = ending.run.unsaved_checkpoint();
            match connection.run(|session| {
                self.replica.leases.end(session, run, end, checkpoint.as_deref(), clock.now())
            }) {
                Ok(Ended::Busy) => {
                    let waited = ending.since.elapsed();
                    if waited > LOCKED_MAX {
                        tell_that_it_waits(&mut ending, "somebody has locked the job");
                    }
                    self.again(ending, waited.clamp(PAUSE_MIN, RETRY));
                }
                Ok(Ended::Written(written)) => self.done(ending, Some(&written)),
                Ok(Ended::Lost) => self.done(ending, None),
                Err(error) => {
                    tell_that_it_waits(&mut ending, error.reason());
                    self.refused(ending, &error);
                }
            }
        }
        self.replica.held.count() < held
    }

    fn again(&mut self, ending: Ending, pause: Duration) {
        self.all.push(Ending { try_at: Instant::now() + pause, ..ending });
    }

    /// After `REFUSALS_MAX` refusals, writes a plain ASCII end instead, which every database can
    /// hold. After twice as many, gives the run up, so that its lease runs out.
    fn refused(&mut self, mut ending: Ending, error: &Error) {
        let before = ending.refusals;
        if !error.is_passing() {
            ending.refusals += REFUSALS_OF_A_LASTING_ONE;
            self.replica.metrics.runs.writes_refused.inc();
        } else if error.stage() == Stage::Refused {
            ending.refusals += 1;
        }
        if before < REFUSALS_MAX && ending.refusals >= REFUSALS_MAX {
            let reason = ascii(error.reason());
            let detail = format!("the database refused the end of the run: {reason}");
            // A cancelled or abandoned run keeps its outcome, so that its slot is run again.
            let outcome = match ending.end.outcome {
                Outcome::Succeeded | Outcome::Failed => Outcome::Failed,
                other => other,
            };
            ending.end = End { outcome, detail, ..ending.end };
        }
        if ending.refusals < 2 * REFUSALS_MAX {
            return self.again(ending, RETRY);
        }
        let Claimed { job, run_id: run, .. } = &ending.run.claimed;
        let (outcome, reason) = (ending.end.outcome.name(), error.reason());
        error!(
            "event=run_not_recorded job={job} run={run} outcome={outcome} reason={reason:?} \
             hint=\"the database refuses every end of it: its lease runs out, and the same slot is \
             run again\""
        );
        self.let_go(&ending.run);
    }

    /// The end was written; none if the lease is lost.
    fn done(&self, mut ending: Ending, written: Option<&Written>) {
        self.count_a_loss(&mut ending, written.is_none());
        log_end(&ending, written);
        let (job, runs) = (&ending.run.claimed.job, &self.replica.metrics.runs);
        match written {
            Some(Written { outcome: Outcome::Missed, .. }) => {
                runs.closed(job, Outcome::Missed.name());
            }
            Some(Written { outcome, at, .. }) => {
                runs.ended(job, outcome.name(), ending.run.elapsed().as_secs_f64());
                if *outcome == Outcome::Succeeded {
                    runs.succeeded(job, *at);
                }
            }
            None => {}
        }
        self.let_go(&ending.run);
    }

    /// Counts a lost lease once for each run, as soon as it is known.
    fn count_a_loss(&self, ending: &mut Ending, is_lost: bool) {
        let is_expelled = matches!(ending.run.reason(), Some(Reason::Expired | Reason::Lost));
        if (is_expelled || is_lost) && !std::mem::replace(&mut ending.is_counted, true) {
            self.replica.metrics.runs.leases_lost.inc();
        }
    }

    fn let_go(&self, run: &Running) {
        self.replica.metrics.runs.let_go();
        self.replica.held.remove(run);
    }
}

fn tell_that_it_waits(ending: &mut Ending, reason: &str) {
    if std::mem::replace(&mut ending.told, true) {
        return;
    }
    let Claimed { job, run_id: run, .. } = &ending.run.claimed;
    let retry_ms = RETRY.as_millis();
    warn!("event=record_waits job={job} run={run} reason={reason:?} retry_ms={retry_ms}");
}

/// Logs the end. Why a run was cancelled or abandoned was logged when its function returned.
fn log_end(ending: &Ending, written: Option<&Written>) {
    let Claimed { job, run_id: run, attempt, .. } = &ending.run.claimed;
    let End { outcome, detail, .. } = &ending.end;
    let seconds = ending.run.elapsed().as_secs_f64();
    let Some(Written { outcome, retry_seconds, .. }) = written else {
        let outcome = outcome.name();
        warn!(
            "event=run_lost job={job} run={run} outcome={outcome} duration_seconds={seconds:.3} \
             reason=\"the lease was not held any more: nothing written\""
        );
        return;
    };
    let level = match outcome {
        Outcome::Succeeded | Outcome::Cancelled | Outcome::Stopped => Level::Info,
        Outcome::Failed | Outcome::Abandoned | Outcome::TimedOut | Outcome::Missed => Level::Warn,
    };
    let outcome = outcome.name();
    log!(
        level,
        "event=run_ended job={job} run={run} attempt={attempt} outcome={outcome} \
         duration_seconds={seconds:.3} detail={detail:?}"
    );
    if let Some(seconds) = retry_seconds {
        let next = attempt + 1;
        info!("event=retry_waits job={job} run={run} attempt={next} retry_seconds={seconds:.1}");
    }
}
