//! What the watch does with the inbox: it takes in what no worker is free to take, and finds what
//! must be answered now.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::MutexGuard;

use super::super::connections::Arrival;
use super::super::exchange::Exchange;
use super::super::front::Source;
use super::{Inbox, State, Worker};
use crate::db::Attempt;
use crate::shutdown::Phase;

/// What a look at the inbox found.
pub(in super::super) struct Findings {
    /// To be answered whatever the workers do.
    pub(in super::super) in_memory: Vec<Arc<Exchange>>,
    /// Those that may not wait any longer, oldest first.
    pub(in super::super) hopeless: Vec<Arc<Exchange>>,
    /// Whether the inbox must be looked at again soon.
    pub(in super::super) crowded: bool,
}

impl Inbox {
    /// Waits until all workers are busy, at most for `limit`.
    pub(in super::super) fn rest_while_idle(&self, limit: Duration) {
        let mut state = self.state.lock();
        if state.idle() > 0 && !self.shutdown.has_reached(Phase::Ended) {
            self.all_busy.wait_for(&mut state, limit);
        }
    }

    /// Takes in what no worker is free to take, and finds what must be answered now: `lost` says
    /// whether a request may not wait any longer.
    pub(in super::super) fn look(self: &Arc<Inbox>, lost: impl Fn(&Attempt) -> bool) -> Findings {
        let (arrived, death) = self.take_in(self.state.lock());
        if let Some((source, reason)) = death {
            self.note_death(&source, &reason.to_string());
        }
        let admitted = arrived.into_iter().filter_map(|arrival| self.turn(arrival));
        let admitted = admitted.filter_map(|client| self.admit(client));
        let admitted: Vec<_> = admitted.collect();
        let mut state = self.state.lock();
        admitted.into_iter().for_each(|exchange| state.put(exchange));
        state.waiting.retain(|exchange| !exchange.is_answered());
        let mut in_memory = Vec::new();
        if state.idle() == 0 {
            let all = state.waiting.drain(..);
            let (here, others): (VecDeque<_>, _) = all.partition(|one| one.is_in_memory());
            in_memory.extend(here);
            state.waiting = others;
        }
        let in_hand = state.workers.iter().filter_map(|worker| match worker {
            Worker::Busy(exchange) => exchange.as_ref(),
            Worker::Idle(_) => None,
        });
        let lost = |exchange: &&Arc<Exchange>| {
            !exchange.is_in_memory() && !exchange.is_answered() && lost(&exchange.attempt)
        };
        let mut hopeless: Vec<_> = in_hand.chain(&state.waiting).filter(lost).cloned().collect();
        hopeless.sort_by_key(|exchange| exchange.attempt.begun());
        let crowded = state.idle() == 0 || !state.waiting.is_empty() || state.has_old_clients();
        self.metrics.requests.wait(state.waiting.len());
        Findings { in_memory, hopeless, crowded }
    }

    /// Under the lock, so that no worker goes to wait at its source while it is looked at.
    fn take_in(
        &self,
        mut state: MutexGuard<'_, State>,
    ) -> (Vec<Arrival>, Option<(Arc<Source>, io::Error)>) {
        let (mut arrived, mut death) = (Vec::new(), None);
        let sources = state.sources.clone();
        for (index, source) in sources.iter().enumerate() {
            let is_last = index + 1 == sources.len();
            while !is_last || state.idle() == 0 {
                let next = source.next_now(|client| {
                    self.note_arrival();
                    state.connections.arrive(client)
                });
                match next {
                    Ok(Some(arrival)) => arrived.push(arrival),
                    Ok(None) => break,
                    // Requests of its connections may follow.
                    Err(reason) => death = Some((Arc::clone(source), reason)),
                }
            }
            // A wake-up is taken for "nothing here" above: those who wait at an old source, and
            // should not, are woken again at each look.
            if !is_last {
                let waiting = state.workers.iter().filter(|worker| worker.waits_at(source));
                waiting.for_each(|_| source.wake());
            }
        }
        (arrived, death)
    }
}
