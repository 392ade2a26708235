//! One request from its arrival to its answer, which is sent once, by whoever has it first: the
//! worker that did the work, or the watch that would wait no longer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::debug;
use parking_lot::Mutex;

use super::call::Call;
use super::front::Client;
use super::problem::Problem;
use super::reply::Reply;
use super::route::Route;
use crate::db::Attempt;

pub(super) struct Exchange {
    pub(super) call: Call,
    pub(super) attempt: Arc<Attempt>,
    arrived: Instant,
    client: Mutex<Option<Client>>,
}

impl Exchange {
    pub(super) fn new(client: Client, call: Call, limit: Duration) -> Exchange {
        Exchange {
            call,
            attempt: Arc::new(Attempt::within(limit)),
            arrived: Instant::now(),
            client: Mutex::new(Some(client)),
        }
    }

    /// Sends the answer, unless one was sent before.
    pub(super) fn answer(&self, reply: &Reply, replica_name: &str, closing: bool) {
        // Taken first, so that nobody who only looks waits for a slow client.
        let client = self.client.lock().take();
        if let Some(client) = client {
            self.send(client, reply, replica_name, closing);
        }
    }

    /// Ends the attempt and says what is known of it, unless an answer was sent before. Who takes
    /// the client gives up, and nobody else: a second giving up would know less.
    pub(super) fn give_up(&self, replica_name: &str, closing: bool) {
        let client = self.client.lock().take();
        if let Some(client) = client {
            let outcome = self.attempt.give_up();
            let reply = Problem::database_unavailable(outcome).into();
            self.send(client, &reply, replica_name, closing);
        }
    }

    fn send(&self, client: Client, reply: &Reply, replica_name: &str, closing: bool) {
        let Call { method, target, request_id, .. } = &self.call;
        let status = reply.status();
        let taken = client.answer(reply, request_id, replica_name, closing);
        let duration_ms = self.arrived.elapsed().as_millis();
        debug!(
            "event=answered request_id={request_id} method={method:?} path={target:?} \
             status={status} duration_ms={duration_ms} taken={taken}"
        );
    }

    pub(super) fn is_answered(&self) -> bool {
        self.client.lock().is_none()
    }

    /// What is answered from memory never waits for a worker, nor is it given up.
    pub(super) fn is_in_memory(&self) -> bool {
        let route = Route::parse(&self.call.method, self.call.path());
        route.is_ok_and(|route| route.is_in_memory())
    }
}
