//! The probe: it asks the database once a second, on a connection of its own, whether it would take
//! a change. So health is answered from memory, and an outage is known before a request meets it.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::{info, warn};

use super::{Dedicated, Error, Health, Limits, Target};
use crate::shutdown::{Phase, Signal, spawn_vital};

const INTERVAL: Duration = Duration::from_secs(1);
/// The pause between two tries while the database is away.
const RETRY: Duration = Duration::from_millis(200);
const STACK_BYTES: usize = 256 * 1024;

/// `read_only` is true on a standby and on a server that was set read-only. The other columns are
/// for people only; `now` is the database's clock in seconds since 1970.
const READ_ONLY: &str = "\
select current_setting('transaction_read_only') = 'on' as read_only,
    current_setting('fsync') = 'on' and current_setting('full_page_writes') = 'on' as durable,
    extract(epoch from clock_timestamp())::float8 as now";

/// The thread that asks. It runs until the process ends, because requests are judged by it during a
/// drain, too. The process does not wait for a probe that hangs in the driver.
pub struct Probe {
    connection: Dedicated,
    health: Arc<Health>,
}

impl Probe {
    /// Starts the thread, and does not wait for the first answer.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn start(
        target: Target,
        limits: Limits,
        health: Arc<Health>,
        shutdown: Signal,
    ) -> std::io::Result<JoinHandle<()>> {
        let mut probe = Probe { connection: Dedicated::new(target, limits), health };
        spawn_vital("probe", STACK_BYTES, move || {
            while !shutdown.wait_for_phase(Phase::Ended, probe.ask()) {}
        })
    }

    /// Asks once, and returns the pause before the next question.
    fn ask(&mut self) -> Duration {
        let tried = Instant::now();
        if !self.health.is_fit() {
            // The test of this connection does not count any more; the next connection is tested.
            self.connection.close();
        }
        self.health.asks();
        let asked = self.round_trip();
        self.health.asks_no_more();
        match asked {
            Ok(()) => {
                if self.health.check().is_err() {
                    info!("event=database_ready");
                }
                self.health.answered();
                INTERVAL
            }
            Err(error) => {
                self.connection.close();
                let reason = error.reason();
                let is_unfit = error.is_of_mixed_sessions() && self.health.unfit(reason);
                if self.health.failed(tried, reason) || is_unfit {
                    warn!(
                        "event=database_away reason={reason:?} retry_ms={} hint=\"is PostgreSQL \
                         running, and is DATABASE_URL right? trying again until it answers\"",
                        RETRY.as_millis()
                    );
                }
                RETRY
            }
        }
    }

    fn round_trip(&mut self) -> Result<(), Error> {
        // The test needs a second connection, which may fail; then the last test still counts.
        match self.connection.try_whether_sessions_keep_apart() {
            Err(error) if error.is_of_mixed_sessions() || !self.health.is_fit() => {
                return Err(error);
            }
            _ => {}
        }
        let (row, clock) = self.connection.run(|session| {
            let (clock, asked) = (SystemTime::now(), Instant::now());
            let row = session.query_one(READ_ONLY, &[])?;
            // The best guess is that the database read its clock in the middle of the round trip.
            Ok((row, clock + asked.elapsed() / 2))
        })?;
        let seconds = clock.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let (clock_skew, durable) = (seconds - row.get::<_, f64>("now"), row.get("durable"));
        if self.health.measured(clock_skew, durable) != Some(durable) && !durable {
            warn!(
                "event=database_not_durable hint=\"fsync or full_page_writes is off: if the \
                 database's machine crashes, what was acknowledged can be lost\""
            );
        }
        match row.get("read_only") {
            true => {
                self.health.demoted(Instant::now());
                Err(Error::unsent("the database is read-only"))
            }
            false => Ok(()),
        }
    }
}
