//! Where the database is, and what its certificate must prove.

use std::fs;

use nix::unistd::{User, getuid};
use postgres::config::{Host, SslMode, SslNegotiation};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::fault::{chain, reason_without_secret, without_secret};
use super::password::Passwords;
use super::tls::{Check, Demand};
use super::words::{Words, is_url};

/// What `DATABASE_URL` says, and passwords from elsewhere if it has none.
#[derive(Clone, Default)]
pub struct Database {
    /// The hosts, the login and whether to encrypt, without this program's time limits.
    pub parameters: postgres::Config,
    /// The password of each host, if `parameters` have none.
    pub passwords: Passwords,
    /// What a server's certificate must prove.
    pub proof: Proof,
}

/// What a server's certificate must prove if the connection is encrypted.
#[derive(Clone, Debug, Default)]
pub enum Proof {
    /// Nothing: any certificate is accepted.
    #[default]
    None,
    /// That it was issued by one of these authorities, directly or through others.
    Chain(RootCertStore),
    /// The same, and that it names the host that was asked for.
    ChainAndName(RootCertStore),
}

impl Database {
    /// Reads a URL or a key=value string; `look_up` returns environment variables, for a password
    /// if there is none in it. The error is the rule that the text breaks.
    pub(super) fn read(
        text: &str,
        look_up: impl Fn(&str) -> Option<String>,
    ) -> Result<Database, String> {
        let words = Words::take(text)?;
        let mut parameters = words.rest.parse::<postgres::Config>().map_err(|error| {
            let shown = without_secret("DATABASE_URL", text);
            let reason = reason_without_secret(&chain(&error), &shown);
            // If a password contains '@' and '?', its end is read as part of the query.
            let hint = match is_url(text) && text.matches('@').count() > 1 {
                true => "; an '@' of a password? percent-encode it: %40",
                false => "",
            };
            format!("a PostgreSQL URL or key=value string ({reason}{hint})")
        })?;
        words.apply(&mut parameters)?;
        check_places(&parameters)?;
        let Some(user) = parameters.get_user().map(str::to_owned).or_else(system_user) else {
            // For example in a container. The driver would fail at every try without saying why.
            return Err("one that names a user: the one that runs this has no name".to_owned());
        };
        let proof = Proof::of(&words, text, &mut parameters)?;
        let passwords = Passwords::find(&mut parameters, &user, look_up);
        Ok(Database { parameters, passwords, proof })
    }

    /// Whether every connection is encrypted, but no certificate is verified.
    pub fn is_encrypted_only(&self) -> bool {
        let encrypted = self.parameters.get_ssl_mode() == SslMode::Require;
        encrypted && matches!(self.proof, Proof::None)
    }
}

impl Proof {
    /// What the TLS options demand; also tells the driver whether to encrypt.
    fn of(words: &Words, text: &str, parameters: &mut postgres::Config) -> Result<Proof, String> {
        // If an address is given, the driver connects to it, even beside a socket folder.
        let is_addressed = !parameters.get_hostaddrs().is_empty();
        let is_socket = |host: &Host| matches!(host, Host::Unix(_)) && !is_addressed;
        let sockets = parameters.get_hosts().iter().filter(|host| is_socket(host)).count();
        let hosts = parameters.get_hosts().len().max(parameters.get_hostaddrs().len());
        if sockets == hosts {
            // As in libpq: no server offers TLS over a socket, and no other machine can listen in.
            parameters.ssl_mode(SslMode::Disable).ssl_negotiation(SslNegotiation::Postgres);
            return Ok(Proof::None);
        }
        let Demand { mode, check } = Demand::of(words)?;
        if sockets > 0 && mode == SslMode::Require {
            let rule = "of hosts alone, or of socket folders alone: there is no TLS over a socket";
            return Err(rule.to_owned());
        }
        if parameters.get_ssl_negotiation() == SslNegotiation::Direct && mode != SslMode::Require {
            let rule = "given sslmode=require or stronger for its sslnegotiation=direct";
            return Err(rule.to_owned());
        }
        parameters.ssl_mode(mode);
        // The name may contain a password, after a `?` that should have been a `&`.
        let shown = without_secret("DATABASE_URL", text);
        let authorities = |file: &str| {
            authorities(file).map_err(|reason| match shown.contains(file) {
                true => format!("given an sslrootcert that can be used: {file}: {reason}"),
                false => format!("given an sslrootcert that can be used: {reason}"),
            })
        };
        Ok(match check {
            None => Proof::None,
            Some((Check::Chain, file)) => Proof::Chain(authorities(&file)?),
            Some((Check::ChainAndName, file)) => Proof::ChainAndName(authorities(&file)?),
        })
    }
}

/// Checks that the numbers of hosts, addresses and ports fit together, as the driver needs it.
fn check_places(parameters: &postgres::Config) -> Result<(), String> {
    let addresses = parameters.get_hostaddrs().len();
    let hosts = parameters.get_hosts().len().max(addresses);
    if hosts == 0 {
        return Err("one that names a host (or a socket folder)".to_owned());
    }
    if addresses > 0 && ![0, addresses].contains(&parameters.get_hosts().len()) {
        return Err("one with as many addresses in hostaddr as it has hosts".to_owned());
    }
    if ![0, 1, hosts].contains(&parameters.get_ports().len()) {
        return Err("one with one port for all hosts, or one for each".to_owned());
    }
    Ok(())
}

/// None if the system has no name for the user that runs this program.
fn system_user() -> Option<String> {
    User::from_uid(getuid()).ok().flatten().map(|user| user.name)
}

/// Where distributions have the public authorities: Debian, Fedora, Alpine.
pub const ROOT_FILES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Reads the certificates in a PEM file. A bundle of public authorities may contain some of an
/// unsupported form; these are left out, and only a file without any other is an error.
///
/// # Errors
/// Why the file cannot be used.
pub fn authorities(file: &str) -> Result<RootCertStore, String> {
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
