//! One request from its arrival to its answer, which is sent once, by whoever has it first: the
//! worker that did the work, or the watch that would wait no longer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use log::debug;
use parking_lot::Mutex;

use super::call::Call;
use super::front::Client;
use super::inbox::Inbox;
use super::problem::Problem;
use super::reply::Reply;
use super::route::{NoRoute, Route, label};
use crate::db::Attempt;
use crate::metrics::Metrics;

pub(super) struct Exchange {
    pub(super) call: Call,
    pub(super) attempt: Arc<Attempt>,
    route: Result<Route, NoRoute>,
    peer: SocketAddr,
    client: Mutex<Option<Client>>,
}

impl Exchange {
    pub(super) fn new(client: Client, call: Call, limit: Duration) -> Exchange {
        Exchange {
            attempt: Arc::new(Attempt::within(limit)),
            route: Route::parse(&call.method, call.path()),
            call,
            peer: client.peer(),
            client: Mutex::new(Some(client)),
        }
    }

    /// Sends the answer, unless one was sent before.
    pub(super) fn answer(&self, reply: &Reply, inbox: &Arc<Inbox>) {
        // Taken first, so that nobody who only looks waits for a slow client.
        let client = self.client.lock().take();
        if let Some(client) = client {
            self.send(client, reply, inbox);
        }
    }

    /// Ends the attempt and says what is known of it, unless an answer was sent before. Who takes
    /// the client gives up, and nobody else: a second giving up would know less.
    pub(super) fn give_up(&self, inbox: &Arc<Inbox>) {
        let client = self.client.lock().take();
        if let Some(client) = client {
            let outcome = self.attempt.give_up();
            let reply = Problem::database_unavailable(outcome).into();
            self.send(client, &reply, inbox);
        }
    }

    fn send(&self, client: Client, reply: &Reply, inbox: &Arc<Inbox>) {
        self.count(reply, &inbox.metrics);
        let Call { method, target, request_id, .. } = &self.call;
        let status = reply.status();
        let goes_on = !client.ends_by_itself();
        let closing = client.ends() || inbox.is_closing();
        let taken = client.answer(reply, request_id, &inbox.replica_name, closing);
        let duration_ms = self.attempt.begun().elapsed().as_millis();
        if closing && goes_on {
            inbox.let_go(self.peer);
        }
        inbox.answered(self.peer);
        debug!(
            "event=answered request_id={request_id} method={method:?} path={target:?} \
             status={status} duration_ms={duration_ms} taken={taken}"
        );
    }

    /// Before a byte is written: who has the answer finds it counted.
    fn count(&self, reply: &Reply, metrics: &Metrics) {
        let time = self.attempt.begun().elapsed();
        metrics.requests.answered(&self.call.method, label(&self.route), reply.status(), time);
        if let (Some(change), Ok(Route::ChangeBalance)) = (reply.change(), &self.route) {
            metrics.changes.told(change);
        }
    }

    pub(super) fn is_answered(&self) -> bool {
        self.client.lock().is_none()
    }

    /// What is answered from memory never waits for a worker, nor is it given up.
    pub(super) fn is_in_memory(&self) -> bool {
        self.route.as_ref().is_ok_and(Route::is_in_memory)
    }
}
