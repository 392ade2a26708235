//! `loadtest bench`: sustained load, in a closed loop or, with `--rate`, in an open one.
//!
//! The way: limits checked → targets reached → [`people`] (users found, made, given money) →
//! [`traffic`] with [`measure`]: a warm-up, then what counts; in an open loop by the schedule of
//! [`open_loop`].

mod measure;
mod open_loop;
mod people;
mod series;
mod traffic;

use std::time::Duration;

use serde::Serialize;

use crate::client::{BaseUrl, Target};
use crate::history::History;
use crate::options::Arguments;
use crate::process;
use crate::progress::Progress;
use crate::report::{Details, Figures, Output, Report, grouped};
use measure::Measure;
use open_loop::Kept;
use people::People;
use series::Second;

/// `loadtest bench --help`.
pub(crate) const HELP: &str = "\
Sends changes over a fixed number of connections for a while: the next request
leaves a connection when the answer to the one before is there (a closed loop),
or, with --rate, whenever it is due, whatever the answers do (an open loop).

Usage: loadtest bench [options]

Options:
      --targets URLS      base URLs, comma-separated; connections take turns
                          over them [http://127.0.0.1:8080]
  -n, --connections N     keep-alive connections [64]
      --rate N            N requests a second in all, evenly spaced
                          [each connection as fast as its answers come]
      --duration SECONDS  how long requests are sent and counted [10]
      --warmup SECONDS    how long requests are sent before that, and left out
                          [2]
      --users N           1: user 1 alone, a hot row; more: that many users, of
                          whom each request picks one at random; who is missing
                          is made through the API [1]
      --amount N          the change each request makes, e.g. -2
                          [+1 and -1 in turns on each connection]
      --keys              send a fresh Idempotency-Key with each request
      --token TOKEN       sent as a bearer token; scopes: read, balance
      --timeout SECONDS   until when a request must be answered [60]
      --json              the same figures as one JSON document, and what came
                          in each second
      --history FILE      every change and its answer, for `loadtest check`
  -h, --help              this page

Unless the amount is positive, users with little are given more before.

In the closed loop a latency counts from when its connection was free for the
request, so reopening a connection counts. A slow answer also delays the request
behind it: these are the latencies of patient clients, not of a crowd that keeps
coming.

With --rate, request i is due i/N seconds after the start, and its latency and
its time limit count from then, as in wrk2 (github.com/giltene/wrk2). While all
connections are busy, requests leave late, and their lateness is part of their
latency: give enough --connections, the rate times the longest latency. What was
not sent within its limit has failed. Requests leave within a millisecond of
their instant; what was late for longer although a connection was free is
counted and warned of.

Exit code 0 only if every answer, in the warm-up too, is a 200 or a rightful 409
insufficient_funds; with --rate also a 503 that says that nothing was changed
(not_applied) and when to come back (Retry-After).
";

const CONNECTIONS_MAX: usize = 100_000;
const RATE_MAX: u32 = 100_000;
/// With each latency kept, an hour is what fits the memory of a small machine.
const DURATION_SECONDS_MAX: u64 = 3_600;
const USERS_MAX: usize = 1_000_000;
const AMOUNT_MAX: i64 = 1_000_000_000;
/// Below this many answers the slowest one alone decides p99.
const TRUSTED_ANSWERS_MIN: u64 = 100;
/// The one thread of this program is at its limit above this share of a core.
const TRUSTED_CPU_MAX: f64 = 0.85;

/// What a bench is told.
pub(crate) struct Options {
    targets: Vec<BaseUrl>,
    connections: usize,
    /// Requests a second; nothing: a closed loop.
    rate: Option<u32>,
    duration: Duration,
    warmup: Duration,
    users: usize,
    /// Nothing: +1 and −1 in turns.
    amount: Option<i64>,
    keys: bool,
    token: Option<String>,
    timeout: Duration,
    history: Option<String>,
    json: bool,
}

impl Options {
    /// Reads the options behind `bench`.
    ///
    /// # Errors
    /// One sentence on the first that makes no sense.
    pub(crate) fn parse(arguments: &mut Arguments) -> Result<Options, String> {
        let mut options = Options {
            targets: vec![BaseUrl::parse("http://127.0.0.1:8080")?],
            connections: 64,
            rate: None,
            duration: Duration::from_secs(10),
            warmup: Duration::from_secs(2),
            users: 1,
            amount: None,
            keys: false,
            token: None,
            timeout: Duration::from_secs(60),
            history: None,
            json: false,
        };
        let seconds = |arguments: &mut Arguments, least| {
            arguments.number(least..=DURATION_SECONDS_MAX).map(Duration::from_secs)
        };
        while let Some(name) = arguments.next()? {
            match name.as_str() {
                "--targets" => options.targets = arguments.targets()?,
                "--connections" | "-n" => {
                    options.connections = arguments.number(1..=CONNECTIONS_MAX)?;
                }
                "--rate" => options.rate = Some(arguments.number(1..=RATE_MAX)?),
                "--duration" => options.duration = seconds(arguments, 1)?,
                "--warmup" => options.warmup = seconds(arguments, 0)?,
                "--users" => options.users = arguments.number(1..=USERS_MAX)?,
                "--amount" => match arguments.number(-AMOUNT_MAX..=AMOUNT_MAX)? {
                    0 => return Err("--amount must not be 0".to_owned()),
                    amount => options.amount = Some(amount),
                },
                "--keys" => options.keys = true,
                "--token" => options.token = arguments.token()?,
                "--timeout" => options.timeout = seconds(arguments, 1)?,
                "--history" => options.history = Some(arguments.text()?),
                "--json" => options.json = true,
                _ => return Err(arguments.unknown()),
            }
        }
        Ok(options)
    }
}

/// What only a bench reports.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BenchDetails {
    connections: usize,
    connections_reopened: u64,
    users: usize,
    users_created: usize,
    users_topped_up: usize,
    idempotency_keys: bool,
    warmup_seconds: u64,
    warmup_requests: u64,
    #[serde(flatten)]
    open_loop: Option<Kept>,
    /// Too long for people: only in JSON.
    each_second: Vec<Second>,
}

