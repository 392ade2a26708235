//! One replica: settings, log, listen, serve, migrate, run jobs, wait for the signal, drain.

mod jobs_command;
mod token;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use balanced::config::{Config, Faults, Tokens, help};
use balanced::cron::{self, Cron, Functions};
use balanced::db::{Db, Health, Limits, Manager, Probe, Target};
use balanced::http::{
    Access, Api, Capacity, Listener, PARKED_MAX, Readiness, Server, ServerOptions, self_check,
};
use balanced::jobs;
use balanced::logger;
use balanced::metrics::Metrics;
use balanced::migrate::{self, MIGRATIONS};
use balanced::shutdown::{Signal, say, spawn_vital};
use log::{debug, error, info, warn};
use nix::sys::signal::{SIGHUP, SigSet};

/// Wrong settings or arguments: starting again does not help.
pub(crate) const USAGE: u8 = 2;
/// How long requests wait for the connections of jobs: they come first, but not at any price.
const CONNECT_FIRST_MAX: Duration = Duration::from_secs(5);
/// A connection of requests that is unused for this long is closed.
const UNUSED_MAX: Duration = Duration::from_secs(30);
/// Of the thread that reads the tokens again.
const HANGUP_STACK_BYTES: usize = 256 * 1024;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        [] => serve(),
        ["migrate"] => migrate_only(),
        ["health"] => health(),
        ["token", words @ ..] => return token::make(words),
        ["jobs", words @ ..] => return jobs_command::run(words),
        ["--help" | "-h" | "help"] => {
            print!("{}", help());
            Ok(())
        }
        ["--version" | "-V"] => {
            println!("balanced {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        other => {
            let other = other.join(" ");
            eprintln!("balanced: there is no command `{other}`; see balanced --help");
            return ExitCode::from(USAGE);
        }
    };
    let Err(reason) = result else { return ExitCode::SUCCESS };
    eprintln!("balanced: {reason}");
    ExitCode::from(if reason.is::<Faults>() { USAGE } else { 1 })
}

/// Why the program cannot do what it was told; [`Faults`] if the settings are the reason.
type Failure = Box<dyn Error>;

fn serve() -> Result<(), Failure> {
    let config = settings()?;
    let shutdown = shutdown_on_signal(&config.tokens)?;
    let capacity = take_capacity()?;
    let listener = listen(&config)?;
    let addr = listener.local_addr()?;
    let name = &config.replica_name;
    info!("event=started version={} listen={addr}", env!("CARGO_PKG_VERSION"));

    let target = target(&config)?;
    let limits = Limits::for_requests(config.request_timeout);
    let metrics = Arc::new(Metrics::new()?);
    let (release, source) = cron::zones_in_use();
    info!("event=time_zones release={release} source={source:?}");
    metrics.note_time_zones(release, source)?;
    let health = Arc::new(Health::untried());
    let readiness = Arc::new(Readiness::new(Arc::clone(&health), shutdown.clone()));
    let options =
        jobs::FunctionOptions { least: config.job_min, run_history_days: config.run_history_days };
    let functions = jobs::functions(options);
    // The requests' pool opens its connections behind those of jobs, which are few and come first.
    let turn = Signal::new();
    let manager = Manager::new(target.clone(), limits).behind(turn.clone());
    let db = Arc::new(Db::open(manager, config.db_pool_size, UNUSED_MAX, Arc::clone(&health)));
    let access = Access::of(&config);
    let api = Api::new(&db, access, Arc::clone(&readiness), name, &functions, &metrics);
    let options = ServerOptions {
        workers: config.http_workers,
        connections: config.db_pool_size.try_into().unwrap_or(usize::MAX),
        request_timeout: config.request_timeout,
        parked_max: PARKED_MAX,
        replica_name: config.replica_name.clone(),
        capacity,
        shutdown: shutdown.clone(),
    };
    let server = listener.serve(&options, Arc::clone(&health), Arc::clone(&metrics), Arc::new(api));
    let server = server.map_err(no_thread)?;
    target.watch(&health, &shutdown).map_err(no_thread)?;
    let probe = Probe::start(target.clone(), limits, Arc::clone(&health), shutdown.clone());
    probe.map_err(no_thread)?;
    let cron = match migrate::run_until_done(&target, MIGRATIONS, &shutdown) {
        Ok(()) => {
            let cron = start_cron(&config, functions, &target, &health, &metrics, &shutdown)?;
            cron.iter().for_each(|cron| cron.wait_connected(CONNECT_FIRST_MAX));
            turn.begin();
            readiness.migrated();
            info!("event=serving url=http://{addr}");
            shutdown.wait();
            cron
        }
        Err(migrate::Fault::Stopped) => None,
        Err(fault) => return Err(fault.into()),
    };
    drain(&config, server, cron);
    if shutdown.has_failed() { Err("it could not go on; the log says why".into()) } else { Ok(()) }
}

fn target(config: &Config) -> Result<Target, Failure> {
    let database = &config.database;
    if database.is_encrypted_only() {
        warn!(
            "event=tls_not_verified hint=\"connections are encrypted, and whoever answers is taken \
             for the database: set sslmode=verify-full and sslrootcert in DATABASE_URL\""
        );
    }
    if let Some(reason) = &database.passwords.ignored {
        warn!("event=password_file_ignored reason={reason:?}");
    }
    let passwords = &database.passwords.of_hosts;
    let proof = database.proof.clone();
    Ok(Target::new(&database.parameters, passwords, proof, &config.replica_name)?)
}

