//! Hostile clients at the door, and an ordinary one beside them who must not notice.
//!
//! `FLOOD_SECONDS` is how long the ordinary client is watched (2 unless told), `FLOOD_P99_MS` what
//! its 99th percentile may be (2,000, since other tests run meanwhile; the README has what it is on
//! a machine of its own), `FLOOD_CLIENTS` how many a crowd is (10,000).

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::support::{
    Answer, Client, Database, Door, Postgres, Process, SetOnDrop, change, number, seconds, until,
};

const SLOW_CLIENTS: usize = 500;
/// The door's own limit is 5 s; the rest is for a machine that runs other tests.
const SLOW_MAX: Duration = Duration::from_secs(15);
const REPLICAS: usize = 2;
/// Descriptors of this process for everything but a crowd.
const SPARE: u64 = 2_000;

/// What stands behind a door, while one test has it to itself.
struct House {
    door: Door,
    replicas: Vec<Process>,
    database: Database,
    _alone: MutexGuard<'static, ()>,
}

impl House {
    /// None where HAProxy is not installed.
    fn start() -> Option<House> {
        static ALONE: Mutex<()> = Mutex::new(());
        // Who failed before has left nothing behind.
        let alone = ALONE.lock().unwrap_or_else(|failed| failed.into_inner());
        let database = Postgres::shared().migrated();
        let settings = [("CRON_ENABLED", "false"), ("REQUEST_TIMEOUT_SECONDS", "120")];
        let replica = |_| Process::start(database.url(), &settings);
        let replicas: Vec<Process> = (0..REPLICAS).map(replica).collect();
        let addrs: Vec<SocketAddr> = replicas.iter().map(|replica| replica.addr).collect();
        Some(House { door: Door::start(&addrs)?, replicas, database, _alone: alone })
    }

