//! One request from its arrival to its answer, which is sent once, by whoever takes its client
//! first: the worker that did the work, or the watch over the deadlines.

use std::net::SocketAddr;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use log::error;
use parking_lot::Mutex;

use super::Application;
use super::accept::Client;
use super::call::Call;
use super::command::Command;
use super::lanes::Lane;
use super::problem::Problem;
use super::reply::Reply;
use super::route::{NO_PATH, NoRoute, Reach, Route};
use crate::db::Deadline;

pub(super) struct Request {
    pub(super) call: Call,
    pub(super) deadline: Deadline,
    pub(super) peer: SocketAddr,
    /// None where nothing has its path.
    route: Option<&'static Route>,
    /// What it asks for, or why it is refused.
    pub(super) command: Result<Command, Reply>,
    client: Mutex<Option<Client>>,
}

impl Request {
    /// Reads what the request asks for. It may wait so long until it is sent to the database, or
    /// less where its route says so.
    pub(super) fn new(
        client: Client,
        call: Call,
        limit: Duration,
        application: &dyn Application,
    ) -> Request {
        let found = Route::find(&call.method, call.path());
        let patience = found.as_ref().ok().and_then(|(route, _)| route.patience);
        let deadline = Deadline::within(limit.min(patience.unwrap_or(limit)));
        let mut actor = None;
        let (route, command) = match found {
            Ok((route, argument)) => {
                let read = || {
                    actor = application.check(route, &call)?;
                    route.read(&call, argument)
                };
                (Some(route), guarded(&call, read))
            }
            Err(NoRoute::NotFound) => (None, Err(Problem::not_found())),
            Err(NoRoute::MethodNotAllowed(allowed)) => {
                (None, Err(Problem::method_not_allowed(&allowed)))
            }
        };
        let (peer, command) = (client.peer(), command.map_err(Reply::from));
        let call = Call { actor, ..call };
        Request { call, deadline, peer, route, command, client: Mutex::new(Some(client)) }
    }

    /// The lane that it takes, if it takes one.
    pub(super) fn lane(&self) -> Option<Lane> {
        self.command.as_ref().ok().and_then(Command::lane)
    }

    /// What is answered without the database never waits for a worker, nor is it given up.
    pub(super) fn is_in_memory(&self) -> bool {
        self.command.is_err() || self.route.is_some_and(|route| route.reach == Reach::Memory)
    }

    /// The path that it is counted under.
    pub(super) fn counted_as(&self) -> &'static str {
        self.route.map_or(NO_PATH, |route| route.path)
    }

    /// Whether it is counted among the changes of balances, refused or not.
    pub(super) fn changes_a_balance(&self) -> bool {
        ["/api/balance", "/api/changes"].contains(&self.counted_as())
    }

    /// The client, for whoever answers it: once. Taken first, so that nobody who only looks waits
    /// for a slow client.
    pub(super) fn take_client(&self) -> Option<Client> {
        self.client.lock().take()
    }

    pub(super) fn is_answered(&self) -> bool {
        self.client.lock().is_none()
    }
}

/// The name of the token that the request needs and came with, before its body is read. What has no
/// route needs none.
///
/// # Errors
/// Why it may not be made.
pub(super) fn actor(
    call: &Call,
    application: &dyn Application,
) -> Result<Option<Arc<str>>, Problem> {
    match Route::find(&call.method, call.path()) {
        Ok((route, _)) => guarded(call, || application.check(route, call)),
        Err(_) => Ok(None),
    }
}

/// A panic of the application's costs one answer and nothing else.
pub(super) fn guarded<T>(
    call: &Call,
    work: impl FnOnce() -> Result<T, Problem>,
) -> Result<T, Problem> {
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let (Call { method, target, request_id, .. }, by) = (call, call.by());
        error!(
            "event=handler_panicked request_id={request_id}{by} method={method:?} path={target:?}"
        );
        Err(Problem::internal())
    })
}
