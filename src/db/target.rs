//! The way to the database: where it is, what is trusted there, and the bounds of every try.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use postgres::Client;
use postgres::config::SslMode;
use postgres::error::SqlState;
use r2d2::ManageConnection;
use r2d2_postgres::PostgresConnectionManager;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::{Error, explain};
use super::trust::{Trust, connector};

/// Where and how to connect.
#[derive(Clone)]
pub struct Target {
    parameters: postgres::Config,
    tls: MakeRustlsConnect,
}

/// What the driver needs to open a connection: a socket, and those of its event loop.
const DESCRIPTORS_TO_CONNECT: usize = 6;

impl Target {
    /// `database` with this program's own bounds, wherever the URL is silent. A host that vanishes
    /// without a word would otherwise hold a statement for a quarter of an hour.
    ///
    /// # Errors
    /// When the library of TLS has no version that it thinks safe.
    pub fn new(
        database: &postgres::Config,
        trust: Trust,
        replica_name: &str,
    ) -> Result<Target, Error> {
        let mut parameters = database.clone();
        if parameters.get_connect_timeout().is_none() {
            parameters.connect_timeout(Duration::from_secs(2));
        }
        if parameters.get_tcp_user_timeout().is_none() {
            parameters.tcp_user_timeout(Duration::from_secs(5));
        }
        if parameters.get_keepalives_interval().is_none() {
            parameters.keepalives_idle(Duration::from_secs(5));
            parameters.keepalives_interval(Duration::from_secs(2));
            parameters.keepalives_retries(3);
        }
        if parameters.get_application_name().is_none() {
            parameters.application_name(&format!("balanced {replica_name}"));
        }
        if parameters.get_hosts().is_empty() {
            // The driver refuses TLS with a server that has an address alone.
            let addresses: Vec<IpAddr> = parameters.get_hostaddrs().to_vec();
            for address in addresses {
                parameters.host(&address.to_string());
            }
        }
        let tls = connector(trust).map_err(|error| Error::unsent(error.to_string()))?;
        Ok(Target { parameters, tls })
    }

    /// Opens one connection outside of the pool, without any limits of this program's.
    ///
    /// # Errors
    /// What the driver says, or the system.
    pub fn open(&self) -> Result<Client, Error> {
        guarded(|| self.connect())
    }

    /// Where TLS is only preferred, a server that offers it and then fails at it is asked again in
    /// plain text, as libpq does; the driver by itself gives up.
    fn connect(&self) -> Result<Client, postgres::Error> {
        let connect = |parameters: postgres::Config| {
            PostgresConnectionManager::new(parameters, self.tls.clone()).connect()
        };
        let preferred = self.parameters.get_ssl_mode() == SslMode::Prefer;
        match connect(self.parameters.clone()) {
            Err(error) if preferred && may_be_for_tls(&error) => {
                let mut plain = self.parameters.clone();
                plain.ssl_mode(SslMode::Disable);
                connect(plain)
            }
            result => result,
        }
    }
}

/// The handshake failed, or the server lets nobody in who comes over TLS.
fn may_be_for_tls(error: &postgres::Error) -> bool {
    if error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) {
        return true;
    }
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref());
    source.is_some_and(|source: &io::Error| {
        let broken_off = source.kind() == io::ErrorKind::UnexpectedEof;
        broken_off || source.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
    })
}

/// The driver panics where the system has no descriptor left for it, and takes down whose thread
/// it is: the pool would wait for that connection for ever.
fn guarded(connect: impl FnOnce() -> Result<Client, postgres::Error>) -> Result<Client, Error> {
    let spare: io::Result<Vec<File>> =
        (0..DESCRIPTORS_TO_CONNECT).map(|_| File::open("/dev/null")).collect();
    spare.map(drop).map_err(|error| Error::unsent(format!("cannot connect: {error}")))?;
    match panic::catch_unwind(AssertUnwindSafe(connect)) {
        Ok(result) => result.map_err(not_connected),
        Err(_) => Err(Error::unsent("cannot connect: the driver has panicked")),
    }
}

pub(super) fn not_connected(error: postgres::Error) -> Error {
    Error::unsent(format!("cannot connect: {}", explain(&error)))
}
