//! What Prometheus is told is what happened: counted exactly, by the right name, at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use balanced::cron::{Failure, Functions};

use crate::support::{
    Client, Database, Local, Postgres, Process, Scheduler, ask, change, endless, get, only,
    options, post, program, until,
};

const SOON: Duration = Duration::from_secs(20);
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) fn text(addr: SocketAddr) -> String {
    let answer = get(addr, "/metrics");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some(CONTENT_TYPE)));
    String::from_utf8(answer.body).expect("UTF-8")
}

/// The sum over all series of a family, labels and all, whose text has each of these parts.
pub(crate) fn sum(text: &str, family: &str, parts: &[&str]) -> f64 {
    let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
    let named = lines.filter(|(series, _)| series.split('{').next() == Some(family));
    let wanted = named.filter(|(series, _)| parts.iter().all(|part| series.contains(part)));
    wanted.map(|(_, value)| value.parse::<f64>().expect("a number")).sum()
}

fn requests(text: &str, route: &str, status: &str) -> f64 {
    let parts = [format!("route=\"{route}\""), format!("status=\"{status}\"")];
    sum(text, "http_requests_total", &[&parts[0], &parts[1]])
}

fn changes(text: &str, outcome: &str) -> f64 {
    sum(text, "balance_changes_total", &[&format!("outcome=\"{outcome}\"")])
}

/// Both replicas are asked for the same user, each on connections that stay open.
#[test]
fn ten_thousand_changes_are_counted_exactly() {
    const THREADS: usize = 8;
    const EACH: usize = 10_000 / THREADS;
    let database = Postgres::shared().migrated();
    let replicas = [Local::start(database.url()), Local::start(database.url())];
    let begun = Instant::now();
    thread::scope(|scope| {
        for index in 0..THREADS {
            let addr = replicas[index % replicas.len()].addr;
            scope.spawn(move || {
                let mut client = Client::connect(addr);
                for _ in 0..EACH {
                    let status = client.ask("POST /api/balance", &[], &change(1, -2)).status;
                    assert!(matches!(status, 200 | 409), "{status}");
                }
            });
        }
    });
    println!("10,000 changes in {:?}", begun.elapsed());
    let texts: String = replicas.iter().map(|replica| text(replica.addr)).collect();
    assert_eq!(requests(&texts, "/api/balance", "200"), 5_000.0);
    assert_eq!(requests(&texts, "/api/balance", "409"), 5_000.0);
    let all = sum(&texts, "http_requests_total", &["method=\"POST\""]);
    assert_eq!(all, 10_000.0, "and nothing else was posted");
    assert_eq!((changes(&texts, "changed"), changes(&texts, "insufficient_funds")), (5e3, 5e3));
    assert_eq!(sum(&texts, "balance_changes_total", &[]), 10_000.0);
    let route = ["route=\"/api/balance\""];
    assert_eq!(sum(&texts, "http_request_duration_seconds_count", &route), 10_000.0);
    let infinite = [route[0], "le=\"+Inf\""];
    assert_eq!(sum(&texts, "http_request_duration_seconds_bucket", &infinite), 10_000.0);
    let seconds = sum(&texts, "http_request_duration_seconds_sum", &route);
    assert!(seconds > 0.0 && seconds < begun.elapsed().as_secs_f64() * THREADS as f64);
    assert_eq!(sum(&texts, "db_pool_connections_max", &[]), 16.0);
    assert_eq!(sum(&texts, "http_workers", &[]), 16.0);
}

