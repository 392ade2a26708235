//! Patroni's three nodes and what befalls them, by hand: `tests/patroni.sh`. Each test prints what
//! it saw.
//!
//! A standby that is promoted may lack what the old primary has acknowledged, unless it follows
//! synchronously; and an old one whose agent has died goes on beside it. Nothing acknowledged may
//! be lost that a replica took two seconds after the promotion or later.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{self, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};

use super::bank::Bank;
use crate::support::{
    Child, Database, Postgres, Process, SetOnDrop, change, get, post, seed, until, witness_beside,
};
use crate::tidy::ROOT;

const NODES: u16 = 3;
const REPLICAS: usize = 3;
const JOBS: usize = 6;
const LEASE: Duration = Duration::from_secs(15);
/// Patroni's leader key lives for 30 s, and its agents look every 10.
const PROMOTED_WITHIN: Duration = Duration::from_secs(120);
const HEALED_WITHIN: Duration = Duration::from_secs(180);
/// Twice as long as a replica takes to ask all hosts.
const LOST_UNTIL: Duration = Duration::from_secs(2);
const ETCD_AWAY: Duration = Duration::from_secs(50);

/// Three nodes and etcd, which end with it.
struct Cluster {
    folder: PathBuf,
    port: u16,
    keeper: process::Child,
    open: Option<ChildStdin>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.open.take());
        // The next one takes the same ports.
        let _ = self.keeper.wait();
    }
}

/// Goes on, or starts again, what an accident has stopped.
struct Mend<'a>(Option<Box<dyn FnOnce() + 'a>>);

impl Drop for Mend<'_> {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(|mend| mend());
    }
}

#[derive(Clone, Copy, Debug)]
enum Accident {
    SwitchOver,
    ServerKilled,
    AgentKilled,
    NodeFrozen,
    EtcdAway,
}

impl Cluster {
    fn start(mode: &str) -> Cluster {
        let mut keeper = Command::new(format!("{ROOT}/tests/patroni.sh"))
            .args(["lend", mode])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/patroni.sh");
        let open = keeper.stdin.take().expect("a pipe");
        let mut lines = BufReader::new(keeper.stdout.take().expect("a pipe")).lines();
        let mut line = || lines.next().expect("tests/patroni.sh lend printed too little").unwrap();
        let (folder, port) = (line().into(), line().parse().expect("a port"));
        Cluster { folder, port, keeper, open: Some(open) }
    }

    /// Whichever takes changes.
    fn url(&self) -> String {
        let hosts: Vec<String> = (1..=NODES).map(|node| self.host(node)).collect();
        let hosts = hosts.join(",");
        format!("postgresql://postgres@{hosts}/balanced?target_session_attrs=read-write")
    }

    fn host(&self, node: u16) -> String {
        format!("127.0.0.1:{}", self.port + node)
    }

    fn connect(&self, node: u16) -> Option<Client> {
        let parameters = "user=postgres dbname=balanced connect_timeout=2";
        let port = self.port + node;
        Client::connect(&format!("host=127.0.0.1 port={port} {parameters}"), NoTls).ok()
    }

    fn database(&self, node: u16) -> Database {
        Database::at(format!("postgresql://postgres@{}/balanced", self.host(node)))
    }

    /// Nodes whose agents say that they are this.
    fn nodes(&self, role: &str) -> Vec<u16> {
        let is = |node: &u16| {
            let addr = SocketAddr::from(([127, 0, 0, 1], self.port + 10 + node));
            let client = crate::support::Client::try_connect_with(addr, Duration::from_secs(2));
            client.is_ok_and(|mut client| {
                let sent = client.try_send_request(&format!("GET /{role}"), &[], "");
                let answer = sent.and_then(|()| client.try_receive()).ok().flatten();
                answer.is_some_and(|answer| answer.status == 200)
            })
        };
        (1..=NODES).filter(is).collect()
    }

    fn leader(&self) -> u16 {
        let mut leader = Vec::new();
        until("there is a primary", PROMOTED_WITHIN, || {
            leader = self.nodes("primary");
            leader.len() == 1
        });
        leader[0]
    }

    fn process(&self, file: &str) -> String {
        let text = std::fs::read_to_string(self.folder.join(file)).expect(file);
        text.lines().next().expect("a process").to_owned()
    }

    fn agent(&self, node: u16) -> String {
        self.process(&format!("{node}/agent.pid"))
    }

    fn server(&self, node: u16) -> String {
        self.process(&format!("{node}/data/postmaster.pid"))
    }

