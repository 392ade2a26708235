//! `loadtest cron`: the jobs of a cluster, watched from outside.
//!
//! The way: [`watch`] (every target asked in turn, what they say put into the [`record`]; then the
//! history read) → [`verdict`] with [`wave`] → [`report`]. All instants are the database's, so this
//! machine's clock decides nothing. For the eye alone: what has happened goes into the
//! [`chronicle`], and with the newest status into the [`table`], which the [`screen`] shows.

mod agreement;
mod chronicle;
mod interrupt;
mod moment;
mod record;
mod report;
#[cfg(test)]
mod samples;
mod screen;
mod status;
mod table;
#[cfg(test)]
mod tests;
mod verdict;
mod watch;
mod wave;

use std::time::Duration;

use crate::client::BaseUrl;
use crate::options::Arguments;
use crate::report::Output;
use interrupt::Interrupt;
use report::Report;
use verdict::Evidence;
use watch::Watch;

/// `loadtest cron --help`.
pub(crate) const HELP: &str = "\
Watches the status of all jobs through every target for a while, then reads the
history and says whether the cluster ran them as it has to. Changes nothing.

Usage: loadtest cron [options]

Options:
      --targets URLS      base URLs, comma-separated; each is asked in every
                          round [http://127.0.0.1:8080]
      --duration SECONDS  how long is watched; 0: until Ctrl-C [150]
      --min-run SECONDS   the least time a run that succeeded must have taken
                          [120]
      --spread N          the most by which two servers' jobs of the first wave
                          may differ [1]
      --poll MS           from the beginning of one round to that of the next
                          [500]
      --token TOKEN       sent as a bearer token; scope: read
      --json              the same report as one JSON document
  -h, --help              this page

Meanwhile standard error shows, on a terminal, a table of the jobs, how many
each server runs, and under it what has happened that deserves a look: runs that
failed or broke off, who took them over, jobs that were paused or changed,
targets that came back; times of day are UTC. It follows the terminal's size;
colours only repeat what the text says, and NO_COLOR turns them off. Elsewhere
it is a line every 10 s.

Ctrl-C ends the watch at any time: what was seen so far is judged. A second one
ends the program.

What is checked:
  one server at a time      no run of a job began before the one before it had
                            ended
  first wave                when first all enabled jobs run, the servers'
                            numbers of them; or of the first run of each job,
                            where never all run at once
  starts per server         figures only
  least run time            of the runs that succeeded
  targets agree             what two targets, asked one after the other, say of
                            a job differs only if it changed in between
  every run in the history  each run that was seen and is over is there once,
                            with its server

Exit code 0 only if no check fails; one that has nothing to judge does not. A
target may be out of reach for a while, or for good, as long as another answers.
";

const SECONDS_MAX: u64 = 86_400;
const SPREAD_MAX: usize = 1_000_000;
const POLL_MS_MIN: u64 = 10;
const POLL_MS_MAX: u64 = 60_000;

/// What a watch is told.
pub(crate) struct Options {
    targets: Vec<BaseUrl>,
    /// None: until Ctrl-C.
    duration: Option<Duration>,
    run_seconds_min: u64,
    spread_max: usize,
    poll: Duration,
    token: Option<String>,
    json: bool,
}

impl Options {
    /// Reads the options behind `cron`.
    ///
    /// # Errors
    /// One sentence on the first that makes no sense.
    pub(crate) fn parse(arguments: &mut Arguments) -> Result<Options, String> {
        let mut options = Options {
            targets: vec![BaseUrl::parse("http://127.0.0.1:8080")?],
            duration: Some(Duration::from_secs(150)),
            run_seconds_min: 120,
            spread_max: 1,
            poll: Duration::from_millis(500),
            token: None,
            json: false,
        };
        while let Some(name) = arguments.next()? {
            match name.as_str() {
                "--targets" => options.targets = arguments.targets()?,
                "--duration" => {
                    let seconds = arguments.number(0..=SECONDS_MAX)?;
                    options.duration = (seconds > 0).then(|| Duration::from_secs(seconds));
                }
                "--min-run" => options.run_seconds_min = arguments.number(0..=SECONDS_MAX)?,
                "--spread" => options.spread_max = arguments.number(0..=SPREAD_MAX)?,
                "--poll" => {
                    let millis = arguments.number(POLL_MS_MIN..=POLL_MS_MAX)?;
                    options.poll = Duration::from_millis(millis);
                }
                "--token" => options.token = arguments.token()?,
                "--json" => options.json = true,
                _ => return Err(arguments.unknown()),
            }
        }
        Ok(options)
    }
}

/// Watches, reads the history and judges.
///
/// # Errors
/// A sentence where no target answered at any time: nothing was seen then.
pub(crate) fn run(options: &Options) -> Result<Output, String> {
    let mut watch = Watch::run(options, &Interrupt::on_signals()?);
    let seconds = watch.seconds();
    let (Some(begin), Some(last)) = (watch.record.begin, watch.record.last.clone()) else {
        let reason = watch.record.last_failure.unwrap_or_default();
        return Err(format!("no target answered while watched; the last: {reason}"));
    };
    let history = watch.history();
    let evidence = Evidence {
        begin,
        last: &last,
        record: &watch.record,
        history: &history,
        spread_max: options.spread_max,
        run_seconds_min: options.run_seconds_min,
    };
    Ok(Report::new(options, seconds, &evidence).output(options.json))
}