#[test]
fn every_answer_is_counted_under_its_route_and_its_status() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    let addr = replica.addr;
    let keyed = |key: &str, body: &str| {
        ask(addr, "POST /api/balance", &[&format!("Idempotency-Key: {key}")], body).status
    };
    assert_eq!(keyed("a", &change(1, -2)), 200);
    assert_eq!(keyed("a", &change(1, -2)), 200);
    assert_eq!(keyed("a", &change(1, -3)), 422);
    assert_eq!(keyed("b", &change(1, i64::MAX)), 409);
    assert_eq!(keyed("c", &change(7, -2)), 404);
    assert_eq!(keyed("d", "{}"), 400);
    for id in [1, 1, 3] {
        get(addr, &format!("/api/users/{id}"));
    }
    let mut client = Client::connect(addr);
    client.send("HEAD /api/cron/status HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(client.read_some().starts_with(b"HTTP/1.1 200 "));
    assert_eq!(get(addr, "/nowhere/at/all").status, 404);
    assert_eq!(ask(addr, "BREW /api/balance", &[], "").status, 405);
    assert_eq!(post(addr, "/api/balance", &"x".repeat(2_000)).status, 413);
    let mut client = Client::connect(addr);
    client.send("POST /api/users HTTP/1.1\r\nHost: x\r\nContent-Length: two\r\n\r\n");
    assert_eq!(client.receive().unwrap().status, 400);

    let (told, again) = (text(addr), text(addr));
    for (route, status, count) in [
        ("/api/balance", "200", 2.0),
        ("/api/balance", "422", 1.0),
        ("/api/balance", "409", 1.0),
        ("/api/balance", "404", 1.0),
        ("/api/balance", "400", 1.0),
        ("/api/balance", "413", 1.0),
        ("/api/users", "400", 1.0),
        ("/api/users/{id}", "200", 2.0),
        ("/api/users/{id}", "404", 1.0),
        ("/api/cron/jobs", "200", 1.0),
        ("none", "404", 1.0),
        ("none", "405", 1.0),
        ("/metrics", "200", 0.0),
    ] {
        assert_eq!(requests(&told, route, status), count, "{route} {status}\n{told}");
    }
    assert_eq!(sum(&told, "http_requests_total", &["method=\"HEAD\""]), 1.0);
    assert_eq!(sum(&told, "http_requests_total", &["method=\"other\""]), 1.0);
    for (outcome, count) in [
        ("changed", 1.0),
        ("idempotency_key_reused", 1.0),
        ("amount_out_of_range", 1.0),
        ("user_not_found", 1.0),
        ("insufficient_funds", 0.0),
        ("not_applied", 0.0),
        ("unknown", 0.0),
    ] {
        assert_eq!(changes(&told, outcome), count, "{outcome}\n{told}");
    }
    assert_eq!(sum(&told, "balance_changes_replayed_total", &[]), 1.0);
    assert_eq!(requests(&again, "/metrics", "200"), 1.0, "the one before");
}

/// Nothing answers but the memory: the server's processes are stopped, and every worker hangs.
#[test]
fn metrics_are_told_while_every_worker_is_stuck_and_while_the_database_is_away() {
    const WORKERS: usize = 4;
    let server = Postgres::lend();
    let variables = [("HTTP_WORKERS", "4"), ("DB_POOL_SIZE", "2"), ("CRON_ENABLED", "false")];
    let replica = Process::start(server.url(), &variables);
    let addr = replica.addr;
    until("the clock's skew is known and both connections are open", SOON, || {
        thread::scope(|all| (0..4).for_each(|_| drop(all.spawn(|| get(addr, "/api/users")))));
        let text = text(addr);
        sum(&text, "database_clock_skew_seconds", &[]).abs() < 1.0
            && sum(&text, "db_pool_connections", &["idle"]) == 2.0
    });
    assert_eq!(sum(&text(addr), "balanced_ready", &[]), 1.0);
    let paused = server.pause();
    let clients: Vec<_> = (1..=2 * WORKERS as i64)
        .map(|user| thread::spawn(move || post(addr, "/api/balance", &change(user, -2)).status))
        .collect();
    until("every worker is busy", SOON, || {
        sum(&text(addr), "http_workers_busy", &[]) == WORKERS as f64
    });
    until("the others are seen to wait", SOON, || {
        let text = text(addr);
        sum(&text, "http_requests_waiting", &[]) == WORKERS as f64
            && sum(&text, "db_pool_waiting", &[]) == 2.0
            && sum(&text, "db_pool_connections", &["in_use"]) == 2.0
    });
    for client in clients {
        assert_eq!(client.join().unwrap(), 503);
    }
    let asked = Instant::now();
    let text_now = text(addr);
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    assert_eq!(requests(&text_now, "/api/balance", "503"), 2.0 * WORKERS as f64);
    // Whoever had a connection has found it silent before a change was sent on it, unless it had
    // just been used.
    let (unknown, not_applied) = (changes(&text_now, "unknown"), changes(&text_now, "not_applied"));
    assert_eq!(unknown + not_applied, 8.0);
    assert!(unknown <= 2.0, "{unknown}");
    until("it is seen not to work", SOON, || sum(&text(addr), "database_up", &[]) == 0.0);
    assert_eq!(sum(&text(addr), "balanced_ready", &[]), 0.0);
    drop(paused);
    until("it works again", SOON, || sum(&text(addr), "database_up", &[]) == 1.0);
    until("all workers are free again", SOON, || sum(&text(addr), "http_workers_busy", &[]) <= 1.0);
    drop(server);
    until("it is away", SOON, || sum(&text(addr), "database_up", &[]) == 0.0);
    assert!(sum(&text(addr), "database_clock_skew_seconds", &[]).is_nan());
}

