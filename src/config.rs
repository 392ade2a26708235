//! Settings: read once from the environment, through a look-up closure. All faults are reported,
//! not only the first. Only this module checks how settings fit together.

mod database;
mod fault;
mod help;
mod origin;
mod password;
mod setting;
mod tls;
mod tokens;
mod words;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

pub use database::{Database, Proof, ROOT_FILES, authorities};
pub(crate) use fault::chain;
pub use fault::{Fault, Faults};
pub use help::help;
pub use origin::Origin;
pub use password::Passwords;
pub use setting::{SETTINGS, Setting};
pub use tokens::{Scope, Token, Tokens, new_token, read_text};

/// All settings of a replica.
#[derive(Clone)]
pub struct Config {
    /// Where the database is, how to log in, and what its certificate must prove.
    pub database: Database,
    /// The address and port that serve HTTP; port 0 takes any free port.
    pub listen_addr: SocketAddr,
    /// The name shown as `server`; by default the host's name and the port.
    pub replica_name: String,
    /// The number of threads that work on requests, 1 to 1000.
    pub http_workers: usize,
    /// The largest number of database connections that requests share, 1 to 1000.
    pub db_pool_size: u32,
    /// The bearer tokens of which a request must have one; if there are none, it needs none.
    pub tokens: Arc<Tokens>,
    /// Whether reading needs no token, although there are some.
    pub open_reads: bool,
    /// Whether the ledger keeps the name of the token by which a balance was changed.
    pub record_actor: bool,
    /// Whose pages may change something, besides the own ones.
    pub trusted_origins: Vec<Origin>,
    /// Whether this replica claims jobs.
    pub cron_enabled: bool,
    /// How long a claim holds without a renewal.
    pub cron_lease: Duration,
    /// How long a replica that holds one job leaves the next due job to other replicas.
    pub cron_handicap: Duration,
    /// The mean time between two searches for due jobs.
    pub cron_poll: Duration,
    /// The most runs that this replica holds at a time, at least 1; none: any number.
    pub cron_max_runs: Option<usize>,
    /// The longest time a request may wait before it is sent to the database.
    pub request_timeout: Duration,
    /// The least time that each run of a sample job takes.
    pub job_min: Duration,
    /// How long finished runs are kept, in days.
    pub run_history_days: u32,
    /// The longest time a shutdown waits for requests and runs to end.
    pub shutdown_grace: Duration,
    /// The least severe level that is logged.
    pub log_level: log::LevelFilter,
}

impl Config {
    /// Reads every setting through `look_up`, which returns the value of an environment variable.
    ///
    /// # Errors
    /// All faults together, each with the variable, its value (never a secret) and the rule.
    pub fn read(look_up: impl Fn(&str) -> Option<String>) -> Result<Config, Faults> {
        let mut reader = Reader { look_up, faults: Vec::new() };
        let database = reader.database();
        let listen_addr = reader.parsed(
            "LISTEN_ADDR",
            "an IP address and a port, such as 127.0.0.1:3001",
            SocketAddr::from(([127, 0, 0, 1], 0)),
        );
        let config = Config {
            database: database.unwrap_or_default(),
            listen_addr,
            replica_name: reader.replica_name(listen_addr),
            cron_enabled: reader.flag("CRON_ENABLED"),
            cron_lease: Duration::from_secs(reader.number("CRON_LEASE_SECONDS", 3, 3_600)),
            cron_handicap: Duration::from_millis(reader.number("CRON_HANDICAP_MS", 0, 60_000)),
            cron_poll: Duration::from_millis(reader.number("CRON_POLL_MS", 10, 60_000)),
            cron_max_runs: reader.number_if_set("CRON_MAX_RUNS", 1, 1_000_000),
            http_workers: reader.number("HTTP_WORKERS", 1, 1_000),
            db_pool_size: reader.number("DB_POOL_SIZE", 1, 1_000),
            tokens: Arc::new(reader.tokens()),
            open_reads: reader.flag("OPEN_READS"),
            record_actor: reader.flag("RECORD_ACTOR"),
            trusted_origins: reader.origins(),
            request_timeout: Duration::from_secs(reader.number(
                "REQUEST_TIMEOUT_SECONDS",
                1,
                3_600,
            )),
            job_min: Duration::from_secs(reader.number("JOB_MIN_SECONDS", 0, 86_400)),
            run_history_days: reader.number("RUN_HISTORY_DAYS", 1, 36_500),
            shutdown_grace: Duration::from_secs(reader.number("SHUTDOWN_GRACE_SECONDS", 1, 3_600)),
            log_level: reader.parsed(
                "LOG_LEVEL",
                "off, error, warn, info, debug or trace",
                log::LevelFilter::Info,
            ),
        };
        reader.relations(&config);
        if reader.faults.is_empty() { Ok(config) } else { Err(Faults(reader.faults)) }
    }
}

