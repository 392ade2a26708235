//! Clients that send or read too slowly, beside an ordinary one who must not notice.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::house::{House, crowd, open};

const SLOW_CLIENTS: u64 = 500;
/// The door gives each part of a request 5 s here; the rest is for a machine that runs other tests.
const SLOW_MAX: Duration = Duration::from_secs(15);

/// Sends a byte on each connection now and then, until the door has ended all of them; what each
/// had been told.
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

#[test]
fn slow_headers_disturb_nobody_and_are_ended_and_logged() {
    let Some(mut house) = House::start() else { return };
    let slow = crowd(SLOW_CLIENTS);
    let told = house.beside(&format!("{slow} slow headers"), |addr, placed, _| {
        let streams = open(addr, slow, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ");
        placed();
        trickle(streams, b'x')
    });
    assert_eq!(told.len(), slow);
    assert!(told.iter().all(Vec::is_empty), "ended without a word");
    let logged = house.door.log().matches(" 408 cR-- ").count();
    assert!(logged >= slow, "only {logged} of {slow} are in the log");
}

/// As browsers open them ahead of need, and as an honest client does that is late.
#[test]
fn connections_that_are_never_used_are_ended_without_a_word_and_logged() {
    let Some(house) = House::start() else { return };
    let streams = open(house.door.addr, 10, "");
    for mut stream in streams {
        let mut text = Vec::new();
        stream.read_to_end(&mut text).expect("the end");
        assert!(text.is_empty(), "{}", String::from_utf8_lossy(&text));
    }
    assert_eq!(house.door.log().matches(" 408 cR-- ").count(), 10);
}

#[test]
fn slow_bodies_disturb_nobody_and_are_told_so() {
    let Some(mut house) = House::start() else { return };
    let slow = crowd(SLOW_CLIENTS);
    let told = house.beside(&format!("{slow} slow bodies"), |addr, placed, _| {
        let head = "POST /api/balance HTTP/1.1\r\nHost: x\r\n";
        let mut streams = open(addr, slow / 2, &format!("{head}Content-Length: 100\r\n\r\n"));
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n64\r\n");
        streams.append(&mut open(addr, slow - slow / 2, &chunked));
        placed();
        trickle(streams, b' ')
    });
    let told: Vec<_> = told.iter().filter(|text| !text.is_empty()).collect();
    assert!(told.len() > slow / 2, "only {} of {slow} were told why", told.len());
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

/// Answers longer than the door's buffer, so that each keeps its place at a replica.
#[test]
fn clients_that_never_read_disturb_nobody() {
    let Some(mut house) = House::start() else { return };
    let slow = crowd(200); // more than the door has places at all replicas
    house.beside(&format!("{slow} clients that never read"), |addr, placed, stop| {
        let request = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(10);
        let mut streams: Vec<TcpStream> = (0..slow).map(|_| deaf(addr)).collect();
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
