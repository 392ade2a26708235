//! A pooler between the replicas and the database: one by session works, and one that mixes
//! sessions is refused by name. Left out where there is no PgBouncer.
//!
//! `POOLER_SECONDS` is how long clients work through one by session (3 unless told).

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::unistd::Uid;
use serde_json::Value;

use super::bank::Bank;
use crate::support::{
    Child, Database, Postgres, Process, change, get, post, program, seconds, seed, until,
};

/// As long as somebody who has set it up waits for a word.
const SOON: Duration = Duration::from_secs(5);
const NAMED: &str = "a pooler between here and the database mixes sessions";

/// PgBouncer in front of one database.
struct Pooler {
    program: PathBuf,
    process: Option<Child>,
    port: u16,
    folder: PathBuf,
    database: String,
}

impl Pooler {
    /// Not started yet; none where PgBouncer is missing.
    fn find(name: &str) -> Option<(Pooler, Database)> {
        let program = program("pgbouncer")?;
        let database = Postgres::shared().migrated();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = std::env::temp_dir().join(format!("balanced-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let url = database.url().to_owned();
        Some((Pooler { program, process: None, port, folder, database: url }, database))
    }

    fn start(&mut self, mode: &str, size: usize) {
        let (path, query) = self.database.split_once('?').expect("a URL with parameters");
        let name = path.rsplit('/').next().expect("a name");
        let value = |key: &str| query.split('&').find_map(|part| part.strip_prefix(key));
        let socket = value("host=").expect("a host").replace("%2F", "/");
        let settings = format!(
            "[databases]\n{name} = host={socket} port={} user={}\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = {mode}\ndefault_pool_size = {size}\nmax_client_conn = 500\n",
            value("port=").unwrap_or("5432"),
            value("user=").unwrap_or("postgres"),
            self.port,
        );
        let file = self.folder.join("pgbouncer.ini");
        std::fs::File::create(&file).unwrap().write_all(settings.as_bytes()).unwrap();
        // It refuses to run as root.
        let mut command = match Uid::effective().is_root() {
            false => Command::new(&self.program),
            true => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
                command.arg(&self.program);
                command
            }
        };
        self.process = Some(Child::spawn(command.arg(&file)));
        until("the pooler listens", SOON * 2, || {
            TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
    }

    /// As a pooler that is put in another mode.
    fn restart(&mut self, mode: &str, size: usize) {
        drop(self.process.take());
        self.start(mode, size);
    }

    fn url(&self) -> String {
        let name = self.database.split('?').next().unwrap().rsplit('/').next().unwrap();
        format!("postgresql://postgres@127.0.0.1:{}/{name}", self.port)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.process.take());
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What readiness says, once it is not that nobody has looked yet.
fn is_refused(replica: &Process) -> bool {
    let ready = get(replica.addr, "/health/ready");
    ready.status == 503 && String::from_utf8_lossy(&ready.body).contains(NAMED)
}

#[test]
fn a_pooler_that_mixes_sessions_is_refused_by_name_at_once() {
    for mode in ["transaction", "statement"] {
        let Some((mut pooler, database)) = Pooler::find(mode) else { return };
        pooler.start(mode, 20);
        let replica = Process::spawn(&mut Process::command(&pooler.url(), &[]));
        until("it is refused by name", SOON, || is_refused(&replica));
        let answer = post(replica.addr, "/api/balance", &change(1, -2));
        assert_eq!(answer.status, 503, "{mode}: {}", answer.json());
        assert!(replica.log().contains(NAMED), "{mode}: {}", replica.log());
        assert_eq!(database.number("select balance from users where id = 1"), 10_000);
        assert_eq!(database.number("select count(*) from cron_runs"), 0, "{mode}");
    }
}

#[test]
fn a_pooler_that_begins_to_mix_sessions_is_found_out() {
    let Some((mut pooler, database)) = Pooler::find("later") else { return };
    pooler.start("session", 20);
    let replica = Process::start(&pooler.url(), &[]);
    assert_eq!(post(replica.addr, "/api/balance", &change(1, -2)).status, 200);
    pooler.restart("transaction", 20);
    let put_in = Instant::now();
    let (mut acknowledged, mut told) = (1, false);
    while !told {
        acknowledged += i64::from(post(replica.addr, "/api/balance", &change(1, -2)).status == 200);
        told = is_refused(&replica);
        assert!(put_in.elapsed() < SOON, "{}", replica.log());
    }
    let balance = database.number("select balance from users where id = 1");
    assert!(balance <= 10_000 - 2 * acknowledged, "acknowledged and not applied");
    pooler.restart("session", 20);
    until("it serves again", SOON * 4, || {
        post(replica.addr, "/api/balance", &change(1, -2)).status == 200
    });
}

/// Fewer sessions than the replicas would take: who has what it needs works, and who has not says
/// so in the pooler's words.
#[test]
fn five_replicas_share_a_pool_of_20_sessions() {
    let Some((mut pooler, database)) = Pooler::find("shared") else { return };
    pooler.start("session", 20);
    let settings = [("JOB_MIN_SECONDS", "0"), ("CRON_HANDICAP_MS", "100")];
    let command = || Process::command(&pooler.url(), &settings);
    let mut replicas: Vec<Process> = (0..5).map(|_| Process::spawn(&mut command())).collect();
    let addrs: Vec<SocketAddr> = replicas.iter().map(|replica| replica.addr).collect();
    let ready = |addr: &&SocketAddr| get(**addr, "/health/ready").status == 200;
    until("one is ready", SOON * 6, || addrs.iter().any(|addr| ready(&addr)));
    let first = *addrs.iter().find(ready).expect("a ready one");
    let bank = Bank::open(first);
    let audit = bank.work(&addrs, seed("POOLER_SEED"), &database, || {
        std::thread::sleep(seconds("POOLER_SECONDS", 3));
    });
    println!("{} applied, {} reads, {} retries", audit.applied, audit.reads, audit.retries);
    let all = "select count(distinct job) from cron_runs where outcome = 'succeeded'";
    database.wait_for("each job was run", SOON * 6, 10, all);
    let others = "select count(*) from cron_runs where outcome <> 'succeeded'";
    assert_eq!(database.number(others), 0);
    let word = |answer: &Value, words: &[&str]| {
        words.iter().any(|word| answer["detail"].to_string().contains(word))
    };
    until("each serves or says what it lacks, and most serve", SOON * 24, || {
        let told = |addr: &&SocketAddr| {
            let answer = get(**addr, "/health/ready").json();
            word(&answer, &["requests get no connection", "requests have had no connection"])
        };
        let served = |addr: &&SocketAddr| {
            ready(addr) && post(**addr, "/api/balance", &change(1, 1)).status == 200
        };
        let (serve, others): (Vec<_>, Vec<_>) = addrs.iter().partition(served);
        serve.len() >= 3 && others.iter().all(told)
    });
    until("each runs jobs or says what it lacks, and one runs them", SOON * 24, || {
        let answers = addrs.iter().map(|addr| get(*addr, "/health/ready").json());
        let (run, lack): (Vec<_>, Vec<_>) = answers.partition(|answer| answer["jobs"] == "ready");
        !run.is_empty() && lack.iter().all(|answer| word(answer, &["cannot connect"]))
    });
    replicas.iter_mut().for_each(|replica| assert!(replica.is_alive(), "{}", replica.log()));
}
