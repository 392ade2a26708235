//! What a replica counts, and the text that Prometheus reads.
//!
//! This module knows no request, job or database. Events come as calls; values that can only be
//! looked up are passed in when the text is made ([`Readings`]). Each [`Metrics`] has a registry of
//! its own, so that several replicas can run in one process.
//!
//! Series that are known beforehand start at 0: if a series began with its first event, Prometheus
//! would not see that event as an increase.

mod changes;
mod requests;
mod runs;

use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{
    Registry, Result, TextEncoder, register_gauge_vec_with_registry, register_gauge_with_registry,
};

pub use changes::Changes;
pub use requests::{Busy, Requests};
pub use runs::Runs;

/// Everything that one replica counts.
pub struct Metrics {
    /// Requests and the threads that work on them.
    pub requests: Requests,
    /// Changes of balances, by what their clients were told.
    pub changes: Changes,
    /// Jobs and their runs.
    pub runs: Runs,
    registry: Registry,
}

/// Values that are not counted, but looked up when the text is made.
#[derive(Clone, Copy, Debug)]
pub struct Readings {
    /// Whether the database is known to work.
    pub database_up: bool,
    /// Whether this replica is ready for requests.
    pub ready: bool,
    /// Whether this replica can claim jobs; None if it runs no jobs.
    pub jobs_ready: Option<bool>,
    /// This machine's clock minus the database's, in seconds; None while it is unknown.
    pub clock_skew_seconds: Option<f64>,
    /// Whether commits survive a crash of the database's machine; None while it is unknown.
    pub database_durable: Option<bool>,
    /// How many transactions have begun since the oldest one that somebody still sees as open, and
    /// for how many seconds it has been the oldest; None while that is unknown.
    pub oldest_snapshot: Option<(i64, f64)>,
    /// Connections of the requests' pool that are in use.
    pub pool_in_use: u32,
    /// Open connections of that pool that are not in use.
    pub pool_idle: u32,
    /// The largest number of connections of that pool.
    pub pool_max: u32,
    /// Requests that wait for a connection of that pool.
    pub pool_waiting: usize,
}

/// The media type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Metrics {
    /// Makes all series that are known beforehand, at 0.
    ///
    /// # Errors
    /// If the name of a family is invalid or used twice; tests show that none is.
    pub fn new() -> Result<Metrics> {
        let registry = Registry::new();
        let build = register_gauge_vec_with_registry!(
            "balanced_build_info",
            "The version that runs.",
            &["version"],
            registry
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        registry.register(Box::new(ProcessCollector::for_self()))?;
        Ok(Metrics {
            requests: Requests::new(&registry)?,
            changes: Changes::new(&registry)?,
            runs: Runs::new(&registry)?,
            registry,
        })
    }

    /// Shows which release of the time zones this replica uses, and where it has them from.
    ///
    /// # Errors
    /// If it was noted before.
    pub fn note_time_zones(&self, release: &str, source: &str) -> Result<()> {
        let zones = register_gauge_vec_with_registry!(
            "balanced_time_zones_info",
            "The release of the time zones in use, as IANA names it, and the folder it is in.",
            &["release", "source"],
            self.registry
        )?;
        zones.with_label_values(&[release, source]).set(1.0);
        Ok(())
    }

    /// The text that Prometheus reads, with these readings.
    ///
    /// # Errors
    /// Those of the library, which writes into memory only.
    pub fn text(&self, readings: &Readings) -> Result<String> {
        let mut families = self.registry.gather();
        families.extend(readings.families()?);
        families.sort_by(|one, other| one.name().cmp(other.name()));
        TextEncoder::new().encode_to_string(&families)
    }
}

impl Readings {
    /// The families of these values alone: none of them outlives the text that it is read for.
    fn families(&self) -> Result<Vec<MetricFamily>> {
        let registry = Registry::new();
        let (transactions, seconds) = self.oldest_snapshot.unzip();
        for (name, help, value) in [
            (
                "database_up",
                "Whether the database works, as readiness has it: 1 or 0.",
                f64::from(self.database_up),
            ),
            (
                "balanced_ready",
                "Whether this replica should get requests: 1 or 0.",
                f64::from(self.ready),
            ),
            (
                "balanced_jobs_ready",
                "Whether this replica can claim jobs: 1 or 0, NaN where it is told to run none.",
                or_nan(self.jobs_ready),
            ),
            (
                "database_clock_skew_seconds",
                "This machine's clock minus the database's, NaN while that is unknown; nothing is \
                 decided by it.",
                or_nan(self.clock_skew_seconds),
            ),
            (
                "database_durable",
                "Whether the database keeps what it has committed if its machine crashes: 0 with \
                 fsync or full_page_writes off, NaN while that is unknown.",
                or_nan(self.database_durable),
            ),
            (
                "database_oldest_snapshot_transactions",
                "Transactions since the oldest that some snapshot, open transaction or replication \
                 slot there still needs, NaN while that is unknown.",
                transactions.map_or(f64::NAN, |transactions| transactions as f64),
            ),
            (
                "database_oldest_snapshot_seconds",
                "For how long that one has been the oldest, as far as this replica has seen it.",
                or_nan(seconds),
            ),
            (
                "db_pool_connections_max",
                "The most such connections there can be.",
                f64::from(self.pool_max),
            ),
            (
                "db_pool_waiting",
                "Requests that wait for such a connection.",
                self.pool_waiting as f64,
            ),
        ] {
            register_gauge_with_registry!(name, help, registry)?.set(value);
        }
        self.pool(&registry)?;
        Ok(registry.gather())
    }

    fn pool(&self, registry: &Registry) -> Result<()> {
        let pool = register_gauge_vec_with_registry!(
            "db_pool_connections",
            "Connections to the database that requests share.",
            &["state"],
            registry
        )?;
        pool.with_label_values(&["in_use"]).set(f64::from(self.pool_in_use));
        pool.with_label_values(&["idle"]).set(f64::from(self.pool_idle));
        Ok(())
    }
}

fn or_nan(value: Option<impl Into<f64>>) -> f64 {
    value.map_or(f64::NAN, Into::into)
}

#[cfg(test)]
mod tests;
