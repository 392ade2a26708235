use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use balanced::config::Proof;
use balanced::db::Target;
use balanced::migrate::{self, MIGRATIONS};
use balanced::shutdown::Signal;
use parking_lot::Mutex;
use postgres::{Client, NoTls, Row};

use super::child::stand_still;

/// A private server, lent by the script that also serves development. It ends, and its folder is
/// removed, when its standard input closes: at the latest when this process ends.
pub(crate) struct Postgres {
    url: String,
    folder: PathBuf,
    _keeper: Child,
    _open: ChildStdin,
}

/// A database of its own, dropped at the end.
pub(crate) struct Database {
    /// Empty for a server's first one, which nobody else made.
    name: String,
    url: String,
    /// A connection that has asked before: each new one is a new process of the server's.
    kept: Mutex<Option<Client>>,
}

/// The way to a database, in plain text or to anybody, for a replica of this name.
pub(crate) fn target(url: &str, replica_name: &str) -> Target {
    let parameters = url.parse().expect("a URL");
    Target::new(&parameters, &[], Proof::None, replica_name).expect("a target")
}

impl Postgres {
    /// The one that all tests share which do not harm it.
    pub(crate) fn shared() -> &'static Postgres {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| {
            let server = Postgres::lend();
            let mut admin = server.admin();
            admin.batch_execute("create database migrated").expect("a template");
            let migrated = server.url_of("migrated");
            migrate::run(&target(&migrated, "tests"), MIGRATIONS, &Signal::new())
                .expect("the migrations");
            server
        })
    }

    /// One to stop, restart and pause.
    pub(crate) fn lend() -> Postgres {
        Postgres::lent_by(&["lend"])
    }

    /// One that follows this one.
    pub(crate) fn lend_standby(&self) -> Postgres {
        Postgres::lent_by(&["lend", &self.url])
    }

    fn lent_by(arguments: &[&str]) -> Postgres {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/postgres.sh");
        let mut keeper = Command::new(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("scripts/postgres.sh");
        let open = keeper.stdin.take().expect("a pipe");
        let mut lines = BufReader::new(keeper.stdout.take().expect("a pipe")).lines();
        let mut line =
            || lines.next().expect("scripts/postgres.sh lend printed too little").unwrap();
        Postgres { url: line(), folder: line().into(), _keeper: keeper, _open: open }
    }

    /// The URL of its first, empty database.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The folder that is removed with it, writable for the tests.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn admin(&self) -> Client {
        Client::connect(&self.url, NoTls).expect("the private PostgreSQL")
    }

    /// Its first database, which ends with the server.
    pub(crate) fn first_database(&self) -> Database {
        Database::at(self.url.clone())
    }

    /// An empty database.
    pub(crate) fn empty(&self) -> Database {
        self.create("template1")
    }

    /// A database that is migrated now.
    pub(crate) fn prepared(&self) -> Database {
        let database = self.empty();
        migrate::run(&target(&database.url, "tests"), MIGRATIONS, &Signal::new())
            .expect("the migrations");
        database
    }

    /// A migrated database whose encoding is LATIN1.
    pub(crate) fn latin_1(&self) -> Database {
        let database = self.create("template0 encoding 'LATIN1' locale 'C'");
        migrate::run(&target(&database.url, "tests"), MIGRATIONS, &Signal::new())
            .expect("the migrations");
        database
    }

    /// A database with every migration applied; of the shared server only.
    pub(crate) fn migrated(&self) -> Database {
        self.create("migrated")
    }

    fn create(&self, template: &str) -> Database {
        static COUNTER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("test_{}", COUNTER.fetch_add(1, Ordering::Relaxed));
        let create = format!("create database {name} template {template}");
        self.admin().batch_execute(&create).expect("a database");
        Database { url: self.url_of(&name), name, kept: Mutex::default() }
    }

    fn url_of(&self, database: &str) -> String {
        let url = self.url.replacen("///balanced?", &format!("///{database}?"), 1);
        assert_ne!(url, self.url, "the script's URL has another form");
        url
    }

    /// Ends every process at once, as a crash does, and starts again.
    pub(crate) fn crash_and_restart(&self) {
        self.script("crash");
    }

    /// Ends cleanly.
    pub(crate) fn stop(&self) {
        self.script("stop");
    }

    /// Ends every process at once, as a crash does.
    pub(crate) fn crash(&self) {
        let postmaster = self.postmaster();
        signal("-QUIT", std::slice::from_ref(&postmaster));
        super::until("the postmaster has ended", Duration::from_secs(30), || {
            !PathBuf::from(format!("/proc/{postmaster}")).exists()
        });
    }

    pub(crate) fn start(&self) {
        self.script("start");
    }

    fn script(&self, command: &str) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/postgres.sh");
        let done = Command::new(script).arg(command).arg(&self.folder).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn postmaster(&self) -> String {
        let file = std::fs::read_to_string(self.folder.join("postgres/postmaster.pid"));
        let file = file
            .or_else(|_| std::fs::read_to_string(self.folder.join("postgres/data/postmaster.pid")));
        file.expect("postmaster.pid").lines().next().unwrap().to_owned()
    }

    /// Stops every process where it stands; they go on when the guard is dropped.
    pub(crate) fn pause(&self) -> Paused {
        let postmaster = self.postmaster();
        // First, so that it starts no more of them.
        signal("-STOP", std::slice::from_ref(&postmaster));
        let children = Command::new("pgrep").args(["-P", &postmaster]).output().expect("pgrep");
        let mut pids = vec![postmaster];
        pids.extend(String::from_utf8_lossy(&children.stdout).lines().map(str::to_owned));
        signal("-STOP", &pids);
        Paused(pids)
    }
}

