//! What is logged while due jobs are left to others.

use std::time::Duration;

use log::{Level, log};

/// This replica's claims since it last saw no due job.
#[derive(Default)]
pub(super) struct Wave {
    pub(super) claimed: i64,
    pub(super) told: Option<i64>,
}

impl Wave {
    pub(super) fn begin(&mut self, due: i64) {
        if due == 0 {
            *self = Wave::default();
        }
    }

    /// Logs at most once between two claims.
    pub(super) fn tell_wait(&mut self, due: i64, held: usize, wait: Duration) {
        if self.told.replace(self.claimed) == Some(self.claimed) {
            return;
        }
        let (claimed, wait) = (self.claimed, wait.as_secs_f64());
        // A replica that holds jobs waits at every job that comes due: this alone is routine.
        let level = if claimed > 0 { Level::Info } else { Level::Debug };
        log!(
            level,
            "event=claims_wait due={due} claimed={claimed} runs={held} wait_seconds={wait:.1} \
             hint=\"left to replicas that hold fewer\""
        );
    }
}
