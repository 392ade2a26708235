//! One replica: settings, log, listen, serve, migrate, wait for the signal, drain.

use std::process::ExitCode;
use std::sync::Arc;

use balanced::config::{Config, SETTINGS};
use balanced::db::{Db, Limits, Manager, Probe, Pulse, parameters};
use balanced::http::{Api, Handler, Listener, Options, Readiness, Server, self_check};
use balanced::migrate::{self, MIGRATIONS};
use balanced::stop::Stop;
use log::{error, info, warn};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Wrong settings or arguments: starting again does not help.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        [] => serve(),
        ["migrate"] => migrate_only(),
        ["health"] => health(),
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
            Err(Failure::Usage(format!("there is no command `{other}`; see balanced --help")))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(reason)) => fail(USAGE, &reason),
        Err(Failure::Run(reason)) => fail(1, &reason),
    }
}

enum Failure {
    Usage(String),
    Run(String),
}

fn fail(code: u8, reason: &str) -> ExitCode {
    eprintln!("balanced: {reason}");
    ExitCode::from(code)
}

fn serve() -> Result<(), Failure> {
    let config = settings()?;
    let stop = stop_on_signal()?;
    raise_descriptor_limit();
    let listener = listen(&config)?;
    let addr = listener.local_addr().map_err(|error| Failure::Run(error.to_string()))?;
    let name = &config.replica_name;
    info!("event=started version={} server={name} listen={addr}", env!("CARGO_PKG_VERSION"));

    let parameters = parameters(&config.database, name);
    let limits = Limits::for_requests(config.request_timeout);
    let pulse = Arc::new(Pulse::default());
    let readiness = Arc::new(Readiness::new(Arc::clone(&pulse)));
    let server = start(&config, listener, &parameters, limits, &pulse, &readiness)?;
    match migrate::run_until_done(&parameters, MIGRATIONS, &stop) {
        Ok(()) => {
            // Not ended by the signal: requests in flight are judged by it while they drain.
            Probe::start(parameters, limits, pulse, Stop::new()).map_err(no_thread)?;
            readiness.migrated();
            info!("event=serving server={name} url=http://{addr}");
            stop.wait();
        }
        Err(migrate::Fault::Stopped) => {}
        Err(fault) => return Err(Failure::Run(fault.to_string())),
    }
    info!("event=draining server={name}");
    readiness.draining();
    match server.drain(config.shutdown_grace) {
        true => info!("event=stopped server={name}"),
        false => error!("event=stopped server={name} reason=\"the grace time is over\""),
    }
    Ok(())
}

fn start(
    config: &Config,
    listener: Listener,
    parameters: &postgres::Config,
    limits: Limits,
    pulse: &Arc<Pulse>,
    readiness: &Arc<Readiness>,
) -> Result<Server, Failure> {
    let manager = Manager::new(parameters.clone(), limits);
    let db = Arc::new(Db::open(manager, config.db_pool_size, Arc::clone(pulse)));
    let api = Api::new(&db, config.api_token.clone(), Arc::clone(readiness));
    let handler: Handler = Arc::new(move |call, attempt| api.answer(call, attempt));
    let options = Options {
        workers: config.http_workers,
        request_timeout: config.request_timeout,
        replica_name: config.replica_name.clone(),
    };
    listener.serve(&options, Arc::clone(pulse), handler).map_err(no_thread)
}

fn migrate_only() -> Result<(), Failure> {
    let config = settings()?;
    let stop = stop_on_signal()?;
    let parameters = parameters(&config.database, &config.replica_name);
    migrate::run(&parameters, MIGRATIONS, &stop).map_err(|fault| Failure::Run(fault.to_string()))
}

fn health() -> Result<(), Failure> {
    // Only the address matters here; the other settings are the replica's business.
    let addr = std::env::var("LISTEN_ADDR").ok().filter(|addr| !addr.trim().is_empty());
    let addr = addr.as_deref().map_or("127.0.0.1:3001", str::trim);
    let wrong = |_| Failure::Run(format!("LISTEN_ADDR={addr}: must be an address and a port"));
    let answer = self_check(addr.parse().map_err(wrong)?).map_err(Failure::Run)?;
    println!("{answer}");
    Ok(())
}

fn settings() -> Result<Config, Failure> {
    let config = Config::read(|name| std::env::var(name).ok())
        .map_err(|faults| Failure::Usage(faults.to_string()))?;
    let format = simplelog::ConfigBuilder::new()
        .set_time_format_rfc3339()
        .set_thread_level(log::LevelFilter::Off)
        .set_target_level(log::LevelFilter::Off)
        .set_location_level(log::LevelFilter::Off)
        // What the server library says of its accept loop is said here with what is done about it.
        .add_filter_ignore_str("tiny_http")
        .build();
    simplelog::WriteLogger::init(config.log_level, format, std::io::stderr())
        .map_err(|error| Failure::Run(error.to_string()))?;
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.to_string().replace('\n', " ");
        error!("event=panic reason={text:?}");
    }));
    Ok(config)
}

fn stop_on_signal() -> Result<Stop, Failure> {
    let stop = Stop::new();
    let on_signal = stop.clone();
    ctrlc::set_handler(move || on_signal.set())
        .map_err(|error| Failure::Run(format!("signals cannot be handled: {error}")))?;
    Ok(stop)
}

fn listen(config: &Config) -> Result<Listener, Failure> {
    let addr = config.listen_addr;
    Listener::bind(addr).map_err(|error| {
        Failure::Run(match error.kind() {
            std::io::ErrorKind::AddrInUse => format!(
                "{addr} is taken: another program (or another replica) listens there; set \
                 LISTEN_ADDR to a free port"
            ),
            _ => format!("cannot listen at {addr}: {error}; see LISTEN_ADDR"),
        })
    })
}

/// Each open connection takes two descriptors, and the usual soft limit is 1,024.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        }
        Ok(hard)
    });
    match raised {
        Ok(limit) if limit < 4_096 => warn!(
            "event=few_descriptors limit={limit} hint=\"about {} connections at most; raise \
             ulimit -n\"",
            limit / 2
        ),
        Ok(_) => {}
        Err(error) => warn!("event=descriptor_limit_not_raised reason={:?}", error.to_string()),
    }
}

fn no_thread(error: std::io::Error) -> Failure {
    Failure::Run(format!("cannot start a thread: {error}"))
}

fn help() -> String {
    let mut text = String::from(
        "balanced - exact balances over PostgreSQL\n\n\
         Usage:\n\
         \x20 balanced            run one replica until Ctrl-C or SIGTERM\n\
         \x20 balanced migrate    apply the migrations and end\n\
         \x20 balanced health     ask the replica at LISTEN_ADDR; ends with 0 when it is ready\n\
         \x20 balanced --help | --version\n\n\
         Settings (environment):\n",
    );
    for setting in SETTINGS {
        let default = match setting.default {
            "" => String::new(),
            default => format!(" [{default}]"),
        };
        text.push_str(&format!("  {:<24}{}{default}\n", setting.name, setting.meaning));
    }
    text.push_str(
        "\nEnds with 0 after a drain, 1 when it cannot run, 2 when a setting is wrong.\n",
    );
    text
}
