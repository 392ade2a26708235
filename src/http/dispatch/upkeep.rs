//! What the guard and the sweep ask the dispatch and tell it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use log::warn;

use super::super::accept::{AcceptLoop, Client};
use super::super::connections::Overdue;
use super::super::sockets::{Pair, Socket};
use super::{Dispatch, Traffic};
use crate::shutdown::Phase;

impl Dispatch {
    /// Notes the guard's thread, which a new request or a dead accept loop wakes from its rest.
    pub(in super::super) fn set_guard_thread(&self, guard: Thread) {
        // There is one guard, so this cannot fail.
        let _ = self.guard.set(guard);
    }

    pub(super) fn wake_guard(&self) {
        self.guard.get().into_iter().for_each(Thread::unpark);
    }

    /// Waits until more than `seen` requests have arrived or the accept loop is known to be dead,
    /// but at most for `limit`.
    pub(in super::super) fn rest_until_stirred(&self, seen: u64, limit: Duration) {
        self.guard_rests.store(true, Ordering::SeqCst);
        if self.arrivals() == seen && !self.accept_loop_is_dead() && self.is_listening() {
            thread::park_timeout(limit);
        }
        self.guard_rests.store(false, Ordering::SeqCst);
    }

    /// How many requests have arrived since the start.
    pub(in super::super) fn arrivals(&self) -> u64 {
        self.arrivals.load(Ordering::SeqCst)
    }

    /// Whether the current accept loop is known to be dead.
    pub(in super::super) fn accept_loop_is_dead(&self) -> bool {
        self.state.lock().accept_loop_is_dead
    }

    /// Notes that the current accept loop is dead, because it does not answer the guard.
    pub(in super::super) fn accept_loop_is_silent(&self) {
        let source = self.state.lock().source();
        self.note_death(&source, "it does not answer");
    }

    pub(super) fn note_death(&self, source: &AcceptLoop, reason: &str) {
        let mut state = self.state.lock();
        let accepts = std::ptr::eq(Arc::as_ptr(&state.source()), source);
        if accepts && !state.accept_loop_is_dead && self.is_listening() {
            state.accept_loop_is_dead = true;
            warn!("event=accept_loop_ended reason={reason:?} hint=\"a new one is built\"");
            self.wake_guard();
        }
    }

    /// Continues with a new accept loop. The connections of the old one, from `clients`, are served
    /// as before.
    pub(in super::super) fn replace_accept_loop(
        &self,
        source: AcceptLoop,
        clients: HashSet<SocketAddr>,
    ) {
        let mut state = self.state.lock();
        state.accept_loop_is_dead = false;
        let old = state.source();
        state.sources.push(Arc::new(source));
        state.old_clients.push(clients);
        state.workers.iter().for_each(|_| old.wake());
    }

    /// Forgets the connections that a look at the descriptors, begun at `begun`, did not find.
    /// Returns the accept loops that have ended and have no connection left: the caller drops them
    /// without the lock, since the library connects to our own port for that. A loop that has not
    /// reported its end may only have been slow, and may still have requests.
    pub(in super::super) fn keep(
        &self,
        begun: Instant,
        is_open: impl Fn(SocketAddr) -> bool,
    ) -> Vec<Arc<AcceptLoop>> {
        let mut state = self.state.lock();
        let Traffic { sources, old_clients, connections, .. } = &mut *state;
        let left = connections.keep(begun, &is_open);
        old_clients.iter_mut().for_each(|clients| clients.retain(|client| is_open(*client)));
        let over = |(source, clients): (&Arc<AcceptLoop>, &HashSet<SocketAddr>)| {
            // The library's own connection would wait for minutes while new ones are held back.
            source.has_ended() && clients.is_empty() && !self.holds_back()
        };
        let over: Vec<bool> = sources.iter().zip(old_clients.iter()).map(over).collect();
        let mut is_over = over.iter();
        old_clients.retain(|_| is_over.next() == Some(&false));
        let mut is_over = over.iter();
        let gone = sources.extract_if(.., |_| is_over.next() == Some(&true)).collect();
        drop(state);
        left.into_iter().for_each(Client::discard);
        gone
    }

    /// Those of `open` that take too long. Each comes with the instant when it was first found.
    pub(in super::super) fn overdue(
        &self,
        open: impl Iterator<Item = (SocketAddr, Pair, Instant)>,
    ) -> Vec<(Socket, Overdue)> {
        let connections = &mut self.state.lock().connections;
        let overdue = open.filter_map(|(peer, pair, since)| {
            let socket = || self.sockets.socket(peer, pair);
            let overdue = connections.overdue(peer, since, socket)?;
            Some((socket()?, overdue))
        });
        overdue.collect()
    }

    /// Notes whether so many connections are open that each answer ends its own, and whether new
    /// ones are held back.
    pub(in super::super) fn note_room(&self, is_crowded: bool, holds_back: bool) {
        self.is_crowded.store(is_crowded, Ordering::Relaxed);
        self.holds_back.store(holds_back, Ordering::Relaxed);
    }

    pub(in super::super) fn holds_back(&self) -> bool {
        self.holds_back.load(Ordering::Relaxed)
    }

    /// The clients whose last answer, since the last call, said that their connections end.
    pub(in super::super) fn leaving(&self) -> Vec<SocketAddr> {
        let state = &mut *self.state.lock();
        let leaving = state.leaving.drain(..);
        leaving.filter(|peer| state.connections.is_leaving(*peer)).collect()
    }

    /// Shuts down sending on a connection that is to end, unless the socket is of a new one by now.
    pub(in super::super) fn tell(&self, socket: &Socket) {
        self.state.lock().connections.tell(socket);
    }

    /// Notes how many descriptors belong to no connection.
    pub(in super::super) fn note_other_descriptors(&self, descriptors: usize) {
        self.beside.store(descriptors, Ordering::Relaxed);
    }

    /// How many connections are open, computed from the number of descriptors: to look at each
    /// would take too long.
    pub(in super::super) fn open_connections(&self, descriptors: usize) -> usize {
        descriptors.saturating_sub(self.beside.load(Ordering::Relaxed)) / 2
    }

    /// Whether connections are still to be accepted.
    pub(in super::super) fn is_listening(&self) -> bool {
        !self.shutdown.has_reached(Phase::Closed)
    }
}
