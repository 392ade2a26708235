//! Which of several hosts is the primary. After a failover, an old primary that nobody could stop
//! may still take changes, and clients connected to it stay there. So each host is asked, twice a
//! second, on a connection of its own, for what distinguishes PostgreSQL servers of one origin: the
//! system identifier, and the timeline, which rises with each promotion.
//!
//! Of several servers that take changes, the one with the highest timeline is right. The others are
//! left: connections to them are ended at once, from outside of the driver, which may be waiting
//! for a frozen one. If the timelines do not decide, no host is used until an operator decides.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use parking_lot::{Condvar, Mutex};

use super::Error;

/// At the start no connection is opened before all hosts were asked, or this time is over.
const FIRST_LOOK_MAX: Duration = Duration::from_secs(3);

/// A server that takes changes, so it is no standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// The system identifier of its data directory; a standby has that of its primary.
    pub(super) system: i64,
    pub(super) timeline: u32,
    /// When it was started: two hosts with the same instant are one server with two names.
    pub(super) started: DateTime<Utc>,
}

/// What a host's answers say of its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostState {
    Unasked,
    /// It is a standby, has never answered, or refuses to say.
    Nothing,
    Takes(Server),
    /// It took changes when it last answered.
    Took(Server),
    /// It took changes, and now no server listens there.
    Ended(Server),
}

/// What is known of all hosts, and to which of them no connection may be opened.
pub(super) struct Primaries {
    names: Vec<String>,
    state: Mutex<Knowledge>,
    has_changed: Condvar,
}

#[derive(Default)]
struct Knowledge {
    known: Vec<HostState>,
    /// By host, why no connection may be opened to it.
    barred: Vec<Option<String>>,
    /// By host, why its connections were ended.
    left: Vec<Option<String>>,
    /// Two hosts that take changes, and whose timelines do not decide.
    doubt: Option<[usize; 2]>,
    /// The hosts that have said again, since the doubt began, that they take changes.
    confirmed: Vec<usize>,
    /// Until when connections wait for the first answers of all hosts; None after that.
    first_look: Option<Instant>,
    /// When connections to a host were last ended.
    left_at: Option<Instant>,
}

/// By host, why its connections are ended, or None if it may be used again.
pub(super) type Changes = Vec<(usize, Option<String>)>;

impl Primaries {
    pub(super) fn new(names: Vec<String>) -> Primaries {
        let nothing = vec![None; names.len()];
        let state = Knowledge {
            known: vec![HostState::Unasked; names.len()],
            barred: nothing.clone(),
            left: nothing,
            ..Knowledge::default()
        };
        Primaries { names, state: Mutex::new(state), has_changed: Condvar::new() }
    }

    /// Starts the wait for the first answers; call it before hosts are asked.
    pub(super) fn begin(&self) {
        self.state.lock().first_look = Some(Instant::now() + FIRST_LOOK_MAX);
    }

    /// Waits until every host was asked once, or the time is over; not at all if none is asked.
    pub(super) fn wait_for_the_first_look(&self) {
        let mut state = self.state.lock();
        while let Some(until) = state.first_look {
            let all = !state.known.contains(&HostState::Unasked);
            if all || self.has_changed.wait_until(&mut state, until).timed_out() {
                state.first_look = None;
            }
        }
    }

    pub(super) fn is_unasked(&self, host: usize) -> bool {
        self.state.lock().known[host] == HostState::Unasked
    }

    /// Whether a connection to this host may be opened.
    ///
    /// # Errors
    /// The reason why not.
    pub(super) fn admit(&self, host: usize) -> Result<(), Error> {
        match &self.state.lock().barred[host] {
            Some(reason) => Err(Error::unsent(reason.clone())),
            None => Ok(()),
        }
    }

    /// Whether a host was left since this instant: a connection opened before may lead to it.
    pub(super) fn has_left_since(&self, opened: Instant) -> bool {
        self.state.lock().left_at.is_some_and(|left| opened <= left)
    }

