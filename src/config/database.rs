//! Where the database is, and how it is to prove that it is the right one.

use std::fs;

use nix::unistd::{User, getuid};
use postgres::config::{Host, SslMode, SslNegotiation};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::fault::{reason_without_secret, without_secret};
use super::tls::{Check, Demand, Words};

/// What `DATABASE_URL` says.
#[derive(Clone, Default)]
pub struct Database {
    /// Where it is, how to log in and whether to encrypt; without any of this program's limits.
    pub parameters: postgres::Config,
    /// What its certificate has to prove.
    pub proof: Proof,
}

/// What a server's certificate has to prove where the connection is encrypted.
#[derive(Clone, Debug, Default)]
pub enum Proof {
    /// Nothing.
    #[default]
    None,
    /// That one of these authorities stands behind it.
    Chain(RootCertStore),
    /// The same, and that it is for the host that was asked for.
    ChainAndName(RootCertStore),
}

impl Database {
    /// Reads a URL or a key=value string; else the rule that it breaks.
    pub(super) fn read(text: &str) -> Result<Database, String> {
        let words = Words::take(text);
        let mut parameters = words.rest.parse::<postgres::Config>().map_err(|error| {
            let shown = without_secret("DATABASE_URL", text);
            let reason = reason_without_secret(&super::chain(&error), &shown);
            format!("a PostgreSQL URL or key=value string ({reason})")
        })?;
        // The driver goes to the address where one is given, even beside a socket folder.
        let is_addressed = !parameters.get_hostaddrs().is_empty();
        let is_socket = |host: &Host| matches!(host, Host::Unix(_)) && !is_addressed;
        let sockets = parameters.get_hosts().iter().filter(|host| is_socket(host)).count();
        let hosts = parameters.get_hosts().len().max(parameters.get_hostaddrs().len());
        if hosts == 0 {
            return Err("one that names a host (or a socket folder)".to_owned());
        }
        if parameters.get_user().is_none() && !has_a_name() {
            // In a container, say; the driver would fail at every try, and not say why.
            return Err("one that names a user: the one that runs this has no name".to_owned());
        }
        let addresses = parameters.get_hostaddrs().len();
        if addresses > 0 && ![0, addresses].contains(&parameters.get_hosts().len()) {
            return Err("one with as many addresses in hostaddr as it has hosts".to_owned());
        }
        if ![0, 1, hosts].contains(&parameters.get_ports().len()) {
            return Err("one with one port for all hosts, or one for each".to_owned());
        }
        if sockets == hosts {
            // As in libpq: no server offers TLS there, and nobody but its own host can listen in.
            parameters.ssl_mode(SslMode::Disable).ssl_negotiation(SslNegotiation::Postgres);
            return Ok(Database { parameters, proof: Proof::None });
        }
        let Demand { mode, check } = words.demand()?;
        if sockets > 0 && mode == SslMode::Require {
            let rule = "of hosts alone, or of socket folders alone: there is no TLS over a socket";
            return Err(rule.to_owned());
        }
        if parameters.get_ssl_negotiation() == SslNegotiation::Direct && mode != SslMode::Require {
            let rule = "given sslmode=require or stronger for its sslnegotiation=direct";
            return Err(rule.to_owned());
        }
        parameters.ssl_mode(mode);
        // A password may stand there, behind a `?` that should have been a `&`.
        let shown = without_secret("DATABASE_URL", text);
        let authorities = |file: &str| {
            authorities(file).map_err(|reason| match shown.contains(file) {
                true => format!("given an sslrootcert that can be used: {file}: {reason}"),
                false => format!("given an sslrootcert that can be used: {reason}"),
            })
        };
        let proof = match check {
            None => Proof::None,
            Some((Check::Chain, file)) => Proof::Chain(authorities(&file)?),
            Some((Check::ChainAndName, file)) => Proof::ChainAndName(authorities(&file)?),
        };
        Ok(Database { parameters, proof })
    }

    /// Whether every connection is encrypted and yet may be to anybody.
    pub fn is_encrypted_only(&self) -> bool {
        let encrypted = self.parameters.get_ssl_mode() == SslMode::Require;
        encrypted && matches!(self.proof, Proof::None)
    }
}

/// Whether the system knows a name of the user that runs this.
fn has_a_name() -> bool {
    User::from_uid(getuid()).is_ok_and(|user| user.is_some())
}

/// The certificates in a PEM file. A bundle of public authorities may hold some of a form that is
/// not supported: those are left out, unless nothing remains.
fn authorities(file: &str) -> Result<RootCertStore, String> {
    let text = fs::read(file).map_err(|error| error.to_string())?;
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    let mut authorities = RootCertStore::empty();
    authorities.add_parsable_certificates(certificates);
    match authorities.is_empty() {
        true => Err("it holds no certificate in PEM form".to_owned()),
        false => Ok(authorities),
    }
}
