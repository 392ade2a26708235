//! Jobs in a cluster without a master: each due job runs on exactly one replica, and the replicas
//! share them evenly, although none knows of another. They meet in two tables.
//!
//! ```text
//!   scheduler ── renew, end, offer, claim ──▶ cron_jobs
//!     │  ▲                                        ▲
//!     │  │ its function has returned              │ step: holds the lease while it lasts
//!     │  └──────────────────────────── run ───────┘
//!     │ a thread a run ────────────────▶ │ calls the function
//!     ▼
//!   held (the runs of this process) ◀── watch: past the trust window, cancels or ends the process
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
//!   whose function does not return ends itself. A late write meets the fence (`lease`). What
//!   renews is also what claims, so nothing is claimed that could not be renewed (`scheduler`).
//! - **A function panics or fails.** The run is `failed`, and the job goes on with its next slot.
//! - **Somebody holds a row**, in an open transaction. That job waits, and no other.
//! - **The replica is told to end.** Runs are cancelled, recorded and given back at once.
//! - **The database's clock jumps.** Forward, nobody takes a job from its holder within the time
//!   that the lease was to hold (`lease/clock`, `lease/offer`); back, what was written in the
//!   future is put right (`lease/mend`).
//! - **The database refuses** to write a run, or its end, into the history: the run is told as
//!   failed, or let go, and the other jobs go on (`ends`, `claims`).
//! - **Slots are missed**, because the run before took longer or all was down: they are run once,
//!   not once each.

mod claims;
mod ends;
mod function;
mod held;
mod history;
mod job;
mod lease;
mod lease_watch;
mod name;
mod precondition;
mod renewals;
mod run;
mod running;
mod schedule;
mod scheduler;
mod status;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use log::{info, warn};

pub use function::{Context, Failure, Function, Functions};
pub use history::{Filter, FinishedRun, History};
pub use job::{Deleted, Jobs, RunNow, Saved, Settings, SettingsChange};
pub use lease::Outcome;
pub use lease_watch::LEASE_LOST;
pub use name::{Name, NameFault};
pub use precondition::Precondition;
pub use schedule::{InvalidSchedule, Schedule};
pub use status::{Counts, Job, LastRun, State, Status, StatusReader};

use crate::db::{Db, Dedicated, Health, Limits, Manager, Target};
use crate::metrics::Metrics;
use crate::shutdown::{Signal, spawn_vital};
use claims::{Claims, Told};
use ends::Ends;
use held::Held;
use lease::Leases;
use renewals::Renewals;
use run::Runner;
use running::TrustWindow;
use scheduler::Scheduler;

/// How a replica runs jobs.
#[derive(Clone)]
pub struct CronOptions {
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
    held: Arc<Held>,
    health: Arc<Health>,
}

const STACK_BYTES: usize = 256 * 1024;
/// Connections that the functions' steps share. A step is short.
const STEPS_POOL_SIZE: u32 = 2;
/// One of them that is unused for this long, or a few polls, is closed.
const UNUSED_MIN: Duration = Duration::from_secs(30);
/// Between two looks whether a run has all that it needs.
const CONNECT_TICK: Duration = Duration::from_millis(10);
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
        options: &CronOptions,
        functions: Functions,
        target: &Target,
        health: &Arc<Health>,
        metrics: &Arc<Metrics>,
        shutdown: &Signal,
    ) -> io::Result<Cron> {
        // The database ends a statement by itself, even when the process that sent it has ended:
        // what was sent while the lease could be relied on is over before the lease is. And a
        // renewal that a lock holds up is given up in time for another.
        let limits = Limits::within((options.lease / 6).min(STATEMENT_MAX));
        let looked = Signal::new();
        // Each poll keeps one.
        let unused_max = UNUSED_MIN.max(options.poll * 3);
        let manager = Manager::new(target.clone(), limits).behind(looked.clone());
        let steps = Arc::new(Db::open(manager, STEPS_POOL_SIZE, unused_max, Arc::clone(health)));
        let held = Arc::new(Held::new(shutdown.clone()));
        health.jobs_can_be_claimed(Err("it has not looked for due jobs yet".to_owned()));
        let connection = Dedicated::new(target.clone(), limits);
        let shared = (&steps, &held, metrics);
        let scheduler = scheduler(options, functions, connection, shared, looked);
        let (watched, metrics) = (Arc::clone(&held), Arc::clone(metrics));
        // A replica that lacks one of these would go on to claim jobs, and lose them.
        spawn_vital("lease-watch", STACK_BYTES, move || lease_watch::run(&watched))?;
        spawn_vital("scheduler", STACK_BYTES, move || scheduler.run())?;
        // Beside the others: nobody waits for it, and nothing depends on it.
        let name = "last-successes".to_owned();
        let builder = thread::Builder::new().name(name).stack_size(STACK_BYTES);
        builder.spawn(move || history::read_last_successes(&steps, &metrics))?;
        Ok(Cron { held, health: Arc::clone(health) })
    }

    /// Waits until jobs can be claimed, for which there are the connections that a run needs, at
    /// most `limit`.
    pub fn wait_connected(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let is_connected = || self.health.can_jobs_be_claimed() == Some(Ok(()));
        while !is_connected() && Instant::now() < until {
            thread::sleep(CONNECT_TICK);
        }
    }

    /// Claims no more, and tells every run to return. Does not wait.
    pub fn begin_drain(&self) {
        let runs = self.held.count();
        info!("event=runs_cancelled runs={runs} reason=\"this replica is shut down\"");
        self.held.drain();
    }

    /// Waits until every run has returned and been recorded, so that other replicas can take the
    /// jobs; false when some had not at `until`. Their leases run out by themselves.
    pub fn wait_drained(&self, until: Instant) -> bool {
        let runs = self.held.wait_until_empty(until);
        if runs > 0 {
            warn!("event=runs_left runs={runs} hint=\"others take over when the leases end\"");
        }
        runs == 0
    }
}

impl Drop for Cron {
    fn drop(&mut self) {
        self.held.drain();
    }
}

fn scheduler(
    options: &CronOptions,
    functions: Functions,
    connection: Dedicated,
    (steps, held, metrics): (&Arc<Db>, &Arc<Held>, &Arc<Metrics>),
    looked: Signal,
) -> Scheduler {
    let CronOptions { server, lease, handicap, poll } = options;
    let leases = Arc::new(Leases {
        server: server.clone(),
        term: *lease,
        offer_age_max: *handicap * 10 + OFFER_AGE_MIN.max(*poll * 4),
        functions: functions.names(),
    });
    let shared = || (Arc::clone(&leases), Arc::clone(held), Arc::clone(metrics));
    let renewals = {
        let (leases, held, metrics) = shared();
        Renewals { leases, held, metrics, at: Instant::now(), failing: false }
    };
    let ends = {
        let (leases, held, metrics) = shared();
        Ends { leases, held, metrics, all: Vec::new() }
    };
    let runner = {
        let (leases, held, _) = shared();
        Runner { leases, held, functions, steps: Arc::clone(steps) }
    };
    let (leases, held, metrics) = shared();
    let claims = Claims {
        leases,
        held: Arc::clone(&held),
        metrics,
        health: Arc::clone(steps.health()),
        looked,
        runner,
        handicap: *handicap,
        trust: TrustWindow::of_lease(*lease),
        clock: None,
        leases_have_ended: false,
        perhaps_set_back: true,
        lack: None,
        is_connecting: false,
        no_thread: None,
        told: Told::default(),
    };
    let (poll, poll_at) = (*poll, Instant::now());
    Scheduler { held, connection, renewals, ends, claims, poll, poll_at }
}
