//! One host of the database, and tries to connect to it, which may hang. The driver limits only the
//! time to open the socket: the kernel of a frozen server accepts the connection and stays silent.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::net::ToSocketAddrs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use postgres::Client;
use postgres::config::{Host as Named, SslMode, TargetSessionAttrs};
use postgres::error::SqlState;
use r2d2::ManageConnection;
use r2d2_postgres::PostgresConnectionManager;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::FromDatabase;
use super::cut::{self, Place};
use super::error::{Error, system_error};
use crate::random;

/// PostgreSQL's default port.
const PORT: u16 = 5432;
/// The driver needs this many to open a connection: the socket, and those of its event loop.
const DESCRIPTORS_TO_CONNECT: usize = 6;
/// The longest time that a server may take for the login, once it has accepted the connection.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// While this many tries hang, no other is started: a hanging try goes on when the server does.
const HANGING_MAX: usize = 4;
/// The pause after a failed try; each further failure doubles it. A random part of up to a half is
/// taken off, so that many replicas do not come back at the same time. Tries that ran at the same
/// time count as one.
const REST_MIN: Duration = Duration::from_millis(100);
const REST_MAX: Duration = Duration::from_millis(800);

/// The address of one server, and how to log in there.
pub(super) struct Host {
    parameters: postgres::Config,
    tls: MakeRustlsConnect,
    /// Tries that no thread waits for any more.
    hanging: AtomicUsize,
    rest: Mutex<Rest>,
    /// The addresses to which its connections may lead.
    places: Mutex<BTreeSet<Place>>,
}

/// The pause between two tries while they fail; of no length while they succeed.
struct Rest {
    length: Duration,
    /// When the try ended that decided it.
    begun: Instant,
    until: Instant,
    reason: String,
}

impl Host {
    /// `parameters` must name exactly one host.
    pub(super) fn new(parameters: postgres::Config, tls: MakeRustlsConnect) -> Host {
        let (rest, places) = (Mutex::new(Rest::none()), Mutex::default());
        Host { parameters, tls, hanging: AtomicUsize::default(), rest, places }
    }

    /// The same host, but a standby is accepted, too.
    pub(super) fn standby_or_not(&self) -> Host {
        let mut parameters = self.parameters.clone();
        parameters.target_session_attrs(TargetSessionAttrs::Any);
        Host::new(parameters, self.tls.clone())
    }

    /// The host and port, or the socket's path, as the URL names them.
    pub(super) fn name(&self) -> String {
        let port = self.port();
        match self.parameters.get_hosts().first() {
            Some(Named::Tcp(name)) => format!("{name}:{port}"),
            Some(Named::Unix(folder)) => socket_in(folder, port).display().to_string(),
            None => String::new(),
        }
    }

    /// The parameters, once for each address that the host's name has now. The addresses are also
    /// noted in `places`, because the name may have others the next time. If it has none, the
    /// driver is left to report that.
    fn located(&self) -> Vec<postgres::Config> {
        let port = self.port();
        let (mut located, mut found) = (Vec::new(), Vec::new());
        match (self.parameters.get_hosts().first(), self.parameters.get_hostaddrs().first()) {
            (_, Some(address)) => found.push(Place::Address(*address, port)),
            (Some(Named::Unix(folder)), _) => found.push(Place::of_file(&socket_in(folder, port))),
            (Some(Named::Tcp(name)), _) => {
                for address in (name.as_str(), port).to_socket_addrs().into_iter().flatten() {
                    let mut one = self.parameters.clone();
                    one.hostaddr(address.ip());
                    located.push(one);
                    found.push(Place::Address(address.ip(), port));
                }
            }
            (None, None) => {}
        }
        // The lock is taken only now, because the search for an address may take long.
        self.places.lock().extend(found);
        if located.is_empty() { vec![self.parameters.clone()] } else { located }
    }

    fn port(&self) -> u16 {
        self.parameters.get_ports().first().copied().unwrap_or(PORT)
    }

    /// Ends all connections to this host from outside of the driver, which would wait for a frozen
    /// server; false if that cannot be done now.
    pub(super) fn cut(&self) -> bool {
        let places = self.places.lock().clone();
        cut::all_connections_to(|place| places.contains(place))
    }

    /// Whether a try to connect hangs now.
    pub(super) fn hangs(&self) -> bool {
        self.hanging.load(Ordering::Acquire) > 0
    }

