//! One host of the database, and tries to connect to it that may hang. The driver bounds the way to
//! the socket only: a server that is frozen takes the connection, by its kernel, and is silent.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use postgres::Client;
use postgres::config::{Host as Named, SslMode, TargetSessionAttrs};
use postgres::error::SqlState;
use r2d2::ManageConnection;
use r2d2_postgres::PostgresConnectionManager;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::cut::{self, Place};
use super::error::{Error, system_error};
use crate::random;

/// Where a server listens unless told.
const PORT: u16 = 5432;
/// What the driver needs to open a connection: a socket, and those of its event loop.
const DESCRIPTORS_TO_CONNECT: usize = 6;
/// The longest that a server may take to let somebody in, once it has taken the connection.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// While as many tries hang, no other is made: they go on when the server does.
const HANGING_MAX: usize = 4;
/// After a failure nobody tries again for so long, and after each further one for twice as long,
/// less a random part of up to a half: many replicas do not come back at one moment. Tries that
/// were under way together count as one.
const REST_MIN: Duration = Duration::from_millis(100);
const REST_MAX: Duration = Duration::from_millis(800);

/// Where one server is, and how to log in there.
pub(super) struct Host {
    parameters: postgres::Config,
    tls: MakeRustlsConnect,
    hanging: Arc<AtomicUsize>,
    rest: Mutex<Option<Rest>>,
    /// When somebody was last let in.
    opened: Mutex<Option<Instant>>,
    /// Where its connections may lead.
    places: Mutex<BTreeSet<Place>>,
}

/// The time between two tries, while they fail.
struct Rest {
    length: Duration,
    begun: Instant,
    until: Instant,
    reason: String,
}

/// A try that somebody waits for, and may cease to.
struct Try {
    state: Mutex<Progress>,
    ended: Condvar,
}

enum Progress {
    UnderWay,
    Ended(Box<Result<Client, Error>>),
    Abandoned,
}

impl Host {
    /// The parameters are to name one host.
    pub(super) fn new(parameters: postgres::Config, tls: MakeRustlsConnect) -> Host {
        let (rest, opened, places) = (Mutex::default(), Mutex::default(), Mutex::default());
        Host { parameters, tls, hanging: Arc::default(), rest, opened, places }
    }

    /// The same server, also where it takes no changes.
    pub(super) fn standby_or_not(&self) -> Host {
        let mut parameters = self.parameters.clone();
        parameters.target_session_attrs(TargetSessionAttrs::Any);
        Host::new(parameters, self.tls.clone())
    }

    /// As it is called in the URL.
    pub(super) fn name(&self) -> String {
        let port = self.port();
        match (self.parameters.get_hosts().first(), self.parameters.get_hostaddrs().first()) {
            (Some(Named::Tcp(name)), _) => format!("{name}:{port}"),
            (Some(Named::Unix(folder)), _) => socket_in(folder, port).display().to_string(),
            (None, Some(address)) => format!("{address}:{port}"),
            (None, None) => String::new(),
        }
    }

    /// The parameters with each of the addresses that its name has now, noted as places to which
    /// its connections may lead: a name may lead elsewhere the next time. Where it has none the
    /// driver finds the words for that.
    fn located(&self) -> Vec<postgres::Config> {
        let port = self.port();
        let mut located = Vec::new();
        let named = (self.parameters.get_hosts().first(), self.parameters.get_hostaddrs().first());
        let found: Vec<Place> = match named {
            (_, Some(address)) => vec![Place::Address(*address, port)],
            (Some(Named::Unix(folder)), _) => vec![Place::of_file(&socket_in(folder, port))],
            (Some(Named::Tcp(name)), _) => {
                let found = (name.as_str(), port).to_socket_addrs().into_iter().flatten();
                let addresses: Vec<IpAddr> = found.map(|found| found.ip()).collect();
                for address in &addresses {
                    let mut one = self.parameters.clone();
                    one.hostaddr(*address);
                    located.push(one);
                }
                addresses.into_iter().map(|address| Place::Address(address, port)).collect()
            }
            (None, None) => Vec::new(),
        };
        // Only now, since finding an address may take long.
        self.places.lock().extend(found);
        if located.is_empty() { vec![self.parameters.clone()] } else { located }
    }

    fn port(&self) -> u16 {
        self.parameters.get_ports().first().copied().unwrap_or(PORT)
    }

    /// Ends all connections to it from outside of the driver, which would wait for a frozen server;
    /// false where that cannot be done now.
    pub(super) fn cut(&self) -> bool {
        let places = self.places.lock().clone();
        cut::all_connections_to(|place| places.contains(place))
    }

    /// Whether a try to connect has hung, and still does.
    pub(super) fn hangs(&self) -> bool {
        self.hanging.load(Ordering::Acquire) > 0
    }

    /// Opens a connection and pins its session. While tries fail, one is made now and then, and the
    /// others are told what it has come to.
    ///
    /// # Errors
    /// What the driver says, or the system; and when the server says nothing.
    pub(super) fn open(self: &Arc<Host>, pinned: String) -> Result<Client, Error> {
        if let Some(rest) = self.rest.lock().as_mut() {
            if Instant::now() < rest.until {
                return Err(Error::unsent(rest.reason.clone()));
            }
            rest.until = Instant::now() + rest.length;
        }
        let begun = Instant::now();
        let result = self.try_to_open(pinned);
        self.note(begun, result.as_ref().err());
        result
    }

