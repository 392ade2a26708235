//! Why a request should not wait for the database.

use std::fmt;
use std::time::{Duration, Instant};

use super::super::Deadline;

/// Why a request should not wait for the database now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The database cannot be reached, or cannot do the work.
    Away {
        /// When the last failed try began: a request that began later may succeed.
        tried: Instant,
        /// Why that try failed, for the log.
        reason: String,
    },
    /// The probe waits for an answer, and no statement has returned for this long.
    Silent(Duration),
    /// A pooler mixes sessions: a statement may run in another session; the reason for the log.
    Unfit(String),
}

impl Trouble {
    /// Whether to answer a request with this trouble. If the database is away, work already sent
    /// returns by itself, and a request younger than the last failed try may succeed.
    pub fn concerns(&self, deadline: &Deadline) -> bool {
        match self {
            Trouble::Silent(_) | Trouble::Unfit(_) => true,
            Trouble::Away { tried, .. } => *tried >= deadline.begun() && !deadline.is_sent(),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Away { reason, .. } | Trouble::Unfit(reason) => f.write_str(reason),
            Trouble::Silent(time) => {
                write!(f, "no statement has returned for {:.1} s", time.as_secs_f32())
            }
        }
    }
}
