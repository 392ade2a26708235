//! The watch: answers requests that nobody may wait for any longer, although the thread that
//! works on them is stuck in a driver that knows no time-out.
//!
//! It never writes to a client itself: an answer that blocks would stop it.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::Handler;
use super::aside::Aside;
use super::exchange::Exchange;
use super::inbox::Inbox;
use crate::db::Pulse;
use crate::shutdown::Phase;

/// Between two looks while requests wait.
const TICK_CROWDED: Duration = Duration::from_millis(10);
/// Between two looks while workers are free.
const TICK: Duration = Duration::from_millis(100);

/// So many answers share a thread; a client that takes nothing holds back only these.
const GIVE_UP_TOGETHER: usize = 64;
/// Threads that answer. What finds none is found again at the next look.
const ASIDE_MAX: usize = 64;

pub(super) struct Watch {
    pub(super) inbox: Arc<Inbox>,
    pub(super) pulse: Arc<Pulse>,
    pub(super) handler: Handler,
    aside: Arc<Aside>,
}

impl Watch {
    pub(super) fn new(inbox: Arc<Inbox>, pulse: Arc<Pulse>, handler: Handler) -> Watch {
        Watch { inbox, pulse, handler, aside: Aside::at_most(ASIDE_MAX) }
    }

    /// Watches until all has ended.
    pub(super) fn run(&self) {
        while !self.inbox.shutdown.has_reached(Phase::Ended) {
            let crowded = self.look();
            thread::sleep(TICK_CROWDED);
            if !crowded {
                self.inbox.rest_while_idle(TICK);
            }
        }
    }

    fn look(&self) -> bool {
        let trouble = self.pulse.trouble();
        let findings = self.inbox.look(|attempt| {
            attempt.is_over() || trouble.as_ref().is_some_and(|trouble| trouble.concerns(attempt))
        });
        for exchange in findings.in_memory {
            self.answer_in_memory(exchange);
        }
        if !findings.hopeless.is_empty() {
            self.give_up(&findings.hopeless);
        }
        findings.crowded
    }

    fn answer_in_memory(&self, exchange: Arc<Exchange>) {
        let (inbox, handler) = (Arc::clone(&self.inbox), Arc::clone(&self.handler));
        let answered = self.aside.run("in-memory", exchange, move |exchange| {
            exchange.answer(&super::reply_to(&exchange, &handler), &inbox);
        });
        if let Err(exchange) = answered {
            self.inbox.put(exchange);
        }
    }

    /// Oldest first: of two requests on one connection the second's answer waits for the first's.
    fn give_up(&self, hopeless: &[Arc<Exchange>]) {
        for some in hopeless.chunks(GIVE_UP_TOGETHER) {
            let inbox = Arc::clone(&self.inbox);
            // Who finds no thread here is hopeless at the next look, too.
            let _ = self.aside.run("give-up", some.to_vec(), move |some| {
                for exchange in some {
                    exchange.give_up(&inbox);
                }
            });
        }
    }
}
