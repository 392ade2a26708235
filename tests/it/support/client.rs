use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// One connection.
pub(crate) struct Client(BufReader<TcpStream>);

/// No answer takes longer in any test.
const PATIENCE: Duration = Duration::from_secs(60);

impl Client {
    pub(crate) fn connect(addr: SocketAddr) -> Client {
        Client::try_connect(addr).expect("a connection")
    }

    pub(crate) fn try_connect(addr: SocketAddr) -> std::io::Result<Client> {
        Client::try_connect_with(addr, PATIENCE)
    }

    /// One that waits for each part of an answer no longer than this.
    pub(crate) fn try_connect_with(
        addr: SocketAddr,
        patience: Duration,
    ) -> std::io::Result<Client> {
        Client::of(TcpStream::connect(addr)?, patience)
    }

    /// The one at this end of a connection.
    pub(crate) fn of(stream: TcpStream, patience: Duration) -> std::io::Result<Client> {
        stream.set_read_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        Ok(Client(BufReader::new(stream)))
    }

    /// The connection, to write to while answers are read.
    pub(crate) fn try_clone(&self) -> TcpStream {
        self.0.get_ref().try_clone().expect("a descriptor")
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).expect("sent");
    }

    pub(crate) fn send_request(&mut self, head: &str, headers: &[&str], body: &str) {
        self.try_send_request(head, headers, body).expect("sent");
    }

    pub(crate) fn try_send_request(
        &mut self,
        head: &str,
        headers: &[&str],
        body: &str,
    ) -> std::io::Result<()> {
        let host = headers.iter().all(|line| !line.starts_with("Host:")).then_some("Host: x");
        let lines = host.iter().chain(headers);
        let headers: String = lines.map(|line| format!("{line}\r\n")).collect();
        let length = body.len();
        let head = format!("{head} HTTP/1.1\r\nContent-Length: {length}\r\n{headers}\r\n");
        self.0.get_mut().write_all(format!("{head}{body}").as_bytes())
    }

    /// The next answer; none when the connection ended before its first byte.
    pub(crate) fn receive(&mut self) -> Option<Answer> {
        self.try_receive().expect("an answer")
    }

    pub(crate) fn try_receive(&mut self) -> std::io::Result<Option<Answer>> {
        let Some(status_line) = self.line()? else {
            return Ok(None);
        };
        let status = status_line.split(' ').nth(1).unwrap().parse().expect("a status");
        let mut headers = Vec::new();
        while let Some(line) = self.line()?.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').expect("a header");
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer { status, headers, body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |text| text.parse().unwrap());
        answer.body.resize(length, 0);
        self.0.read_exact(&mut answer.body)?;
        Ok(Some(answer))
    }

    pub(crate) fn ask(&mut self, head: &str, headers: &[&str], body: &str) -> Answer {
        self.send_request(head, headers, body);
        self.receive().expect("an answer before the end of the connection")
    }

    /// The same; none when the connection ended before the answer began.
    pub(crate) fn try_ask(
        &mut self,
        head: &str,
        headers: &[&str],
        body: &str,
    ) -> std::io::Result<Option<Answer>> {
        self.try_send_request(head, headers, body)?;
        self.try_receive()
    }

    /// Whatever has come, without a look at its form.
    pub(crate) fn read_some(&mut self) -> Vec<u8> {
        let some = self.0.fill_buf().expect("bytes").to_vec();
        assert!(!some.is_empty(), "the connection has ended");
        self.0.consume(some.len());
        some
    }

    /// Whether the server has ended the connection.
    pub(crate) fn is_ended(&mut self) -> bool {
        matches!(self.0.fill_buf(), Ok(rest) if rest.is_empty())
    }

    fn line(&mut self) -> std::io::Result<Option<String>> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line)?;
        Ok((read > 0).then(|| line.trim_end().to_owned()))
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("not JSON: {:?}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn balance(&self) -> i64 {
        self.json()["balance"].as_i64().expect("a balance")
    }

    /// The code of a problem, after a look at its form.
    pub(crate) fn code(&self) -> String {
        let problem = self.json();
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{problem}");
        assert_eq!(problem["status"], self.status, "{problem}");
        for member in ["type", "title", "detail", "code"] {
            assert!(problem[member].is_string(), "{member}: {problem}");
        }
        problem["code"].as_str().unwrap().to_owned()
    }
}

/// One request on a connection of its own.
pub(crate) fn ask(addr: SocketAddr, head: &str, headers: &[&str], body: &str) -> Answer {
    Client::connect(addr).ask(head, headers, body)
}

pub(crate) fn get(addr: SocketAddr, path: &str) -> Answer {
    ask(addr, &format!("GET {path}"), &[], "")
}

pub(crate) fn post(addr: SocketAddr, path: &str, body: &str) -> Answer {
    ask(addr, &format!("POST {path}"), &[], body)
}

/// The body of a change.
pub(crate) fn change(user_id: i64, amount: i64) -> String {
    format!("{{\"userId\":{user_id},\"amount\":{amount}}}")
}
