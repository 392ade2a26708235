//! One run of this process, and its trust window: how long it may rely on its lease, counted on its
//! own clock from before the claim or the renewal was sent. The database counts the lease from
//! later: it outlasts the window. After four fifths of its length the run is cancelled; after nine
//! tenths the process ends, if the function has not returned.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::lease::{Claimed, News};
use super::said::Said;
use crate::shutdown::Signal;

/// The time that a cancelled function has to return when its lease is lost, or when the trust
/// window had ended before anybody could see it, as after a pause of the whole process.
pub(super) const RETURN_GRACE: Duration = Duration::from_millis(500);

/// A function that has not returned so long after its run was cancelled is logged.
const OVERDUE_AFTER: Duration = Duration::from_secs(5);

/// Why a run was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// This replica is shut down.
    ShutDown,
    /// The lease could not be renewed within the trust window.
    Expired,
    /// The database says that another replica has the lease, or that the job is gone.
    Lost,
    /// It takes longer than it may. Its lease is renewed until its function has returned.
    TimedOut,
    /// Somebody asked to stop it. Its lease is renewed until its function has returned.
    Stopped,
}

/// A run, from its claim until its end is written.
pub(super) struct Running {
    pub(super) claimed: Claimed,
    started: Instant,
    /// The length of the lease after a claim or a renewal.
    term: Duration,
    cancel: Signal,
    state: Mutex<Course>,
}

struct Course {
    /// When the last claim or renewal was sent that succeeded.
    attempted: Instant,
    progress: f64,
    /// Where a run of the same slot can go on, as JSON; and the one that the database has.
    checkpoint: Option<Arc<str>>,
    saved: Option<Arc<str>>,
    said: Said,
    /// The progress that the history has, and the length of the checkpoint.
    told: (f64, Option<i32>),
    returned: Option<Instant>,
    cancelled: Option<(Reason, Instant)>,
    /// Whether it was told that the function does not return.
    is_overdue: bool,
}

impl Running {
    /// A run whose claim was sent at `attempted`.
    pub(super) fn new(claimed: Claimed, attempted: Instant, term: Duration) -> Running {
        Running {
            claimed,
            started: Instant::now(),
            term,
            cancel: Signal::new(),
            state: Mutex::new(Course {
                attempted,
                progress: 0.0,
                checkpoint: None,
                saved: None,
                said: Said::default(),
                told: (0.0, None),
                returned: None,
                cancelled: None,
                is_overdue: false,
            }),
        }
    }

    /// Tells the function to return. The first reason is kept, but `Lost` replaces any other.
    pub(super) fn cancel(&self, reason: Reason) {
        let cancelled = &mut self.state.lock().cancelled;
        let known = cancelled.map(|(known, _)| known);
        if known.is_none() || (reason == Reason::Lost && known != Some(Reason::Lost)) {
            *cancelled = Some((reason, Instant::now()));
        }
        self.cancel.begin();
    }

    /// Why the run was cancelled, if it was. Cancels it first if the trust window or its own time
    /// has ended, so that no step begins after that, even when the lease watch is late.
    pub(super) fn cancelled(&self) -> Option<Reason> {
        if !self.cancel.has_begun() {
            if !self.is_trusted() {
                self.cancel(Reason::Expired);
            } else if self.claimed.time_max.is_some_and(|max| self.elapsed() >= max) {
                self.cancel(Reason::TimedOut);
            }
        }
        self.reason()
    }

    /// Why the run was cancelled, if it was. Does not look at the clock.
    pub(super) fn reason(&self) -> Option<Reason> {
        self.state.lock().cancelled.map(|(reason, _)| reason)
    }

    /// Waits for `limit`, or until the run is cancelled; true when it is.
    pub(super) fn wait(&self, limit: Duration) -> bool {
        self.cancel.wait_for(limit);
        self.cancelled().is_some()
    }

    /// Notes a renewal that succeeded. The trust window counts from `attempted`, when it was sent.
    pub(super) fn renewed(&self, attempted: Instant) {
        let mut state = self.state.lock();
        state.attempted = state.attempted.max(attempted);
    }

    /// Notes that the function has returned: it cannot outlive the lease any more.
    pub(super) fn returned(&self) {
        self.state.lock().returned = Some(Instant::now());
    }

    /// How long the function took, or has taken until now.
    pub(super) fn elapsed(&self) -> Duration {
        let returned = self.state.lock().returned;
        returned.unwrap_or_else(Instant::now) - self.started
    }

    /// True once: when the function was told to return a while ago, and has not.
    pub(super) fn has_become_overdue(&self) -> bool {
        let mut state = self.state.lock();
        let is_told = state.cancelled.is_some_and(|(_, since)| since.elapsed() > OVERDUE_AFTER);
        is_told && state.returned.is_none() && !std::mem::replace(&mut state.is_overdue, true)
    }

    pub(super) fn set_progress(&self, progress: f64) {
        if progress.is_finite() {
            self.state.lock().progress = progress.clamp(0.0, 1.0);
        }
    }

    pub(super) fn progress(&self) -> f64 {
        self.state.lock().progress
    }

    pub(super) fn set_checkpoint(&self, json: String) {
        self.state.lock().checkpoint = Some(json.into());
    }

