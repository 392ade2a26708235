//! Jobs in a cluster without a master: each due job runs on exactly one replica, and the replicas
//! share the jobs evenly although none knows of another. They coordinate through two tables only.
//!
//! ```text
//!   scheduler ── renew, end, offer, claim ──▶ cron_jobs
//!     │  ▲                                        ▲
//!     │  │ its function has returned              │ step: holds the lease while it lasts
//!     │  └──────────────────────────── run ───────┘
//!     │ a thread a run ────────────────▶ │ calls the function
//!     ▼
//!   held (the runs of this process) ◀── lease_watch: cancels them after the trust window
//! ```
//!
//! The files use each other one way: `said` (a run's lines) ◀ `lease` ◀ `running` (one run) ◀
//! `function` (its call; all there are: `functions`), `held` (all runs; shared in `replica`),
//! `telling` (their news) ◀ `claims` (they begin), `ends` (they are written) ◀ `scheduler`.
//!
//! A job's life: it waits for its slot. After that it is due, and the first replica that sees this
//! writes the instant of the offer. A replica claims it, which opens a run and gives a lease. The
//! lease is renewed while the run goes on. The run's end sets the next slot. What can go wrong:
//!
//! - **The holder dies.** Its lease runs out, the job is due again, and the claim that takes the
//!   job over closes the orphaned run as `abandoned`. The slot is run again: at least once in all,
//!   and from the last checkpoint on, if the function keeps some (`checkpoint`).
//! - **The holder is paused, or cut off from the database.** Its trust window, counted on its own
//!   clock from before the round trip that took or renewed the lease, ends before the lease does
//!   (`running`). Then a thread that needs no database cancels the run, and ends the process if the
//!   function does not return (`lease_watch`). The fencing token stops a late write (`lease`). One
//!   thread renews and claims, so it claims nothing that it could not renew (`scheduler`).
//! - **A function panics or fails.** The run is `failed`. The slot is tried again if the job says
//!   so; then the job goes on with its next slot.
//! - **A function takes longer than it may**, or somebody asks to stop it. It is cancelled. If it
//!   does not return, its lease is renewed all the same, so that the job never runs twice.
//! - **Somebody locks a job's row** in an open transaction. Only that job waits.
//! - **The replica is told to end.** Its runs are cancelled and recorded, and their jobs released.
//! - **The database's clock jumps.** After a jump forward, nobody takes a job from its holder
//!   before the lease's real length has passed (`lease/clock`, `lease/offer`). After a jump back,
//!   instants that were written in the future are corrected (`lease/mend`).
//! - **The database refuses** to write a run, or its end, into the history: the run is recorded as
//!   failed, or given up, and the other jobs go on (`ends`, `claims`).
//! - **Slots are missed** because the run before took longer, or because all replicas were down.
//!   One run makes up for all of them, or a row of the history tells of them (`lease/start`).

mod checkpoint;
mod claims;
mod conditions;
mod ends;
mod function;
mod functions;
mod held;
mod history;
mod job;
mod lease;
mod lease_watch;
mod name;
mod next;
mod pause;
mod precondition;
mod replica;
mod run;
mod running;
mod said;
mod schedule;
mod scheduler;
mod status;
mod telling;
mod unhealthy;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use log::{info, warn};

pub use function::{Context, Failure};
pub use functions::{Described, Function, Functions};
pub use history::Filter;
pub use job::set::{ChangedJob, Difference, JobSet, SetResult};
pub use job::settings::{Arguments, CatchUp, Settings, SettingsChange};
pub use job::{Action, ActionResult, Author, JobChange, Jobs};
pub use lease::Outcome;
pub use lease_watch::LEASE_LOST;
pub use name::{Name, NameFault};
pub use next::Upcoming;
pub use pause::{NewPause, Pause};
pub use precondition::Precondition;
pub use run::{Log, RecordedRun, Run, RunLine};
pub use schedule::{InvalidSchedule, Schedule, zones_in_use};
pub use status::{
    CONDITIONS, Conditions, Counts, Job, JobFilter, LastRun, STATES, Status, Tries, WaitsFor,
};
pub use unhealthy::{JobsHealth, UNHEALTHY_MAX, UnhealthyJob};

use crate::db::{Db, Dedicated, Health, Limits, Manager, Target};
use crate::metrics::Metrics;
use crate::shutdown::{Signal, spawn_vital};
use claims::{Claims, Logged};
use ends::Ends;
use held::Held;
use lease::Leases;
use replica::Replica;
use scheduler::Scheduler;

/// How one replica finds due jobs, claims them and keeps them.
#[derive(Clone)]
pub struct CronOptions {
    /// The replica's name, which the API and the history show as `server`.
    pub server: String,
    /// How long a lease lasts after a claim or a renewal. It is renewed after a third of this.
    pub lease: Duration,
    /// How long after the offer a replica that holds one job may claim the next.
    pub handicap: Duration,
    /// The mean time between two polls for due jobs. Each pause is 0.5 to 1.5 times this.
    pub poll: Duration,
    /// The most runs that this replica holds at a time; none: any number.
    pub max_runs: Option<usize>,
}

