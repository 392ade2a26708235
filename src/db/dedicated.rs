//! A connection that only one thread uses, so that it never waits for the work of others.

use std::time::Duration;

use super::FromDatabase;
use super::error::Error;
use super::limits::Limits;
use super::session::Session;
use super::target::Target;

/// The pause between two checks that the session is open and not mixed with another.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// A connection that is opened at the first work, and opened again after it broke.
pub struct Dedicated {
    target: Target,
    limits: Limits,
    session: Option<Session>,
}

impl Dedicated {
    /// Does not connect yet: the first [`Dedicated::run`] does.
    pub fn new(target: Target, limits: Limits) -> Dedicated {
        Dedicated { target, limits, session: None }
    }

    /// Runs `work` once, on the connection or on a new one.
    ///
    /// # Errors
    /// [`Effect::NotApplied`](super::Effect::NotApplied) if no connection could be opened or the
    /// database refused the work; else [`Effect::Unknown`](super::Effect::Unknown).
    pub fn run<T>(
        &mut self,
        work: impl FnOnce(&mut Session) -> FromDatabase<T>,
    ) -> Result<T, Error> {
        // A connection opened before a host was left may lead to that host, if `cut` missed it.
        let left = |session: &mut Session| self.target.primaries.has_left_since(session.opened());
        self.session.take_if(left);
        let looked = self.session.as_mut().map_or(Ok(()), |session| session.look(LOOK_PAUSE));
        if let Err(error) = looked {
            self.session = None;
            if error.is_of_mixed_sessions() {
                return Err(error);
            }
        }
        let session = match &mut self.session {
            Some(session) if session.is_usable() => session,
            broken => broken.insert(Session::open(&self.target, self.limits)?),
        };
        work(session).map_err(|error| {
            let error = Error::from(error);
            if error.breaks_connection() {
                self.session = None;
            }
            error
        })
    }

    /// Tests, once for each connection that was opened, that no pooler mixes its session with
    /// another.
    ///
    /// # Errors
    /// Those of [`Dedicated::run`]; that of mixed sessions also if a pooler refuses transactions.
    pub(super) fn try_whether_sessions_keep_apart(&mut self) -> Result<(), Error> {
        self.run(|_| Ok(()))?;
        match &mut self.session {
            Some(session) => session.prove(&self.target, self.limits),
            None => Ok(()),
        }
    }

    /// Closes the connection; the next work opens another.
    pub fn close(&mut self) {
        self.session = None;
    }
}
