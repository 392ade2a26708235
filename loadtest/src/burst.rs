//! `loadtest burst`: one withdrawal on each of N connections at the same moment.
//!
//! The way: limits checked → targets reached → [`reset`] → [`crowd`] (all connections open,
//! nothing sent) → [`volley`] (all requests written, then all answers read) → balance read
//! through every target → [`verdict`].

mod crowd;
mod reset;
mod verdict;
mod volley;

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::client::{BaseUrl, Caller, Target};
use crate::history::History;
use crate::options::Arguments;
use crate::outcome::Change;
use crate::process;
use crate::progress::Progress;
use crate::report::{Details, Output, Report, grouped, millis};
use crowd::Crowd;
use verdict::Evidence;
use volley::Volley;

/// `loadtest burst --help`.
pub(crate) const HELP: &str = "\
Opens N connections, then sends one withdrawal on each at the same moment.

Usage: loadtest burst [options]

Options:
      --targets URLS      base URLs, comma-separated; connections take turns
                          over them [http://127.0.0.1:8080]
  -n, --connections N     connections, and so withdrawals [10000]
      --user ID           whose balance [1]
      --amount N          what each withdrawal takes [2]
      --reset BALANCE     the balance set before, through the API [10000]
      --token TOKEN       sent as a bearer token; scopes: read, balance
      --timeout SECONDS   until when all answers must be there, from the moment
                          of sending [120]
      --json              the same figures as one JSON document
      --history FILE      every change and its answer, for `loadtest check`
  -h, --help              this page

A connection that cannot be made, or that the other side ends before anything
was sent, is tried again, five times in all and for 60 s at most; then its
withdrawal counts as failed.

Exit code 0 only if exactly floor(balance / amount) withdrawals succeed (at most
N), all others are refused as insufficient funds, none fails, the answers fit
together and the balance ends right. Nobody else may change this user's balance
meanwhile.
";

const CONNECTIONS_MAX: usize = 1_000_000;
const TIMEOUT_SECONDS_MAX: u64 = 3_600;
/// Beyond this the requests were not written at one moment any more.
const WRITING_LIMIT: Duration = Duration::from_secs(1);

/// What a burst is told.
pub(crate) struct Options {
    /// Where to.
    pub(crate) targets: Vec<BaseUrl>,
    /// How many connections, each with one withdrawal.
    pub(crate) connections: usize,
    /// Whose balance.
    pub(crate) user_id: i64,
    /// What each withdrawal takes; positive.
    pub(crate) amount: i64,
    /// The balance before; not negative.
    pub(crate) reset: i64,
    /// For `Authorization: Bearer`.
    pub(crate) token: Option<String>,
    /// From the moment of sending until all answers must be there.
    pub(crate) timeout: Duration,
    /// The file for `loadtest check`.
    pub(crate) history: Option<String>,
    /// JSON in place of text.
    pub(crate) json: bool,
}

impl Options {
    /// Reads the options behind `burst`.
    ///
    /// # Errors
    /// One sentence on the first that makes no sense.
    pub(crate) fn parse(arguments: &mut Arguments) -> Result<Options, String> {
        let mut options = Options {
            targets: vec![BaseUrl::parse("http://127.0.0.1:8080")?],
            connections: 10_000,
            user_id: 1,
            amount: 2,
            reset: 10_000,
            token: None,
            timeout: Duration::from_secs(120),
            history: None,
            json: false,
        };
        while let Some(name) = arguments.next()? {
            match name.as_str() {
                "--targets" => options.targets = arguments.targets()?,
                "--connections" | "-n" => {
                    options.connections = arguments.number(1..=CONNECTIONS_MAX)?;
                }
                "--user" => options.user_id = arguments.number(1..=i64::MAX)?,
                "--amount" => options.amount = arguments.number(1..=i64::MAX)?,
                "--reset" => options.reset = arguments.number(0..=i64::MAX)?,
                "--token" => options.token = arguments.token()?,
                "--timeout" => {
                    let seconds = arguments.number(1..=TIMEOUT_SECONDS_MAX)?;
                    options.timeout = Duration::from_secs(seconds);
                }
                "--history" => options.history = Some(arguments.text()?),
                "--json" => options.json = true,
                _ => return Err(arguments.unknown()),
            }
        }
        Ok(options)
    }
}

/// What only a burst reports.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BurstDetails {
    balance_before: i64,
    amount: i64,
    open_at_once: usize,
    opening_seconds: f64,
    connects_repeated: u64,
    writing_ms: f64,
}

