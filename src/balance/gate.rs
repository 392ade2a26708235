//! The gate: few changes of a user are in the database at once from this replica.
//!
//! The database holds a row's lock through the commit's flush, so a crowd of sessions that wait for
//! it only adds cost. Here the changes of one user wait before they take a connection, each in the
//! thread of its own request.
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

/// A change that waits, known to its own thread and to those that have a turn.
struct Ticket {
    attempt: Arc<Attempt>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    /// A turn was passed to the ticket's thread.
    Turn,
    /// Its thread waits no longer.
    Left,
}

/// A right to change users of one stripe. Passed on, or given back, by its drop.
pub(super) struct Turn<'a> {
    stripe: &'a Mutex<Stripe>,
    gate: &'a Gate,
}

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

    /// Waits for a turn at this user.
    ///
    /// # Errors
    /// When the attempt ends first.
    pub(super) fn enter(&self, user_id: i64, attempt: &Arc<Attempt>) -> Result<Turn<'_>, Error> {
        let stripe = &self.stripes[stripe_of(user_id)];
        let ticket = {
            let mut stripe = stripe.lock();
            if stripe.turns < self.turns_max(&stripe) {
                stripe.turns += 1;
                None
            } else {
                let ticket = Arc::new(Ticket {
                    attempt: Arc::clone(attempt),
                    state: Mutex::new(State::Waiting),
                    changed: Condvar::new(),
                });
                stripe.waiting.push_back(Arc::clone(&ticket));
                Some(ticket)
            }
        };
        let Some(ticket) = ticket.filter(|ticket| !ticket.gets_a_turn()) else {
            return Ok(Turn { stripe, gate: self });
        };
        // Turns may not move for long: nothing of this wait may stay behind.
        stripe.lock().waiting.retain(|other| !Arc::ptr_eq(other, &ticket));
        Err(Error::unsent("no turn at this user in time"))
    }
}

impl Ticket {
    /// Waits for a turn; false when the attempt ends first.
    fn gets_a_turn(&self) -> bool {
        let mut state = self.state.lock();
        while *state == State::Waiting && !self.attempt.is_over() {
            self.changed.wait_for(&mut state, SLICE);
        }
        std::mem::replace(&mut *state, State::Left) == State::Turn
    }

    /// Passes a turn on; false when the ticket's thread has left, or may: a turn is not spent on
    /// those whose time is over.
    fn takes_the_turn(&self) -> bool {
        let mut state = self.state.lock();
        let waits = *state == State::Waiting && !self.attempt.is_over();
        if waits {
            *state = State::Turn;
        }
        self.changed.notify_one();
        waits
    }
}

impl Turn<'_> {
    /// Notes what became of a change.
    pub(super) fn note(&self, change: &Change, result: &Result<Answer, Error>) {
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
            if ticket.takes_the_turn() {
                stripe.turns += 1;
            }
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
