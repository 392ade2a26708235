//! What the server library would get wrong: stranded connections and a dead accept loop.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use balanced::db::Health;
use balanced::http::{Call, Reply};
use socket2::{Domain, Socket, Type};

use crate::support::{Answers, Client, Database, Local, Postgres, Process, change, get, until};

fn server() -> Local {
    let fine = Answers(|_: &Call| Reply::json(200, &"fine"));
    Local::serve(4, Duration::from_secs(5), Arc::new(Health::default()), Arc::new(fine))
}

/// Threads are counted, and those of other tests do not belong to the replica.
fn process() -> (Database, Process) {
    let database = Postgres::shared().migrated();
    let replica = Process::start(database.url(), &[]);
    (database, replica)
}

/// The slowest of `count` keep-alive clients that connect at one moment and then ask.
fn slowest_of(addr: SocketAddr, count: usize) -> Duration {
    let start = Arc::new(Barrier::new(count));
    let clients: Vec<_> = (0..count)
        .map(|_| {
            let start = Arc::clone(&start);
            thread::spawn(move || {
                start.wait();
                let begin = Instant::now();
                let mut client = Client::connect(addr);
                assert_eq!(client.ask("GET /api/users/1", &[], "").status, 200);
                (begin.elapsed(), client)
            })
        })
        .collect();
    // All stay open until the last has its answer: nobody's end may free another.
    let answered: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    answered.iter().map(|(time, _)| *time).max().unwrap()
}

#[test]
fn sixty_four_clients_at_once_on_a_new_server_are_all_answered() {
    for _ in 0..5 {
        let (_database, replica) = process();
        let slowest = slowest_of(replica.addr, 64);
        assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    }
}

#[test]
fn a_second_crowd_on_a_used_server_is_answered_too() {
    let (_database, server) = process();
    for count in [64, 16, 200, 64] {
        let slowest = slowest_of(server.addr, count);
        // Two processors make 200 threads and serve them, beside other tests.
        assert!(slowest < Duration::from_secs(4), "{count}: {slowest:?}");
    }
}

/// A replica with few descriptors: 14 connections are what it can bear.
fn small_process(database: &Database, cron: &str) -> Process {
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 120 && exec \"$0\"", env!("CARGO_BIN_EXE_balanced")])
        .env_clear()
        .envs([("DATABASE_URL", database.url()), ("LISTEN_ADDR", "127.0.0.1:0")])
        .env("CRON_ENABLED", cron);
    let replica = Process::spawn(&mut command);
    let ready =
        || TcpStream::connect(replica.addr).is_ok() && get(replica.addr, "/health").status == 200;
    until("ready", Duration::from_secs(20), ready);
    replica
}

/// What waits behind an answer that ends its connection keeps no socket, nor the thread with it.
#[test]
fn a_body_that_never_comes_behind_a_farewell_keeps_nothing() {
    let database = Postgres::shared().migrated();
    let replica = small_process(&database, "false");
    let stalled = "POST /api/balance HTTP/1.1\r\nHost: x\r\nContent-Length: 1024\r\n";
    let both = |how| format!("GET /health HTTP/1.1\r\nHost: x\r\n\r\n{stalled}{how}\r\n");
    let mut told = 0;
    until("clients are told that their connection ends", Duration::from_secs(20), || {
        let come = |_| Client::try_connect(replica.addr).ok();
        let crowd: Vec<Client> = (0..12).filter_map(come).collect();
        for (number, mut client) in crowd.into_iter().enumerate() {
            // Without a descriptor the library may drop who has just come in.
            let how = ["", "Expect: 100-continue\r\n"][number % 2];
            let sent = client.try_clone().write_all(both(how).as_bytes());
            let answer = sent.and_then(|()| client.try_receive()).ok().flatten();
            told += usize::from(answer.is_some_and(|it| it.header("connection").is_some()));
        }
        told >= 20
    });
    until("all is let go", Duration::from_secs(20), || replica.client_sockets() == 0);
    assert_eq!(database.number("select count(*) from balance_changes where amount < 0"), 0);
}

