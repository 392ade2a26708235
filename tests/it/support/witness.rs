//! A scheduler as a process of its own, with functions that leave a trace of every step in a table
//! that knows no lease: what was done, not what was recorded.

use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use balanced::cron::{Context, Failure, Functions};
use postgres::{Client, NoTls};

use super::child::Child;
use super::{Database, Scheduler, options};

const URL: &str = "WITNESS_DATABASE_URL";
/// Where steps are noted that know no lease, if elsewhere.
const STEPS_URL: &str = "WITNESS_STEPS_URL";
const NAME: &str = "WITNESS_NAME";
const LEASE_MS: &str = "WITNESS_LEASE_MS";
const STEP: Duration = Duration::from_millis(20);
/// For runs that are many.
const LONG_STEP: Duration = Duration::from_millis(100);
const DRAIN_MAX: Duration = Duration::from_secs(20);

const TABLES: &str = "create table witness (
    job text, run_id bigint, process integer, at timestamptz default clock_timestamp()
);
create table fenced (id bigint generated always as identity, job text, run_id bigint, seen bigint);
create index on fenced (job, run_id, id)";
/// With the last step of earlier runs that it sees.
const FENCED_STEP: &str = "insert into fenced (job, run_id, seen) select $1, $2, max(id)
from fenced where job = $1 and run_id < $2";

/// Not a test: what the process runs, until it is killed or told to end.
#[test]
#[ignore = "other tests start it as a process of its own"]
fn process() {
    let Ok(url) = std::env::var(URL) else {
        return;
    };
    let config = simplelog::Config::default();
    simplelog::WriteLogger::init(log::LevelFilter::Info, config, std::io::stderr()).unwrap();
    let mut options = options(&std::env::var(NAME).unwrap());
    options.lease = Duration::from_millis(std::env::var(LEASE_MS).unwrap().parse().unwrap());
    let functions = {
        let steps_url = std::env::var(STEPS_URL).unwrap_or_else(|_| url.clone());
        let (polite, stubborn, brief) = (steps_url.clone(), steps_url.clone(), steps_url);
        Functions::new()
            .with("witness", move |context| steps(&polite, context, true))
            .with("stubborn", move |context| steps(&stubborn, context, false))
            .with("fenced", fenced_steps)
            .with("third-time-lucky", third_time_lucky)
            .with("counting", counting)
            .with("short", move |context| short_steps(&brief, context))
    };
    let (told, end) = mpsc::channel();
    ctrlc::set_handler(move || told.send(()).unwrap()).unwrap();
    log::info!("event=ready process={}", std::process::id());
    let scheduler = Scheduler::start(&url, &options, functions);
    end.recv().unwrap();
    scheduler.0.begin_drain();
    assert!(scheduler.0.wait_drained(Instant::now() + DRAIN_MAX), "runs are left");
}

/// Steps for ever, or until told to stop if it asks.
fn steps(url: &str, context: &Context, polite: bool) -> Result<String, Failure> {
    let mut client = Client::connect(url, NoTls).expect("the database");
    loop {
        if polite {
            context.check()?;
        }
        step(&mut client, context);
        std::thread::sleep(STEP);
    }
}

/// Steps for as many milliseconds as the end of the job's name says: `short-250`. A pause of the
/// process is not counted, so that a run which is not told to end goes on for long after it.
fn short_steps(url: &str, context: &Context) -> Result<String, Failure> {
    let millis = context.job().rsplit('-').next().and_then(|text| text.parse().ok());
    let mut left = Duration::from_millis(millis.expect("a length in the job's name"));
    let mut client = Client::connect(url, NoTls).expect("the database");
    loop {
        context.check()?;
        step(&mut client, context);
        if left.is_zero() {
            return Ok(String::new());
        }
        let pause = left.min(LONG_STEP);
        context.wait(pause)?;
        left -= pause;
    }
}

/// Counts on from the checkpoint until told to stop, and says where it began, and every number.
pub(crate) fn counting(context: &Context) -> Result<String, Failure> {
    let mut number: i64 = context.last_checkpoint().unwrap_or(0);
    context.say(&format!("began at {number}"));
    loop {
        number += 1;
        context.checkpoint(&number)?;
        context.say(&number.to_string());
        context.wait(STEP)?;
    }
}

/// Steps for ever, one right behind the other, until told to stop.
fn fenced_steps(context: &Context) -> Result<String, Failure> {
    loop {
        let (job, run) = (context.job(), context.run_id());
        context.step(|session| session.query(FENCED_STEP, &[&job, &run]))?;
    }
}

/// Takes a while, and fails the first two times.
fn third_time_lucky(context: &Context) -> Result<String, Failure> {
    context.wait(Duration::from_secs(2))?;
    match context.attempt() {
        1 | 2 => Err(Failure::Failed("no luck".to_owned())),
        _ => Ok("luck".to_owned()),
    }
}

fn step(client: &mut Client, context: &Context) {
    let process = std::process::id().cast_signed();
    let insert = "insert into witness (job, run_id, process) values ($1, $2, $3)";
    client.execute(insert, &[&context.job(), &context.run_id(), &process]).expect("a step");
}

/// Starts such a process.
pub(crate) fn witness(database: &Database, name: &str, lease: Duration) -> Child {
    Child::spawn(&mut witness_command(database, name, lease))
}

/// Its jobs in one database, and the trace of their steps in another.
pub(crate) fn witness_beside(url: &str, steps: &Database, name: &str, lease: Duration) -> Child {
    let mut command = witness_command(steps, name, lease);
    Child::spawn(command.env(URL, url).env(STEPS_URL, steps.url()))
}

pub(crate) fn witness_command(database: &Database, name: &str, lease: Duration) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .args(["--exact", "support::witness::process", "--ignored", "--nocapture"])
        .env(URL, database.url())
        .env(NAME, name)
        .env(LEASE_MS, lease.as_millis().to_string())
        .stdout(Stdio::null());
    command
}

impl Database {
    pub(crate) fn with_witness_table(self) -> Database {
        self.connect().batch_execute(TABLES).expect("a table");
        self
    }
}
