//! The probe: it asks the database once a second, on a connection of its own, whether it would take
//! a change. So health is answered from memory, and an outage is known before a request meets it.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::{info, warn};
use postgres::Row;

use super::{Dedicated, Error, Health, Limits, Observed, Oldest, Target};
use crate::shutdown::{Phase, Signal, spawn_vital};

const INTERVAL: Duration = Duration::from_secs(1);
/// The pause between two tries while the database is away.
const RETRY: Duration = Duration::from_millis(200);
const STACK_BYTES: usize = 256 * 1024;

/// `read_only` is true on a standby and on a server that was set read-only. The other columns are
/// for people only; `now` is the database's clock in seconds since 1970.
macro_rules! state_and {
    ($oldest:literal) => {
        concat!(
            "\
select current_setting('transaction_read_only') = 'on' as read_only,
    current_setting('fsync') = 'on' and current_setting('full_page_writes') = 'on' as durable,
    extract(epoch from clock_timestamp())::float8 as now, oldest, behind
from ",
            $oldest
        )
    };
}
/// `oldest` is the oldest transaction whose dead row versions the server has to keep, `behind` the
/// number of transactions since: because it is still open (in any database: everybody's snapshots
/// begin there), because a snapshot of this database needs it, or a standby does. Any user may see
/// these columns, unless somebody has taken that right away. A vacuum holds nothing up, however
/// long it takes.
const STATE: &str = state_and!(
    "\
(
    select xmin::text::int8 as oldest, age(xmin)::int8 as behind
    from (
        select pg_snapshot_xmin(pg_current_snapshot())::xid as xmin
        union all
        select backend_xmin from pg_stat_activity
        where (datname = current_database() or datname is null)
            and pid not in (select pid from pg_stat_progress_vacuum)
        union all
        select xmin from pg_replication_slots
    ) as needed
    where xmin is not null
    order by behind desc limit 1
) as oldest"
);
/// Health must not depend on a right that is not needed for anything else.
const STATE_ALONE: &str = state_and!("(select null::int8 as oldest, null::int8 as behind) as none");

/// The thread that asks. It runs until the process ends, because requests are judged by it during a
/// drain, too. The process does not wait for a probe that hangs in the driver.
pub struct Probe {
    connection: Dedicated,
    health: Arc<Health>,
    sees_snapshots: bool,
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
        let connection = Dedicated::new(target, limits);
        let mut probe = Probe { connection, health, sees_snapshots: true };
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
        let (row, clock) = self.look()?;
        let seconds = clock.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let before = self.health.observed();
        let oldest: Option<i64> = row.get("oldest");
        let observed = Observed {
            clock_skew_seconds: seconds - row.get::<_, f64>("now"),
            durable: row.get("durable"),
            oldest: oldest.map(|oldest| {
                let before = before.and_then(|before| before.oldest);
                Oldest::after(before, oldest, row.get("behind"))
            }),
        };
        self.health.observe(observed);
        if before.is_none_or(|before| before.durable) && !observed.durable {
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

    /// What the database says of itself, and when it said so by this machine's clock.
    fn look(&mut self) -> Result<(Row, SystemTime), Error> {
        let looked = self.connection.run(|session| {
            let (clock, asked) = (SystemTime::now(), Instant::now());
            let row = match self.sees_snapshots {
                true => session.query_one(STATE, &[])?,
                false => session.query_one(STATE_ALONE, &[])?,
            };
            // The best guess is that the database read its clock in the middle of the round trip.
            Ok((row, clock + asked.elapsed() / 2))
        });
        match looked {
            Err(error) if self.sees_snapshots && error.is_of_rights() => {
                info!("event=snapshots_not_seen reason={:?}", error.reason());
                self.sees_snapshots = false;
                self.look()
            }
            looked => looked,
        }
    }
}