pub(crate) struct Paused(Vec<String>);

impl Drop for Paused {
    fn drop(&mut self) {
        signal("-CONT", &self.0);
    }
}

fn signal(signal: &str, pids: &[String]) {
    // One that has ended meanwhile makes `kill` fail, and the others are signalled all the same.
    let _ = Command::new("kill").arg(signal).args(pids).output().expect("kill");
    if signal == "-STOP" {
        pids.iter().for_each(|pid| stand_still(pid));
    }
}

impl Database {
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(&self.url, NoTls).expect("the test's database")
    }

    /// One that outlives the test, at this URL.
    pub(crate) fn at(url: String) -> Database {
        Database { name: String::new(), url, kept: Mutex::default() }
    }

    /// One number, by SQL.
    pub(crate) fn number(&self, sql: &str) -> i64 {
        self.row(sql).get(0)
    }

    /// One row, by SQL, over a connection that is kept where the server has not ended it.
    pub(crate) fn row(&self, sql: &str) -> Row {
        let mut client = self.kept.lock().take().unwrap_or_else(|| self.connect());
        let row = client.query_one(sql, &[]).or_else(|error| {
            assert!(client.is_closed(), "{sql}: {error}");
            client = self.connect();
            client.query_one(sql, &[])
        });
        *self.kept.lock() = Some(client);
        row.expect(sql)
    }

    /// Fails unless every balance is the sum of its user's changes, which are numbered 1, 2, 3 …
    pub(crate) fn assert_books_balance(&self) {
        let wrong = self.number(
            "select count(*) from users where array[balance, changes, changes] <> (\
                 select array[coalesce(sum(amount), 0), count(*), coalesce(max(id), 0)]::bigint[] \
                 from balance_changes where user_id = users.id)",
        );
        assert_eq!(wrong, 0, "balances that are not the sum of their numbered changes");
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.name.is_empty() {
            return;
        }
        // A server that the test has stopped takes its databases with it.
        let url = self.url.replacen(&format!("///{}?", self.name), "///balanced?", 1);
        if let Ok(mut admin) = Client::connect(&url, NoTls) {
            let _ = admin.batch_execute(&format!("drop database {} with (force)", self.name));
        }
    }
}
