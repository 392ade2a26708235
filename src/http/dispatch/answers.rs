//! The answers to requests.

use std::sync::Arc;

use log::debug;

use super::super::Asked;
use super::super::accept::Client;
use super::super::call::Call;
use super::super::command::Command;
use super::super::handlers::REPLAYED;
use super::super::problem::Problem;
use super::super::reply::{Envelope, Reply};
use super::super::request::{Request, guarded};
use super::Dispatch;

impl Dispatch {
    /// Does what the request asks for, and answers it.
    pub(in super::super) fn work(self: &Arc<Dispatch>, request: &Request) {
        match &request.command {
            Ok(command) => self.answer(request, &self.reply(request, command)),
            Err(refusal) => self.answer(request, refusal),
        }
    }

    fn reply(&self, request: &Request, command: &Command) -> Reply {
        let asked = Asked { command, call: &request.call, deadline: &request.deadline };
        let reply = guarded(&request.call, || Ok(self.application.answer(&asked)));
        reply.unwrap_or_else(Reply::from)
    }

    /// Sends the answer, unless one was sent before.
    fn answer(self: &Arc<Dispatch>, request: &Request, reply: &Reply) {
        if let Some(client) = request.take_client() {
            self.send(request, client, reply);
        }
    }

    /// Gives the work up and says what is known of it, unless an answer was sent before. Who takes
    /// the client gives up, and nobody else: a second giving up would know less.
    pub(in super::super) fn give_up(self: &Arc<Dispatch>, request: &Request) {
        if let Some(client) = request.take_client() {
            let effect = request.deadline.give_up();
            self.send(request, client, &Problem::database_unavailable(effect).into());
        }
    }

    fn send(self: &Arc<Dispatch>, request: &Request, client: Client, reply: &Reply) {
        self.count(request, reply);
        let (Call { method, target, request_id, .. }, by) = (&request.call, request.call.by());
        let (status, peer) = (reply.status(), request.peer);
        let goes_on = !client.ends_by_itself();
        let closing = client.ends() || self.is_closing();
        let taken = client.answer(reply, request_id, &self.replica_name, closing);
        let duration_ms = request.deadline.begun().elapsed().as_millis();
        if closing && goes_on {
            self.let_go(peer);
        }
        self.answered(peer);
        debug!(
            "event=answered request_id={request_id}{by} method={method:?} path={target:?} \
             status={status} duration_ms={duration_ms} taken={taken}"
        );
    }

    /// The bytes of an answer after which the connection ends.
    pub(in super::super) fn last_answer(
        &self,
        reply: &Reply,
        request_id: &str,
        head_only: bool,
    ) -> Vec<u8> {
        let (served_by, connection) = (&*self.replica_name, "Connection: close\r\n");
        reply.to_bytes(&Envelope { request_id, served_by, connection, head_only })
    }

    /// Before a byte is written: who has the answer finds it counted.
    fn count(&self, request: &Request, reply: &Reply) {
        let time = request.deadline.begun().elapsed();
        let (method, path) = (&request.call.method, request.counted_as());
        self.metrics.requests.answered(method, path, reply.status(), time);
        match reply.outcome() {
            _ if !request.changes_a_balance() => {}
            REPLAYED => self.metrics.changes.replayed.inc(),
            outcome => self.metrics.changes.told(outcome),
        }
    }
}
