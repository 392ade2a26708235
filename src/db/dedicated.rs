//! A connection that one thread keeps for itself: it waits for nobody's work but its own.

use std::time::Duration;

use super::error::Error;
use super::session::{Limits, Session};
use super::target::Target;

/// Between two looks at whose session it is.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// Opened when first needed, and opened anew after it broke.
pub struct Dedicated {
    target: Target,
    limits: Limits,
    session: Option<Session>,
}

impl Dedicated {
    /// Not opened yet.
    pub fn new(target: Target, limits: Limits) -> Dedicated {
        Dedicated { target, limits, session: None }
    }

    /// Runs `work`, once.
    ///
    /// # Errors
    /// [`Effect::NotApplied`](super::Effect::NotApplied) when no connection could be opened or
    /// the database refused the work; else [`Effect::Unknown`](super::Effect::Unknown).
    pub fn run<T>(
        &mut self,
        work: impl FnOnce(&mut Session) -> Result<T, postgres::Error>,
    ) -> Result<T, Error> {
        // It may lead to a host that was left, and not have been found when that was.
        let left = |session: &mut Session| self.target.has_left_since(session.opened());
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

    /// Tells whether sessions keep apart on the way to the database; once for each connection that
    /// was opened.
    ///
    /// # Errors
    /// As of [`Dedicated::run`]; of mixed sessions also where a server refuses transactions.
    pub(super) fn try_whether_sessions_keep_apart(&mut self) -> Result<(), Error> {
        self.run(|_| Ok(()))?;
        match &mut self.session {
            Some(session) if !session.is_proven() => session.prove(&self.target, self.limits),
            _ => Ok(()),
        }
    }

    /// Gives the connection up; the next work opens another.
    pub fn close(&mut self) {
        self.session = None;
    }
}