    /// Does the harm to the primary; what ends it.
    fn meet(&self, accident: Accident, leader: u16) -> Mend<'_> {
        let mend: Box<dyn FnOnce() + '_> = match accident {
            Accident::SwitchOver => {
                let addr = SocketAddr::from(([127, 0, 0, 1], self.port + 10 + leader));
                let body = format!("{{\"leader\":\"node{leader}\"}}");
                // No standby may be good enough just now.
                until("it is switched over", PROMOTED_WITHIN, || {
                    post(addr, "/switchover", &body).status == 200
                });
                Box::new(|| ())
            }
            Accident::ServerKilled => {
                signal("-KILL", &[self.server(leader)]);
                Box::new(|| ())
            }
            Accident::AgentKilled => {
                signal("-KILL", &[self.agent(leader)]);
                Box::new(move || {
                    let script = format!("{ROOT}/tests/patroni.sh");
                    let folder = self.folder.display().to_string();
                    let arguments = ["agent", &folder, &leader.to_string()];
                    assert!(Command::new(script).args(arguments).status().unwrap().success());
                })
            }
            Accident::NodeFrozen => {
                let server = self.server(leader);
                let children = Command::new("pgrep").args(["-P", &server]).output().unwrap();
                let mut all = vec![self.agent(leader), server];
                all.extend(String::from_utf8_lossy(&children.stdout).lines().map(str::to_owned));
                signal("-STOP", &all);
                Box::new(move || signal("-CONT", &all))
            }
            Accident::EtcdAway => {
                let etcd = [self.process("etcd.pid")];
                signal("-STOP", &etcd);
                thread::sleep(ETCD_AWAY);
                signal("-CONT", &etcd);
                Box::new(|| ())
            }
        };
        Mend(Some(mend))
    }

    /// How many read what the primary writes.
    fn readers(&self) -> Option<i64> {
        let reading = "select count(*) from pg_stat_replication where state = 'streaming'";
        self.connect(self.leader())?.query_one(reading, &[]).ok()?.try_get(0).ok()
    }

    fn wait_until_healed(&self) {
        until("the cluster is whole again", HEALED_WITHIN, || {
            thread::sleep(Duration::from_millis(500));
            // One that follows and does not read would miss all that is acknowledged from now on.
            self.nodes("primary").len() == 1 && self.readers() == Some(2)
        });
    }

    /// The instant at which another node takes changes than did, as soon as it can be seen.
    fn promotion(&self, leader: u16, stop: &AtomicBool) -> Option<Instant> {
        let seen = OnceLock::new();
        thread::scope(|scope| {
            for node in (1..=NODES).filter(|node| *node != leader) {
                let seen = &seen;
                scope.spawn(move || {
                    let mut client = None;
                    while seen.get().is_none() && !stop.load(Ordering::Relaxed) {
                        client = client.or_else(|| self.connect(node));
                        let asked = "select pg_is_in_recovery()";
                        match client.as_mut().map(|client| client.query_one(asked, &[])) {
                            Some(Ok(row)) if !row.get::<_, bool>(0) => {
                                let _ = seen.set(Instant::now());
                            }
                            Some(Ok(_)) => {}
                            Some(Err(_)) | None => client = None,
                        }
                        thread::sleep(Duration::from_millis(10));
                    }
                });
            }
        });
        seen.into_inner()
    }
}

fn signal(signal: &str, processes: &[String]) {
    let _ = Command::new("kill").arg(signal).args(processes).output().expect("kill");
}

/// Jobs whose steps leave a trace in a database that nothing befalls.
fn witnesses(cluster: &Cluster, steps: &Database) -> Vec<Child> {
    let mut client = cluster.connect(cluster.leader()).expect("the primary");
    let add = "insert into cron_jobs (name, function, schedule, slot, locked_until) \
               select 'job-' || n, 'witness', 'every 1h', now(), now() \
               from generate_series(1, $1::int) as n";
    client.execute("delete from cron_jobs", &[]).expect("no jobs");
    client.execute(add, &[&i32::try_from(JOBS).unwrap()]).expect("jobs");
    ["a", "b", "c"].iter().map(|name| witness_beside(&cluster.url(), steps, name, LEASE)).collect()
}

/// Two runs of a job that left steps at one time: how many pairs, and the longest.
const OVERLAPS: &str = "\
with spans as (
    select job, run_id, process, min(at) as first, max(at) as last from witness group by 1, 2, 3
)
select count(*), coalesce(max(extract(epoch from least(one.last, other.last)
    - greatest(one.first, other.first))), 0)::float8
from spans one join spans other
    on one.job = other.job and (one.run_id, one.process) < (other.run_id, other.process)
    and one.first < other.last and other.first < one.last";
const ALL_RUN: &str = "select count(distinct job) from witness \
    where at > clock_timestamp() - interval '2 s'";

