use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::{Client, Door};

type Requests = Arc<Mutex<Vec<(String, String)>>>;

/// A door, and the requests that have passed it, each a head and a body.
pub(crate) struct Record {
    pub(crate) addr: SocketAddr,
    requests: Requests,
    _door: Door,
}

impl Record {
    /// None where HAProxy is not installed.
    pub(crate) fn start() -> Option<Record> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let behind = listener.local_addr().unwrap();
        let requests = Requests::default();
        let kept = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let requests = Arc::clone(&kept);
                thread::spawn(move || write_down(stream.expect("a connection"), &requests));
            }
        });
        let door = Door::start(&[behind])?;
        Some(Record { addr: door.addr, requests, _door: door })
    }

    /// Sends this, and gives the status and body of each answer until the connection ends.
    pub(crate) fn answers(&self, bytes: impl AsRef<[u8]>) -> Vec<(u16, String)> {
        let mut client = Client::connect(self.addr);
        client.send(bytes);
        let mut answers = Vec::new();
        while let Some(answer) = client.try_receive().expect("an answer, or the end") {
            answers.push((answer.status, String::from_utf8(answer.body).expect("a text")));
        }
        answers
    }

    /// The one request that has passed since the last look.
    pub(crate) fn passed(&self) -> (String, String) {
        let mut requests = self.taken();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.remove(0)
    }

    pub(crate) fn taken(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

fn write_down(stream: TcpStream, requests: &Requests) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            // The door ends its idle connections as it likes.
            if !matches!(reader.read_line(&mut head), Ok(1..)) {
                return;
            }
        }
        let length = head
            .split("content-length: ")
            .nth(1)
            .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().expect("a plain length"));
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("the whole body");
        if !head.starts_with("GET /health") {
            requests.lock().unwrap().push((head, String::from_utf8(body).expect("a text")));
        }
        let answer = "HTTP/1.1 200 OK\r\nX-Served-By: record\r\nContent-Length: 0\r\n\r\n";
        let _ = reader.get_mut().write_all(answer.as_bytes());
    }
}
