//! Where the database is, and how it is to prove that it is the right one.

use std::fs;

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

/// The certificates in a PEM file. A bundle of public authorities may hold some of a form that is
/// not supported: those are left out, unless nothing remains.
fn authorities(file: &str) -> Result<RootCertStore, String> {
    let unusable = |reason: &dyn std::fmt::Display| {
        format!("given an sslrootcert that can be used: {file}: {reason}")
    };
    let text = fs::read(file).map_err(|error| unusable(&error))?;
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(&error))?;
    let mut authorities = RootCertStore::empty();
    authorities.add_parsable_certificates(certificates);
    match authorities.is_empty() {
        true => Err(unusable(&"it holds no certificate in PEM form")),
        false => Ok(authorities),
    }
}
