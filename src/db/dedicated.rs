//! A connection that one thread keeps for itself: it waits for nobody's work but its own.

use super::error::Error;
use super::session::{Limits, Session};
use super::target::Target;

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
    /// [`Outcome::NotApplied`](super::Outcome::NotApplied) when no connection could be opened or
    /// the database refused the work; else [`Outcome::Unknown`](super::Outcome::Unknown).
    pub fn run<T>(
        &mut self,
        work: impl FnOnce(&mut Session) -> Result<T, postgres::Error>,
    ) -> Result<T, Error> {
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

    /// Gives the connection up; the next work opens another.
    pub fn close(&mut self) {
        self.session = None;
    }
}
