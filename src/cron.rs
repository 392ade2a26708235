//! Jobs in a cluster without a master: each due job runs on exactly one replica, and the replicas
//! share them evenly, although none knows of another. They meet in two tables.
//!
//! ```text
//!   scheduler ── offer, claim ──▶ cron_jobs ◀── renew ── heartbeat
//!       │                             ▲                      │ renewed: trust goes on
//!       │ a thread a run              │ end                  ▼
//!       └─────────▶ runner ───────────┘        held (the runs of this process)
//!                     │ calls                                ▲
//!                     ▼                                      │ past it: cancel, or end the process
//!                  function                                watch
//! ```
//!
//! A job's life: it waits for its slot; past it, it is due, and the first replica that sees it so
//! stamps the offer; a replica claims it, which opens a run and gives a lease; the lease is renewed
//! while the run goes on; the end of the run sets the next slot. What can go wrong:
//!
//! - **The holder dies.** Its lease runs out, the job is due again, and the claim that takes it
//!   over closes the orphaned run as `abandoned`. The same slot is run again: at least once.
//! - **The holder is paused, or cut off from the database.** Its trust window, counted on its own
//!   clock from before the round trip that took or renewed the lease, ends before the lease does
//!   (`running`): the run is cancelled by a thread that needs no database (`watch`), and a process
//!   whose function does not return ends itself. A late write meets the fence (`lease`). Until its
//!   heartbeat is answered again, the replica claims nothing more (`held`).
//! - **A function panics or fails.** The run is `failed`, and the job goes on with its next slot.
//! - **Somebody holds a row**, in an open transaction. That job waits, and no other.
//! - **The replica is told to end.** Runs are cancelled, recorded and given back at once.
//! - **Slots are missed**, because the run before took longer or all was down: they are run once,
//!   not once each.

mod function;
mod heartbeat;
mod held;
mod history;
mod job;
mod lease;
mod name;
mod precondition;
mod random;
mod runner;
mod running;
mod schedule;
mod scheduler;
mod status;
mod watch;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use log::{info, warn};

pub use function::{Context, Failure, Function, Functions};
pub use history::{Filter, FinishedRun, History};
pub use job::{Asked, Change, Deleted, Jobs, Saved, Settings};
pub use name::{Name, NameFault};
pub use precondition::Precondition;
pub use schedule::{InvalidSchedule, Schedule};
pub use status::{Counts, Job, LastRun, State, Status, StatusReader};
pub use watch::LEASE_LOST;

use crate::db::{Db, Dedicated, Limits, Manager, Pulse, Target};
use crate::metrics::Metrics;
use crate::shutdown::{Signal, spawn_vital};
use heartbeat::Heartbeat;
use held::Held;
use lease::Leases;
use random::Random;
use runner::Runner;
use running::Trust;
use scheduler::{Scheduler, Wave};

/// How a replica runs jobs.
#[derive(Clone)]
pub struct Options {
    /// The replica's name, shown as `server`.
    pub server: String,
    /// How long a claim or a renewal holds; it is renewed at a third of it.
    pub lease: Duration,
    /// How long a replica that holds one job leaves the next to others.
    pub handicap: Duration,
    /// The mean time between two looks for due jobs.
    pub poll: Duration,
}

/// The running scheduler of one replica.
pub struct Cron {
    runner: Arc<Runner>,
}

const STACK_BYTES: usize = 256 * 1024;
/// Connections that the functions' steps share. A step is short.
const STEPS_POOL_SIZE: u32 = 2;
/// Connections for the ends of runs.
const RECORDS_POOL_SIZE: u32 = 1;
/// The longest that any statement of a job, or about one, may take.
const STATEMENT_MAX: Duration = Duration::from_secs(10);
/// An offer is made anew after the longest handicap and this, or a few polls.
const OFFER_AGE_MIN: Duration = Duration::from_secs(30);

impl Cron {
    /// Starts to look for due jobs, on connections of its own.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start(
        options: &Options,
        functions: Functions,
        target: &Target,
        pulse: &Arc<Pulse>,
        metrics: &Arc<Metrics>,
        shutdown: &Signal,
    ) -> io::Result<Cron> {
        let Options { server, lease, handicap, poll } = options;
        let mut random = Random::new();
        let leases = Arc::new(Leases {
            server: server.clone(),
            holder: format!("{server}#{:016x}", random.bits()),
            term: *lease,
            offer_age_max: *handicap * 10 + OFFER_AGE_MIN.max(*poll * 4),
            functions: functions.names(),
        });
        // The database ends a statement by itself, even when the process that sent it has ended:
        // what was sent while the lease could be relied on is over before the lease is. And a
        // renewal that a lock holds up is given up in time for another.
        let limits = Limits::within((*lease / 6).min(STATEMENT_MAX));
        let pool = |size| {
            let manager = Manager::new(target.clone(), limits);
            Db::open_on_demand(manager, size, Arc::clone(pulse))
        };
        let (steps, records) = (Arc::new(pool(STEPS_POOL_SIZE)), pool(RECORDS_POOL_SIZE));
        let held = Held::new(shutdown.clone());
        let metrics = Arc::clone(metrics);
        let runner = Arc::new(Runner { leases, functions, held, steps, records, metrics });
        let connection = || Dedicated::new(target.clone(), limits);
        let heartbeat =
            Heartbeat { runner: Arc::clone(&runner), connection: connection(), failing: false };
        let scheduler = Scheduler {
            runner: Arc::clone(&runner),
            connection: connection(),
            poll: *poll,
            handicap: *handicap,
            trust: Trust::of_lease(*lease),
            random,
            wave: Wave::default(),
            unknown: Vec::new(),
            failing: false,
            no_thread: None,
            deaf: false,
        };
        let (watched, reader) = (Arc::clone(&runner), Arc::clone(&runner));
        // A replica that lacks one of these would go on to claim jobs, and lose them.
        spawn_vital("lease-watch", STACK_BYTES, move || watch::run(&watched.held))?;
        spawn_vital("heartbeat", STACK_BYTES, move || heartbeat.run())?;
        spawn_vital("scheduler", STACK_BYTES, move || scheduler.run())?;
        // Beside the others: nobody waits for it, and nothing depends on it.
        let name = "last-successes".to_owned();
        let builder = thread::Builder::new().name(name).stack_size(STACK_BYTES);
        builder.spawn(move || reader.read_last_successes())?;
        Ok(Cron { runner })
    }

    /// Claims no more, and tells every run to return. Does not wait.
    pub fn begin_drain(&self) {
        let runs = self.runner.held.count();
        info!("event=runs_cancelled runs={runs} reason=\"this replica is shut down\"");
        self.runner.held.drain();
    }

    /// Waits until every run has returned and been recorded, so that other replicas can take the
    /// jobs; false when some had not at `until`. Their leases run out by themselves.
    pub fn wait_drained(&self, until: Instant) -> bool {
        let runs = self.runner.held.wait_until_empty(until);
        if runs > 0 {
            warn!("event=runs_left runs={runs} hint=\"others take over when the leases end\"");
        }
        runs == 0
    }
}

impl Drop for Cron {
    fn drop(&mut self) {
        self.runner.held.drain();
    }
}