impl Details for BurstDetails {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let (open, opening) = (self.open_at_once as u64, self.opening_seconds * 1_000.0);
        let repeated = grouped(self.connects_repeated);
        let opening = millis(opening);
        vec![
            (
                "open at once",
                format!("{} connections, made in {opening} ({repeated} repeated)", grouped(open)),
            ),
            ("writing", format!("{} for all requests", millis(self.writing_ms))),
        ]
    }
}

/// Runs the whole burst.
///
/// # Errors
/// A sentence where it could not even begin: nothing was withdrawn then.
pub(crate) fn run(options: &Options) -> Result<Output, String> {
    process::claim_descriptors(options.connections)?;
    let targets: Vec<_> = options.targets.iter().map(Target::reach).collect::<Result<_, _>>()?;
    process::check_local_ports(options.connections, &targets)?;
    let mut history = options.history.as_deref().map(History::create).transpose()?;
    reset::set_balance(options, &targets)?;

    let polling = |error| format!("polling the connections failed: {error}");
    let mut progress = Progress::new();
    let change = Change { user_id: options.user_id, amount: -options.amount };
    let addresses = targets.iter().map(Target::address).collect();
    let crowd = Crowd::open(addresses, options.connections, &mut progress).map_err(polling)?;
    let (open_at_once, opening) = (crowd.open_count(), crowd.took());
    let connects_repeated = crowd.repeated();
    let cpu_before = process::cpu_seconds();
    let volley = Volley::prepare(&targets, options.token.as_deref(), change, options.timeout);
    let shots = volley.fire(crowd, &mut progress, history.as_mut()).map_err(polling)?;
    let cpu_seconds = process::cpu_seconds() - cpu_before;
    drop(progress);

    let ends = targets
        .iter()
        .map(|target| {
            let caller = Caller::new(target, options.token.as_deref());
            let begun = Instant::now();
            let balance = caller.balance(options.user_id);
            if let (Some(history), Ok(balance)) = (&mut history, &balance) {
                history.balance(begun, options.user_id, *balance);
            }
            (target.url(), balance)
        })
        .collect();
    let evidence = Evidence {
        connections: options.connections as u64,
        reset: options.reset,
        amount: options.amount,
        balances: shots.balances,
        refused: shots.tally.refused(),
        errors: shots.tally.errors(),
        ends,
    };
    let mut faults = evidence.faults();
    faults.extend(history.and_then(|history| history.end().err()));
    let details = BurstDetails {
        balance_before: options.reset,
        amount: options.amount,
        open_at_once,
        opening_seconds: opening.as_secs_f64(),
        connects_repeated,
        writing_ms: shots.writing.as_secs_f64() * 1_000.0,
    };
    let report = Report {
        command: "burst",
        title: title(options),
        latency_note: "from the moment of sending to the full answer",
        targets: targets.iter().map(Target::url).collect(),
        figures: shots.tally.figures(shots.took, cpu_seconds),
        details,
        warnings: warnings(shots.writing),
        ok: faults.is_empty(),
        faults,
    };
    Ok(report.output(options.json))
}

fn title(options: &Options) -> String {
    format!(
        "{} withdrawals of {} from user {} with balance {}, all at one moment",
        grouped(options.connections as u64),
        grouped(options.amount.unsigned_abs()),
        options.user_id,
        grouped(options.reset.unsigned_abs()),
    )
}

fn warnings(writing: Duration) -> Vec<String> {
    let limit = WRITING_LIMIT.as_secs_f64() * 1_000.0;
    let took = writing.as_secs_f64() * 1_000.0;
    let late = writing > WRITING_LIMIT;
    let sentence = || {
        format!(
            "writing the requests took {}, more than {}: hardly one moment; this machine is too \
             busy for this burst",
            millis(took),
            millis(limit),
        )
    };
    late.then(sentence).into_iter().collect()
}
