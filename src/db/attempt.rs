//! One attempt to have something done in the database, watched from outside: whoever waits for
//! its answer can give it up, and learns whether anything had been sent by then.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use super::Outcome;

const WAITING: u8 = 0;
const SENT: u8 = 1;
const GIVEN_UP: u8 = 2;

/// An attempt with a deadline. Giving up and sending exclude each other: an attempt that was
/// given up as "not applied" is never sent afterwards.
#[derive(Debug)]
pub struct Attempt {
    begun: Instant,
    until: Instant,
    phase: AtomicU8,
}

/// The attempt was given up before it was sent.
#[derive(Debug, PartialEq, Eq)]
pub struct GivenUp;

impl Attempt {
    /// An attempt that may wait for `limit` from now.
    pub fn within(limit: Duration) -> Attempt {
        let begun = Instant::now();
        Attempt { begun, until: begun + limit, phase: AtomicU8::new(WAITING) }
    }

    /// When it began.
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// What is left until the deadline; zero when it has passed.
    pub fn remaining(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Whether waiting on is useless: given up, or past the deadline.
    pub fn is_over(&self) -> bool {
        self.phase.load(Ordering::Acquire) == GIVEN_UP || self.remaining().is_zero()
    }

    /// Whether a statement has gone out, and nobody has given up on it.
    pub fn is_sent(&self) -> bool {
        self.phase.load(Ordering::Acquire) == SENT
    }

    /// Marks that a statement goes out now. A second statement of the same attempt may follow.
    ///
    /// # Errors
    /// [`GivenUp`]: somebody has already answered that nothing was applied.
    pub fn send(&self) -> Result<(), GivenUp> {
        let sent = |phase| (phase != GIVEN_UP).then_some(SENT);
        match self.phase.fetch_update(Ordering::AcqRel, Ordering::Acquire, sent) {
            Ok(_) => Ok(()),
            Err(_) => Err(GivenUp),
        }
    }

    /// Takes [`Attempt::send`] back: it turned out that nothing had gone out.
    ///
    /// # Errors
    /// [`GivenUp`]: somebody has already answered that the outcome is unknown.
    pub fn unsend(&self) -> Result<(), GivenUp> {
        match self.phase.compare_exchange(SENT, WAITING, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(()),
            Err(_) => Err(GivenUp),
        }
    }

    /// Gives the attempt up and says what is known of it.
    pub fn give_up(&self) -> Outcome {
        match self.phase.swap(GIVEN_UP, Ordering::AcqRel) {
            SENT => Outcome::Unknown,
            _ => Outcome::NotApplied,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_up_unsent_is_never_sent() {
        let attempt = Attempt::within(Duration::from_secs(9));
        assert_eq!(attempt.give_up(), Outcome::NotApplied);
        assert_eq!(attempt.send(), Err(GivenUp));
        assert!(attempt.is_over());
    }

    #[test]
    fn what_was_sent_is_given_up_as_unknown() {
        let attempt = Attempt::within(Duration::from_secs(9));
        assert_eq!(attempt.send(), Ok(()));
        assert_eq!(attempt.send(), Ok(()));
        assert_eq!(attempt.give_up(), Outcome::Unknown);
        assert_eq!(attempt.send(), Err(GivenUp));
    }

    #[test]
    fn giving_up_and_sending_exclude_each_other() {
        for _ in 0..2_000 {
            let attempt = Attempt::within(Duration::from_secs(9));
            let (sent, outcome) = std::thread::scope(|scope| {
                let sender = scope.spawn(|| attempt.send().is_ok());
                let outcome = attempt.give_up();
                (sender.join().unwrap(), outcome)
            });
            assert_eq!(sent, outcome == Outcome::Unknown);
        }
    }
}