fn start_cron(
    config: &Config,
    functions: Functions,
    target: &Target,
    health: &Arc<Health>,
    metrics: &Arc<Metrics>,
    shutdown: &Signal,
) -> Result<Option<Cron>, Failure> {
    if !config.cron_enabled {
        info!("event=cron_off hint=\"this replica runs no jobs: CRON_ENABLED=false\"");
        return Ok(None);
    }
    let options = cron::CronOptions {
        server: config.replica_name.clone(),
        lease: config.cron_lease,
        handicap: config.cron_handicap,
        poll: config.cron_poll,
        max_runs: config.cron_max_runs,
    };
    let cron = Cron::start(&options, functions, target, health, metrics, shutdown);
    cron.map(Some).map_err(no_thread)
}

/// Hands the jobs over first, since that needs no proxy to notice; then requests and runs have
/// the same time to end.
fn drain(config: &Config, server: Server, cron: Option<Cron>) {
    let until = Instant::now() + config.shutdown_grace;
    info!("event=draining");
    if let Some(cron) = &cron {
        cron.begin_drain();
    }
    let answered = server.drain(config.shutdown_grace);
    let handed_over = cron.is_none_or(|cron| cron.wait_drained(until));
    match answered && handed_over {
        true => info!("event=stopped"),
        false => warn!("event=stopped reason=\"the grace time is over\""),
    }
}

fn migrate_only() -> Result<(), Failure> {
    let config = settings()?;
    let shutdown = shutdown_on_signal(&config.tokens)?;
    let target = target(&config)?;
    target.watch(&Arc::new(Health::untried()), &shutdown).map_err(no_thread)?;
    Ok(migrate::run(&target, MIGRATIONS, &shutdown)?)
}

fn health() -> Result<(), Failure> {
    // Only the address matters here; the other settings are the replica's business.
    let addr = std::env::var("LISTEN_ADDR").ok().filter(|addr| !addr.trim().is_empty());
    let addr = addr.as_deref().map_or("127.0.0.1:3001", str::trim);
    let wrong = |_| format!("LISTEN_ADDR={addr}: must be an address and a port");
    println!("{}", self_check(addr.parse().map_err(wrong)?)?);
    Ok(())
}

fn settings() -> Result<Config, Failure> {
    let config = Config::read(|name| std::env::var(name).ok())?;
    logger::init(config.log_level, &config.replica_name)?;
    std::panic::set_hook(Box::new(|panic| {
        let (thread, text) = (std::thread::current(), panic.to_string().replace('\n', " "));
        let name = thread.name().unwrap_or("without a name").to_owned();
        match panic.location().is_some_and(|place| place.file().contains("/tiny_http-")) {
            // Its way to say that a client has gone: any client could fill the disk with it.
            true => debug!("event=library_panicked thread={name:?} reason={text:?}"),
            false => say(move || error!("event=panic thread={name:?} reason={text:?}")),
        }
    }));
    Ok(config)
}

fn shutdown_on_signal(tokens: &Arc<Tokens>) -> Result<Signal, Failure> {
    if tokens.have_a_file() {
        read_tokens_on_hangup(Arc::clone(tokens))?;
    }
    let shutdown = Signal::new();
    let on_signal = shutdown.clone();
    ctrlc::set_handler(move || on_signal.begin())
        .map_err(|error| format!("signals cannot be handled: {error}"))?;
    Ok(shutdown)
}

/// ctrlc takes SIGHUP as well, and would end the process. So this thread, and with it all that are
/// started later, leave that signal to one thread that waits for it.
fn read_tokens_on_hangup(tokens: Arc<Tokens>) -> Result<(), Failure> {
    let hangup = SigSet::from_iter([SIGHUP]);
    hangup.thread_block()?;
    let read_again = move || {
        while hangup.wait().is_ok() {
            match tokens.read_again() {
                Ok(count) => say(move || info!("event=tokens_read tokens={count}")),
                Err(faults) => {
                    let reason = faults.to_string();
                    say(move || {
                        error!(
                            "event=tokens_not_read reason={reason:?} hint=\"the tokens from before \
                             go on to count; mend the file and send SIGHUP again\""
                        );
                    });
                }
            }
        }
    };
    spawn_vital("hangup", HANGUP_STACK_BYTES, read_again).map(drop).map_err(no_thread)
}

fn listen(config: &Config) -> Result<Listener, Failure> {
    let addr = config.listen_addr;
    Listener::bind(addr).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => format!(
            "{addr} is taken: another program (or another replica) listens there; set \
             LISTEN_ADDR to a free port"
        )
        .into(),
        _ => format!("cannot listen at {addr}: {error}; see LISTEN_ADDR").into(),
    })
}

fn take_capacity() -> Result<Capacity, Failure> {
    let capacity = Capacity::take()
        .map_err(|error| format!("the limit of open files cannot be read or set: {error}"))?;
    let Capacity { connections, descriptors, .. } = capacity;
    debug!("event=capacity connections={connections} descriptors={descriptors}");
    if connections < 200 {
        warn!(
            "event=few_connections connections={connections} hint=\"raise ulimit -n, or the \
             container's limit of processes\""
        );
    }
    Ok(capacity)
}

fn no_thread(error: std::io::Error) -> Failure {
    format!("cannot start a thread: {error}").into()
}
