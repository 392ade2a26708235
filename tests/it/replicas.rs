//! Replicas as processes: killed, drained, started wrongly.

use std::collections::HashMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Client, Postgres, Process, change, get, until};

/// Clients with keys retry on another replica while one is killed: each key is applied once.
#[test]
fn a_kill_under_load_applies_no_key_twice_and_loses_no_money() {
    const CLIENTS: usize = 12;
    let database = Postgres::shared().empty();
    let mut replicas: Vec<Process> = (0..3).map(|_| Process::start(database.url(), &[])).collect();
    let addrs: Vec<_> = replicas.iter().map(|replica| replica.addr).collect();
    let stop = AtomicBool::new(false);
    let acknowledged: HashMap<String, u16> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|index| {
                let (addrs, stop) = (&addrs, &stop);
                scope.spawn(move || {
                    let mut acknowledged = HashMap::new();
                    for number in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let key = format!("{index}-{number}");
                        acknowledged.insert(key.clone(), until_answered(addrs, index, &key));
                    }
                    acknowledged
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(800));
        replicas[0].signal("-KILL");
        thread::sleep(Duration::from_millis(800));
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    replicas[0].wait(Duration::from_secs(5));
    assert!(acknowledged.len() > CLIENTS, "{}", acknowledged.len());
    let applied = acknowledged.values().filter(|status| **status == 200).count();
    let stored = "select count(*) from idempotency_keys where outcome = 'changed'";
    assert_eq!(database.number(stored), i64::try_from(applied).unwrap());
    let taken = database.number("select 10000 - balance from users where id = 1");
    assert_eq!(taken, i64::try_from(applied).unwrap(), "one unit for each acknowledged key");
    database.assert_books_balance();
}

/// Sends one change under its key to one replica after the other until it has its result.
fn until_answered(addrs: &[std::net::SocketAddr], first: usize, key: &str) -> u16 {
    for attempt in first..first + 1_000 {
        let header = format!("Idempotency-Key: {key}");
        let answer = Client::try_connect(addrs[attempt % addrs.len()]).and_then(|mut client| {
            client.try_send_request("POST /api/balance", &[&header], &change(1, -1))?;
            client.try_receive()
        });
        match answer {
            Ok(Some(answer)) if [200, 409].contains(&answer.status) => return answer.status,
            _ => thread::sleep(Duration::from_millis(5)),
        }
    }
    panic!("no replica has answered key {key}")
}

/// SIGTERM: what is in flight is answered, what comes later is refused, the exit code is 0.
#[test]
fn a_drain_answers_what_is_in_flight_and_refuses_new_connections() {
    let database = Postgres::shared().empty();
    let mut replica = Process::start(database.url(), &[]);
    let addr = replica.addr;
    let mut holder = database.connect();
    let mut lock = holder.transaction().unwrap();
    lock.query_one("select balance from users where id = 1 for update", &[]).unwrap();
    let in_flight = thread::spawn(move || {
        let mut client = Client::connect(addr);
        client.ask("POST /api/balance", &[], &change(1, -2))
    });
    let mut idle = Client::connect(addr);
    assert_eq!(idle.ask("GET /api/users/1", &[], "").header("connection"), None);
    let mut admin = database.connect();
    until("the statement waits for the row", Duration::from_secs(10), || {
        let waiting = "select count(*) from pg_stat_activity \
                       where wait_event_type = 'Lock' and datname = current_database()";
        admin.query_one(waiting, &[]).unwrap().get::<_, i64>(0) == 1
    });
    replica.signal("-TERM");
    until("not ready", Duration::from_secs(1), || get(addr, "/health").status == 503);
    assert_eq!(get(addr, "/health/live").status, 200);
    let during = idle.ask("GET /api/users/1", &[], "");
    assert_eq!((during.status, during.header("connection")), (200, Some("close")));
    until("new connections are refused", Duration::from_secs(3), || {
        std::net::TcpStream::connect(addr).is_err()
    });
    lock.rollback().unwrap();
    let answer = in_flight.join().unwrap();
    assert_eq!((answer.status, answer.balance()), (200, 9_998));
    assert_eq!(answer.header("connection"), Some("close"));
    let status = replica.wait(Duration::from_secs(5));
    assert_eq!(status.code(), Some(0), "{}", replica.log());
}

/// A client that was told that its connection ends: what it sends all the same is not worked on,
/// and holds nobody up, whether or not it is complete.
#[test]
fn what_follows_a_farewell_is_neither_worked_on_nor_waited_for() {
    let database = Postgres::shared().empty();
    let mut replica = Process::start(database.url(), &[("SHUTDOWN_GRACE_SECONDS", "6")]);
    let addr = replica.addr;
    let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(addr)).collect();
    for client in &mut clients {
        assert_eq!(client.ask("GET /health/live", &[], "").header("connection"), None);
    }
    let start = Instant::now();
    replica.signal("-TERM");
    until("not ready", Duration::from_secs(1), || get(addr, "/health").status == 503);
    for (number, client) in clients.iter_mut().enumerate() {
        let told = client.ask("GET /health/live", &[], "");
        assert_eq!(told.header("connection"), Some("close"));
        // Perhaps the connection has ended by now.
        let _ = match number % 2 {
            0 => client.try_send_request("POST /api/balance", &[], &change(1, -1)),
            _ => client.try_send_request("POST /api/balance", &["Expect: 100-continue"], ""),
        };
    }
    assert_eq!(replica.wait(Duration::from_secs(10)).code(), Some(0), "{}", replica.log());
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    assert_eq!(database.number("select balance from users where id = 1"), 10_000);
}

