//! The health of the database, kept in memory: whether the database answers, and since when no
//! statement has returned. So nobody has to wait for the database to learn that.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Deadline, Observed};

/// The database hangs if the probe waits for its answer and no statement of any thread has returned
/// for this long.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// A younger outage may be a restart of the server, so requests wait for its end.
const OUTAGE_PATIENCE: Duration = Duration::from_secs(1);
/// An older answer does not prove that the database works. The probe asks every second, so a loss
/// is known within 3 s.
const ANSWER_AGE_MAX: Duration = Duration::from_millis(2_500);

/// What is known of the database; all threads of a replica share it.
pub struct Health {
    started: Instant,
    /// When the probe began to wait for an answer, in ms since `started`; zero while it does not.
    asked_ms: AtomicU64,
    /// When a statement of any thread last returned, in ms since `started`.
    returned_ms: AtomicU64,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    way: Way,
    answered: Option<Instant>,
    outage: Option<Outage>,
    /// Connections opened until then are of no use: a server was read-only, or sessions were mixed.
    demoted: Option<Instant>,
    /// When the probe last failed.
    failed: Option<Instant>,
    observed: Option<Observed>,
    /// Whether this replica can claim jobs, or why not; None if it runs no jobs.
    jobs: Option<Result<(), String>>,
}

/// Whether sessions are kept apart, or mixed by a pooler that does not pool by session.
#[derive(Clone, Default, PartialEq)]
enum Way {
    /// The probe has not tested it yet.
    Untried,
    #[default]
    Fit,
    /// Sessions are mixed; the reason for the log.
    Unfit(String),
}

#[derive(Clone)]
struct Outage {
    since: Instant,
    /// When the last failed try began.
    tried: Instant,
    reason: String,
}

/// Why a request should not wait for the database now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The database cannot be reached, or cannot do the work.
    Away {
        /// When the last failed try began: a request that began later may succeed.
        tried: Instant,
        /// Why that try failed, for the log.
        reason: String,
    },
    /// The probe waits for an answer, and no statement has returned for this long.
    Silent(Duration),
    /// A pooler mixes sessions: a statement may run in another session; the reason for the log.
    Unfit(String),
}

impl Default for Health {
    fn default() -> Health {
        let (asked_ms, returned_ms) = (AtomicU64::default(), AtomicU64::default());
        Health { started: Instant::now(), asked_ms, returned_ms, known: Mutex::default() }
    }
}

impl Health {
    /// A health that lets no request through before the probe has succeeded once.
    pub fn untried() -> Health {
        let health = Health::default();
        health.known.lock().way = Way::Untried;
        health
    }

    /// Notes that a pooler mixes sessions; true if this, or the reason, is new.
    pub(super) fn unfit(&self, reason: &str) -> bool {
        let mut known = self.known.lock();
        let way = Way::Unfit(reason.to_owned());
        let is_new = known.way != way;
        known.way = way;
        // Connections opened until now are of no use.
        known.demoted = Some(Instant::now());
        is_new
    }

    /// Whether the last test found sessions kept apart; false before the first test.
    pub fn is_fit(&self) -> bool {
        self.known.lock().way == Way::Fit
    }

    /// Notes that the probe waits for its answer: from now on, silence means a hanging database.
    pub(super) fn asks(&self) {
        self.asked_ms.store(self.now_ms(), Ordering::Release);
    }

    pub(super) fn asks_no_more(&self) {
        self.asked_ms.store(0, Ordering::Release);
    }

    /// Notes that a statement has returned, with success or with an error.
    pub(super) fn returned(&self) {
        self.returned_ms.store(self.now_ms(), Ordering::Release);
    }

    /// Notes that the probe got its answer: the database works, and sessions are kept apart.
    pub fn answered(&self) {
        let mut known = self.known.lock();
        known.way = Way::Fit;
        known.answered = Some(Instant::now());
        known.outage = None;
    }

    /// Notes that the probe's try, begun at `tried`, failed; true if it is the first of an outage.
    pub fn failed(&self, tried: Instant, reason: &str) -> bool {
        let mut known = self.known.lock();
        known.observed = None;
        known.failed = Some(Instant::now());
        if matches!(&known.way, Way::Unfit(known) if known != reason) {
            known.way = Way::Untried;
        }
        let since = known.outage.as_ref().map(|outage| outage.since);
        let reason = reason.to_owned();
        known.outage = Some(Outage { since: since.unwrap_or(tried), tried, reason });
        since.is_none()
    }

    pub(super) fn observe(&self, observed: Observed) {
        self.known.lock().observed = Some(observed);
    }

