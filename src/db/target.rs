//! Where the database is and how to connect to it: hosts, TLS, and a time limit for each step.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use postgres::Client;
use postgres::config::{Host as Place, LoadBalanceHosts};

use super::error::Error;
use super::host::Host;
use super::limits::Limits;
use super::primary::Primaries;
use super::tls::connector;
use crate::config::Proof;
use crate::random;

/// The driver's own value if the URL has none.
const DRIVERS_IDLE: Duration = Duration::from_secs(2 * 60 * 60);

/// The hosts of the database, and how to log in there. Clones share what is known of the hosts.
#[derive(Clone)]
pub struct Target {
    /// In the order of the URL; at least one.
    pub(super) hosts: Arc<[Arc<Host>]>,
    any_order: bool,
    /// To which of the hosts no connection may be opened.
    pub(super) primaries: Arc<Primaries>,
}

impl Target {
    /// Adds this program's limits to `database` where the URL sets none, and each host's own
    /// password. Without these limits a host that vanishes silently would hold a statement for a
    /// quarter of an hour.
    ///
    /// # Errors
    /// If the TLS library has no version of TLS that it considers safe.
    pub fn new(
        database: &postgres::Config,
        passwords: &[Option<Vec<u8>>],
        proof: Proof,
        replica_name: &str,
    ) -> Result<Target, Error> {
        let mut parameters = database.clone();
        if parameters.get_connect_timeout().is_none() {
            parameters.connect_timeout(Duration::from_secs(2));
        }
        if parameters.get_tcp_user_timeout().is_none() {
            parameters.tcp_user_timeout(Duration::from_secs(5));
        }
        if parameters.get_keepalives_idle() == DRIVERS_IDLE {
            parameters.keepalives_idle(Duration::from_secs(5));
        }
        if parameters.get_keepalives_interval().is_none() {
            parameters.keepalives_interval(Duration::from_secs(2));
        }
        if parameters.get_keepalives_retries().is_none() {
            parameters.keepalives_retries(3);
        }
        if parameters.get_application_name().is_none() {
            parameters.application_name(&format!("balanced {replica_name}"));
        }
        if parameters.get_hosts().is_empty() {
            // The driver refuses TLS to a server that has an address but no name.
            let addresses: Vec<IpAddr> = parameters.get_hostaddrs().to_vec();
            for address in addresses {
                parameters.host(&address.to_string());
            }
        }
        let tls = connector(proof).map_err(|error| Error::unsent(error.to_string()))?;
        let count = parameters.get_hosts().len();
        let host = |index| {
            let own = passwords.get(index).and_then(Option::as_deref);
            Arc::new(Host::new(alone(&parameters, own, index), tls.clone()))
        };
        let any_order = parameters.get_load_balance_hosts() == LoadBalanceHosts::Random;
        Ok(Target::of((0..count).map(host).collect(), any_order))
    }

    fn of(hosts: Arc<[Arc<Host>]>, any_order: bool) -> Target {
        let names = hosts.iter().map(|host| host.name()).collect();
        Target { hosts, any_order, primaries: Arc::new(Primaries::new(names)) }
    }

    /// One of the hosts, be it a primary or a standby.
    pub(super) fn only(&self, host: usize) -> Target {
        Target::of([Arc::new(self.hosts[host].standby_or_not())].into(), false)
    }

    /// Opens a connection outside of the pool, to the first host that accepts it, and sets its
    /// session up with `mark`. Hosts that hang, or were not asked yet, are tried last.
    ///
    /// # Errors
    /// Those of the driver or the system at the last host that was tried, or why it is barred.
    pub fn open(&self, limits: Limits, mark: u64) -> Result<Client, Error> {
        self.primaries.wait_for_the_first_look();
        let first = if self.any_order { random::bits() as usize % self.hosts.len() } else { 0 };
        let mut hosts: Vec<usize> = (first..self.hosts.len()).chain(0..first).collect();
        hosts.sort_by_key(|host| self.hosts[*host].hangs() || self.primaries.is_unasked(*host));
        let mut result = Err(Error::unsent("no host is named"));
        for host in hosts {
            let admitted = || self.primaries.admit(host);
            let opened = admitted().and_then(|()| self.hosts[host].open(limits.pinned(mark)));
            // The host may have been barred while the connection was opened.
            result = opened.and_then(|client| admitted().map(|()| client));
            if result.is_ok() {
                break;
            }
        }
        result
    }
}

/// The same parameters with only one host, and its own password if it has one. They are copied,
/// because the driver cannot remove a host.
fn alone(all: &postgres::Config, own: Option<&[u8]>, index: usize) -> postgres::Config {
    let mut one = postgres::Config::new();
    all.get_user().map(|user| one.user(user));
    own.or(all.get_password()).map(|password| one.password(password));
    all.get_dbname().map(|name| one.dbname(name));
    all.get_options().map(|options| one.options(options));
    all.get_application_name().map(|name| one.application_name(name));
    one.ssl_mode(all.get_ssl_mode()).ssl_negotiation(all.get_ssl_negotiation());
    match all.get_hosts().get(index) {
        Some(Place::Tcp(name)) => one.host(name),
        Some(Place::Unix(folder)) => one.host_path(folder),
        None => &mut one,
    };
    all.get_hostaddrs().get(index).map(|address| one.hostaddr(*address));
    all.get_ports().get(index).or(all.get_ports().first()).map(|port| one.port(*port));
    all.get_connect_timeout().map(|limit| one.connect_timeout(*limit));
    all.get_tcp_user_timeout().map(|limit| one.tcp_user_timeout(*limit));
    one.keepalives(all.get_keepalives()).keepalives_idle(all.get_keepalives_idle());
    all.get_keepalives_interval().map(|interval| one.keepalives_interval(interval));
    all.get_keepalives_retries().map(|retries| one.keepalives_retries(retries));
    one.target_session_attrs(all.get_target_session_attrs());
    one.channel_binding(all.get_channel_binding());
    one
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> postgres::Config {
        text.parse().expect("a URL")
    }

    fn assert_same(one: &postgres::Config, other: &postgres::Config) {
        assert_eq!(format!("{one:?}"), format!("{other:?}"));
        assert_eq!(one.get_password(), other.get_password());
    }

    #[test]
    fn one_host_keeps_all_that_is_said_of_it() {
        let rest = "user=u password=p dbname=d options='-c a=b' application_name=n \
                    sslmode=require sslnegotiation=direct connect_timeout=7 tcp_user_timeout=8 \
                    keepalives=1 keepalives_idle=9 keepalives_interval=10 keepalives_retries=11 \
                    target_session_attrs=read-write channel_binding=require";
        let all = format!("host=a,b,/c hostaddr=127.0.0.1,127.0.0.2,127.0.0.3 port=1,2,3 {rest}");
        for (index, one) in [
            "host=a hostaddr=127.0.0.1 port=1",
            "host=b hostaddr=127.0.0.2 port=2",
            "host=/c hostaddr=127.0.0.3 port=3",
        ]
        .into_iter()
        .enumerate()
        {
            assert_same(&alone(&parsed(&all), None, index), &parsed(&format!("{one} {rest}")));
        }
        let shared = parsed("host=a,b port=6 user=u");
        assert_same(&alone(&shared, None, 1), &parsed("host=b port=6 user=u"));
        assert_same(&alone(&parsed("host=a,b"), Some(b"p"), 1), &parsed("host=b password=p"));
    }
}
