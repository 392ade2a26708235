//! The deadline of one piece of work for the database, such as a request. Another thread can give
//! the work up, and then learns whether anything had been sent.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use super::Effect;

const WAITING: u8 = 0;
const SENT: u8 = 1;
const GIVEN_UP: u8 = 2;

/// Work that was sent in time may take this much longer. Under load a request often gets its
/// connection just before its deadline; without this extra time its change would be applied while
/// its client is told that the effect is unknown.
const EXTRA_TIME_ONCE_SENT: Duration = Duration::from_secs(1);

/// Until its deadline a piece of work must be sent to the database; one second later it must be
/// done. Giving up and sending exclude each other: work that was given up as "not applied" is never
/// sent afterwards.
#[derive(Debug)]
pub struct Deadline {
    begun: Instant,
    until: Instant,
    phase: AtomicU8,
}

/// The work was given up, or its deadline passed before it was sent.
#[derive(Debug, PartialEq, Eq)]
pub struct GivenUp;

impl Deadline {
    /// A deadline `limit` from now; the work must be sent until then.
    pub fn within(limit: Duration) -> Deadline {
        let begun = Instant::now();
        Deadline { begun, until: begun + limit, phase: AtomicU8::new(WAITING) }
    }

    /// When the work began to wait: the time of the call of [`Deadline::within`].
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// The time that is left for sending; zero once the deadline has passed.
    fn remaining(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// How much longer it makes sense to wait: until the deadline, or one second longer if the work
    /// was sent. Zero if the deadline is over or the work was given up.
    pub fn patience(&self) -> Duration {
        let until = match self.phase.load(Ordering::Acquire) {
            GIVEN_UP => return Duration::ZERO,
            SENT => self.until + EXTRA_TIME_ONCE_SENT,
            _ => self.until,
        };
        until.saturating_duration_since(Instant::now())
    }

    /// Whether nobody needs to wait any more: the work was given up, was not sent by the deadline,
    /// or was not done one second later.
    pub fn is_over(&self) -> bool {
        self.patience().is_zero()
    }

    /// Whether a statement was sent, and the work was not given up.
    pub fn is_sent(&self) -> bool {
        self.phase.load(Ordering::Acquire) == SENT
    }

    /// Marks that a statement is sent now. Work that was sent in time may send further statements.
    ///
    /// # Errors
    /// [`GivenUp`]: the client was told that nothing was applied, or will be told so at once.
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

    /// Takes [`Deadline::send`] back, because nothing was sent after all.
    ///
    /// # Errors
    /// [`GivenUp`]: the client was already told that the effect is unknown.
    pub fn unsend(&self) -> Result<(), GivenUp> {
        match self.phase.compare_exchange(SENT, WAITING, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(()),
            Err(_) => Err(GivenUp),
        }
    }

    /// Gives the work up, and says whether it can have changed anything. Only the first call knows.
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
        let (sent, waiting) =
            (Deadline::within(EXTRA_TIME_ONCE_SENT), Deadline::within(Duration::ZERO));
        sent.send().unwrap();
        let sent = Deadline { until: Instant::now(), ..sent };
        assert!(!sent.is_over());
        assert!(sent.remaining().is_zero() && !sent.patience().is_zero(), "it may still wait");
        assert_eq!(sent.send(), Ok(()), "a second statement of one that has begun");
        let sent = Deadline { until: Instant::now() - EXTRA_TIME_ONCE_SENT, ..sent };
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
