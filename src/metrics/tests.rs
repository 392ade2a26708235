use std::time::Duration;

use super::*;

const READINGS: Readings = Readings {
    database_up: true,
    ready: false,
    jobs_ready: None,
    clock_skew_seconds: None,
    database_durable: Some(false),
    oldest_snapshot: Some((70_000, 61.5)),
    pool_in_use: 3,
    pool_idle: 5,
    pool_max: 8,
    pool_waiting: 2,
};

fn text(metrics: &Metrics) -> String {
    metrics.text(&READINGS).unwrap()
}

fn assert_has(metrics: &Metrics, lines: &[&str]) {
    let text = text(metrics);
    for line in lines {
        assert!(text.lines().any(|other| other == *line), "{line}\n{text}");
    }
}

#[test]
fn what_is_known_beforehand_is_there_at_zero() {
    let metrics = Metrics::new().unwrap();
    metrics.requests.expect("POST", "/api/balance");
    metrics.runs.know("a");
    assert_has(
        &metrics,
        &[
            "http_requests_total{method=\"POST\",route=\"/api/balance\",status=\"500\"} 0",
            "http_requests_total{method=\"POST\",route=\"/api/balance\",status=\"503\"} 0",
            concat!(
                "http_request_duration_seconds_count",
                "{method=\"POST\",route=\"/api/balance\",status_class=\"2xx\"} 0",
            ),
            "balance_changes_total{outcome=\"changed\"} 0",
            "balance_changes_total{outcome=\"unknown\"} 0",
            "balance_changes_replayed_total 0",
            "cron_runs_total{job=\"a\",outcome=\"failed\"} 0",
            "cron_run_duration_seconds_count{job=\"a\"} 0",
            "cron_takeovers_total 0",
            "cron_retries_total 0",
            "cron_overdue_jobs 0",
        ],
    );
    // A job that never succeeded has no time of success.
    assert!(!text(&metrics).contains("cron_last_success_timestamp_seconds"));
}

#[test]
fn readings_are_those_of_the_moment() {
    assert_has(
        &Metrics::new().unwrap(),
        &[
            "database_up 1",
            "balanced_ready 0",
            "balanced_jobs_ready NaN",
            "database_clock_skew_seconds NaN",
            "database_durable 0",
            "database_oldest_snapshot_transactions 70000",
            "database_oldest_snapshot_seconds 61.5",
            "db_pool_connections{state=\"in_use\"} 3",
            "db_pool_connections{state=\"idle\"} 5",
            "db_pool_connections_max 8",
            "db_pool_waiting 2",
            concat!("balanced_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ],
    );
}

#[test]
fn any_method_is_one_of_a_few() {
    let metrics = Metrics::new().unwrap();
    for method in ["GET", "get", "BREW", ""] {
        metrics.requests.answered(method, "none", 404, Duration::from_millis(2));
    }
    let line = |method| {
        format!("http_requests_total{{method=\"{method}\",route=\"none\",status=\"404\"}}")
    };
    assert_has(&metrics, &[&format!("{} 1", line("GET")), &format!("{} 3", line("other"))]);
    let bucket = |method, class, le| {
        let labels = format!("method=\"{method}\",route=\"none\",status_class=\"{class}\"");
        format!("http_request_duration_seconds_bucket{{{labels},le=\"{le}\"}}")
    };
    for (method, le, count) in
        [("GET", "0.001", 0), ("GET", "0.0025", 1), ("other", "0.001", 0), ("other", "0.0025", 3)]
    {
        assert_has(&metrics, &[&format!("{} {count}", bucket(method, "4xx", le))]);
    }
    for status in [199, 200, 302, 599, 65_535] {
        metrics.requests.answered("GET", "none", status, Duration::from_secs(60));
    }
    for (class, count) in [("1xx", 1), ("2xx", 1), ("3xx", 1), ("4xx", 1), ("5xx", 2)] {
        assert_has(&metrics, &[&format!("{} {count}", bucket("GET", class, "+Inf"))]);
    }
}

#[test]
fn the_process_is_described() {
    let text = text(&Metrics::new().unwrap());
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name}\n{text}")).parse::<f64>().unwrap()
    };
    let (open, most) = (value("process_open_fds"), value("process_max_fds"));
    assert!(open >= 3.0 && open < most, "{open} of {most}");
    let (resident, virtual_) =
        (value("process_resident_memory_bytes"), value("process_virtual_memory_bytes"));
    assert!(resident > 1e6 && resident < virtual_, "{resident} of {virtual_}");
    assert!(value("process_start_time_seconds") > 1.6e9);
    assert!(value("process_cpu_seconds_total") >= 0.0 && value("process_threads") >= 1.0);
}

#[test]
fn a_worker_is_busy_until_it_lets_go_even_by_a_panic() {
    let metrics = Metrics::new().unwrap();
    let _busy = metrics.requests.worker_busy();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _busy = metrics.requests.worker_busy();
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    assert_has(&metrics, &["http_workers_busy 1"]);
}

#[test]
fn a_replayed_result_is_no_second_change() {
    let metrics = Metrics::new().unwrap();
    metrics.changes.told("changed");
    metrics.changes.replayed.inc();
    let lines =
        ["balance_changes_total{outcome=\"changed\"} 1", "balance_changes_replayed_total 1"];
    assert_has(&metrics, &lines);
}

#[test]
fn the_last_success_never_goes_back() {
    let metrics = Metrics::new().unwrap();
    for at in [1_700_000_000.25, 1_600_000_000.0] {
        metrics.runs.succeeded("a", at);
    }
    assert_has(&metrics, &["cron_last_success_timestamp_seconds{job=\"a\"} 1700000000.25"]);
}

/// The least value over all replicas counts, so one that does not look must not report 0.
#[test]
fn a_replica_that_does_not_look_for_jobs_says_nothing_of_due_ones() {
    let metrics = Metrics::new().unwrap();
    assert!(!text(&metrics).contains("cron_due_jobs"));
    metrics.runs.due(0);
    assert_has(&metrics, &["cron_due_jobs 0"]);
    metrics.runs.due_unknown();
    assert!(!text(&metrics).contains("cron_due_jobs"));
}

#[test]
fn jobs_beyond_five_hundred_share_their_series() {
    let metrics = Metrics::new().unwrap();
    for number in 0..502 {
        metrics.runs.ended(&format!("job-{number}"), "failed", 1.0);
    }
    assert_has(
        &metrics,
        &[
            "cron_runs_total{job=\"job-499\",outcome=\"failed\"} 1",
            "cron_runs_total{job=\"_other\",outcome=\"failed\"} 2",
        ],
    );
    assert!(!text(&metrics).contains("job-500"));
}