    /// Notes a host's answer, and returns what it changes for each host.
    pub(super) fn note(&self, host: usize, known: HostState) -> Changes {
        let mut state = self.state.lock();
        state.known[host] = known;
        let left = state.settle(host, &self.names);
        let before = std::mem::replace(&mut state.left, left.clone());
        let changes: Changes = (0..)
            .zip(before.into_iter().zip(left))
            .filter(|(_, (before, now))| before != now)
            .map(|(host, (_, now))| (host, now))
            .collect();
        if changes.iter().any(|(_, reason)| reason.is_some()) {
            state.left_at = Some(Instant::now());
        }
        self.has_changed.notify_all();
        changes
    }

    /// What is known of a host that does not answer; `has_ended` if no server listens there.
    pub(super) fn last_known(&self, host: usize, has_ended: bool) -> HostState {
        let known = self.state.lock().known[host];
        match known.server() {
            Some(server) if has_ended || known == HostState::Ended(server) => {
                HostState::Ended(server)
            }
            Some(server) => HostState::Took(server),
            None => HostState::Nothing,
        }
    }
}

impl Knowledge {
    /// Decides again, after this host's answer, which hosts are barred; returns, by host, why its
    /// connections are to be ended. In a doubt both hosts are asked again first: if they are two
    /// names of one server that was just restarted, one answer may be older than the restart.
    fn settle(&mut self, host: usize, names: &[String]) -> Vec<Option<String>> {
        let Some(two) = self.undecided() else {
            self.doubt = None;
            self.confirmed.clear();
            self.barred = self.known.iter().map(|known| self.outdated(known)).collect();
            return self.barred.clone();
        };
        let [one, other] = two.map(|host| &names[host]);
        let reason = format!(
            "{one} and {other} both take changes, and neither was promoted after the other: stop \
             one of them, or take it out of DATABASE_URL; where its machine is switched off, \
             restart the replicas, too"
        );
        self.barred = vec![Some(reason); names.len()];
        let takes = matches!(self.known[host], HostState::Takes(_));
        if self.doubt.replace(two) != Some(two) {
            self.confirmed.clear();
        } else if takes && !self.confirmed.contains(&host) {
            self.confirmed.push(host);
        }
        match two.iter().all(|host| self.confirmed.contains(host)) {
            true => self.barred.clone(),
            false => self.left.clone(),
        }
    }

    /// Two hosts that take changes, and whose timelines do not decide which is right.
    fn undecided(&self) -> Option<[usize; 2]> {
        // A host that stops answering does not end a doubt.
        let doubted = |host| self.doubt.is_some_and(|two| two.contains(&host));
        let taking = self.known.iter().enumerate().filter_map(|(host, known)| match known {
            HostState::Takes(server) => Some((host, *server)),
            HostState::Took(server) if doubted(host) => Some((host, *server)),
            _ => None,
        });
        let taking: Vec<(usize, Server)> = taking.collect();
        let is_surpassed = |one: &Server| {
            let is_later =
                |other: &Server| other.system == one.system && other.timeline > one.timeline;
            taking.iter().any(|(_, other)| is_later(other))
        };
        let best: Vec<_> = taking.iter().filter(|(_, one)| !is_surpassed(one)).collect();
        for (place, (host, one)) in best.iter().enumerate() {
            let is_another = |(_, other): &&&(usize, Server)| one.started != other.started;
            if let Some((other, _)) = best[place + 1..].iter().find(is_another) {
                return Some([*host, *other]);
            }
        }
        None
    }

    /// Why the server is outdated: another has a higher timeline, and is not known to be a standby.
    fn outdated(&self, known: &HostState) -> Option<String> {
        let server = known.server()?;
        let others = self.known.iter().filter_map(HostState::server);
        let highest = others.filter(|other| other.system == server.system);
        let (timeline, highest) = (server.timeline, highest.map(|other| other.timeline).max()?);
        (timeline < highest).then(|| {
            format!(
                "another server was promoted in its place: its timeline is {timeline}, and \
                 {highest} was seen; if it is the right one all the same, let the other follow \
                 it, or restart the replicas"
            )
        })
    }
}

impl HostState {
    /// The server that takes changes, or took them when it last answered.
    fn server(&self) -> Option<Server> {
        match self {
            HostState::Takes(server) | HostState::Took(server) | HostState::Ended(server) => {
                Some(*server)
            }
            HostState::Unasked | HostState::Nothing => None,
        }
    }
}

#[cfg(test)]
mod tests;
