//! The health of the database, kept in memory: whether its host lets us in, and since when no
//! statement has returned. Read by whoever must not wait for the database to learn that.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Deadline;

/// While the probe waits for its answer and no statement has returned for this long, the database
/// hangs.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// An outage younger than this may be a restart: requests wait for its end.
const OUTAGE_PATIENCE: Duration = Duration::from_secs(1);
/// A last good answer older than this is no evidence that the database works. With a probe every
/// second the loss is known within three.
const ANSWER_AGE_MAX: Duration = Duration::from_millis(2_500);

/// What is known of the database. Shared by all threads of a replica.
pub struct Health {
    started: Instant,
    /// Milliseconds since `started` when the probe began to ask; zero while it does not.
    asked_ms: AtomicU64,
    /// The same of the last statement that returned, whoever sent it.
    returned_ms: AtomicU64,
    known: Mutex<Known>,
}

struct Known {
    way: Way,
    answered: Option<Instant>,
    outage: Option<Outage>,
    /// When a server was last found to take no changes any more.
    demoted: Option<Instant>,
    /// When the probe last failed.
    failed: Option<Instant>,
    clock_skew_seconds: Option<f64>,
    durable: Option<bool>,
    /// Whether jobs can be claimed, and why not; none where this replica runs no jobs.
    jobs: Option<Result<(), String>>,
}

/// What is known of the way to the database.
#[derive(Clone, PartialEq)]
enum Way {
    /// Nobody has tried whether sessions keep apart on it.
    Untried,
    Fit,
    /// They do not, and what is said about it.
    Unfit(String),
}

#[derive(Clone)]
struct Outage {
    since: Instant,
    /// When the last try began that failed.
    tried: Instant,
    reason: String,
}

/// Why it is useless to ask the database now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It cannot be reached, or refuses to work.
    Away {
        /// When the last try began that failed: it says nothing of a later request.
        tried: Instant,
        /// What the driver said.
        reason: String,
    },
    /// The probe waits, and no statement has returned for this long.
    Silent(Duration),
    /// What is sent may be worked on in another's session.
    Unfit(String),
}

impl Default for Health {
    fn default() -> Health {
        Health {
            started: Instant::now(),
            asked_ms: AtomicU64::new(0),
            returned_ms: AtomicU64::new(0),
            known: Mutex::new(Known {
                way: Way::Fit,
                answered: None,
                outage: None,
                demoted: None,
                failed: None,
                clock_skew_seconds: None,
                durable: None,
                jobs: None,
            }),
        }
    }
}

impl Health {
    /// Of a way that no request may take before the probe has tried it.
    pub fn untried() -> Health {
        let health = Health::default();
        health.known.lock().way = Way::Untried;
        health
    }

    /// Notes that sessions do not keep apart on the way to the database; true when that is new.
    pub(super) fn unfit(&self, reason: &str) -> bool {
        let mut known = self.known.lock();
        let way = Way::Unfit(reason.to_owned());
        let is_new = known.way != way;
        known.way = way;
        // Whatever was opened on it is of no use.
        known.demoted = Some(Instant::now());
        is_new
    }

    /// Whether sessions keep apart on the way to the database, as far as is known.
    pub fn is_fit(&self) -> bool {
        self.known.lock().way == Way::Fit
    }

    /// Notes that the probe asks: if nothing returns from now on, the database hangs.
    pub(super) fn asks(&self) {
        self.asked_ms.store(self.now_ms(), Ordering::Release);
    }

    /// Notes that the probe does not wait for an answer any more.
    pub(super) fn asks_no_more(&self) {
        self.asked_ms.store(0, Ordering::Release);
    }

    /// Notes that a statement has returned, whatever came of it.
    pub(super) fn returned(&self) {
        self.returned_ms.store(self.now_ms(), Ordering::Release);
    }

    /// Notes that the probe had its answer in a session of its own: the database works.
    pub fn answered(&self) {
        let mut known = self.known.lock();
        known.way = Way::Fit;
        known.answered = Some(Instant::now());
        known.outage = None;
    }

    /// Notes that the probe's try, begun at `tried`, failed; true when the one before had not.
    pub fn failed(&self, tried: Instant, reason: &str) -> bool {
        let mut known = self.known.lock();
        known.clock_skew_seconds = None;
        known.durable = None;
        known.failed = Some(Instant::now());
        if matches!(&known.way, Way::Unfit(known) if known != reason) {
            known.way = Way::Untried;
        }
        let since = known.outage.as_ref().map(|outage| outage.since);
        let reason = reason.to_owned();
        known.outage = Some(Outage { since: since.unwrap_or(tried), tried, reason });
        since.is_none()
    }

    /// Notes what the probe has found this machine's clock minus the database's to be.
    pub(super) fn clocks_differ(&self, seconds: f64) {
        self.known.lock().clock_skew_seconds = Some(seconds);
    }

