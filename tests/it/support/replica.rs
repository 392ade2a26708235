use std::collections::HashSet;
use std::fs::{self, read_dir};
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use balanced::config::Config;
use balanced::db::{Db, Health, Limits, Manager, Probe};
use balanced::http::{
    Access, Api, Application, Asked, Call, Capacity, Listener, PARKED_MAX, Problem, Readiness,
    Reply, Route, Server, ServerOptions,
};
use balanced::jobs;
use balanced::metrics::Metrics;
use balanced::shutdown::Signal;

use super::child::Child;
use super::sockets::{LISTENS, sockets};
use super::{get, target, until};

/// A replica in this process, without a signal handler and without migrations.
pub(crate) struct Local {
    pub(crate) addr: SocketAddr,
    server: Option<Server>,
}

pub(crate) struct LocalOptions {
    pub(crate) workers: usize,
    pub(crate) pool_size: u32,
    pub(crate) request_timeout: Duration,
    pub(crate) token: Option<&'static str>,
    /// Other variables that say who may ask for what.
    pub(crate) access: Vec<(&'static str, String)>,
}

impl Default for LocalOptions {
    fn default() -> LocalOptions {
        let request_timeout = Duration::from_secs(30);
        LocalOptions { workers: 8, pool_size: 8, request_timeout, token: None, access: Vec::new() }
    }
}

impl LocalOptions {
    fn access(&self) -> Access {
        let config = Config::read(|name| match name {
            "DATABASE_URL" => Some("host=localhost".to_owned()),
            "API_TOKEN" => self.token.map(str::to_owned),
            _ => self.access.iter().find(|(known, _)| *known == name).map(|(_, text)| text.clone()),
        });
        Access::of(&config.unwrap_or_else(|faults| panic!("{faults}")))
    }
}

impl Local {
    pub(crate) fn start(database_url: &str) -> Local {
        Local::start_with(database_url, LocalOptions::default())
    }

    pub(crate) fn start_with(database_url: &str, options: LocalOptions) -> Local {
        let target = target(database_url, "local");
        let limits = Limits::for_requests(options.request_timeout);
        let (health, shutdown) = (Arc::new(Health::default()), Signal::new());
        let readiness = Arc::new(Readiness::new(Arc::clone(&health), shutdown.clone()));
        readiness.migrated();
        let manager = Manager::new(target.clone(), limits);
        let db = Arc::new(Db::open(
            manager,
            options.pool_size,
            Duration::from_secs(60),
            Arc::clone(&health),
        ));
        let functions =
            jobs::functions(jobs::FunctionOptions { least: Duration::ZERO, run_history_days: 14 });
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let api = Api::new(&db, options.access(), readiness, "local", &functions, &metrics);
        Probe::start(target, limits, Arc::clone(&health), shutdown.clone()).expect("a thread");
        let LocalOptions { workers, request_timeout, .. } = options;
        let options = Local::options(workers, request_timeout, shutdown);
        let local = Local::serve_options(options, health, metrics, Arc::new(api));
        until("the replica is ready", Duration::from_secs(20), || {
            get(local.addr, "/health").status == 200
        });
        local
    }

    /// A server of any application.
    pub(crate) fn serve(
        workers: usize,
        request_timeout: Duration,
        health: Arc<Health>,
        application: Arc<dyn Application>,
    ) -> Local {
        Local::serve_options(
            Local::options(workers, request_timeout, Signal::new()),
            health,
            Arc::new(Metrics::new().expect("metrics")),
            application,
        )
    }

    /// The same, where few may wait for these workers.
    pub(crate) fn serve_few(
        workers: usize,
        parked_max: usize,
        health: Arc<Health>,
        application: Arc<dyn Application>,
    ) -> Local {
        let options = Local::options(workers, Duration::from_secs(30), Signal::new());
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        Local::serve_options(ServerOptions { parked_max, ..options }, health, metrics, application)
    }

    fn options(workers: usize, request_timeout: Duration, shutdown: Signal) -> ServerOptions {
        ServerOptions {
            workers,
            connections: workers,
            request_timeout,
            parked_max: PARKED_MAX,
            replica_name: "local".to_owned(),
            capacity: Capacity { connections: usize::MAX, descriptors: usize::MAX, spare: 0 },
            shutdown,
        }
    }

    fn serve_options(
        options: ServerOptions,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
        application: Arc<dyn Application>,
    ) -> Local {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).expect("a port");
        let addr = listener.local_addr().unwrap();
        let server = listener.serve(&options, health, metrics, application).expect("a server");
        Local { addr, server: Some(server) }
    }
}

/// An application that answers each request that has a route by this function.
pub(crate) struct Answers<F>(pub(crate) F);

impl<F: Fn(&Call) -> Reply + Send + Sync> Application for Answers<F> {
    fn check(&self, _: &Route, _: &Call) -> Result<Option<Arc<str>>, Problem> {
        Ok(None)
    }

    fn answer(&self, asked: &Asked<'_>) -> Reply {
        (self.0)(asked.call)
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.drain(Duration::from_millis(40));
        }
    }
}

/// A replica as a process of its own, killed at the end of the test.
pub(crate) struct Process {
    pub(crate) addr: SocketAddr,
    child: Child,
}

impl Process {
    /// Starts one and waits until it is ready.
    pub(crate) fn start(database_url: &str, variables: &[(&str, &str)]) -> Process {
        let process = Process::spawn(&mut Process::command(database_url, variables));
        until("the process is ready", Duration::from_secs(30), || {
            std::net::TcpStream::connect(process.addr).is_ok()
                && get(process.addr, "/health").status == 200
        });
        process
    }

    pub(crate) fn command(database_url: &str, variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_balanced"));
        command.env_clear().env("DATABASE_URL", database_url).env("LISTEN_ADDR", "127.0.0.1:0");
        command.envs(variables.iter().copied());
        command
    }

    /// Starts one and waits until it listens.
    pub(crate) fn spawn(command: &mut Command) -> Process {
        let child = Child::spawn(command);
        let mut addr = None;
        until("the process listens", Duration::from_secs(30), || {
            let text = child.log();
            let listen = text.split("listen=").nth(1);
            addr = listen.and_then(|rest| rest.split_once(' ')?.0.parse().ok());
            addr.is_some()
        });
        Process { addr: addr.unwrap(), child }
    }

    /// How many sockets it holds for its clients: all but those that listen or lead to the
    /// database, which the tests reach by a Unix socket. One whose connection has ended is in no
    /// table of the kernel, so what is in a table is taken away from all. Its own connections to
    /// itself are counted for moments: a test waits for a number.
    pub(crate) fn client_sockets(&self) -> usize {
        let process = self.pid().to_string();
        let entries = read_dir(format!("/proc/{process}/fd")).expect("its descriptors");
        let links = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        let number =
            |link: &str| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned());
        let mut held: HashSet<String> = links.filter_map(|link| number(link.to_str()?)).collect();
        // Of a process that has ended there are none.
        let table = |kind| sockets(&process, kind).expect("its sockets");
        // … state inode path, in the last columns of the one; … state … inode in the other.
        for row in table("unix") {
            row.get(6).map(|inode| held.remove(inode));
        }
        for row in table("tcp").iter().filter(|row| row[3] == LISTENS) {
            row.get(9).map(|inode| held.remove(inode));
        }
        held.len()
    }
}

impl Deref for Process {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.child
    }
}

impl DerefMut for Process {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.child
    }
}
