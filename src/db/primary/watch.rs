//! Asks a host which server it is, and ends the connections to hosts that are left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use log::{info, warn};

use super::{HostState, Primaries, Server};
use crate::db::{Dedicated, Error, Health, Stage};
use crate::shutdown::{Phase, Signal};

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
pub(in crate::db) struct Watch {
    pub(in crate::db) host: usize,
    /// It leads to that host only, be it a primary or a standby.
    pub(in crate::db) connection: Dedicated,
    pub(in crate::db) primaries: Arc<Primaries>,
    pub(in crate::db) health: Arc<Health>,
    /// Whether the log says already that hosts refuse this question; shared by all watches.
    pub(in crate::db) told: Arc<AtomicBool>,
    /// How many questions this host has refused in a row.
    pub(in crate::db) refusals: u32,
    /// Whether the log says already that this host cannot be asked; false after its next answer.
    pub(in crate::db) told_of_this: bool,
}

impl Watch {
    /// Runs until the process ends. `cut` ends all connections to a host, and returns whether it
    /// could; if not, it is called again after the next question.
    pub(in crate::db) fn run(mut self, shutdown: &Signal, cut: impl Fn(usize) -> bool) {
        let mut to_be_cut: Vec<usize> = Vec::new();
        loop {
            let known = self.ask();
            let changes = self.primaries.note(self.host, known);
            let left = changes.iter().filter(|(_, reason)| reason.is_some());
            to_be_cut.extend(left.map(|(host, _)| *host));
            if changes.iter().any(|(_, reason)| reason.is_some()) {
                self.health.demoted(Instant::now());
            }
            to_be_cut.retain(|host| !cut(*host));
            // Logged last, because writing blocks if the reader of the log has stopped reading.
            changes.iter().for_each(|(host, reason)| self.tell(*host, reason.as_deref()));
            let pause = PAUSE * 2_u32.pow(self.refusals.min(DOUBLINGS_MAX));
            if shutdown.wait_for_phase(Phase::Ended, pause) {
                return;
            }
        }
    }

    fn tell(&self, host: usize, reason: Option<&str>) {
        let name = &self.primaries.names[host];
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
            let name = &self.primaries.names[self.host];
            warn!("event=host_not_asked host={name} reason={:?}", error.reason());
        }
        self.primaries.last_known(self.host, error.is_not_listening())
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
