//! Metrics of requests, and of the threads that work on them.

use std::time::Duration;

use prometheus::{
    HistogramVec, IntCounterVec, IntGauge, Registry, Result, register_histogram_vec_with_registry,
    register_int_counter_vec_with_registry, register_int_gauge_with_registry,
};

/// Counts requests, and measures the time from arrival to answer.
pub struct Requests {
    total: IntCounterVec,
    duration: HistogramVec,
    workers: IntGauge,
    workers_busy: IntGauge,
    waiting: IntGauge,
}

/// Counts a worker as busy until this value is dropped.
pub struct Busy<'a>(&'a IntGauge);

/// All other methods count as one: a client may send any word, and a series is never removed.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
const OTHER_METHOD: &str = "other";
/// A histogram has a series for each class of statuses, since it costs eighteen times as much as
/// the counter, which tells the statuses apart.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// The series of these rare answers start at 0, so that a rate shows even the first one.
const UNEXPECTED: [u16; 2] = [500, 503];
/// In seconds, up to the default of the longest time that a request waits.
const BUCKETS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

impl Requests {
    pub(super) fn new(registry: &Registry) -> Result<Requests> {
        let gauge = |name, help| register_int_gauge_with_registry!(name, help, registry);
        Ok(Requests {
            total: register_int_counter_vec_with_registry!(
                "http_requests_total",
                "Requests that were answered, counted before the answer is written.",
                &["method", "route", "status"],
                registry
            )?,
            duration: register_histogram_vec_with_registry!(
                "http_request_duration_seconds",
                "From a request's arrival until its answer is about to be written.",
                &["method", "route", "status_class"],
                BUCKETS.to_vec(),
                registry
            )?,
            workers: gauge("http_workers", "Threads that work on requests.")?,
            workers_busy: gauge(
                "http_workers_busy",
                "Those that have a request in hand, perhaps this one.",
            )?,
            waiting: gauge(
                "http_requests_waiting",
                "Requests that wait for a worker, or in the lane of their user.",
            )?,
        })
    }

    /// Sets the number of workers of this replica.
    pub fn have_workers(&self, workers: usize) {
        self.workers.set(workers as i64);
    }

    /// Makes the series of this method and route start at 0; the time of its failures has one only
    /// when there are some.
    pub fn expect(&self, method: &str, route: &'static str) {
        self.duration.with_label_values(&[method, route, "2xx"]);
        for status in UNEXPECTED {
            self.total.with_label_values(&[method, route, &status.to_string()]);
        }
    }

    /// Counts a request just before its answer is written; `time` is counted from its arrival.
    pub fn answered(&self, method: &str, route: &'static str, status: u16, time: Duration) {
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or(OTHER_METHOD);
        self.total.with_label_values(&[method, route, &status.to_string()]).inc();
        let class = CLASSES[usize::from(status / 100).clamp(1, CLASSES.len()) - 1];
        self.duration.with_label_values(&[method, route, class]).observe(time.as_secs_f64());
    }

    /// Counts one more worker as busy, until the returned value is dropped.
    pub fn worker_busy(&self) -> Busy<'_> {
        self.workers_busy.inc();
        Busy(&self.workers_busy)
    }

    /// Sets the number of requests that wait for a worker now.
    pub fn wait(&self, requests: usize) {
        self.waiting.set(requests as i64);
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