    fn note(&self, begun: Instant, error: Option<&Error>) {
        let (mut rest, mut opened) = (self.rest.lock(), self.opened.lock());
        match error {
            None => {
                *opened = Some(Instant::now());
                *rest = None;
            }
            // A server that is there and has no place left has one the moment that somebody leaves.
            Some(error) if !error.is_of_a_server_that_is_away() => *rest = None,
            // Somebody was let in, or another failure was noted, since this try began.
            Some(_) if opened.is_some_and(|opened| opened > begun) => {}
            Some(_) if rest.as_ref().is_some_and(|rest| rest.begun > begun) => {}
            Some(error) => *rest = Some(Rest::after(rest.as_ref(), error.reason())),
        }
    }

    /// In a thread that is left behind if it hangs.
    fn try_to_open(self: &Arc<Host>, pinned: String) -> Result<Client, Error> {
        if self.hanging.load(Ordering::Acquire) >= HANGING_MAX {
            return Err(silent());
        }
        let connecting =
            Arc::new(Try { state: Mutex::new(Progress::UnderWay), ended: Condvar::new() });
        let (host, theirs) = (Arc::clone(self), Arc::clone(&connecting));
        let started = thread::Builder::new().name("connect".to_owned()).spawn(move || {
            let result = guarded(|| host.connect(&pinned));
            theirs.end(result, &host.hanging);
        });
        started.map_err(|error| Error::unsent(format!("cannot connect: {error}")))?;
        let limit = self.parameters.get_connect_timeout().copied().unwrap_or_default();
        connecting.wait(Instant::now() + limit + HANDSHAKE_MAX, &self.hanging)
    }

    /// To the first of its addresses that lets us in; else what was said first, where anybody was.
    fn connect(&self, pinned: &str) -> Result<Client, Error> {
        let mut said = None;
        for located in self.located() {
            match self.connect_to(located, pinned).map_err(|error| Error::not_connected(&error)) {
                Ok(client) => return Ok(client),
                Err(error) if said.as_ref().is_none_or(Error::is_of_nobody) => said = Some(error),
                Err(_) => {}
            }
        }
        Err(said.unwrap_or_else(silent))
    }

    /// Where TLS is only preferred, a server that offers it and then fails at it is asked again in
    /// plain text, as libpq does; the driver by itself gives up.
    fn connect_to(
        &self,
        located: postgres::Config,
        pinned: &str,
    ) -> Result<Client, postgres::Error> {
        let connect = |parameters: postgres::Config| {
            PostgresConnectionManager::new(parameters, self.tls.clone()).connect()
        };
        let preferred = self.parameters.get_ssl_mode() == SslMode::Prefer;
        let mut client = match connect(located.clone()) {
            Err(error) if preferred && may_be_for_tls(&error) => {
                let mut plain = located;
                plain.ssl_mode(SslMode::Disable);
                connect(plain)
            }
            result => result,
        }?;
        client.batch_execute(pinned)?;
        Ok(client)
    }
}

impl Rest {
    fn after(last: Option<&Rest>, reason: &str) -> Rest {
        let length = last.map_or(REST_MIN, |last| REST_MAX.min(last.length * 2));
        let part = random::fraction() / 2.0;
        let begun = Instant::now();
        Rest { length, begun, until: begun + length.mul_f64(1.0 - part), reason: reason.to_owned() }
    }
}

impl Try {
    fn wait(&self, until: Instant, hanging: &AtomicUsize) -> Result<Client, Error> {
        let mut state = self.state.lock();
        while matches!(*state, Progress::UnderWay) {
            if self.ended.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        match std::mem::replace(&mut *state, Progress::Abandoned) {
            Progress::Ended(result) => *result,
            Progress::UnderWay | Progress::Abandoned => {
                hanging.fetch_add(1, Ordering::AcqRel);
                Err(silent())
            }
        }
    }

    /// A connection that nobody waits for any more is closed.
    fn end(&self, result: Result<Client, Error>, hanging: &AtomicUsize) {
        let mut state = self.state.lock();
        if matches!(*state, Progress::Abandoned) {
            hanging.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        *state = Progress::Ended(Box::new(result));
        self.ended.notify_one();
    }
}

/// As libpq names it.
fn socket_in(folder: &Path, port: u16) -> PathBuf {
    folder.join(format!(".s.PGSQL.{port}"))
}

fn silent() -> Error {
    Error::unsent("cannot connect: the server takes connections and says nothing")
}

/// The handshake failed, or the server lets nobody in who comes over TLS.
fn may_be_for_tls(error: &postgres::Error) -> bool {
    if error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) {
        return true;
    }
    system_error(error).is_some_and(|source| {
        let broken_off = source.kind() == io::ErrorKind::UnexpectedEof;
        broken_off || source.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
    })
}

/// The driver panics where the system has no descriptor left for it, and takes down whose thread
/// it is: the pool would wait for that connection for ever.
fn guarded(connect: impl FnOnce() -> Result<Client, Error>) -> Result<Client, Error> {
    let spare: io::Result<Vec<File>> =
        (0..DESCRIPTORS_TO_CONNECT).map(|_| File::open("/dev/null")).collect();
    spare.map(drop).map_err(|error| Error::unsent(format!("cannot connect: {error}")))?;
    match panic::catch_unwind(AssertUnwindSafe(connect)) {
        Ok(result) => result,
        Err(_) => Err(Error::unsent("cannot connect: the driver has panicked")),
    }
}