#[test]
fn a_drain_ends_within_its_grace_whatever_hangs() {
    let database = Postgres::shared().empty();
    let mut replica = Process::start(database.url(), &[("SHUTDOWN_GRACE_SECONDS", "2")]);
    let addr = replica.addr;
    let mut holder = database.connect();
    let mut lock = holder.transaction().unwrap();
    lock.query_one("select balance from users where id = 1 for update", &[]).unwrap();
    let mut client = Client::connect(addr);
    client.send_request("POST /api/balance", &[], &change(1, -2));
    let start = Instant::now();
    replica.signal("-TERM");
    replica.signal("-TERM");
    let status = replica.wait(Duration::from_secs(4));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(status.code(), Some(0));
    assert!(replica.log().contains("the grace time is over"), "{}", replica.log());
}

fn run(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().expect("a process");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn wrong_settings_are_all_told_at_once_with_exit_code_2() {
    let variables = [("HTTP_WORKERS", "none"), ("LISTEN_ADDR", "here"), ("API_TOKEN", "s3cret")];
    let (code, text) = run(&mut Process::command("postgresql://me:s3cret@host:1:2/x", &variables));
    assert_eq!(code, Some(2), "{text}");
    for name in ["HTTP_WORKERS=none", "LISTEN_ADDR=here", "API_TOKEN=", "DATABASE_URL="] {
        assert!(text.contains(name), "{name}: {text}");
    }
    assert!(!text.contains("s3cret"), "{text}");
    let (code, text) = run(Process::command("host=x", &[]).arg("migrat"));
    assert_eq!(code, Some(2), "{text}");
}

#[test]
fn a_taken_port_is_told_with_what_to_do() {
    let database = Postgres::shared().migrated();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let (code, text) = run(&mut Process::command(database.url(), &[("LISTEN_ADDR", &addr)]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("is taken") && text.contains("LISTEN_ADDR"), "{text}");
}

#[test]
fn help_version_migrate_and_health_do_what_they_say() {
    let database = Postgres::shared().empty();
    let (code, text) = run(Process::command(database.url(), &[]).arg("--help"));
    assert_eq!(code, Some(0));
    for setting in balanced::config::SETTINGS {
        assert!(text.contains(setting.name), "{}: {text}", setting.name);
    }
    let (code, text) = run(Process::command(database.url(), &[]).arg("--version"));
    assert_eq!((code, text.trim()), (Some(0), concat!("balanced ", env!("CARGO_PKG_VERSION"))));
    let (code, text) = run(Process::command(database.url(), &[]).arg("migrate"));
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(database.number("select balance from users"), 10_000);

    let replica = Process::start(database.url(), &[("CRON_ENABLED", "false")]);
    let addr = replica.addr.to_string();
    let (code, text) = run(Process::command("", &[("LISTEN_ADDR", &addr)]).arg("health"));
    assert_eq!((code, text.trim()), (Some(0), "{\"status\":\"ready\",\"jobs\":\"off\"}"));
    drop(replica);
    let (code, text) = run(Process::command("", &[("LISTEN_ADDR", &addr)]).arg("health"));
    assert_eq!(code, Some(1), "{text}");
}

/// A database that comes later than the replica is waited for.
#[test]
fn a_replica_started_before_its_database_waits_for_it() {
    let server = Postgres::shared();
    let later = server.empty();
    let url = later.url().to_owned();
    drop(later);
    let replica = Process::spawn(&mut Process::command(&url, &[]));
    let answer = get(replica.addr, "/api/users/1");
    assert_eq!((answer.status, answer.code()), (503, "database_unavailable".to_owned()));
    assert_eq!(get(replica.addr, "/health/live").status, 200);
    assert_eq!(get(replica.addr, "/health").status, 503);
    let name = url.split("///").nth(1).unwrap().split('?').next().unwrap();
    server.admin().batch_execute(&format!("create database {name}")).unwrap();
    until("ready", Duration::from_secs(10), || get(replica.addr, "/health").status == 200);
    assert_eq!(get(replica.addr, "/api/users/1").balance(), 10_000);
    drop(replica);
    server.admin().batch_execute(&format!("drop database {name} with (force)")).unwrap();
}
