//! Two replicas behind a door, with an ordinary client that must not notice what else goes on.
//!
//! `FLOOD_SECONDS` is how long the ordinary client is watched (2 unless told), `FLOOD_P99_MS` what
//! its 99th percentile may be (2,000, since other tests run meanwhile; docs/performance.md has what
//! it is on a machine of its own), `FLOOD_CLIENTS` how many a crowd is.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::support::{
    Client, Database, Door, Postgres, Process, SetOnDrop, change, number, seconds, until,
};

const REPLICAS: usize = 2;
/// Of fewer, the 99th percentile would be the slowest.
const REQUESTS_MIN: usize = 200;
/// Descriptors of this process for everything but a crowd.
const SPARE: u64 = 2_000;

/// What stands behind a door, while one test has it to itself.
pub(super) struct House {
    pub(super) door: Door,
    pub(super) replicas: Vec<Process>,
    pub(super) database: Database,
    _alone: MutexGuard<'static, ()>,
}

impl House {
    /// None where HAProxy is not installed.
    pub(super) fn start() -> Option<House> {
        House::start_with(&[])
    }

    /// The same, with these variables for its door.
    pub(super) fn start_with(variables: &[(&str, &str)]) -> Option<House> {
        static ALONE: Mutex<()> = Mutex::new(());
        // Who failed before has left nothing behind.
        let alone = ALONE.lock().unwrap_or_else(|failed| failed.into_inner());
        let database = Postgres::shared().migrated();
        let settings = [("CRON_ENABLED", "false"), ("REQUEST_TIMEOUT_SECONDS", "120")];
        let replica = |_| Process::start(database.url(), &settings);
        let replicas: Vec<Process> = (0..REPLICAS).map(replica).collect();
        let addrs: Vec<SocketAddr> = replicas.iter().map(|replica| replica.addr).collect();
        let door = Door::start_with(&addrs, variables)?;
        Some(House { door, replicas, database, _alone: alone })
    }

    /// Watches an ordinary client while `flood` goes on: it says by its `&dyn Fn()` that it is in
    /// place, and ends when the flag is set.
    pub(super) fn beside<T: Send>(
        &mut self,
        name: &str,
        flood: impl FnOnce(SocketAddr, &(dyn Fn() + Sync), &AtomicBool) -> T + Send,
    ) -> T {
        let (addr, stop, placed) = (self.door.addr, AtomicBool::new(false), AtomicBool::new(false));
        let result = thread::scope(|scope| {
            let (stop, placed) = (&stop, &placed);
            let hostile =
                scope.spawn(move || flood(addr, &|| placed.store(true, Ordering::Relaxed), stop));
            let end = SetOnDrop(stop);
            until("the flood is in place", Duration::from_secs(60), || {
                placed.load(Ordering::Relaxed) || hostile.is_finished()
            });
            let times = ordinary(addr, seconds("FLOOD_SECONDS", 2));
            drop(end);
            let result = hostile.join().expect("the flood");
            judge(name, &times);
            result
        });
        for replica in &mut self.replicas {
            assert!(replica.is_alive(), "{name}: {}", replica.log());
        }
        result
    }
}

/// How long each request of an ordinary client takes, sorted.
fn ordinary(addr: SocketAddr, time: Duration) -> Vec<Duration> {
    let mut client = Client::connect(addr);
    let mut times = Vec::new();
    let end = Instant::now() + time;
    while Instant::now() < end || times.len() < REQUESTS_MIN {
        for (head, body) in
            [("GET /api/users/1", String::new()), ("POST /api/balance", change(1, 1))]
        {
            let begun = Instant::now();
            let answer = client.ask(head, &[], &body);
            times.push(begun.elapsed());
            assert_eq!(answer.status, 200, "{}", answer.json());
        }
        thread::sleep(Duration::from_millis(5));
    }
    times.sort_unstable();
    times
}

fn judge(name: &str, times: &[Duration]) {
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    println!(
        "beside {name}: {} requests, p50 {:.1?}, p99 {:.1?}, max {:.1?}",
        times.len(),
        at(50),
        at(99),
        at(100)
    );
    let limit = Duration::from_millis(number("FLOOD_P99_MS", 2_000));
    assert!(at(99) < limit, "beside {name}: p99 {:?}", at(99));
}

/// As many as the descriptors of this process are enough for.
pub(super) fn crowd(unless_told: u64) -> usize {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("a raised limit");
    let wanted = number("FLOOD_CLIENTS", unless_told);
    let clients = wanted.min(hard.saturating_sub(SPARE));
    if clients < wanted {
        eprintln!("a crowd of {clients} only: ulimit -n is {hard}");
    }
    usize::try_from(clients).expect("a number of clients")
}

/// Clients that have sent this.
pub(super) fn open(addr: SocketAddr, count: usize, text: &str) -> Vec<TcpStream> {
    let open = |_| {
        let mut stream = TcpStream::connect(addr).expect("a connection");
        stream.write_all(text.as_bytes()).expect("sent");
        stream
    };
    (0..count).map(open).collect()
}
