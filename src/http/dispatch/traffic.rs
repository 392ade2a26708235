//! What the threads of the server share: who waits where, and what each worker has in hand.

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use super::super::accept::AcceptLoop;
use super::super::connections::Connections;
use super::super::lanes::Lanes;
use super::super::request::Request;

pub(super) struct Traffic {
    /// The last one accepts; the accept loops of those before it are dead, and their connections
    /// live on.
    pub(super) sources: Vec<Arc<AcceptLoop>>,
    pub(super) accept_loop_is_dead: bool,
    /// The clients of all sources but the last.
    pub(super) old_clients: Vec<HashSet<SocketAddr>>,
    pub(super) connections: Connections,
    /// Clients whose connections are to be ended.
    pub(super) leaving: Vec<SocketAddr>,
    pub(super) workers: Vec<Worker>,
    /// Requests that need no database, for the next worker or the watch over the deadlines.
    pub(super) in_memory: VecDeque<Arc<Request>>,
    /// Those for which there is no room, to be told to come again.
    pub(super) unwanted: Vec<Arc<Request>>,
    pub(super) lanes: Lanes<Arc<Request>>,
}

#[derive(Clone)]
pub(super) enum Worker {
    /// Waits at this source.
    Idle(Arc<AcceptLoop>),
    Busy(Option<Arc<Request>>),
}

impl Worker {
    pub(super) fn waits_at(&self, source: &Arc<AcceptLoop>) -> bool {
        matches!(self, Worker::Idle(at) if Arc::ptr_eq(at, source))
    }
}

impl Traffic {
    pub(super) fn source(&self) -> Arc<AcceptLoop> {
        Arc::clone(&self.sources[self.sources.len() - 1])
    }

    pub(super) fn idle(&self) -> usize {
        self.workers.iter().filter(|worker| matches!(worker, Worker::Idle(_))).count()
    }

    pub(super) fn has_old_clients(&self) -> bool {
        self.old_clients.iter().any(|clients| !clients.is_empty())
    }

    /// How many requests wait for a worker.
    pub(super) fn waiting(&self) -> usize {
        self.lanes.parked() + self.in_memory.len()
    }

    /// What a worker that is free does next.
    pub(super) fn take(&mut self) -> Option<Arc<Request>> {
        self.in_memory.pop_front().or_else(|| self.lanes.next())
    }

    /// What a free worker does that has found this request, if there is anything to do.
    pub(super) fn arrive(&mut self, request: Arc<Request>) -> Option<Arc<Request>> {
        if request.is_in_memory() {
            return Some(request);
        }
        let arrived = self.lanes.arrive(request.lane(), request);
        arrived.unwrap_or_else(|request| {
            self.unwanted.push(request);
            None
        })
    }

    /// Leaves a request to the workers.
    pub(super) fn park(&mut self, request: Arc<Request>) {
        if request.is_in_memory() {
            self.in_memory.push_back(request);
        } else if let Err(request) = self.lanes.park(request.lane(), request) {
            return self.unwanted.push(request);
        }
        if self.idle() > 0 {
            self.source().wake();
        }
    }

    /// The worker has nothing in hand any more.
    pub(super) fn put_down(&mut self, worker: usize) {
        let before = std::mem::replace(&mut self.workers[worker], Worker::Busy(None));
        if let Worker::Busy(Some(request)) = before
            && let Some(lane) = request.lane()
        {
            self.lanes.leave(lane);
        }
    }
}
