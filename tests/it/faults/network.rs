//! A network between a replica and its database that drops every packet, without a word to either.
//! The replica has a network namespace of its own, which needs root and `ip` of iproute2.
//!
//! `HANG_SECONDS` and `HANG_LEASE_SECONDS` are those of `hang`.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use chrono::Utc;
use nix::unistd::Uid;
use serde_json::Value;

use super::hang::{busy_replica, judge_recovery, judge_silence};
use crate::support::{Postgres, change, program, seconds, tool, until};

/// In the replica's own namespace, where nobody else can have taken it.
const LISTEN_ADDR: &str = "127.0.0.1:3001";

/// A namespace with one wire to this one, removed at the end of the test.
struct Far {
    name: String,
    near_addr: String,
    far_addr: String,
}

impl Far {
    /// None where that cannot be made.
    fn make() -> Option<Far> {
        program("ip")?;
        tool("root", Uid::effective().is_root().then_some(()))?;
        let number = std::process::id() % 16_384;
        let addr = |host| format!("10.213.{}.{}", number / 64, number % 64 * 4 + host);
        let (name, near_addr, far_addr) = (format!("balanced-{number}"), addr(1), addr(2));
        let far = Far { name, near_addr, far_addr };
        let made = ip(&["netns", "add", &far.name]);
        let far = tool("netns", made.then_some(far))?;
        let (near, distant) = (format!("bn{number}"), format!("bf{number}"));
        let (name, mine, its) =
            (far.name.as_str(), format!("{}/30", far.near_addr), format!("{}/30", far.far_addr));
        for words in [
            &["link", "add", &near, "type", "veth", "peer", "name", &distant, "netns", name][..],
            &["addr", "add", &mine, "dev", &near],
            &["link", "set", &near, "up"],
            &["-n", name, "addr", "add", &its, "dev", &distant],
            &["-n", name, "link", "set", &distant, "up"],
            &["-n", name, "link", "set", "lo", "up"],
        ] {
            assert!(ip(words), "ip {words:?}");
        }
        Some(far)
    }

    /// A command that runs there.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// What is sent to it vanishes.
    fn cut(&self) {
        assert!(ip(&["route", "add", "blackhole", &self.far_addr]), "a black hole");
    }

    fn mend(&self) {
        assert!(ip(&["route", "del", "blackhole", &self.far_addr]), "no black hole");
    }

    /// The status and the body of an answer of the replica there.
    fn ask(&self, path: &str, body: Option<&str>) -> (u16, Value) {
        let mut command = self.command("curl");
        command.args(["-s", "-m", "20", "-w", "\n%{http_code}"]);
        body.map(|body| command.args(["-d", body]));
        let output = command.arg(format!("http://{LISTEN_ADDR}{path}")).output().expect("curl");
        let text = String::from_utf8(output.stdout).expect("text");
        let (body, status) = text.rsplit_once('\n').expect("a status");
        (status.parse().expect("a status"), serde_json::from_str(body).unwrap_or_default())
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        ip(&["route", "del", "blackhole", &self.far_addr]);
        ip(&["netns", "del", &self.name]);
    }
}

/// Whether it could be done.
fn ip(words: &[&str]) -> bool {
    Command::new("ip").args(words).output().is_ok_and(|output| output.status.success())
}

/// Lets the server listen at an address, for everybody who reaches it.
fn listen_at(server: &Postgres, addr: &str) {
    let mut admin = server.admin();
    admin.batch_execute(&format!("alter system set listen_addresses = '{addr}'")).expect("a rule");
    let file: String = admin.query_one("show hba_file", &[]).expect("a file").get(0);
    let mut file = OpenOptions::new().append(true).open(file).expect("pg_hba.conf");
    writeln!(file, "host all all {addr}/30 trust").expect("a rule");
    server.crash_and_restart();
}

#[test]
fn a_network_that_drops_everything_is_noticed_and_survived() {
    let Some(far) = Far::make() else { return };
    let server = Postgres::lend();
    listen_at(&server, &far.near_addr);
    let database = server.prepared();
    let name = database.url().split("///").nth(1).unwrap().split('?').next().unwrap().to_owned();
    let url = format!("postgresql://postgres@{}:5432/{name}", far.near_addr);
    let mut command = far.command(env!("CARGO_BIN_EXE_balanced"));
    command.env("DATABASE_URL", url).env("LISTEN_ADDR", LISTEN_ADDR);
    let mut replica = busy_replica(&database, &mut command);

    // One change waits for the row in the database when the wire is cut.
    let mut holder = database.connect();
    let mut lock = holder.transaction().unwrap();
    lock.query_one("select balance from users where id = 1 for update", &[]).unwrap();
    thread::scope(|scope| {
        let in_flight = scope.spawn(|| far.ask("/api/balance", Some(&change(1, -1))));
        let waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'";
        database.wait_for("it waits for the row", Duration::from_secs(4), 1, waiting);
        far.cut();
        let (silent_since, cut) = (Utc::now(), Instant::now());
        let (status, body) = in_flight.join().expect("an answer");
        let answered = cut.elapsed();
        assert_eq!((status, &body["outcome"]), (503, &Value::from("unknown")), "{body}");
        assert!(answered < Duration::from_millis(4_500), "{answered:?}");
        let (status, body) = far.ask("/api/balance", Some(&change(1, -1)));
        assert_eq!((status, &body["outcome"]), (503, &Value::from("not_applied")), "{body}");
        let time = seconds("HANG_SECONDS", 8);
        judge_silence(&replica, silent_since, &|path| far.ask(path, None).0, time);
    });
    assert!(replica.is_alive(), "{}", replica.log());
    lock.rollback().unwrap();
    far.mend();
    let changes = || far.ask("/api/balance", Some(&change(1, 1))).0 == 200;
    judge_recovery(&database, Instant::now(), &changes);
    until("ready", Duration::from_secs(10), || far.ask("/health/ready", None).0 == 200);
}
