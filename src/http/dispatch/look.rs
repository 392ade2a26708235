//! What the watch over the deadlines does here: it takes in what no worker is free to take, and
//! finds what must be answered now.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::MutexGuard;

use super::super::accept::AcceptLoop;
use super::super::connections::Arrival;
use super::super::request::Request;
use super::{Dispatch, Traffic, Worker};
use crate::db::Deadline;
use crate::shutdown::Phase;

/// What a look found.
pub(in super::super) struct Findings {
    /// To be answered whatever the workers do.
    pub(in super::super) in_memory: VecDeque<Arc<Request>>,
    /// Those in workers' hands that may not wait any longer: found at each look until they are
    /// answered.
    pub(in super::super) overdue_in_hand: Vec<Arc<Request>>,
    /// Those that may not wait for a worker any longer, or cannot: found once.
    pub(in super::super) overdue: Vec<Arc<Request>>,
    /// Whether the next look is to come soon.
    pub(in super::super) is_crowded: bool,
}

impl Dispatch {
    /// Waits until all workers are busy, at most for `limit`.
    pub(in super::super) fn rest_while_idle(&self, limit: Duration) {
        let mut state = self.state.lock();
        if state.idle() > 0 && !self.shutdown.has_reached(Phase::Ended) {
            self.all_busy.wait_for(&mut state, limit);
        }
    }

    /// Takes in what no worker is free to take, and finds what must be answered now: `lost` says
    /// whether a request may not wait any longer; those that wait are asked in the order in which
    /// they came, up to the first that may.
    pub(in super::super) fn look(
        self: &Arc<Dispatch>,
        lost: impl Fn(&Deadline) -> bool,
    ) -> Findings {
        let (arrived, death) = self.take_in(self.state.lock());
        if let Some((source, reason)) = death {
            self.note_death(&source, &reason.to_string());
        }
        arrived.into_iter().for_each(|arrival| self.bring(arrival));
        let mut state = self.state.lock();
        let in_memory = match state.idle() {
            0 => std::mem::take(&mut state.in_memory),
            _ => VecDeque::new(),
        };
        let in_hand = state.workers.iter().filter_map(|worker| match worker {
            Worker::Busy(request) => request.as_ref(),
            Worker::Idle(_) => None,
        });
        let is_lost = |request: &&Arc<Request>| {
            !request.is_in_memory() && lost(&request.deadline) && !request.is_answered()
        };
        let overdue_in_hand = in_hand.filter(is_lost).cloned().collect();
        let mut overdue = state.lanes.give_up(|request| lost(&request.deadline));
        overdue.append(&mut state.unwanted);
        let is_crowded = state.idle() == 0 || state.waiting() > 0 || state.has_old_clients();
        self.metrics.requests.wait(state.waiting());
        Findings { in_memory, overdue_in_hand, overdue, is_crowded }
    }

    /// Under the lock, so that no worker goes to wait at its source while it is looked at.
    fn take_in(
        &self,
        mut state: MutexGuard<'_, Traffic>,
    ) -> (Vec<Arrival>, Option<(Arc<AcceptLoop>, io::Error)>) {
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
