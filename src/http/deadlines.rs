//! The thread that keeps the deadlines. It answers requests that have waited too long, even if
//! their workers are stuck in a database driver that has no time-out.
//!
//! This thread never writes to a client itself, because a write that blocks would stop it.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

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

pub(super) struct Deadlines {
    dispatch: Arc<Dispatch>,
    health: Arc<Health>,
    aside: Arc<Aside>,
    /// Requests past their deadlines, the oldest first.
    overdue: Vec<Arc<Request>>,
    /// Requests that need no database, and are answered although all workers are busy.
    in_memory: Vec<Arc<Request>>,
}

impl Deadlines {
    pub(super) fn new(dispatch: Arc<Dispatch>, health: Arc<Health>) -> Deadlines {
        let aside = Aside::at_most(ASIDE_MAX);
        Deadlines { dispatch, health, aside, overdue: Vec::new(), in_memory: Vec::new() }
    }

    /// Runs until the server has ended.
    pub(super) fn run(&mut self) {
        while !self.dispatch.shutdown.has_reached(Phase::Ended) {
            let is_crowded = self.look();
            thread::sleep(TICK_CROWDED);
            if !is_crowded {
                self.dispatch.rest_while_idle(TICK);
            }
        }
    }

    /// Returns true if the next look must come soon.
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

    /// The oldest come first, since a connection's second answer waits for its first.
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