    /// What the probe saw with its last answer; None while the database is away.
    pub fn observed(&self) -> Option<Observed> {
        self.known.lock().observed
    }

    /// Notes whether this replica can claim jobs now, or why not.
    pub fn note_claimable(&self, answer: Result<(), String>) {
        self.known.lock().jobs = Some(answer);
    }

    /// Whether this replica can claim jobs now, or why not; None if it runs no jobs.
    pub fn claimable(&self) -> Option<Result<(), String>> {
        self.known.lock().jobs.clone()
    }

    /// Notes that a server takes no changes any more, as shown by a connection that was opened at
    /// this instant. What such a connection reads may be outdated.
    pub(super) fn demoted(&self, opened: Instant) {
        let mut known = self.known.lock();
        if known.demoted.is_none_or(|known| known < opened) {
            known.demoted = Some(Instant::now());
        }
    }

    /// Whether a connection opened at this instant may lead to a demoted server.
    pub(super) fn may_be_demoted(&self, opened: Instant) -> bool {
        self.known.lock().demoted.is_some_and(|demoted| opened <= demoted)
    }

    /// Whether a connection opened at this instant may be dead or of no use, because the database
    /// was away since.
    pub(super) fn may_have_ended(&self, opened: Instant) -> bool {
        let known = self.known.lock();
        [known.demoted, known.failed].iter().flatten().any(|instant| opened <= *instant)
    }

    /// Why a request need not wait for the database; None while the database works, and in the
    /// first second of an outage, which may be a restart.
    pub fn trouble(&self) -> Option<Trouble> {
        self.hang().or_else(|| self.known.lock().trouble())
    }

    /// Whether a request may take a connection now; false before sessions were tested.
    ///
    /// # Errors
    /// The trouble that concerns this deadline's work.
    pub(super) fn lets_through(&self, deadline: &Deadline) -> Result<bool, Trouble> {
        let known = |known: &Known| (known.trouble(), known.way == Way::Fit);
        let (trouble, is_fit) = match self.hang() {
            Some(hang) => (Some(hang), false),
            None => known(&self.known.lock()),
        };
        trouble.filter(|trouble| trouble.concerns(deadline)).map_or(Ok(is_fit), Err)
    }

    fn hang(&self) -> Option<Trouble> {
        Some(self.silence()).filter(|time| *time >= SILENCE_MAX).map(Trouble::Silent)
    }

    /// Whether the database works: no outage is known, and the last answer is at most 2.5 s old.
    ///
    /// # Errors
    /// The reason why not, for people.
    pub fn check(&self) -> Result<(), String> {
        let known = self.known.lock();
        match (&known.outage, known.answered) {
            (Some(outage), _) => Err(outage.reason.clone()),
            (None, None) => Err("the database has not answered yet".to_owned()),
            (None, Some(at)) if at.elapsed() > ANSWER_AGE_MAX => {
                let age = at.elapsed().as_secs_f32();
                Err(format!("the database has not answered for {age:.1} s"))
            }
            _ => Ok(()),
        }
    }

    /// For how long the probe has waited while no statement returned. Zero while the probe does not
    /// ask: then silence proves nothing, because the whole process may have been stopped.
    fn silence(&self) -> Duration {
        let asked = self.asked_ms.load(Ordering::Acquire);
        if asked == 0 {
            return Duration::ZERO;
        }
        let last = asked.max(self.returned_ms.load(Ordering::Acquire));
        Duration::from_millis(self.now_ms().saturating_sub(last))
    }

    /// Milliseconds since `started`; never zero, because zero means that the probe does not ask.
    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }
}

impl Known {
    fn trouble(&self) -> Option<Trouble> {
        if let Way::Unfit(reason) = &self.way {
            return Some(Trouble::Unfit(reason.clone()));
        }
        match &self.outage {
            Some(Outage { since, tried, reason }) if since.elapsed() >= OUTAGE_PATIENCE => {
                Some(Trouble::Away { tried: *tried, reason: reason.clone() })
            }
            _ => None,
        }
    }
}

impl Trouble {
    /// Whether to answer a request with this trouble. If the database is away, work already sent
    /// returns by itself, and a request younger than the last failed try may succeed.
    pub fn concerns(&self, deadline: &Deadline) -> bool {
        match self {
            Trouble::Silent(_) | Trouble::Unfit(_) => true,
            Trouble::Away { tried, .. } => *tried >= deadline.begun() && !deadline.is_sent(),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Away { reason, .. } | Trouble::Unfit(reason) => f.write_str(reason),
            Trouble::Silent(time) => {
                write!(f, "no statement has returned for {:.1} s", time.as_secs_f32())
            }
        }
    }
}

#[cfg(test)]
mod tests;