/// What the history has, as the counters have it.
fn history(database: &Database) -> BTreeMap<(String, String), f64> {
    let sql = "select job, outcome, count(*)::float8 from cron_runs \
               where finished_at is not null group by job, outcome";
    let rows = database.connect().query(sql, &[]).expect("runs");
    rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect()
}

fn counted(texts: &str) -> BTreeMap<(String, String), f64> {
    let mut counted = BTreeMap::new();
    for line in texts.lines().filter(|line| line.starts_with("cron_runs_total{")) {
        let labels: Vec<&str> = line.split('"').collect();
        let count: f64 = line.rsplit_once(' ').unwrap().1.parse().unwrap();
        *counted.entry((labels[1].to_owned(), labels[3].to_owned())).or_default() += count;
    }
    counted.retain(|_, count| *count > 0.0);
    counted
}

fn assert_counted(database: &Database, schedulers: &[&Scheduler]) {
    let texts = || schedulers.iter().map(|scheduler| scheduler.text()).collect::<String>();
    until("the counters are the history", SOON, || counted(&texts()) == history(database));
    assert_eq!(sum(&texts(), "cron_running_jobs", &[]), 0.0);
}

#[test]
fn runs_are_counted_as_the_history_has_them_over_a_drain_and_a_takeover() {
    let database = Postgres::shared().migrated().without_jobs();
    database.add_job("works", "every 1h");
    database.orphan_the_job();
    let first = Scheduler::start(database.url(), &options("a"), only("works", endless));
    let open = "select count(*) from cron_runs where finished_at is null and server = 'a'";
    database.wait_for("it is taken over", SOON, 1, open);
    until("and counted", SOON, || sum(&first.text(), "cron_running_jobs", &[]) == 1.0);
    assert_eq!(sum(&first.text(), "cron_takeovers_total", &[]), 1.0);
    first.0.begin_drain();
    assert!(first.0.wait_drained(Instant::now() + SOON));
    database.add_job("fails", "every 1h");
    let functions = Functions::new()
        .with("works", |_| Ok(String::new()))
        .with("fails", |_| Err(Failure::Failed("no luck".to_owned())));
    let second = Scheduler::start(database.url(), &options("b"), functions);
    let ended = "select count(*) from cron_runs where finished_at is not null";
    database.wait_for("all have ended", SOON, 4, ended);
    assert_counted(&database, &[&first, &second]);
    let expected = [
        ("fails", "failed"),
        ("works", "abandoned"),
        ("works", "cancelled"),
        ("works", "succeeded"),
    ];
    let expected = expected.map(|(job, outcome)| ((job.to_owned(), outcome.to_owned()), 1.0));
    assert_eq!(history(&database), BTreeMap::from(expected));
    let texts = first.text() + &second.text();
    assert_eq!(sum(&texts, "cron_run_lateness_seconds_count", &[]), 3.0);
    assert_eq!(sum(&texts, "cron_run_duration_seconds_count", &[]), 3.0);
    assert_eq!(sum(&texts, "cron_leases_lost_total", &[]), 0.0);
    assert_eq!(sum(&texts, "cron_due_jobs", &[]), 0.0);
}

#[test]
fn the_last_success_is_the_historys_also_after_a_restart() {
    let database = Postgres::shared().migrated().without_jobs();
    database.add_job("works", "every 1h");
    let works = || only("works", |_| Ok(String::new()));
    let first = Scheduler::start(database.url(), &options("a"), works());
    let at = "select count(*) from cron_runs where outcome = 'succeeded'";
    database.wait_for("it has run", SOON, 1, at);
    let at = "select extract(epoch from max(finished_at))::float8 from cron_runs";
    let at: f64 = database.connect().query_one(at, &[]).unwrap().get(0);
    let family = "cron_last_success_timestamp_seconds";
    until("told by the one that ran it", SOON, || sum(&first.text(), family, &[]) == at);
    drop(first);
    let later = "insert into cron_runs (job_id, job, function, token, server, scheduled_at, \
                 started_at, finished_at, outcome) select job_id, job, function, 2, server, now(), \
                 now(), now(), 'failed' from cron_runs";
    database.connect().batch_execute(later).unwrap();
    let second = Scheduler::start(database.url(), &options("b"), works());
    until("told by one that did not", SOON, || sum(&second.text(), family, &[]) == at);
    assert_eq!(counted(&second.text()), BTreeMap::new(), "and no run of it is counted again");
}

