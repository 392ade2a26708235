//! Which of several hosts is the primary. A server that nobody could stop goes on taking changes
//! beside the one that was promoted in its place, and whoever is connected to it stays. So each
//! host is asked, twice a second, on a connection of its own, for what PostgreSQL tells servers of
//! one origin apart by: the system's identifier, and the timeline, which rises with each promotion.
//!
//! Of several that take changes the one with the highest timeline is right, and connections to the
//! others are ended at once, from outside of the driver, which may be waiting for a frozen one.
//! Where the timeline does not tell, nobody is connected to, and an operator decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use log::{info, warn};
use parking_lot::{Condvar, Mutex};

use super::{Dedicated, Error, Pulse};
use crate::shutdown::{Phase, Signal};

/// Between two questions to a host.
pub(super) const PAUSE: Duration = Duration::from_millis(500);
/// At the start nobody is connected to before all have answered; for so long at most.
const FIRST_LOOK_MAX: Duration = Duration::from_secs(3);

/// No row on a standby, where the functions would fail. The timeline is in the name of the file
/// that is written now; what the control file says is older.
const IDENTIFY: &str = "\
select (select system_identifier from pg_control_system()) as system,
    substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) as timeline,
    pg_postmaster_start_time() as started
where not pg_is_in_recovery()";

/// A server that takes changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Server {
    /// Of the data folder from which it comes.
    system: i64,
    timeline: u32,
    /// Two hosts that name one server have this in common.
    started: DateTime<Utc>,
}

/// What is known of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Unasked,
    /// A standby, or it has never answered, or does not say.
    Nothing,
    Takes(Server),
    /// It did when it was last heard of.
    Took(Server),
}

/// What is known of all hosts, and whom nobody is to connect to.
pub(super) struct Primaries {
    names: Vec<String>,
    state: Mutex<State>,
    has_changed: Condvar,
}

struct State {
    known: Vec<Known>,
    /// By host, why.
    barred: Vec<Option<String>>,
    /// The system and its highest timeline of which was heard.
    highest: Option<(i64, u32)>,
    /// Until when nobody is connected to who was not asked.
    first_look: Option<Instant>,
}

impl Primaries {
    pub(super) fn new(names: Vec<String>) -> Primaries {
        let (known, barred) = (vec![Known::Unasked; names.len()], vec![None; names.len()]);
        let state = State { known, barred, highest: None, first_look: None };
        Primaries { names, state: Mutex::new(state), has_changed: Condvar::new() }
    }

    /// From now on hosts are asked.
    pub(super) fn begin(&self) {
        self.state.lock().first_look = Some(Instant::now() + FIRST_LOOK_MAX);
    }

    /// Waits until every host was asked, if they are asked at all.
    pub(super) fn wait_for_the_first_look(&self) {
        let mut state = self.state.lock();
        while let Some(until) = state.first_look {
            let all = !state.known.contains(&Known::Unasked);
            if all || self.has_changed.wait_until(&mut state, until).timed_out() {
                state.first_look = None;
            }
        }
    }

    /// Why nobody is to connect to this host.
    ///
    /// # Errors
    /// That, as the reason.
    pub(super) fn admit(&self, host: usize) -> Result<(), Error> {
        match &self.state.lock().barred[host] {
            Some(reason) => Err(Error::unsent(reason.clone())),
            None => Ok(()),
        }
    }

    /// Notes what a host has answered; those whose connections are to be ended.
    fn note(&self, host: usize, known: Known) -> Vec<usize> {
        let mut state = self.state.lock();
        state.known[host] = known;
        let barred = state.judge(&self.names);
        let before = std::mem::replace(&mut state.barred, barred.clone());
        drop(state);
        self.has_changed.notify_all();
        let mut ended = Vec::new();
        for (host, (before, now)) in before.iter().zip(barred).enumerate() {
            let name = &self.names[host];
            match now {
                Some(reason) if before.as_ref() != Some(&reason) => {
                    warn!("event=host_left host={name} reason={reason:?}");
                    ended.push(host);
                }
                None if before.is_some() => info!("event=host_taken_again host={name}"),
                _ => {}
            }
        }
        ended
    }

    /// What is known of a host that does not answer now.
    fn last_known(&self, host: usize) -> Known {
        match self.state.lock().known[host] {
            Known::Takes(server) | Known::Took(server) => Known::Took(server),
            Known::Unasked | Known::Nothing => Known::Nothing,
        }
    }
}