impl Details for BenchDetails {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let count = |count: usize| grouped(count as u64);
        let (connections, reopened) = (count(self.connections), grouped(self.connections_reopened));
        let (users, created) = (count(self.users), count(self.users_created));
        let topped_up = count(self.users_topped_up);
        let (warmup, left_out) = (self.warmup_seconds, grouped(self.warmup_requests));
        let mut rows = vec![
            ("connections", format!("{connections} ({reopened} reopened)")),
            ("users", format!("{users} ({created} made, {topped_up} given money before)")),
            ("warm-up", format!("{warmup} s, {left_out} requests left out of all figures")),
        ];
        rows.extend(self.open_loop.iter().flat_map(Kept::rows));
        rows
    }
}

/// Runs the whole bench.
///
/// # Errors
/// A sentence where it could not even begin.
pub(crate) fn run(options: &Options) -> Result<Output, String> {
    process::claim_descriptors(options.connections)?;
    let targets: Vec<_> = options.targets.iter().map(Target::reach).collect::<Result<_, _>>()?;
    process::check_local_ports(options.connections, &targets)?;

    let history = options.history.as_deref().map(History::create).transpose()?;
    let mut progress = Progress::new();
    let people = People::prepare(options, &targets, &mut progress)?;
    let mut measure = Measure::new(options, &targets, &people, history);
    let ran =
        traffic::run(&targets, options.connections, options.timeout, &mut measure, &mut progress)?;
    drop(progress);

    let measured = measure.end();
    let mut faults = measured.warmup_faults;
    faults.extend(measured.history_fault);
    faults.extend(faults_of(&measured.figures, options.rate.is_some()));
    let mut warnings = warnings(&measured.figures);
    warnings.extend(measured.kept.as_ref().and_then(Kept::warning));
    let details = BenchDetails {
        connections: options.connections,
        connections_reopened: ran.reopened,
        users: people.ids.len(),
        users_created: people.created,
        users_topped_up: people.topped_up,
        idempotency_keys: options.keys,
        warmup_seconds: options.warmup.as_secs(),
        warmup_requests: measured.warmup_requests,
        open_loop: measured.kept,
        each_second: measured.series,
    };
    let report = Report {
        command: "bench",
        title: title(options),
        latency_note: match options.rate {
            None => "from when the connection was free to the full answer; closed loop",
            Some(_) => "from when the request was due to the full answer; open loop",
        },
        targets: targets.iter().map(Target::url).collect(),
        warnings,
        figures: measured.figures,
        details,
        ok: faults.is_empty(),
        faults,
    };
    Ok(report.output(options.json))
}

fn title(options: &Options) -> String {
    let amount = match options.amount {
        None => "+1 and -1 in turns".to_owned(),
        Some(amount) => format!("{amount:+}"),
    };
    let users = match options.users {
        1 => "user 1 (a hot row)".to_owned(),
        users => format!("{} users (cold rows)", grouped(users as u64)),
    };
    let keys = if options.keys { ", each with an Idempotency-Key" } else { "" };
    let rate = options
        .rate
        .map_or_else(String::new, |rate| format!(", {} a second", grouped(u64::from(rate))));
    format!("changes of {amount} to {users}{keys}{rate} for {} s", options.duration.as_secs())
}

fn faults_of(figures: &Figures, shedding_is_fine: bool) -> Vec<String> {
    let mut faults = Vec::new();
    if figures.requests == figures.failed {
        faults.push("no change was made and none was rightly refused".to_owned());
    }
    for error in figures.errors.iter().filter(|error| !(error.shed && shedding_is_fine)) {
        faults.push(format!("failed: {} × {}", grouped(error.count), error.kind));
    }
    faults
}

fn warnings(figures: &Figures) -> Vec<String> {
    let mut warnings = Vec::new();
    let answers = (figures.answers_per_second * figures.seconds).round() as u64;
    if answers < TRUSTED_ANSWERS_MIN {
        warnings.push(format!("with {answers} answers, p99 is only the slowest of them"));
    }
    if figures.client_cpu_cores > TRUSTED_CPU_MAX {
        warnings.push(
            "this client was at the limit of its one thread: the servers may be faster than this"
                .to_owned(),
        );
    }
    warnings
}
