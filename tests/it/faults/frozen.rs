//! A replica that stands still behind the door; its kernel goes on to acknowledge what is sent.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use balanced::http::ROUTES;

use super::house::House;
use crate::support::{Client, change, post, until};

/// The longest that a read may take.
const READ_MAX: Duration = Duration::from_secs(5);
/// The default: four times this, and 0.3 s twice to connect, is the longest.
const READ_MS: (&str, &str) = ("DOOR_READ_MS", "1100");
const CLIENTS: i64 = 20;
const SOON: Duration = Duration::from_secs(20);

/// A request of every kind that only reads.
fn reads() -> Vec<String> {
    let reads = ROUTES.iter().filter(|route| !route.changes_something());
    let paths = reads.map(|route| route.path.replace("{id}", "1").replace("{name}", "sample-pi"));
    paths.flat_map(|path| ["GET", "HEAD"].map(|method| format!("{method} {path}"))).collect()
}

/// How an answer begins, and how long it took.
fn told(addr: SocketAddr, head: &str) -> (String, Duration) {
    let mut client = Client::connect(addr);
    let begun = Instant::now();
    client.send_request(head, &[], "");
    let text = String::from_utf8_lossy(&client.read_some()).into_owned();
    (text, begun.elapsed())
}

fn status(text: &str) -> &str {
    text.split(' ').nth(1).expect("a status")
}

#[test]
fn reads_are_answered_by_another_replica_within_seconds() {
    let Some(house) = House::start_with(&[READ_MS]) else { return };
    let [frozen, awake] = &house.replicas[..] else { panic!("two replicas") };
    let heads = reads();
    let direct: Vec<String> = heads.iter().map(|head| told(awake.addr, head).0).collect();
    frozen.signal("-STOP");
    let mut slowest = Duration::ZERO;
    thread::scope(|scope| {
        let all = (0..CLIENTS / 2).flat_map(|_| heads.iter().zip(&direct));
        let clients =
            all.map(|(head, direct)| (head, direct, scope.spawn(|| told(house.door.addr, head))));
        for (head, direct, client) in clients.collect::<Vec<_>>() {
            let (text, took) = client.join().unwrap();
            assert_eq!(status(&text), status(direct), "{head} after {took:?}: {text}");
            assert!(took < READ_MAX, "{head}: {took:?}");
            slowest = slowest.max(took);
        }
    });
    println!("beside a frozen replica the slowest read took {slowest:.1?}");
    assert!(slowest > Duration::from_secs(1), "none was sent to the frozen replica");
}

#[test]
fn reads_are_told_that_nothing_was_changed_where_every_replica_is_frozen() {
    let Some(house) = House::start_with(&[READ_MS]) else { return };
    house.replicas.iter().for_each(|replica| replica.signal("-STOP"));
    let mut late = 0;
    thread::scope(|scope| {
        let heads = reads().into_iter().filter(|head| head.starts_with("GET"));
        let clients = heads.map(|head| scope.spawn(move || told(house.door.addr, &head)));
        for client in clients.collect::<Vec<_>>() {
            let (text, took) = client.join().unwrap();
            // There are more of those that wait for a place than there are places.
            assert!(["503", "504"].contains(&status(&text)), "{text}");
            assert!(took < READ_MAX, "{took:?}: {text}");
            late += usize::from(status(&text) == "504");
            assert!(text.contains("; nothing was changed\",\"code\":\"replica_unavailable\""));
            assert!(text.ends_with(",\"outcome\":\"not_applied\"}"), "{text}");
        }
    });
    assert!(late > 0, "none was sent to two frozen replicas");
}

#[test]
fn reads_that_a_killed_replica_had_are_answered_by_another() {
    let Some(house) = House::start_with(&[READ_MS]) else { return };
    let doomed = &house.replicas[0];
    doomed.signal("-STOP");
    thread::scope(|scope| {
        let ask = || told(house.door.addr, "GET /api/users/1");
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(ask)).collect();
        until("the other one has answered", SOON, || clients.iter().any(|it| it.is_finished()));
        doomed.signal("-KILL");
        for client in clients {
            let (text, took) = client.join().unwrap();
            assert!(status(&text) == "200" && took < READ_MAX, "{took:?}: {text}");
        }
    });
}

#[test]
fn changes_wait_for_their_replica_and_are_never_sent_again() {
    let Some(house) = House::start_with(&[READ_MS]) else { return };
    let addr = house.door.addr;
    for _ in 1..CLIENTS {
        assert_eq!(post(addr, "/api/users", "{\"balance\":0}").status, 201);
    }
    let made = || house.database.number("select count(*) from balance_changes where amount = 7");
    let frozen = &house.replicas[0];
    frozen.signal("-STOP");
    thread::scope(|scope| {
        let ask = |user| move || post(addr, "/api/balance", &change(user, 7)).status;
        let clients: Vec<_> = (1..=CLIENTS).map(|user| scope.spawn(ask(user))).collect();
        until("the door has noticed", SOON, || house.door.log().contains(" is DOWN"));
        assert!(made() < CLIENTS, "none was sent to the frozen replica");
        frozen.signal("-CONT");
        assert!(clients.into_iter().all(|client| client.join().unwrap() == 200));
    });
    assert_eq!(made(), CLIENTS);
    house.database.assert_books_balance();
}