    /// Watches an ordinary client while `flood` goes on: it says by its `&dyn Fn()` that it is in
    /// place, and ends when the flag is set.
    fn beside<T: Send>(
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
    while Instant::now() < end {
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
fn crowd() -> usize {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("a raised limit");
    let wanted = number("FLOOD_CLIENTS", 10_000);
    let clients = wanted.min(hard.saturating_sub(SPARE));
    if clients < wanted {
        eprintln!("a crowd of {clients} only: ulimit -n is {hard}");
    }
    usize::try_from(clients).expect("a number of clients")
}

/// Sends a byte on each connection now and then, until the door has ended all of them, as it does
/// after 5 s; what each had been told.
fn trickle(mut streams: Vec<TcpStream>, byte: u8) -> Vec<Vec<u8>> {
    let (begun, mut told) = (Instant::now(), Vec::new());
    for stream in &streams {
        stream.set_nonblocking(true).expect("a socket");
    }
    while !streams.is_empty() {
        assert!(begun.elapsed() < SLOW_MAX, "{} connections are left", streams.len());
        streams.retain_mut(|stream| {
            let mut text = vec![0; 4_096];
            match stream.read(&mut text) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    stream.write_all(&[byte]).is_ok()
                }
                Ok(length) => {
                    text.truncate(length);
                    told.push(text);
                    false
                }
                // Ended while a byte of ours was on its way: by a reset.
                Err(_) => {
                    told.push(Vec::new());
                    false
                }
            }
        });
        thread::sleep(Duration::from_millis(500));
    }
    told
}

fn open(addr: SocketAddr, count: usize, text: &str) -> Vec<TcpStream> {
    let open = |_| {
        let mut stream = TcpStream::connect(addr).expect("a connection");
        stream.write_all(text.as_bytes()).expect("sent");
        stream
    };
    (0..count).map(open).collect()
}

/// Clients that have had one answer: those that ask for nothing are ended after 5 s.
fn keep_alive(addr: SocketAddr, count: usize) -> Vec<Client> {
    let settle = |_| {
        let mut client = Client::connect(addr);
        assert_eq!(client.ask("GET /health", &[], "").status, 200);
        client
    };
    (0..count).map(settle).collect()
}

#[test]
fn a_crowd_of_idle_clients_disturbs_nobody() {
    let Some(mut house) = House::start() else { return };
    let crowd = crowd();
    house.beside(&format!("{crowd} idle clients"), |addr, placed, stop| {
        let mut clients = keep_alive(addr, crowd);
        placed();
        until("it ends", Duration::from_secs(600), || stop.load(Ordering::Relaxed));
        for client in clients.iter_mut().step_by(100) {
            assert_eq!(client.ask("GET /health", &[], "").status, 200, "still welcome");
        }
    });
}

/// They are all served, one after the other; who comes last waits for its turn, as all do.
#[test]
fn a_crowd_of_active_clients_is_served_and_an_ordinary_one_waits_its_turn() {
    let Some(house) = House::start() else { return };
    let crowd = crowd();
    let mut clients = keep_alive(house.door.addr, crowd);
    let mut ordinary = Client::connect(house.door.addr);
    let begun = Instant::now();
    for client in &mut clients {
        client.send_request("POST /api/balance", &[], &change(1, -2));
    }
    let asked = Instant::now();
    let answer = ordinary.ask("GET /api/users/1", &[], "");
    let waited = asked.elapsed();
    assert_eq!(answer.status, 200);
    let answers: Vec<Answer> =
        clients.iter_mut().map(|client| client.receive().expect("an answer")).collect();
    println!(
        "beside {crowd} active clients: waited {waited:.1?}; all served in {:.1?}",
        begun.elapsed()
    );
    let told = |status| answers.iter().filter(|answer| answer.status == status).count();
    let covered = crowd.min(5_000);
    assert_eq!((told(200), told(409)), (covered, crowd - covered));
    let left = house.database.number("select balance from users where id = 1");
    assert_eq!(left, 10_000 - 2 * i64::try_from(covered).unwrap());
    house.database.assert_books_balance();
}

#[test]
fn slow_headers_disturb_nobody_and_are_ended() {
    let Some(mut house) = House::start() else { return };
    let told = house.beside("500 slow headers", |addr, placed, _| {
        let streams = open(addr, SLOW_CLIENTS, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ");
        placed();
        trickle(streams, b'x')
    });
    assert_eq!(told.len(), SLOW_CLIENTS);
    assert!(told.iter().all(Vec::is_empty), "ended without a word");
}

#[test]
fn slow_bodies_disturb_nobody_and_are_told_so() {
    let Some(mut house) = House::start() else { return };
    let told = house.beside("500 slow bodies", |addr, placed, _| {
        let head = "POST /api/balance HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n";
        let streams = open(addr, SLOW_CLIENTS, head);
        placed();
        trickle(streams, b' ')
    });
    let told: Vec<_> = told.iter().filter(|text| !text.is_empty()).collect();
    assert!(told.len() > SLOW_CLIENTS / 2, "only {} were told why", told.len());
    for text in told {
        let text = String::from_utf8_lossy(text);
        assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
        assert!(text.contains("\r\ncontent-type: application/problem+json\r\n"), "{text}");
        assert!(text.contains("\"code\":\"request_timeout\""), "{text}");
    }
}

#[test]
fn a_header_without_an_end_disturbs_nobody_and_is_cut_off() {
    let Some(mut house) = House::start() else { return };
    house.beside("an endless header", |addr, placed, stop| {
        placed();
        while !stop.load(Ordering::Relaxed) {
            let mut stream = TcpStream::connect(addr).expect("a connection");
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-Endless: ").expect("sent");
            let sent = (0..).take_while(|_| stream.write_all(&[b'x'; 1_024]).is_ok()).count();
            assert!(sent < 10_000, "{sent} KB of a header were taken");
        }
    });
}

/// None of these reaches a replica, and each is told in one form.
#[test]
fn bodies_that_are_not_of_one_plain_length_are_refused_at_the_door() {
    let Some(mut house) = House::start() else { return };
    house.beside("odd lengths", |addr, placed, stop| {
        placed();
        while !stop.load(Ordering::Relaxed) {
            for (lengths, status, code) in [
                ("Content-Length: 1000000000000\r\n", 413, "body_too_large"),
                ("Content-Length: 1025\r\n", 413, "body_too_large"),
                ("Transfer-Encoding: chunked\r\n", 411, "length_required"),
                ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 411, "length_required"),
            ] {
                let mut client = Client::connect(addr);
                client.send(format!("POST /api/balance HTTP/1.1\r\nHost: x\r\n{lengths}\r\n"));
                let answer = client.receive().expect("an answer");
                assert_eq!((answer.status, answer.code().as_str()), (status, code), "{lengths}");
                assert_eq!(answer.header("x-served-by"), Some("door"));
            }
            for lengths in ["5\r\nContent-Length: 6", "-5", "5, 6", "+5", "0x5", "5 5"] {
                let mut client = Client::connect(addr);
                let head = "POST /api/balance HTTP/1.1\r\nHost: x\r\n";
                client.send(format!("{head}Content-Length: {lengths}\r\n\r\nhello"));
                assert!(client.is_ended(), "{lengths}: ended without a word");
            }
        }
    });
    let refused = house.replicas.iter().all(|replica| !replica.log().contains("hello"));
    assert!(refused);
}

#[test]
fn ten_thousand_pipelined_requests_are_answered_in_their_order_and_disturb_nobody() {
    const REQUESTS: usize = 10_000;
    let Some(mut house) = House::start() else { return };
    house.beside("10,000 pipelined requests", |addr, placed, stop| {
        placed();
        while !stop.load(Ordering::Relaxed) {
            let mut client = Client::connect(addr);
            let mut writer = client.try_clone();
            thread::scope(|scope| {
                scope.spawn(move || {
                    for number in 0..REQUESTS {
                        let head = "GET /health HTTP/1.1\r\nHost: x\r\nX-Request-Id: n";
                        let request = format!("{head}{number}\r\n\r\n");
                        writer.write_all(request.as_bytes()).expect("sent");
                    }
                });
                for number in 0..REQUESTS {
                    let answer = client.receive().expect("an answer");
                    assert_eq!(answer.status, 200, "{number}: {}", answer.json());
                    let id = format!("n{number}");
                    assert_eq!(answer.header("x-request-id"), Some(id.as_str()));
                }
            });
        }
    });
}

#[test]
fn half_closed_clients_get_their_answer_and_disturb_nobody() {
    let Some(mut house) = House::start() else { return };
    house.beside("half-closed clients", |addr, placed, stop| {
        placed();
        while !stop.load(Ordering::Relaxed) {
            let request = "GET /api/users/1 HTTP/1.1\r\nHost: x\r\n\r\n";
            for mut stream in open(addr, 100, request) {
                stream.shutdown(Shutdown::Write).expect("half a close");
                let mut text = String::new();
                stream.read_to_string(&mut text).expect("an answer");
                assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
            }
        }
    });
}

/// Answers longer than the door's buffer, so that each keeps its place at a replica.
#[test]
fn clients_that_never_read_disturb_nobody() {
    // More than the door has places at all replicas.
    const CLIENTS: usize = 200;
    let Some(mut house) = House::start() else { return };
    house.beside("200 clients that never read", |addr, placed, stop| {
        let request = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(10);
        let mut streams: Vec<TcpStream> = (0..CLIENTS).map(|_| deaf(addr)).collect();
        while !stop.load(Ordering::Relaxed) {
            for stream in &mut streams {
                match stream.write(request.as_bytes()) {
                    Err(error) if error.kind() != ErrorKind::WouldBlock => *stream = deaf(addr),
                    _ => {}
                }
            }
            thread::sleep(Duration::from_millis(500));
            placed();
        }
    });
}

/// A client with the smallest buffer there is for what it will not read.
fn deaf(addr: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(1_024).expect("a small buffer");
    socket.connect(&addr.into()).expect("a connection");
    socket.set_nonblocking(true).expect("a socket");
    socket.into()
}