/// One replica's running scheduler. Dropping it begins the drain, but does not wait for its end.
pub struct Cron {
    replica: Arc<Replica>,
    health: Arc<Health>,
}

/// In a debug build the first look at a time zone's file alone takes more than 256 KB.
const STACK_BYTES: usize = 2 << 20;
/// The connections that all functions share for their steps, which are short.
const STEPS_POOL_SIZE: u32 = 2;
/// A connection for steps is closed if it is unused for this long and for three polls.
const UNUSED_MIN: Duration = Duration::from_secs(30);
/// The pause between two checks whether jobs can be claimed.
const CONNECT_TICK: Duration = Duration::from_millis(10);
/// The longest that a statement of the scheduler or of a function's step may take.
const STATEMENT_MAX: Duration = Duration::from_secs(10);
/// An unclaimed offer is made again after the longest handicap plus this, or plus four polls.
const OFFER_AGE_MIN: Duration = Duration::from_secs(30);

impl Cron {
    /// Starts threads that look for due jobs and run them, on database connections of their own.
    ///
    /// # Errors
    /// When the system can start no further thread.
    pub fn start(
        options: &CronOptions,
        functions: Functions,
        target: &Target,
        health: &Arc<Health>,
        metrics: &Arc<Metrics>,
        shutdown: &Signal,
    ) -> io::Result<Cron> {
        // The database ends a statement after this time, even if the process that sent it has
        // ended. So whatever was sent within the trust window is over before the lease ends, and a
        // renewal that waits for a lock is given up in time for another try.
        let limits = Limits::within((options.lease / 6).min(STATEMENT_MAX));
        let looked = Signal::new();
        // Each poll uses one of these connections, so one stays open from poll to poll.
        let unused_max = UNUSED_MIN.max(options.poll * 3);
        let manager = Manager::new(target.clone(), limits).behind(looked.clone());
        let steps = Arc::new(Db::open(manager, STEPS_POOL_SIZE, unused_max, Arc::clone(health)));
        let leases = Leases {
            server: options.server.clone(),
            term: options.lease,
            offer_age_max: options.handicap * 10 + OFFER_AGE_MIN.max(options.poll * 4),
            functions: functions.names(),
        };
        let held = Held::new(shutdown.clone());
        let replica = Arc::new(Replica { leases, held, metrics: Arc::clone(metrics) });
        health.note_claimable(Err("it has not looked for due jobs yet".to_owned()));
        let connection = Dedicated::new(target.clone(), limits);
        let scheduler = scheduler(options, functions, connection, (&steps, &replica), looked);
        let (watched, metrics) = (Arc::clone(&replica), Arc::clone(metrics));
        // The process ends if one of these threads panics, or it would hold jobs and lose them.
        spawn_vital("lease-watch", STACK_BYTES, move || lease_watch::run(&watched.held))?;
        spawn_vital("scheduler", STACK_BYTES, move || scheduler.run())?;
        // This thread only fills a metric: nothing waits for it, and nothing depends on it.
        let name = "last-successes".to_owned();
        let builder = thread::Builder::new().name(name).stack_size(STACK_BYTES);
        builder.spawn(move || history::read_last_successes(&steps, &metrics))?;
        Ok(Cron { replica, health: Arc::clone(health) })
    }

    /// Waits until jobs can be claimed, which takes a poll and a connection for steps; for `limit`
    /// at most.
    pub fn wait_connected(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let is_connected = || self.health.claimable() == Some(Ok(()));
        while !is_connected() && Instant::now() < until {
            thread::sleep(CONNECT_TICK);
        }
    }

    /// Claims no further job, and cancels every run. Does not wait for the runs to end.
    pub fn begin_drain(&self) {
        let runs = self.replica.held.count();
        info!("event=runs_cancelled runs={runs} reason=\"this replica is shut down\"");
        self.replica.held.drain();
    }

    /// Waits until every function has returned and its run is recorded, so that other replicas can
    /// take the jobs. False when a run is left at `until`: its lease then runs out by itself.
    pub fn wait_drained(&self, until: Instant) -> bool {
        let runs = self.replica.held.wait_until_drained(until);
        if runs > 0 {
            warn!("event=runs_left runs={runs} hint=\"others take over when the leases end\"");
        }
        runs == 0
    }
}

impl Drop for Cron {
    fn drop(&mut self) {
        self.replica.held.drain();
    }
}

fn scheduler(
    options: &CronOptions,
    functions: Functions,
    connection: Dedicated,
    (steps, replica): (&Arc<Db>, &Arc<Replica>),
    looked: Signal,
) -> Scheduler {
    let CronOptions { handicap, poll, .. } = options;
    let of = || Arc::clone(replica);
    let ends = Ends::new(of());
    let claims = Claims {
        replica: of(),
        looked,
        functions,
        steps: Arc::clone(steps),
        handicap: *handicap,
        max_runs: options.max_runs.unwrap_or(usize::MAX),
        clock: None,
        leases_have_ended: false,
        perhaps_set_back: true,
        lack: None,
        no_thread: None,
        told: Logged::default(),
    };
    let now = Instant::now();
    Scheduler {
        replica: of(),
        connection,
        ends,
        claims,
        poll: *poll,
        poll_at: now,
        renew_at: now,
        cannot_renew: false,
    }
}