impl State {
    /// By host, why nobody is to connect to it.
    fn judge(&mut self, names: &[String]) -> Vec<Option<String>> {
        let taking: Vec<(usize, Server)> = (0..names.len())
            .filter_map(|host| match self.known[host] {
                Known::Takes(server) => Some((host, server)),
                _ => None,
            })
            .collect();
        for (place, (host, one)) in taking.iter().enumerate() {
            let undecided = |other: &&(usize, Server)| {
                let is_same = one.started == other.1.started;
                (one.system != other.1.system || one.timeline == other.1.timeline) && !is_same
            };
            if let Some((other, _)) = taking[place + 1..].iter().find(undecided) {
                let (one, other) = (&names[*host], &names[*other]);
                let reason = format!(
                    "{one} and {other} both take changes, and neither was promoted after the \
                     other: stop one of them, or take it out of DATABASE_URL"
                );
                return vec![Some(reason); names.len()];
            }
        }
        for (_, server) in &taking {
            let system = self.highest.filter(|(system, _)| *system == server.system);
            let timeline = system.map_or(0, |(_, timeline)| timeline).max(server.timeline);
            self.highest = Some((server.system, timeline));
        }
        let outdated = |known: &Known| match (known, self.highest) {
            (Known::Takes(server) | Known::Took(server), Some((system, highest))) => {
                let timeline = server.timeline;
                (server.system == system && timeline < highest).then(|| {
                    format!(
                        "another server was promoted in its place: its timeline is {timeline}, \
                         and {highest} is the latest"
                    )
                })
            }
            _ => None,
        };
        self.known.iter().map(outdated).collect()
    }
}

/// Asks one host.
pub(super) struct Watch {
    pub(super) host: usize,
    /// To that host alone, be it a standby or not.
    pub(super) connection: Dedicated,
    pub(super) primaries: Arc<Primaries>,
    pub(super) pulse: Arc<Pulse>,
    /// Whether it was said that hosts do not tell; by any of them.
    pub(super) told: Arc<AtomicBool>,
}

impl Watch {
    /// Goes on until the process ends. Ends all connections of hosts that are left, by `cut`.
    pub(super) fn run(mut self, shutdown: &Signal, cut: impl Fn(usize)) {
        loop {
            let known = self.ask();
            let left = self.primaries.note(self.host, known);
            if !left.is_empty() {
                self.pulse.demoted(Instant::now());
            }
            left.into_iter().for_each(&cut);
            if shutdown.wait_for_phase(Phase::Ended, PAUSE) {
                return;
            }
        }
    }

    fn ask(&mut self) -> Known {
        match self.connection.run(|session| session.query_opt(IDENTIFY, &[])) {
            Ok(None) => Known::Nothing,
            Ok(Some(row)) => {
                let timeline = u32::from_str_radix(row.get("timeline"), 16).unwrap_or_default();
                let (system, started) = (row.get("system"), row.get("started"));
                Known::Takes(Server { system, timeline, started })
            }
            Err(error) if !error.is_passing() => {
                if !self.told.swap(true, Ordering::Relaxed) {
                    warn!(
                        "event=hosts_not_compared reason={:?} hint=\"a server that goes on taking \
                         changes beside a promoted one cannot be found out\"",
                        error.reason()
                    );
                }
                Known::Nothing
            }
            Err(_) => self.primaries.last_known(self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(system: i64, timeline: u32, started: i64) -> Known {
        let started = DateTime::from_timestamp(started, 0).expect("an instant");
        Known::Takes(Server { system, timeline, started })
    }

    fn two() -> Primaries {
        Primaries::new(vec!["a:1".to_owned(), "b:2".to_owned()])
    }

    fn admitted(primaries: &Primaries) -> [bool; 2] {
        [0, 1].map(|host| primaries.admit(host).is_ok())
    }

    #[test]
    fn of_two_that_take_changes_the_later_promoted_is_right_for_good() {
        let primaries = two();
        assert!(primaries.note(0, takes(7, 1, 10)).is_empty());
        assert!(primaries.note(1, Known::Nothing).is_empty());
        assert_eq!(primaries.note(1, takes(7, 2, 20)), [0]);
        assert_eq!(admitted(&primaries), [false, true]);
        assert!(primaries.note(1, primaries.last_known(1)).is_empty());
        assert_eq!(admitted(&primaries), [false, true], "the right one is away for a moment");
        assert!(primaries.note(0, takes(7, 1, 10)).is_empty());
        assert_eq!(admitted(&primaries), [false, true]);
        assert_eq!(primaries.note(0, takes(7, 3, 30)), [1], "and is promoted in its turn");
        assert_eq!(admitted(&primaries), [true, false]);
        assert!(primaries.note(1, Known::Nothing).is_empty());
        assert_eq!(admitted(&primaries), [true, true], "a standby does no harm");
    }

    #[test]
    fn what_the_timeline_does_not_tell_is_for_an_operator() {
        for other in [takes(7, 1, 20), takes(8, 1, 20), takes(8, 2, 20)] {
            let primaries = two();
            primaries.note(0, takes(7, 1, 10));
            assert_eq!(primaries.note(1, other), [0, 1], "{other:?}");
            let reason = primaries.admit(0).expect_err("barred").reason().to_owned();
            assert!(reason.contains("a:1 and b:2"), "{reason}");
            primaries.note(0, Known::Nothing);
            assert_eq!(admitted(&primaries), [true, true]);
        }
    }

    #[test]
    fn two_names_of_one_server_are_one() {
        let primaries = two();
        primaries.note(0, takes(7, 1, 10));
        assert!(primaries.note(1, takes(7, 1, 10)).is_empty());
        assert_eq!(admitted(&primaries), [true, true]);
        assert_eq!(primaries.note(1, takes(7, 2, 20)), [0], "an address that has moved");
        assert!(primaries.note(0, takes(7, 2, 20)).is_empty());
        assert_eq!(admitted(&primaries), [true, true]);
    }
}
