//! The probe: asks the database once a second on a connection of its own whether it would take a
//! change, so that health is answered from memory and an outage is known before a request is.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::{info, warn};

use super::{Dedicated, Error, Health, Limits, Target};
use crate::shutdown::{Phase, Signal, spawn_vital};

const INTERVAL: Duration = Duration::from_secs(1);
/// The pause between two tries to reach a database that is away.
const RETRY: Duration = Duration::from_millis(200);
const STACK_BYTES: usize = 256 * 1024;

/// The first is true on a standby and on a server that was set read-only; the others, one of them
/// the clock in seconds since 1970, are for people alone.
const READ_ONLY: &str = "\
select current_setting('transaction_read_only') = 'on' as read_only,
    current_setting('fsync') = 'on' and current_setting('full_page_writes') = 'on' as durable,
    extract(epoch from clock_timestamp())::float8 as now";

/// The thread that asks. It goes on until the end, since requests that drain are
/// judged by it; a probe that hangs in the driver is left behind.
pub struct Probe {
    connection: Dedicated,
    health: Arc<Health>,
}

impl Probe {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread left.
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

    /// Asks once; the pause until the next time.
    fn ask(&mut self) -> Duration {
        let tried = Instant::now();
        if !self.health.is_fit() {
            // What was tried on this connection does not hold any more.
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
        // The second connection that it takes may not be had; what was tried before still holds.
        match self.connection.try_whether_sessions_keep_apart() {
            Err(error) if error.is_of_mixed_sessions() || !self.health.is_fit() => {
                return Err(error);
            }
            _ => {}
        }
        let answer = self.connection.run(|session| {
            let (clock, asked) = (SystemTime::now(), Instant::now());
            let row = session.query_opt(READ_ONLY, &[])?;
            // The database has read its own half-way, as near as can be known.
            Ok(row.map(|row| (row, clock + asked.elapsed() / 2)))
        });
        let Some((row, clock)) = answer? else {
            return Ok(());
        };
        let seconds = clock.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        self.health.clocks_differ(seconds - row.get::<_, f64>("now"));
        let durable = row.get("durable");
        if self.health.durable(durable) != Some(durable) && !durable {
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