/// A process with few descriptors is flooded with idle connections, more than it can bear.
#[test]
fn a_flood_is_held_back_and_its_end_leaves_a_replica_that_serves() {
    let database = Postgres::shared().migrated();
    let replica = small_process(&database, "true");
    // By its second run it has the connection that renews the first one's lease.
    until("a second run", Duration::from_secs(20), || replica.log().contains(" run=2 "));
    for _ in 1..=3 {
        // Without a descriptor the library may drop who has just come in.
        let user = |client: &mut Client| {
            client.try_send_request("GET /api/users/1", &[], "").ok()?;
            client.try_receive().ok()?
        };
        let mut inside = Client::connect(replica.addr);
        until("a connection stays open", Duration::from_secs(4), || {
            let stays = user(&mut inside).is_some_and(|it| it.header("connection").is_none());
            if !stays {
                inside = Client::connect(replica.addr);
            }
            stays
        });
        let come = |_| TcpStream::connect_timeout(&replica.addr, Duration::from_millis(20)).ok();
        let flood: Vec<TcpStream> = (0..150).filter_map(come).collect();
        assert_eq!(inside.ask("GET /api/users/1", &[], "").status, 200, "who is in is served");
        drop(flood);
        let start = Instant::now();
        // Whose first packet was dropped tries again after 1 s, and 1 or 2 s later, by its kernel.
        until("it serves again", Duration::from_secs(4), || {
            let mut client = Client::try_connect(replica.addr).ok();
            client.as_mut().and_then(user).is_some_and(|answer| answer.balance() == 10_000)
        });
        let back = start.elapsed();
        println!("it serves again after {back:.1?}");
        assert!(back < Duration::from_secs(4), "{back:?}\n{}", replica.log());
    }
    let log = replica.log();
    assert!(!log.contains("leases_not_renewed"), "the jobs have noticed:\n{log}");
    assert!(log.matches("\n").count() < 200, "the log is flooded:\n{log}");
}

/// HTTP/1.0, and clients that end their half first.
#[test]
fn old_and_half_closed_clients_get_their_answer_and_the_end() {
    let server = server();
    let mut old = Client::connect(server.addr);
    old.send("GET / HTTP/1.0\r\n\r\n");
    let answer = old.receive().unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(old.is_ended());

    let mut polite = Client::connect(server.addr);
    polite.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(polite.receive().unwrap().header("connection"), Some("close"));
    assert!(polite.is_ended());
}

/// A client's port that comes back is known from the connection that was refused: nothing that
/// followed there is worked on, and what comes now is answered in order, or ends unanswered while
/// the old one is not gone.
#[test]
fn a_port_that_comes_back_at_once_gets_all_its_answers_or_none() {
    const CLIENTS: u8 = 8;
    const ROUNDS: usize = 20;
    const PIPELINED: usize = 8;
    let (database, replica) = process();
    let request = |amount: i64| {
        let body = change(1, amount);
        let length = body.len();
        format!("POST /api/balance HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    let hidden = format!("Content-Length: -1\r\n\r\n{}", request(-1_000).repeat(PIPELINED));
    let good = request(-1).repeat(PIPELINED);
    let live = |client: u8| {
        let own = SocketAddr::from(([127, 0, 0, client], 1_999));
        for _ in 0..ROUNDS {
            let mut refused = connect_from(own, replica.addr);
            refused.send(format!("GET / HTTP/1.1\r\nHost: x\r\n{hidden}"));
            let told = answers(&mut refused, PIPELINED);
            assert!(told.iter().all(|status| *status == 400), "{told:?}");
            drop(refused);
            until("it is served", Duration::from_secs(20), || {
                let mut client = connect_from(own, replica.addr);
                client.send(&good);
                let told = answers(&mut client, PIPELINED);
                assert!(told.is_empty() || told == [200; PIPELINED], "{told:?}");
                !told.is_empty()
            });
        }
    };
    thread::scope(|scope| {
        let live = &live;
        (1..=CLIENTS).for_each(|client| drop(scope.spawn(move || live(client))));
    });
    let changes = usize::from(CLIENTS) * ROUNDS * PIPELINED;
    assert_eq!(database.number("select balance from users where id = 1"), 10_000 - changes as i64);
}

/// A connection from this address, which is free again when it is dropped: at once, or, where
/// another test starts a process just then, when that has begun to run.
fn connect_from(own: SocketAddr, addr: SocketAddr) -> Client {
    let connect = || -> std::io::Result<Client> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_linger(Some(Duration::ZERO))?;
        socket.set_reuse_address(true)?;
        socket.bind(&own.into())?;
        socket.connect(&addr.into())?;
        Client::of(socket.into(), Duration::from_secs(10))
    };
    let mut connected = connect();
    until("it is connected", Duration::from_secs(5), || {
        if connected.is_err() {
            connected = connect();
        }
        connected.is_ok()
    });
    connected.expect("a connection")
}

/// The statuses of at most so many answers before the end.
fn answers(client: &mut Client, most: usize) -> Vec<u16> {
    let answers = std::iter::from_fn(|| client.try_receive().ok().flatten());
    answers.map(|answer| answer.status).take(most).collect()
}