    /// The newest checkpoint of this run, if the database does not have it.
    pub(super) fn unsaved_checkpoint(&self) -> Option<Arc<str>> {
        let state = self.state.lock();
        let is_saved =
            |new: &Arc<str>| state.saved.as_ref().is_some_and(|old| Arc::ptr_eq(old, new));
        state.checkpoint.clone().filter(|new| !is_saved(new))
    }

    /// Notes that the database has this checkpoint. Meanwhile there may be a newer one.
    pub(super) fn saved(&self, checkpoint: Arc<str>) {
        self.state.lock().saved = Some(checkpoint);
    }

    pub(super) fn say(&self, line: &str) {
        self.state.lock().said.add(line);
    }

    /// Whether the run has said something that the database does not have.
    pub(super) fn has_lines(&self) -> bool {
        self.state.lock().said.has_news()
    }

    /// What the history lacks, with at most so many bytes of lines; none if it has everything.
    pub(super) fn news(&self, bytes_max: usize) -> Option<News> {
        let state = self.state.lock();
        let length = |json: &Arc<str>| i32::try_from(json.len()).unwrap_or(i32::MAX);
        let checkpoint_bytes = state.checkpoint.as_ref().map(length);
        let is_known = state.told == (state.progress, checkpoint_bytes) && !state.said.has_news();
        (!is_known).then(|| News {
            progress: state.progress,
            checkpoint_bytes,
            first_line: state.said.first(),
            lines: state.said.news(bytes_max),
        })
    }

    /// Notes that the history has this.
    pub(super) fn told(&self, news: &News) {
        let mut state = self.state.lock();
        state.told = (news.progress, news.checkpoint_bytes);
        news.lines.last().into_iter().for_each(|last| state.said.told(last.number));
    }

    /// Notes that the database has refused the lines among this.
    pub(super) fn refused(&self, news: &News) {
        let said = &mut self.state.lock().said;
        news.lines.last().into_iter().for_each(|last| said.refused(last.number));
    }

    /// Whether the lease may be renewed. After the trust window the run is given up instead.
    pub(super) fn is_trusted(&self) -> bool {
        Instant::now() < self.trusted_until()
    }

    /// The end of the trust window.
    pub(super) fn trusted_until(&self) -> Instant {
        self.state.lock().attempted + self.term * 4 / 5
    }

    /// When the process has to end because of this run; none if the run is not cancelled, or if its
    /// function has returned.
    pub(super) fn exit_at(&self) -> Option<Instant> {
        let state = self.state.lock();
        if state.returned.is_some() {
            return None;
        }
        let (reason, since) = state.cancelled?;
        let grace_ends = since + RETURN_GRACE;
        let lease_ends = state.attempted + self.term * 9 / 10;
        let has_time = reason != Reason::Lost && since < lease_ends;
        Some(if has_time { lease_ends } else { grace_ends })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Duration = Duration::from_secs(10);

    fn run(attempted: Instant) -> Running {
        Running::new(Claimed::default(), attempted, TERM)
    }

    fn seconds_ago(seconds: u64) -> Instant {
        Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap()
    }

    #[test]
    fn a_slow_success_does_not_extend_the_trust_window() {
        let claimed_slowly = run(seconds_ago(9));
        assert_eq!(claimed_slowly.cancelled(), Some(Reason::Expired));
        let run = run(seconds_ago(7));
        assert_eq!(run.cancelled(), None);
        let renewed_slowly = seconds_ago(6);
        run.renewed(renewed_slowly);
        assert_eq!(run.trusted_until(), renewed_slowly + TERM * 4 / 5);
    }

    #[test]
    fn answers_out_of_order_do_not_shorten_the_trust_window() {
        let run = run(seconds_ago(5));
        let late = seconds_ago(1);
        run.renewed(late);
        run.renewed(seconds_ago(4));
        assert_eq!(run.trusted_until(), late + TERM * 4 / 5);
    }

    #[test]
    fn what_was_cancelled_stays_cancelled() {
        let run = run(seconds_ago(9));
        assert_eq!(run.cancelled(), Some(Reason::Expired));
        run.renewed(Instant::now());
        run.cancel(Reason::ShutDown);
        assert_eq!(run.cancelled(), Some(Reason::Expired));
        assert!(run.wait(TERM), "and no wait is waited out");
    }

    #[test]
    fn the_process_has_to_end_before_the_lease_does_unless_the_function_returned() {
        let attempted = seconds_ago(5);
        let run = run(attempted);
        assert_eq!(run.exit_at(), None, "nothing is wrong yet");
        run.cancel(Reason::ShutDown);
        assert_eq!(run.exit_at(), Some(attempted + TERM * 9 / 10));
        run.returned();
        assert_eq!(run.exit_at(), None);
    }

    #[test]
    fn after_a_pause_a_function_has_a_moment_to_return() {
        let paused = run(seconds_ago(60));
        let woken = Instant::now();
        assert_eq!(paused.cancelled(), Some(Reason::Expired));
        assert!(paused.exit_at().unwrap() >= woken + RETURN_GRACE);
        let lost = run(seconds_ago(1));
        lost.cancel(Reason::Lost);
        assert!(lost.exit_at().unwrap() <= Instant::now() + RETURN_GRACE, "another may run it now");
    }
}
