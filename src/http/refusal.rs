//! Refuses a request after which its connection cannot go on: its body is not wanted, or we do not
//! know where it ends.
//!
//! The client should see the answer although it may still be sending. So we write to the socket
//! directly, since the library would first read the body. Then we shut down the sending side,
//! discard for a while what still arrives, and end the connection (RFC 9112, 9.6).

use std::sync::Arc;
use std::time::Duration;

use log::debug;

use super::accept::Client;
use super::call::Call;
use super::dispatch::Dispatch;
use super::problem::Problem;
use super::reply::Reply;
use super::route::{NO_PATH, Route};

/// How many bytes are read and discarded, at most, from a client that was refused.
const DISCARDED_BYTES_MAX: usize = 16 << 20;

impl Dispatch {
    /// Refuses the request and whatever follows it. Never waits: if no thread is free to wait for
    /// the client, the connection is cut at once.
    pub(super) fn refuse(self: &Arc<Dispatch>, client: Client, problem: Problem) {
        self.end_connection(client.peer());
        let (reply, dispatch) = (Reply::from(problem), Arc::clone(self));
        let refused = self.aside.run("refusal", (client, reply), move |(client, reply)| {
            dispatch.send_refusal(client, &reply, true);
        });
        if let Err((client, reply)) = refused {
            self.send_refusal(client, &reply, false);
        }
    }

    /// Like [`Dispatch::refuse`], but in this thread, which may wait.
    pub(super) fn refuse_here(self: &Arc<Dispatch>, client: Client, problem: Problem) {
        self.end_connection(client.peer());
        self.send_refusal(client, &problem.into(), true);
    }

    fn send_refusal(self: &Arc<Dispatch>, client: Client, reply: &Reply, patient: bool) {
        let (call, peer) = (client.head(), client.peer());
        self.count_refusal(&call, reply);
        let Some(socket) = self.sockets.of(peer) else {
            return self.lose_connection(peer, Some(client));
        };
        let answer = self.last_answer(reply, &call.request_id, client.is_head());
        let pinned = socket.pin();
        pinned.iter().for_each(|it| it.send(&answer, patient));
        self.tell(&socket);
        if let Some(pinned) = pinned.filter(|_| patient) {
            pinned.discard(DISCARDED_BYTES_MAX);
        }
        socket.end();
        client.discard();
        self.cut_connection(&socket);
    }

    fn count_refusal(&self, call: &Call, reply: &Reply) {
        let Call { method, target, request_id, .. } = call;
        let route = Route::find(method, call.path()).map_or(NO_PATH, |(route, _)| route.path);
        let status = reply.status();
        self.metrics.requests.answered(method, route, status, Duration::ZERO);
        debug!(
            "event=request_cut_off request_id={request_id} method={method:?} path={target:?} \
             status={status}"
        );
    }
}