struct Reader<L> {
    look_up: L,
    faults: Vec<Fault>,
}

impl<L: Fn(&str) -> Option<String>> Reader<L> {
    /// The value or the default. An empty variable counts as unset: compose files set such ones.
    fn text(&self, name: &'static str) -> Option<String> {
        let set = (self.look_up)(name).map(|value| value.trim().to_owned());
        set.filter(|value| !value.is_empty()).or_else(|| setting::default_of(name))
    }

    fn fault(&mut self, name: &'static str, value: &str, rule: String) {
        self.faults.push(Fault { name, value: fault::without_secret(name, value), rule });
    }

    fn number<N>(&mut self, name: &'static str, least: N, most: N) -> N
    where
        N: FromStr + PartialOrd + std::fmt::Display + Copy,
    {
        let text = self.text(name).unwrap_or_default();
        match text.parse::<N>() {
            Ok(number) if number >= least && number <= most => number,
            _ => {
                self.fault(name, &text, format!("a whole number from {least} to {most}"));
                least
            }
        }
    }

    fn number_if_set<N>(&mut self, name: &'static str, least: N, most: N) -> Option<N>
    where
        N: FromStr + PartialOrd + std::fmt::Display + Copy,
    {
        self.text(name).map(|_| self.number(name, least, most))
    }

    /// Reads a value for which the reading of its type is the whole rule.
    fn parsed<T: FromStr>(&mut self, name: &'static str, rule: &str, otherwise: T) -> T {
        let text = self.text(name).unwrap_or_default();
        text.parse().unwrap_or_else(|_| {
            self.fault(name, &text, rule.to_owned());
            otherwise
        })
    }

    fn flag(&mut self, name: &'static str) -> bool {
        let text = self.text(name).unwrap_or_default();
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => true,
            "false" | "0" | "no" | "off" => false,
            _ => {
                self.fault(name, &text, "true or false".to_owned());
                false
            }
        }
    }

    fn database(&mut self) -> Option<Database> {
        let name = "DATABASE_URL";
        let Some(text) = self.text(name) else {
            let rule = "required: a PostgreSQL URL, such as \
                        postgresql://user:password@localhost:5432/balanced";
            self.fault(name, "", rule.to_owned());
            return None;
        };
        let read = Database::read(&text, &self.look_up);
        read.map_err(|rule| self.fault(name, &text, rule)).ok()
    }

    /// The name is used in a header, a log line and a column, so it must be short and plain.
    fn replica_name(&mut self, listen_addr: SocketAddr) -> String {
        let name = "REPLICA_NAME";
        let host = || {
            let host = nix::unistd::gethostname().ok().and_then(|host| host.into_string().ok());
            format!("{}:{}", host.as_deref().unwrap_or("localhost"), listen_addr.port())
        };
        let text = self.text(name).unwrap_or_else(host);
        let plain = |c: char| c.is_ascii_alphanumeric() || "._:-".contains(c);
        if text.len() > 100 || !text.chars().all(plain) {
            let rule = "1 to 100 letters, digits, dots, colons, hyphens or underscores";
            self.fault(name, &text, rule.to_owned());
        }
        text
    }

    fn token(&mut self) -> Option<Token> {
        let name = "API_TOKEN";
        let text = self.text(name)?;
        if text.len() < 8 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let rule = "at least 8 printable characters without a space";
            self.fault(name, &text, rule.to_owned());
        }
        Some(Token::own(&text))
    }

    fn tokens(&mut self) -> Tokens {
        let own = self.token();
        let file = self.text("API_TOKENS_FILE").map(PathBuf::from);
        Tokens::read(own, file).unwrap_or_else(|Faults(faults)| {
            self.faults.extend(faults);
            Tokens::default()
        })
    }

    fn origins(&mut self) -> Vec<Origin> {
        let name = "TRUSTED_ORIGINS";
        let Some(text) = self.text(name) else { return Vec::new() };
        let origins: Option<_> = text.split(',').map(|one| Origin::parse(one.trim())).collect();
        origins.unwrap_or_else(|| {
            let rule = "schemes and hosts such as https://example.com or http://10.0.0.1:8080, \
                        with commas between them and no path";
            self.fault(name, &text, rule.to_owned());
            Vec::new()
        })
    }

    /// Checks settings that are each valid alone, but may not fit together.
    fn relations(&mut self, config: &Config) {
        let cron = |fault: &Fault| ["CRON_LEASE_SECONDS", "CRON_POLL_MS"].contains(&fault.name);
        if self.faults.iter().any(cron) {
            return;
        }
        let (lease, poll) = (config.cron_lease, config.cron_poll);
        if poll * 3 > lease {
            let rule = format!("at most a third of CRON_LEASE_SECONDS ({} s)", lease.as_secs());
            self.fault("CRON_POLL_MS", &poll.as_millis().to_string(), rule);
        }
    }
}

#[cfg(test)]
mod tests;
