//! Keeps the deadlines: answers requests that nobody may wait for any longer, although the thread
//! that works on them is stuck in a driver that knows no time-out.
//!
//! This thread never writes to a client itself: an answer that blocks would stop it.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::aside::Aside;
use super::dispatch::Dispatch;
use super::request::Request;
use crate::db::Health;
use crate::shutdown::Phase;

/// Between two looks while requests wait.
const TICK_CROWDED: Duration = Duration::from_millis(10);
/// Between two looks while workers are free.
const TICK: Duration = Duration::from_millis(100);

/// So many answers share a thread; a client that takes nothing holds back only these.
const GIVE_UP_TOGETHER: usize = 64;
/// Threads that answer. What finds none waits for the next look.
const ASIDE_MAX: usize = 64;

pub(super) struct Deadlines {
    dispatch: Arc<Dispatch>,
    health: Arc<Health>,
    aside: Arc<Aside>,
    /// Past their deadlines, the oldest first.
    overdue: Vec<Arc<Request>>,
    /// To be answered whatever the workers do.
    in_memory: Vec<Arc<Request>>,
}

impl Deadlines {
    pub(super) fn new(dispatch: Arc<Dispatch>, health: Arc<Health>) -> Deadlines {
        let aside = Aside::at_most(ASIDE_MAX);
        Deadlines { dispatch, health, aside, overdue: Vec::new(), in_memory: Vec::new() }
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
        self.in_memory.extend(findings.in_memory);
        self.overdue.extend(findings.overdue);
        self.answer_in_memory();
        self.give_up();
        findings.is_crowded || !self.overdue.is_empty() || !self.in_memory.is_empty()
    }

    fn answer_in_memory(&mut self) {
        while let Some(request) = self.in_memory.pop() {
            let dispatch = Arc::clone(&self.dispatch);
            let work = move |request: Arc<Request>| dispatch.work(&request);
            if let Err(request) = self.aside.run("in-memory", request, work) {
                return self.in_memory.push(request);
            }
        }
    }

    /// Oldest first: of two requests on one connection the second's answer waits for the first's.
    fn give_up(&mut self) {
        while !self.overdue.is_empty() {
            let count = GIVE_UP_TOGETHER.min(self.overdue.len());
            let some: Vec<Arc<Request>> = self.overdue.drain(..count).collect();
            let dispatch = Arc::clone(&self.dispatch);
            let work = move |some: Vec<Arc<Request>>| {
                some.iter().for_each(|request| dispatch.give_up(request));
            };
            if let Err(some) = self.aside.run("give-up", some, work) {
                self.overdue.splice(..0, some);
                return;
            }
        }
    }
}