fn judge(mode: &str, accidents: &[Accident]) {
    let cluster = Cluster::start(mode);
    let settings = [("CRON_ENABLED", "false"), ("REQUEST_TIMEOUT_SECONDS", "10")];
    let replica = |_| Process::start(&cluster.url(), &settings);
    let mut replicas: Vec<Process> = (0..REPLICAS).map(replica).collect();
    let addrs: Vec<SocketAddr> = replicas.iter().map(|replica| replica.addr).collect();
    let steps = Postgres::shared().empty().with_witness_table();
    let mut witnesses = witnesses(&cluster, &steps);
    let jobs = i64::try_from(JOBS).unwrap();
    steps.wait_for("all jobs run", HEALED_WITHIN, jobs, ALL_RUN);
    for accident in accidents {
        cluster.wait_until_healed();
        until("all replicas serve", HEALED_WITHIN, || served(&addrs));
        let leader = cluster.leader();
        let bank = Bank::open(addrs[0]);
        let (stop, mut mend, mut promoted, mut found) = (AtomicBool::new(false), None, None, None);
        steps.connect().batch_execute("truncate witness").expect("no steps");
        let reports = bank.reports(&addrs, seed("FAILOVER_SEED"), || {
            thread::scope(|scope| {
                let promotion = scope.spawn(|| cluster.promotion(leader, &stop));
                let end = SetOnDrop(&stop);
                thread::sleep(Duration::from_secs(2));
                let begun = Instant::now();
                mend = Some(cluster.meet(*accident, leader));
                // Whether another is promoted, or the same one comes back, is Patroni's to decide.
                until("it is settled", PROMOTED_WITHIN, || {
                    let settled = begun.elapsed() > Duration::from_secs(40);
                    promotion.is_finished() || settled && served(&addrs)
                });
                until("all replicas serve", HEALED_WITHIN, || served(&addrs));
                found = Some(begun.elapsed());
                thread::sleep(Duration::from_secs(5));
                drop(end);
                promoted = promotion.join().expect("who watches");
            });
        });
        steps.wait_for("all jobs run", HEALED_WITHIN, jobs, ALL_RUN);
        let leader_now = cluster.leader();
        let may_be_lost = promoted.filter(|_| mode == "asynchronous");
        let may_be_lost = may_be_lost.map(|at| at + LOST_UNTIL);
        let audit = bank.audit(&cluster.database(leader_now), &reports, may_be_lost);
        let row = steps.connect().query_one(OVERLAPS, &[]).expect("the trace");
        let (overlaps, longest): (i64, f64) = (row.get(0), row.get(1));
        println!(
            "{mode} {accident:?}: node {leader} to {leader_now}; {:.1} s without a change, all \
             replicas serve {:.1} s after it; {} applied, {} lost, {} unacknowledged, {} retries; \
             {overlaps} overlaps of runs, up to {longest:.1} s",
            audit.gap.as_secs_f64(),
            found.unwrap_or_default().as_secs_f64(),
            audit.applied,
            audit.lost,
            audit.unacknowledged,
            audit.retries,
        );
        if let (Some((first, last)), Some(promoted)) = (audit.lost_between, promoted) {
            let after = |at: Instant| match at.checked_duration_since(promoted) {
                Some(time) => time.as_secs_f64(),
                None => -(promoted - at).as_secs_f64(),
            };
            let (first, last) = (after(first), after(last));
            println!("lost: acknowledged {first:.1} to {last:.1} s after the promotion");
        }
        drop(mend);
        replicas.iter_mut().for_each(|replica| assert!(replica.is_alive(), "{}", replica.log()));
        witnesses.iter_mut().for_each(|child| assert!(child.is_alive(), "{}", child.log()));
        if mode == "synchronous" {
            assert_eq!((audit.lost, overlaps), (0, 0), "{accident:?}");
        }
    }
}

fn served(addrs: &[SocketAddr]) -> bool {
    addrs.iter().all(|addr| {
        get(*addr, "/health/ready").status == 200
            && post(*addr, "/api/balance", &change(1, 1)).status == 200
    })
}

const ALL: [Accident; 5] = [
    Accident::SwitchOver,
    Accident::ServerKilled,
    Accident::AgentKilled,
    Accident::NodeFrozen,
    Accident::EtcdAway,
];

#[test]
#[ignore = "takes minutes and needs patroni: tests/patroni.sh"]
fn nothing_acknowledged_is_lost_where_a_standby_follows_synchronously() {
    judge("synchronous", &ALL);
}

#[test]
#[ignore = "takes minutes and needs patroni: tests/patroni.sh"]
fn nothing_is_lost_that_was_acknowledged_after_a_promotion() {
    judge("asynchronous", &ALL);
}
