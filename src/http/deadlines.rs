//! The thread that keeps the deadlines. It answers requests that have waited too long, even if
//! their workers are stuck in a database driver that has no time-out.
//!
//! This thread never writes to a client itself, because a write that blocks would stop it.

use std::collections::VecDeque;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::aside::Aside;
use super::dispatch::Dispatch;
use super::request::Request;
use crate::db::Health;
use crate::shutdown::Phase;

/// Pause between two looks while requests wait.
const TICK_CROWDED: Duration = Duration::from_millis(10);
/// Additional pause while a worker is free.
const TICK: Duration = Duration::from_millis(100);

/// How many requests one thread answers. A client that reads nothing delays only these.
const GIVE_UP_TOGETHER: usize = 64;
/// The most threads that answer at once. Requests beyond wait for the next look.
const ASIDE_MAX: usize = 64;

/// A request that is not answered after this long is given to another thread: the one before may be
/// stuck at another client.
const GIVE_UP_AGAIN: Duration = Duration::from_millis(100);

pub(super) struct Deadlines {
    dispatch: Arc<Dispatch>,
    health: Arc<Health>,
    aside: Arc<Aside>,
    /// Past their deadlines and not answered, each with when a thread was last to answer it.
    overdue: Vec<(Arc<Request>, Option<Instant>)>,
}

impl Deadlines {
    pub(super) fn new(dispatch: Arc<Dispatch>, health: Arc<Health>) -> Deadlines {
        Deadlines { dispatch, health, aside: Aside::at_most(ASIDE_MAX), overdue: Vec::new() }
    }

    /// Looks until all has ended.
    pub(super) fn run(&mut self) {
        while !self.dispatch.shutdown.has_reached(Phase::Ended) {
            let is_crowded = self.look();
            thread::sleep(TICK_CROWDED);
            if !is_crowded {
                self.dispatch.rest_while_idle(TICK);
            }
        }
    }

    /// True when the next look is to come soon.
    fn look(&mut self) -> bool {
        let trouble = self.health.trouble();
        let findings = self.dispatch.look(|deadline| {
            deadline.is_over() || trouble.as_ref().is_some_and(|trouble| trouble.concerns(deadline))
        });
        self.overdue.retain(|(request, _)| !request.is_answered());
        for request in findings.overdue_in_hand {
            if !self.overdue.iter().any(|(known, _)| Arc::ptr_eq(known, &request)) {
                self.overdue.push((request, None));
            }
        }
        self.overdue.extend(findings.overdue.into_iter().map(|request| (request, None)));
        self.give_up();
        self.answer_in_memory(findings.in_memory);
        findings.is_crowded || !self.overdue.is_empty()
    }

    fn give_up(&mut self) {
        let due = |at: &Option<Instant>| at.is_none_or(|at| at.elapsed() >= GIVE_UP_AGAIN);
        let mut due: Vec<_> = self.overdue.iter_mut().filter(|(_, at)| due(at)).collect();
        for some in due.chunks_mut(GIVE_UP_TOGETHER) {
            let requests: Vec<_> = some.iter().map(|(request, _)| Arc::clone(request)).collect();
            let dispatch = Arc::clone(&self.dispatch);
            let work = move |requests: Vec<Arc<Request>>| {
                for request in requests {
                    // The library panics over some clients that have gone. The log has it.
                    let give_up = AssertUnwindSafe(|| dispatch.give_up(&request));
                    let _ = panic::catch_unwind(give_up);
                }
            };
            if self.aside.run("give-up", requests, work).is_err() {
                return;
            }
            some.iter_mut().for_each(|(_, at)| *at = Some(Instant::now()));
        }
    }

    /// What finds no thread is left to the next worker, or the next look.
    fn answer_in_memory(&self, mut requests: VecDeque<Arc<Request>>) {
        while let Some(request) = requests.pop_front() {
            let dispatch = Arc::clone(&self.dispatch);
            let work = move |request: Arc<Request>| dispatch.work(&request);
            if let Err(request) = self.aside.run("in-memory", request, work) {
                self.dispatch.park(request);
                return requests.into_iter().for_each(|request| self.dispatch.park(request));
            }
        }
    }
}
