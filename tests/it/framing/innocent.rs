//! Honest clients beside the attacks: every answer must be theirs, and right.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::{Answer, Client, change, post};

use super::vector::chunked;

/// One client with a user of its own, on one connection until the flag is set; how many answers it
/// got. It pauses after every two, so that the attacks and other tests get a share of the machine.
pub(super) fn live(addr: SocketAddr, name: usize, pause: Duration, stop: &AtomicBool) -> u64 {
    let user = post(addr, "/api/users", "{\"balance\":1000}").json()["userId"].as_i64();
    let user = user.expect("a user");
    let (mut balance, mut answers) = (1_000, 0);
    let mut client = Client::connect(addr);
    while !stop.load(Ordering::Relaxed) {
        balance += 3;
        let asked = [
            ("POST /api/balance".to_owned(), change(user, 3)),
            (format!("GET /api/users/{user}"), String::new()),
        ];
        for (head, body) in asked {
            let id = format!("innocent-{name}-{answers}");
            // Every second one sends what it sends in chunks.
            let (framing, body) = match name % 2 {
                0 => (format!("Content-Length: {}", body.len()), body),
                _ => ("Transfer-Encoding: chunked".to_owned(), chunked(&body)),
            };
            let fields = format!("Host: x\r\nX-Request-Id: {id}\r\n{framing}");
            client.send(format!("{head} HTTP/1.1\r\n{fields}\r\n\r\n{body}"));
            check(&client.receive().expect("an answer"), &id, user, balance);
            answers += 1;
        }
        std::thread::sleep(pause);
    }
    answers
}

fn check(answer: &Answer, id: &str, user: i64, balance: i64) {
    let text = String::from_utf8_lossy(&answer.body);
    assert_eq!(answer.status, 200, "{id}: {text}");
    assert_eq!(answer.header("x-request-id"), Some(id), "another's answer: {text}");
    assert_eq!(answer.json()["userId"], user, "{id}: another's answer");
    assert_eq!(answer.balance(), balance, "{id}: {text}");
}
