//! The list of settings: the only place that has their names, defaults and meanings.

/// One variable of the environment.
pub struct Setting {
    /// The name of the variable; unique.
    pub name: &'static str,
    /// The value if the variable is unset; empty if there is no default.
    pub default: &'static str,
    /// One line of English for `--help`.
    pub meaning: &'static str,
}

const fn setting(name: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting { name, default, meaning }
}

/// Every setting, in the order in which `--help` prints them.
pub const SETTINGS: &[Setting] = &[
    setting(
        "DATABASE_URL",
        "",
        "required: PostgreSQL URL or key=value string; several hosts, sslmode, sslrootcert work; \
         PGPASSWORD or ~/.pgpass may have the password",
    ),
    setting("LISTEN_ADDR", "127.0.0.1:3001", "where HTTP is served; port 0 takes any free port"),
    setting("REPLICA_NAME", "", "shown as `server`; the host's name and the port when unset"),
    setting("HTTP_WORKERS", "8", "threads that handle requests"),
    setting(
        "DB_POOL_SIZE",
        "8",
        "database connections that requests share; up to 5 more are opened",
    ),
    setting(
        "API_TOKEN",
        "",
        "when set, requests need `Authorization: Bearer <token>`; it allows everything",
    ),
    setting(
        "API_TOKENS_FILE",
        "",
        "a file of more tokens: see `balanced token`; send SIGHUP to have it read again",
    ),
    setting("OPEN_READS", "false", "whether reading needs no token although there are some"),
    setting("RECORD_ACTOR", "false", "whether the ledger keeps the name of the token"),
    setting(
        "TRUSTED_ORIGINS",
        "",
        "origins whose pages may change something, besides the own one: \
         https://example.com,http://10.0.0.1:8080",
    ),
    setting("CRON_ENABLED", "true", "whether this replica runs jobs"),
    setting("CRON_LEASE_SECONDS", "15", "how long a claim holds; renewed at a third of it"),
    setting(
        "CRON_HANDICAP_MS",
        "3000",
        "how long a replica with one job leaves the next to others",
    ),
    setting("CRON_POLL_MS", "500", "mean time between two looks for due jobs"),
    setting("CRON_MAX_RUNS", "", "the most jobs that run here at a time; any number when unset"),
    setting(
        "REQUEST_TIMEOUT_SECONDS",
        "30",
        "the longest a request waits for its turn at a slow database",
    ),
    setting("JOB_MIN_SECONDS", "120", "the least time each sample job takes"),
    setting("RUN_HISTORY_DAYS", "14", "how long finished runs are kept"),
    setting("SHUTDOWN_GRACE_SECONDS", "10", "how long a drain may take"),
    setting("LOG_LEVEL", "info", "off, error, warn, info, debug or trace"),
];

pub(super) fn default_of(name: &str) -> Option<String> {
    let setting = SETTINGS.iter().find(|setting| setting.name == name)?;
    (!setting.default.is_empty()).then(|| setting.default.to_owned())
}