/// No renewal is taken any more until the lease has run out, so the run ends by itself.
#[test]
fn a_lost_lease_and_its_failed_renewals_are_counted() {
    let database = Postgres::shared().migrated().without_jobs();
    database.add_job("works", "every 1h");
    let replica = Scheduler::start(database.url(), &options("a"), only("works", endless));
    let open = "select count(*) from cron_runs where finished_at is null";
    database.wait_for("it runs", SOON, 1, open);
    let cut = "create function refuse() returns trigger language plpgsql as $$ begin \
               raise exception 'cut off'; end $$; \
               create trigger cut before update on cron_jobs execute function refuse()";
    database.connect().batch_execute(cut).unwrap();
    until("the lease is lost", SOON, || sum(&replica.text(), "cron_leases_lost_total", &[]) == 1.0);
    assert!(sum(&replica.text(), "cron_heartbeat_failures_total", &[]) >= 2.0);
    replica.0.begin_drain();
    database.connect().batch_execute("drop trigger cut on cron_jobs").unwrap();
    assert!(replica.0.wait_drained(Instant::now() + SOON));
    assert_counted(&database, &[&replica]);
    assert_eq!(database.outcomes("works"), ["abandoned on a"]);
    assert_eq!(sum(&replica.text(), "cron_leases_lost_total", &[]), 1.0, "once");
}

#[test]
fn an_orphan_that_is_closed_without_a_takeover_is_counted_too() {
    let database = Postgres::shared().migrated().without_jobs();
    database.add_job("works", "every 1h");
    database.orphan_the_job();
    database.connect().batch_execute("update cron_jobs set enabled = false").unwrap();
    let closes = Scheduler::start(database.url(), &options("a"), only("works", endless));
    let ended = "select count(*) from cron_runs where finished_at is not null";
    database.wait_for("the orphan is closed", SOON, 1, ended);
    assert_counted(&database, &[&closes]);
    assert_eq!(sum(&closes.text(), "cron_takeovers_total", &[]), 0.0);
    drop(closes);

    let database = Postgres::shared().migrated().without_jobs();
    database.add_job("works", "every 1h");
    database.orphan_the_job();
    let replica = Local::start(database.url());
    assert_eq!(ask(replica.addr, "DELETE /api/cron/jobs/works", &[], "").status, 204);
    assert_eq!(counted(&text(replica.addr)), history(&database));
    assert_eq!(history(&database).len(), 1);
}

fn source(path: &str) -> String {
    std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).expect(path)
}

/// The words of a text that are named like metrics of these families' kinds.
fn metrics_in(text: &str, families: &BTreeSet<&str>) -> BTreeSet<String> {
    let kind = |name: &str| name.split('_').next().unwrap().to_owned();
    let kinds: BTreeSet<String> = families.iter().map(|family| kind(family)).collect();
    // Lines of the log are told of by their event, which is no metric.
    let text = text.replace("event=", "event_");
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let named = words.filter(|word| word.contains('_') && kinds.contains(&kind(word)));
    named.map(str::to_owned).collect()
}

#[test]
fn the_text_is_clean_and_has_whatever_the_alerts_and_their_page_name() {
    let database = Postgres::shared().migrated();
    let replica = Process::start(database.url(), &[("JOB_MIN_SECONDS", "0")]);
    until("a job has succeeded", SOON, || {
        text(replica.addr).contains("\ncron_last_success_timestamp_seconds{")
    });
    let text = text(replica.addr);
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let families: BTreeSet<&str> = types.map(|line| line.split(' ').next().unwrap()).collect();
    let page = source("docs/monitoring.md");
    let (alerts, tested) = (source("deploy/alerts.yml"), source("deploy/alerts.test.yml"));
    for (place, document) in [
        ("docs/monitoring.md", &page),
        ("deploy/alerts.yml", &alerts),
        ("deploy/alerts.test.yml", &tested),
    ] {
        for word in metrics_in(document, &families) {
            let family = word.trim_end_matches("_bucket").trim_end_matches("_count");
            assert!(families.contains(family), "{place} names {word}\n{families:?}");
        }
    }
    for family in &families {
        assert!(page.contains(&format!("`{family}")), "docs/monitoring.md lacks {family}");
    }
    for alert in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tested.contains(&format!("alertname=\"{alert}\"")), "{alert} never fires in tests");
    }
    // Else Prometheus gives the label `job`, by which rules tell jobs apart, a meaning of its own.
    assert!(source("deploy/prometheus.yml").contains("\n    honor_labels: true\n"));
    let Some(promtool) = program("promtool") else { return };
    let mut promtool = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let checked = promtool.wait_with_output().unwrap();
    let said = [checked.stdout, checked.stderr].concat();
    assert_eq!((checked.status.code(), String::from_utf8_lossy(&said).as_ref()), (Some(0), ""));
}
