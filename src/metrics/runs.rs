//! Metrics of jobs and their runs, as this replica has seen them.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use prometheus::{
    GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
    Result, register_gauge_vec_with_registry, register_histogram_vec_with_registry,
    register_histogram_with_registry, register_int_counter_vec_with_registry,
    register_int_counter_with_registry, register_int_gauge_vec_with_registry,
    register_int_gauge_with_registry,
};

/// Counts runs. Each is counted by the replica that wrote its end, so the sum over all replicas
/// agrees with the history.
pub struct Runs {
    total: IntCounterVec,
    duration: HistogramVec,
    running: IntGauge,
    /// A vector without labels, because it has no value unless this replica looks for due jobs.
    due: IntGaugeVec,
    paused: IntGauge,
    lateness: Histogram,
    /// Runs that lost their lease.
    pub leases_lost: IntCounter,
    /// Failed tries to renew leases.
    pub heartbeat_failures: IntCounter,
    /// Claims and ends of runs that the database refuses, and will refuse again.
    pub writes_refused: IntCounter,
    /// Runs that were started because one before them, for the same slot, had not succeeded.
    pub retries: IntCounter,
    overdue: IntGauge,
    /// Claims that took a job over from a replica whose lease had run out.
    pub takeovers: IntCounter,
    last_success: GaugeVec,
    jobs: Mutex<BTreeSet<String>>,
}

/// The most jobs that have series of their own: about twenty each, which stay until the process
/// ends, even if the job is deleted.
const JOBS_MAX: usize = 500;
/// The label of all further jobs; no job can have this name.
const OTHER_JOBS: &str = "_other";
/// The library identifies a series by its label values, joined without a separator: so none of
/// these may be the end of another.
const OUTCOMES: [&str; 7] =
    ["succeeded", "failed", "cancelled", "abandoned", "timed_out", "stopped", "missed"];
/// In seconds.
const DURATION_BUCKETS: [f64; 11] =
    [0.1, 1.0, 10.0, 30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 1_800.0, 3_600.0];
const LATENESS_BUCKETS: [f64; 12] =
    [0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 3_600.0];

impl Runs {
    pub(super) fn new(registry: &Registry) -> Result<Runs> {
        let counter = |name, help| register_int_counter_with_registry!(name, help, registry);
        let gauge = |name, help| register_int_gauge_with_registry!(name, help, registry);
        Ok(Runs {
            total: total(registry)?,
            duration: duration(registry)?,
            running: gauge("cron_running_jobs", "Jobs that this replica runs.")?,
            due: register_int_gauge_vec_with_registry!(
                "cron_due_jobs",
                "Jobs that were due and held by nobody when this replica last looked, 100 at most, \
                 and 0 while all are paused; absent where it runs no jobs, or could not look.",
                &[],
                registry
            )?,
            paused: gauge(
                "balanced_cron_paused",
                "Whether all jobs were paused when this replica last looked: 1 or 0.",
            )?,
            lateness: register_histogram_with_registry!(
                "cron_run_lateness_seconds",
                "How long after its slot a run was started, by the database's clock.",
                LATENESS_BUCKETS.to_vec(),
                registry
            )?,
            leases_lost: counter(
                "cron_leases_lost_total",
                "Runs of this replica whose lease was not renewed in time or was taken.",
            )?,
            heartbeat_failures: counter(
                "cron_heartbeat_failures_total",
                "Tries to renew leases that failed.",
            )?,
            writes_refused: counter(
                "cron_writes_refused_total",
                "Claims and ends of runs that the database refused, and will refuse again.",
            )?,
            retries: counter(
                "cron_retries_total",
                "Runs that this replica started because one for the same slot had not succeeded.",
            )?,
            overdue: gauge(
                "cron_overdue_jobs",
                "Jobs that this replica still runs although their time is over.",
            )?,
            takeovers: counter(
                "cron_takeovers_total",
                "Runs that this replica started because another's lease had run out.",
            )?,
            last_success: register_gauge_vec_with_registry!(
                "cron_last_success_timestamp_seconds",
                "When a job last succeeded, by the database's clock, as far as this replica knows.",
                &["job"],
                registry
            )?,
            jobs: Mutex::default(),
        })
    }

    /// Makes the series of this job start at 0.
    pub fn know(&self, job: &str) {
        self.label(job);
    }

    /// Notes that a run was claimed, `late_seconds` after its slot by the database's clock; none if
    /// its slot is missed, so that nothing is started.
    pub fn claimed(&self, job: &str, late_seconds: Option<f64>) {
        self.know(job);
        self.running.inc();
        late_seconds.into_iter().for_each(|seconds| self.lateness.observe(seconds));
    }

    /// Notes that a claimed run does not run here any more, whether its end was recorded or not.
    pub fn let_go(&self) {
        self.running.dec();
    }

    /// Counts a run whose end was recorded; it took `seconds`.
    pub fn ended(&self, job: &str, outcome: &'static str, seconds: f64) {
        let job = self.label(job);
        self.total.with_label_values(&[job, outcome]).inc();
        self.duration.with_label_values(&[job]).observe(seconds);
    }

    /// Counts a run that this replica has closed without having run it.
    pub fn closed(&self, job: &str, outcome: &'static str) {
        self.total.with_label_values(&[self.label(job), outcome]).inc();
    }

    /// Notes when a job succeeded, in seconds since 1970; an instant before the last is ignored.
    pub fn succeeded(&self, job: &str, at: f64) {
        let job = self.label(job);
        if job == OTHER_JOBS {
            return;
        }
        let _one_at_a_time = self.jobs.lock();
        let last = self.last_success.with_label_values(&[job]);
        last.set(last.get().max(at));
    }

    /// Sets the number of jobs that run here although their time is over.
    pub fn overdue(&self, jobs: usize) {
        self.overdue.set(jobs as i64);
    }

    /// Sets the number of jobs that are due and that no replica holds.
    pub fn due(&self, jobs: usize) {
        self.due.with_label_values::<&str>(&[]).set(jobs as i64);
    }

    /// Sets whether all jobs are paused, so that none is claimed.
    pub fn paused(&self, is_paused: bool) {
        self.paused.set(is_paused.into());
    }

    /// Removes the number of due jobs, because it is unknown: a 0 would say that there are none.
    pub fn due_unknown(&self) {
        self.due.reset();
    }

    /// The job's name, or `OTHER_JOBS` for jobs beyond `JOBS_MAX`; makes its series start at 0.
    fn label<'a>(&self, job: &'a str) -> &'a str {
        let mut jobs = self.jobs.lock();
        if jobs.contains(job) {
            return job;
        }
        let job = if jobs.len() < JOBS_MAX { job } else { OTHER_JOBS };
        if job != OTHER_JOBS {
            jobs.insert(job.to_owned());
        }
        for outcome in OUTCOMES {
            self.total.with_label_values(&[job, outcome]);
        }
        self.duration.with_label_values(&[job]);
        job
    }
}

fn total(registry: &Registry) -> Result<IntCounterVec> {
    register_int_counter_vec_with_registry!(
        "cron_runs_total",
        "Runs whose end this replica wrote, also as abandoned by another.",
        &["job", "outcome"],
        registry
    )
}

fn duration(registry: &Registry) -> Result<HistogramVec> {
    register_histogram_vec_with_registry!(
        "cron_run_duration_seconds",
        "How long the runs of this replica took.",
        &["job"],
        DURATION_BUCKETS.to_vec(),
        registry
    )
}