    /// This machine's clock minus the database's, give or take the probe's round trip; none while
    /// the database is away. For people to look at: nothing may be decided by it.
    pub fn clock_skew_seconds(&self) -> Option<f64> {
        self.known.lock().clock_skew_seconds
    }

    /// Notes whether the database keeps what it has committed if its machine crashes; what was
    /// known before.
    pub(super) fn durable(&self, durable: bool) -> Option<bool> {
        self.known.lock().durable.replace(durable)
    }

    /// Whether the database keeps what it has committed if its machine crashes; none while it is
    /// away.
    pub fn is_durable(&self) -> Option<bool> {
        self.known.lock().durable
    }

    /// Notes whether this replica has all that it needs to claim jobs, or why not.
    pub fn jobs_can_be_claimed(&self, answer: Result<(), String>) {
        self.known.lock().jobs = Some(answer);
    }

    /// Whether this replica has all that it needs to claim jobs, or why not; none where it runs no
    /// jobs.
    pub fn can_jobs_be_claimed(&self) -> Option<Result<(), String>> {
        self.known.lock().jobs.clone()
    }

    /// Notes that a server takes no changes any more, as a connection has shown that was opened at
    /// this instant: who reads from it reads the past.
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

    /// Whether a connection opened at this instant may have ended, or be of no use: the database
    /// was away since.
    pub(super) fn may_have_ended(&self, opened: Instant) -> bool {
        let known = self.known.lock();
        [known.demoted, known.failed].iter().flatten().any(|instant| opened <= *instant)
    }

    /// Why a request need not wait for the database; none while it works, and while an outage is
    /// so young that it may be a restart.
    pub fn trouble(&self) -> Option<Trouble> {
        self.hang().or_else(|| self.known.lock().trouble())
    }

    /// Whether a request may take a connection now; false while nobody has tried the way.
    ///
    /// # Errors
    /// The trouble that concerns this attempt.
    pub(super) fn lets_through(&self, deadline: &Deadline) -> Result<bool, Trouble> {
        let known = |known: &Known| (known.trouble(), known.way == Way::Fit);
        let (trouble, is_fit) = match self.hang() {
            Some(hang) => (Some(hang), false),
            None => known(&self.known.lock()),
        };
        trouble.filter(|trouble| trouble.concerns(deadline)).map_or(Ok(is_fit), Err)
    }

    /// Whether the database hangs.
    fn hang(&self) -> Option<Trouble> {
        Some(self.silence()).filter(|time| *time >= SILENCE_MAX).map(Trouble::Silent)
    }

    /// Whether the database is known to work now.
    ///
    /// # Errors
    /// Why it is not.
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

    /// For how long the probe has waited without any statement returning. While it does not ask,
    /// nothing is known: the whole process may have been stopped.
    fn silence(&self) -> Duration {
        let asked = self.asked_ms.load(Ordering::Acquire);
        if asked == 0 {
            return Duration::ZERO;
        }
        let last = asked.max(self.returned_ms.load(Ordering::Acquire));
        Duration::from_millis(self.now_ms().saturating_sub(last))
    }

    /// Never zero.
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
    /// Whether it is a reason to answer this attempt. What was already sent to a database that is
    /// away returns by itself; and an attempt younger than the last failed try may find it back.
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
mod tests {
    use super::*;

    #[test]
    fn a_young_outage_is_waited_for_and_never_called_ready() {
        let health = Health::default();
        assert!(health.check().is_err(), "nothing has answered yet");
        health.answered();
        assert_eq!(health.check(), Ok(()));
        assert!(health.failed(Instant::now(), "connection refused"));
        assert!(!health.failed(Instant::now(), "connection refused"), "reported once");
        assert_eq!(health.trouble(), None);
        assert_eq!(health.check(), Err("connection refused".to_owned()));
        health.answered();
        assert_eq!(health.check(), Ok(()));
    }

    #[test]
    fn an_outage_concerns_what_began_before_the_last_try_and_was_not_sent() {
        let (waiting, sent) = (Deadline::within(SILENCE_MAX), Deadline::within(SILENCE_MAX));
        sent.send().unwrap();
        let away = Trouble::Away { tried: Instant::now(), reason: String::new() };
        std::thread::sleep(Duration::from_millis(1));
        let later = Deadline::within(SILENCE_MAX);
        assert!(away.concerns(&waiting));
        assert!(!away.concerns(&sent));
        assert!(!away.concerns(&later));
        assert!(Trouble::Silent(SILENCE_MAX).concerns(&sent));
    }

    #[test]
    fn silence_counts_while_the_probe_asks_and_from_the_last_return() {
        let short = Duration::from_millis(200);
        let health = Health::default();
        std::thread::sleep(short);
        assert_eq!(health.silence(), Duration::ZERO);
        health.asks();
        std::thread::sleep(short);
        let silence = health.silence();
        assert!(silence >= short, "{silence:?}");
        health.returned();
        assert!(health.silence() < silence);
        health.asks_no_more();
        assert_eq!(health.silence(), Duration::ZERO);
    }
}
