//! The gate: few changes of a user are in the database at once from this replica.
//!
//! The database holds a row's lock through the commit's flush, so a crowd of sessions that wait for
//! it only adds cost. Here the changes of one user wait before they take a connection, each in the
//! thread of its own request. A change is still one statement and one commit of its own; but the
//! thread that has a turn also applies what has come to wait meanwhile, so that between two changes
//! nobody has to be woken first. That is flat combining (Hendler, Incze, Shavit and Tzafrir,
//! "Flat combining and the synchronization-parallelism tradeoff", SPAA 2010).
//!
//! There are as many turns as keep the row busy: while one change is flushed, the next has already
//! come to the database and waits for the row there. Where other replicas change the same user
//! (`rivals`), theirs do that, and one turn is best.

mod rivals;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::{Answer, Change, Outcome};
use crate::db::{Attempt, Error};
use rivals::Rivals;

type Result = std::result::Result<Answer, Error>;

/// Users that share a stripe wait for each other; more stripes cost nothing but memory.
const STRIPES: usize = 1024;
/// Turns at once where this replica is alone with a user.
const TURNS_MAX: usize = 3;
/// How long one wait lasts before the attempt is looked at again.
const SLICE: Duration = Duration::from_millis(100);

pub(super) struct Gate {
    stripes: Box<[Mutex<Stripe>]>,
    turns_max: usize,
}

/// Somebody waits only while somebody else has a turn.
#[derive(Default)]
struct Stripe {
    turns: usize,
    waiting: VecDeque<Arc<Ticket>>,
    rivals: Rivals,
}

/// A change that waits, shared by its own thread and one that may apply it.
struct Ticket {
    change: Change,
    attempt: Arc<Attempt>,
    state: Mutex<State>,
    changed: Condvar,
}

enum State {
    Waiting,
    /// In the hands of a thread that has a turn.
    Applying,
    /// A turn was passed to the ticket's own thread.
    Turn,
    Answered(Result),
    /// Its thread waits no longer.
    Left,
}

/// How a ticket's wait ended.
enum Waited {
    Turn,
    Answered(Result),
    InVain,
}

/// What the wait at the gate gave.
pub(super) enum Entry<'a> {
    /// The caller applies its change itself.
    Turn(Turn<'a>),
    /// Somebody else has applied it, or the attempt ended first.
    Answered(Result),
}

/// A right to change users of one stripe. Passed on, or given back, by its drop.
pub(super) struct Turn<'a> {
    stripe: &'a Mutex<Stripe>,
    gate: &'a Gate,
}

/// A waiting change taken over by a thread that has a turn.
pub(super) struct Other(Arc<Ticket>);

impl Gate {
    /// For changes that share so many connections: one user's take at most half of them.
    pub(super) fn new(connections: u32) -> Gate {
        let half = usize::try_from(connections / 2).unwrap_or(TURNS_MAX);
        Gate {
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            turns_max: half.clamp(1, TURNS_MAX),
        }
    }

    fn turns_max(&self, stripe: &Stripe) -> usize {
        if stripe.rivals.are_likely() { 1 } else { self.turns_max }
    }

    /// Waits for a turn at this change's user, or for somebody who applies the change.
    pub(super) fn enter(&self, change: &Change, attempt: &Arc<Attempt>) -> Entry<'_> {
        let stripe = &self.stripes[stripe_of(change.user_id)];
        let ticket = {
            let mut stripe = stripe.lock();
            if stripe.turns < self.turns_max(&stripe) {
                stripe.turns += 1;
                None
            } else {
                let ticket = Arc::new(Ticket {
                    change: change.clone(),
                    attempt: Arc::clone(attempt),
                    state: Mutex::new(State::Waiting),
                    changed: Condvar::new(),
                });
                stripe.waiting.push_back(Arc::clone(&ticket));
                Some(ticket)
            }
        };
        let Some(ticket) = ticket else { return Entry::Turn(Turn { stripe, gate: self }) };
        match ticket.wait() {
            Waited::Turn => Entry::Turn(Turn { stripe, gate: self }),
            Waited::Answered(result) => Entry::Answered(result),
            Waited::InVain => {
                // Turns may not move for long: nothing of this wait may stay behind.
                stripe.lock().waiting.retain(|other| !Arc::ptr_eq(other, &ticket));
                Entry::Answered(Err(Error::unsent("no turn at this user in time")))
            }
        }
    }
}

impl Ticket {
    fn wait(&self) -> Waited {
        let mut state = self.state.lock();
        loop {
            match std::mem::replace(&mut *state, State::Left) {
                State::Turn => return Waited::Turn,
                State::Answered(result) => return Waited::Answered(result),
                State::Waiting if self.attempt.is_over() => return Waited::InVain,
                other => *state = other,
            }
            self.changed.wait_for(&mut state, SLICE);
        }
    }

    /// Moves on from waiting; false when the ticket's thread has left, or may: a turn is not
    /// spent on those whose time is over.
    fn take(&self, to: State) -> bool {
        let mut state = self.state.lock();
        let waits = matches!(*state, State::Waiting) && !self.attempt.is_over();
        if waits {
            *state = to;
        }
        self.changed.notify_one();
        waits
    }
}

impl Turn<'_> {
    /// The change that has waited longest, to be applied by the caller.
    pub(super) fn next(&self) -> Option<Other> {
        let mut stripe = self.stripe.lock();
        loop {
            let ticket = stripe.waiting.pop_front()?;
            if ticket.take(State::Applying) {
                return Some(Other(ticket));
            }
        }
    }

    /// Notes what became of a change.
    pub(super) fn note(&self, change: &Change, result: &Result) {
        if let Ok(Answer { outcome: Outcome::Changed { balance }, replayed: false }) = result {
            let found = balance - change.amount;
            self.stripe.lock().rivals.note(change.user_id, found, *balance);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut stripe = self.stripe.lock();
        stripe.turns -= 1;
        while stripe.turns < self.gate.turns_max(&stripe) {
            let Some(ticket) = stripe.waiting.pop_front() else { break };
            if ticket.take(State::Turn) {
                stripe.turns += 1;
            }
        }
    }
}

impl Other {
    pub(super) fn change(&self) -> &Change {
        &self.0.change
    }

    pub(super) fn attempt(&self) -> &Attempt {
        &self.0.attempt
    }

    pub(super) fn answer(self, result: Result) {
        *self.0.state.lock() = State::Answered(result);
        self.0.changed.notify_one();
    }
}

impl Drop for Other {
    /// Only a panic ends the work on a change without an answer.
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        if matches!(*state, State::Applying) {
            *state = State::Answered(Err(Error::unanswered("the thread that applied it panicked")));
            self.0.changed.notify_one();
        }
    }
}

/// Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4): neighbouring ids, and ids a
/// power of two apart, spread over all stripes.
fn stripe_of(user_id: i64) -> usize {
    let hash = user_id.cast_unsigned().wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (hash >> 32) as usize % STRIPES
}

#[cfg(test)]
mod tests;
