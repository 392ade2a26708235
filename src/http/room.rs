//! Limits the number of open connections.
//!
//! The accept loop accepts every connection as fast as it can. So while too many are open, the
//! kernel drops the packets that would open another, and the client's kernel tries again by itself.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, warn};

use super::accept;
use super::capacity::{Capacity, descriptors};
use super::dispatch::Dispatch;
use crate::logger::Seldom;
use crate::shutdown::Phase;

/// Pause between two looks, in which up to a thousand connections may come.
const TICK: Duration = Duration::from_millis(25);
/// The same while more than an eighth of the limit is open.
const TICK_CROWDED: Duration = Duration::from_millis(5);

pub(super) struct Room {
    pub(super) dispatch: Arc<Dispatch>,
    pub(super) listener: TcpListener,
    pub(super) capacity: Capacity,
    pub(super) logged: Seldom,
}

impl Room {
    /// Runs until no connection is accepted any more.
    pub(super) fn run(&mut self) {
        let mut tick = TICK;
        while !self.dispatch.shutdown.wait_for_phase(Phase::Closed, tick) {
            let (open, most) =
                (self.dispatch.open_connections(descriptors()), self.capacity.connections);
            tick = if open > most / 8 { TICK_CROWDED } else { TICK };
            let held = self.dispatch.holds_back();
            let hold = open > if held { most - most / 4 } else { most };
            if hold != held && self.hold_back(hold) && hold {
                self.tell(open);
            }
            // Above half the limit each answer ends its connection, so that idle keep-alive
            // connections leave room for new ones.
            self.dispatch.note_room(open > most / 2, self.dispatch.holds_back());
        }
    }

    fn hold_back(&self, hold: bool) -> bool {
        let done = accept::hold_back(&self.listener, hold);
        if let Err(error) = &done {
            debug!("event=connections_not_held_back reason={:?}", error.to_string());
        }
        self.dispatch.note_room(hold, hold && done.is_ok());
        done.is_ok()
    }

    fn tell(&mut self, open: usize) {
        if self.logged.count(Instant::now()).is_some() {
            warn!(
                "event=connections_held_back connections={open} max={} hint=\"new ones wait in \
                 their clients' kernels until others end\"",
                self.capacity.connections
            );
        }
    }
}