    /// Opens a connection and sends `pinned`, its session's settings. While tries fail, one is made
    /// after each pause, and other callers get the reason of the last failure.
    ///
    /// # Errors
    /// Those of the driver and the system; also if the server stays silent.
    pub(super) fn open(self: &Arc<Host>, pinned: String) -> Result<Client, Error> {
        let mut rest = self.rest.lock();
        let begun = Instant::now();
        if begun < rest.until {
            return Err(Error::unsent(rest.reason.clone()));
        }
        rest.until = begun + rest.length;
        drop(rest);
        let result = self.try_to_open(pinned);
        self.note(begun, result.as_ref().err());
        result
    }

    fn note(&self, begun: Instant, error: Option<&Error>) {
        let mut rest = self.rest.lock();
        match error.filter(|error| error.is_of_a_server_that_is_away()) {
            // A running server that is full can accept a login as soon as another client leaves.
            None => *rest = Rest::none(),
            // Another try has succeeded, or failed later, since this try began.
            Some(_) if rest.begun > begun => {}
            Some(error) => *rest = rest.after(error.reason()),
        }
    }

    /// Runs the try in a thread of its own, which is left behind if the try hangs.
    fn try_to_open(self: &Arc<Host>, pinned: String) -> Result<Client, Error> {
        if self.hanging.load(Ordering::Acquire) >= HANGING_MAX {
            return Err(silent());
        }
        // Without room in the channel, a result is sent only to a thread that takes it.
        let (ended, is_ended) = mpsc::sync_channel(0);
        let host = Arc::clone(self);
        let started = thread::Builder::new().name("connect".to_owned()).spawn(move || {
            let result = guarded(|| host.connect(&pinned));
            // If no thread waits for the try any more, its connection is closed.
            if let Err(unwanted) = ended.send(result) {
                host.hanging.fetch_sub(1, Ordering::AcqRel);
                drop(unwanted);
            }
        });
        started.map_err(|error| Error::unsent(format!("cannot connect: {error}")))?;
        let limit = self.parameters.get_connect_timeout().copied().unwrap_or_default();
        is_ended.recv_timeout(limit + HANDSHAKE_MAX).unwrap_or_else(|_| {
            // Counted before the channel closes, because the try counts itself out after that.
            self.hanging.fetch_add(1, Ordering::AcqRel);
            Err(silent())
        })
    }

    /// Connects to the first address that accepts us; else the error is of the first that answered.
    fn connect(&self, pinned: &str) -> Result<Client, Error> {
        let mut said = None;
        for located in self.located() {
            match self.connect_to(located, pinned).map_err(|error| Error::not_connected(&error)) {
                Ok(client) => return Ok(client),
                Err(error) if said.as_ref().is_none_or(Error::is_not_listening) => {
                    said = Some(error);
                }
                Err(_) => {}
            }
        }
        Err(said.unwrap_or_else(silent))
    }

    /// With sslmode=prefer, a server that offers TLS and then fails at it is tried again without
    /// TLS, as libpq does; the driver does not do this.
    fn connect_to(&self, located: postgres::Config, pinned: &str) -> FromDatabase<Client> {
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
    fn none() -> Rest {
        let now = Instant::now();
        Rest { length: Duration::ZERO, begun: now, until: now, reason: String::new() }
    }

    fn after(&self, reason: &str) -> Rest {
        let length = (self.length * 2).clamp(REST_MIN, REST_MAX);
        let part = random::fraction() / 2.0;
        let begun = Instant::now();
        Rest { length, begun, until: begun + length.mul_f64(1.0 - part), reason: reason.to_owned() }
    }
}

/// The path of the socket, with the file name that libpq gives it.
fn socket_in(folder: &Path, port: u16) -> PathBuf {
    folder.join(format!(".s.PGSQL.{port}"))
}

fn silent() -> Error {
    Error::unsent("cannot connect: the server takes connections and says nothing")
}

/// The TLS handshake failed, or the server refuses clients that use TLS.
fn may_be_for_tls(error: &postgres::Error) -> bool {
    if error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) {
        return true;
    }
    system_error(error).is_some_and(|source| {
        let broken_off = source.kind() == io::ErrorKind::UnexpectedEof;
        broken_off || source.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
    })
}

/// The driver panics if the system has no descriptor left, which would end the thread: the pool
/// would then wait for that connection for ever.
fn guarded(connect: impl FnOnce() -> Result<Client, Error>) -> Result<Client, Error> {
    let spare: io::Result<Vec<File>> =
        (0..DESCRIPTORS_TO_CONNECT).map(|_| File::open("/dev/null")).collect();
    spare.map(drop).map_err(|error| Error::unsent(format!("cannot connect: {error}")))?;
    match panic::catch_unwind(AssertUnwindSafe(connect)) {
        Ok(result) => result,
        Err(_) => Err(Error::unsent("cannot connect: the driver has panicked")),
    }
}
