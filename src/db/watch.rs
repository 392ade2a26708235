//! Asks a host which server it is, and ends the connections to hosts that are left.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use log::{info, warn};

use super::primary::{HostState, Server};
use super::{Dedicated, Error, Health, Limits, Stage, Target};
use crate::shutdown::{Phase, Signal, spawn_vital};

/// How long a host may take to say which server it is.
const ANSWER_MAX: Duration = Duration::from_secs(2);
const STACK_BYTES: usize = 256 * 1024;
/// The pause between two questions to a host; each refusal in a row doubles it.
const PAUSE: Duration = Duration::from_millis(500);
/// So the pause is at most 8 s.
const DOUBLINGS_MAX: u32 = 4;

/// Gives no row on a standby, where these functions would fail. The timeline is taken from the name
/// of the WAL file in use, because the control file may hold an older one.
const IDENTIFY: &str = "\
select (select system_identifier from pg_control_system()) as system,
    substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) as timeline,
    pg_postmaster_start_time() as started
where not pg_is_in_recovery()";

/// Asks one host, until the process ends.
struct Watch {
    host: usize,
    /// It leads to that host only, be it a primary or a standby.
    connection: Dedicated,
    /// All hosts.
    target: Target,
    health: Arc<Health>,
    /// Whether the log says already that hosts refuse this question; shared by all watches.
    told: Arc<AtomicBool>,
    /// How many questions this host has refused in a row.
    refusals: u32,
    /// Whether the log says already that this host cannot be asked; false after its next answer.
    told_of_this: bool,
}

impl Target {
    /// Starts a thread for each host that asks whether it is the primary; none for a single host.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn watch(&self, health: &Arc<Health>, shutdown: &Signal) -> io::Result<()> {
        if self.hosts.len() == 1 {
            return Ok(());
        }
        self.primaries.begin();
        let told: Arc<AtomicBool> = Arc::default();
        for host in 0..self.hosts.len() {
            let watch = Watch {
                host,
                connection: Dedicated::new(self.only(host), Limits::within(ANSWER_MAX)),
                target: self.clone(),
                health: Arc::clone(health),
                told: Arc::clone(&told),
                refusals: 0,
                told_of_this: false,
            };
            let shutdown = shutdown.clone();
            spawn_vital("primary", STACK_BYTES, move || watch.run(&shutdown))?;
        }
        Ok(())
    }
}

impl Watch {
    /// Runs until the process ends. What could not be cut is tried again after the next question.
    fn run(mut self, shutdown: &Signal) {
        let mut to_be_cut: Vec<usize> = Vec::new();
        loop {
            let known = self.ask();
            let changes = self.target.primaries.note(self.host, known);
            let left = changes.iter().filter(|(_, reason)| reason.is_some());
            to_be_cut.extend(left.map(|(host, _)| *host));
            if changes.iter().any(|(_, reason)| reason.is_some()) {
                self.health.demoted(Instant::now());
            }
            to_be_cut.retain(|host| !self.target.hosts[*host].cut());
            // Logged last, because writing blocks if the reader of the log has stopped reading.
            changes.iter().for_each(|(host, reason)| self.tell(*host, reason.as_deref()));
            let pause = PAUSE * 2_u32.pow(self.refusals.min(DOUBLINGS_MAX));
            if shutdown.wait_for_phase(Phase::Ended, pause) {
                return;
            }
        }
    }

    fn tell(&self, host: usize, reason: Option<&str>) {
        let name = self.target.hosts[host].name();
        match reason {
            Some(reason) => warn!("event=host_left host={name} reason={reason:?}"),
            None => info!("event=host_taken_again host={name}"),
        }
    }

    fn ask(&mut self) -> HostState {
        let mut answer = self.identify();
        // A lost connection says nothing of the server: it may have been ended by `cut`.
        let was_lost = |error: &Error| error.stage() != Stage::Unsent && error.is_passing();
        if answer.as_ref().is_err_and(was_lost) && self.refusals == 0 {
            self.connection.close();
            answer = self.identify();
        }
        let error = match answer {
            Ok(server) => {
                (self.refusals, self.told_of_this) = (0, false);
                return server.map_or(HostState::Nothing, HostState::Takes);
            }
            Err(error) => error,
        };
        let is_refused = error.refuses_the_statement() || error.is_of_the_login();
        self.refusals = if is_refused { self.refusals.saturating_add(1) } else { 0 };
        if error.refuses_the_statement() {
            if !self.told.swap(true, Ordering::Relaxed) {
                warn!(
                    "event=hosts_not_compared reason={:?} hint=\"a server that goes on taking \
                     changes beside a promoted one cannot be found out\"",
                    error.reason()
                );
            }
            return HostState::Nothing;
        }
        let is_away = error.is_of_a_server_that_is_away();
        if !is_away && !std::mem::replace(&mut self.told_of_this, true) {
            let name = self.target.hosts[self.host].name();
            warn!("event=host_not_asked host={name} reason={:?}", error.reason());
        }
        self.target.primaries.last_known(self.host, error.is_not_listening())
    }

    /// The server of this host; None if it is a standby.
    fn identify(&mut self) -> Result<Option<Server>, Error> {
        self.connection.run(|session| {
            let Some(row) = session.query_opt(IDENTIFY, &[])? else { return Ok(None) };
            let timeline: String = row.try_get("timeline")?;
            let timeline = u32::from_str_radix(&timeline, 16).unwrap_or_default();
            let (system, started) = (row.try_get("system")?, row.try_get("started")?);
            Ok(Some(Server { system, timeline, started }))
        })
    }
}
