//! One attempt to have something done in the database, watched from outside: whoever waits for
//! its answer can give it up, and learns whether anything had been sent by then.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use super::Effect;

const WAITING: u8 = 0;
const SENT: u8 = 1;
const GIVEN_UP: u8 = 2;

/// What was sent in time may take this much longer. In a crowd that first comes, first served,
/// whoever has the turn has waited almost until the deadline: without this, a change would be
/// applied while its client is told that nobody knows.
const SENT_PATIENCE: Duration = Duration::from_secs(1);

/// An attempt with a deadline: until then it must be sent, and a second later it must be done.
/// Giving up and sending exclude each other: an attempt that was given up as "not applied" is
/// never sent afterwards.
#[derive(Debug)]
pub struct Deadline {
    begun: Instant,
    until: Instant,
    phase: AtomicU8,
}

/// The attempt was given up, or its deadline passed, before it was sent.
#[derive(Debug, PartialEq, Eq)]
pub struct GivenUp;

impl Deadline {
    /// An attempt that may wait for `limit` from now until it is sent.
    pub fn within(limit: Duration) -> Deadline {
        let begun = Instant::now();
        Deadline { begun, until: begun + limit, phase: AtomicU8::new(WAITING) }
    }

    /// When it began.
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// What is left until the deadline; zero when it has passed.
    fn remaining(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// How long waiting on makes sense: until the deadline, or a second more once it was sent.
    /// Zero when it is over.
    pub fn patience(&self) -> Duration {
        let until = match self.phase.load(Ordering::Acquire) {
            GIVEN_UP => return Duration::ZERO,
            SENT => self.until + SENT_PATIENCE,
            _ => self.until,
        };
        until.saturating_duration_since(Instant::now())
    }

    /// Whether waiting on is useless: given up, not sent by the deadline, or not done a second
    /// later.
    pub fn is_over(&self) -> bool {
        self.patience().is_zero()
    }

    /// Whether a statement has gone out, and nobody has given up on it.
    pub fn is_sent(&self) -> bool {
        self.phase.load(Ordering::Acquire) == SENT
    }

    /// Marks that a statement goes out now. A second statement of the same attempt may follow.
    ///
    /// # Errors
    /// [`GivenUp`]: somebody has already answered that nothing was applied, or will at once.
    pub fn send(&self) -> Result<(), GivenUp> {
        let late = self.remaining().is_zero();
        let sent = |phase| match phase {
            GIVEN_UP => None,
            WAITING if late => None,
            _ => Some(SENT),
        };
        match self.phase.fetch_update(Ordering::AcqRel, Ordering::Acquire, sent) {
            Ok(_) => Ok(()),
            Err(_) => Err(GivenUp),
        }
    }

    /// Takes [`Deadline::send`] back: it turned out that nothing had gone out.
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
    pub fn give_up(&self) -> Effect {
        match self.phase.swap(GIVEN_UP, Ordering::AcqRel) {
            SENT => Effect::Unknown,
            _ => Effect::NotApplied,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_up_unsent_is_never_sent() {
        let deadline = Deadline::within(Duration::from_secs(9));
        assert_eq!(deadline.give_up(), Effect::NotApplied);
        assert_eq!(deadline.send(), Err(GivenUp));
        assert!(deadline.is_over());
    }

    #[test]
    fn what_was_sent_is_given_up_as_unknown() {
        let deadline = Deadline::within(Duration::from_secs(9));
        assert_eq!(deadline.send(), Ok(()));
        assert_eq!(deadline.send(), Ok(()));
        assert_eq!(deadline.give_up(), Effect::Unknown);
        assert_eq!(deadline.send(), Err(GivenUp));
    }

    #[test]
    fn what_was_sent_in_time_may_take_longer_and_nothing_is_sent_late() {
        let (sent, waiting) = (Deadline::within(SENT_PATIENCE), Deadline::within(Duration::ZERO));
        sent.send().unwrap();
        let sent = Deadline { until: Instant::now(), ..sent };
        assert!(!sent.is_over());
        assert!(sent.remaining().is_zero() && !sent.patience().is_zero(), "it may still wait");
        assert_eq!(sent.send(), Ok(()), "a second statement of one that has begun");
        let sent = Deadline { until: Instant::now() - SENT_PATIENCE, ..sent };
        assert!(sent.is_over());
        assert!(waiting.is_over());
        assert_eq!(waiting.send(), Err(GivenUp));
        assert_eq!(waiting.give_up(), Effect::NotApplied);
    }

    #[test]
    fn giving_up_and_sending_exclude_each_other() {
        for _ in 0..2_000 {
            let deadline = Deadline::within(Duration::from_secs(9));
            let (sent, outcome) = std::thread::scope(|scope| {
                let sender = scope.spawn(|| deadline.send().is_ok());
                let outcome = deadline.give_up();
                (sender.join().unwrap(), outcome)
            });
            assert_eq!(sent, outcome == Effect::Unknown);
        }
    }
}
