//! A server with the API that `loadtest` uses, right or wrong in one chosen way.

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// What is wrong, if anything. "The third" is the third withdrawal to arrive.
#[derive(Clone)]
pub(crate) enum Manner {
    Right,
    /// Right, but every answer comes byte by byte.
    Dribbles,
    /// Right, but with the third everything stands still for a second.
    StallsOnce,
    /// Right, but every answer announces the end of its connection.
    Closes,
    /// Right, but no withdrawal is answered before all of the barrier's have arrived.
    WaitsForAll(Arc<Barrier>),
    /// The third is made and its connection ends without an answer.
    LosesAnAnswer,
    /// The third is made and its connection ends in the middle of the answer.
    CutsAnAnswer,
    /// The third is made and never answered.
    StaysSilent,
    /// The third reports the balance of the second.
    RepeatsABalance,
    /// The first that is not covered is granted all the same.
    GrantsOneTooMany,
    /// The first that is not covered is refused with a balance that would cover it.
    LiesInARefusal,
    /// The third is not made: 503.
    IsUnavailableOnce,
    /// The third is made and answered in chunks.
    AnswersInChunks,
    /// The third is made and answered for another user.
    MixesUsersUp,
    /// Every deposit is answered rightly, and lost.
    ForgetsDeposits,
    /// Nothing is done without a token, which no request here has.
    WantsAToken,
    /// All answers are right, but what they say was taken comes back.
    GivesMoneyBack,
}

struct Bank {
    users: BTreeMap<i64, i64>,
    /// How many changes each has had.
    numbers: BTreeMap<i64, i64>,
    keys: HashSet<String>,
    withdrawals: u64,
    refusals: u64,
}

/// Any number of listeners before one bank.
pub(crate) struct Server {
    bank: Arc<Mutex<Bank>>,
    manner: Manner,
    addresses: Vec<SocketAddr>,
}

/// What goes out for one request.
enum Reply {
    Bytes(Vec<u8>),
    Cut(Vec<u8>),
    Silence,
}

impl Server {
    /// User 1 has `balance`; there are `listeners` base URLs.
    pub(crate) fn start(manner: Manner, balance: i64, listeners: usize) -> Server {
        let users = BTreeMap::from([(1, balance)]);
        let (numbers, keys) = (BTreeMap::new(), HashSet::new());
        let bank = Bank { users, numbers, keys, withdrawals: 0, refusals: 0 };
        let bank = Arc::new(Mutex::new(bank));
        let mut server = Server { bank, manner, addresses: Vec::new() };
        for number in 1..=listeners {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            server.addresses.push(listener.local_addr().expect("its address"));
            let (bank, manner) = (Arc::clone(&server.bank), server.manner.clone());
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (bank, manner) = (Arc::clone(&bank), manner.clone());
                    thread::spawn(move || serve(stream, &bank, &manner, number));
                }
            });
        }
        server
    }

    /// For `--targets`.
    pub(crate) fn targets(&self) -> String {
        let urls: Vec<_> =
            self.addresses.iter().map(|address| format!("http://{address}")).collect();
        urls.join(",")
    }

    /// How many withdrawals arrived.
    pub(crate) fn withdrawals(&self) -> u64 {
        self.bank.lock().expect("no panic in the bank").withdrawals
    }
}

/// Serves a connection until either side ends it; errors are the client's business to see.
fn serve(mut stream: TcpStream, bank: &Mutex<Bank>, manner: &Manner, number: usize) {
    let mut bytes = Vec::new();
    while let Some((method, path, key, body)) = read_request(&mut stream, &mut bytes) {
        let amount = body["amount"].as_i64();
        if let Manner::WaitsForAll(barrier) = manner
            && amount.is_some_and(|amount| amount < 0)
        {
            barrier.wait();
        }
        let name = format!("server-{number}");
        let mut bank = bank.lock().expect("no panic in the bank");
        let reply = bank.reply(manner, &name, (&method, &path), key, &body);
        drop(bank);
        let sent = match reply {
            Reply::Bytes(bytes) if matches!(manner, Manner::Dribbles) => {
                bytes.chunks(1).try_for_each(|byte| {
                    thread::yield_now();
                    stream.write_all(byte)
                })
            }
            Reply::Bytes(bytes) => stream.write_all(&bytes),
            Reply::Cut(bytes) => {
                let _ = stream.write_all(&bytes);
                return;
            }
            // Until the client gives up: this read ends when it hangs up.
            Reply::Silence => stream.read(&mut [0]).map(|_| ()),
        };
        if sent.is_err() || matches!(manner, Manner::Closes) {
            return;
        }
    }
}

impl Bank {
    fn reply(
        &mut self,
        manner: &Manner,
        server: &str,
        (method, path): (&str, &str),
        key: Option<String>,
        body: &Value,
    ) -> Reply {
        let closes = matches!(manner, Manner::Closes);
        let answer = |status, body: Value| Reply::Bytes(bytes(status, server, closes, &body));
        if matches!(manner, Manner::WantsAToken) {
            return answer(401, json!({"code": "unauthorized"}));
        }
        if key.is_some_and(|key| !self.keys.insert(key)) {
            return answer(422, json!({"code": "idempotency_key_reused"}));
        }
        let user = |(id, balance)| json!({"userId": id, "balance": balance});
        match (method, path.strip_prefix("/api/users/").map(str::parse)) {
            ("GET", Some(Ok(id))) => match self.users.get(&id) {
                None => answer(404, json!({"code": "user_not_found"})),
                Some(balance) => {
                    let back = i64::from(matches!(manner, Manner::GivesMoneyBack));
                    let balance = balance + back * 2 * self.withdrawals.min(1).cast_signed();
                    answer(200, user((id, balance)))
                }
            },
            ("GET", _) => {
                let users: Vec<_> = self.users.iter().map(|(id, of)| user((*id, *of))).collect();
                answer(200, json!({"users": users, "next": null}))
            }
            _ if path == "/api/users" => {
                let id = self.users.len() as i64 + 1;
                let balance = body["balance"].as_i64().expect("a balance");
                self.users.insert(id, balance);
                answer(201, user((id, balance)))
            }
            _ => self.change(manner, server, body),
        }
    }

    fn change(&mut self, manner: &Manner, server: &str, body: &Value) -> Reply {
        let (id, amount) = (body["userId"].as_i64().expect("a user"), &body["amount"]);
        let amount = amount.as_i64().expect("an amount");
        let closes = matches!(manner, Manner::Closes);
        let bytes = |status, body: Value| bytes(status, server, closes, &body);
        let balance = self.users.get_mut(&id).expect("a known user");
        let number = self.numbers.entry(id).or_default();
        let state =
            |id, balance, number| json!({"userId": id, "balance": balance, "number": number});
        self.withdrawals += u64::from(amount < 0);
        let third = amount < 0 && self.withdrawals == 3;
        if third && matches!(manner, Manner::StallsOnce) {
            // Whoever comes meanwhile waits for the bank.
            thread::sleep(Duration::from_secs(1));
        }
        if third && matches!(manner, Manner::IsUnavailableOnce) {
            let problem = json!({"code": "database_unavailable", "outcome": "not_applied"});
            return Reply::Bytes(bytes(503, problem));
        }
        if *balance + amount < 0 {
            self.refusals += 1;
            let first = self.refusals == 1;
            let shown =
                if first && matches!(manner, Manner::LiesInARefusal) { 2 } else { *balance };
            if first && matches!(manner, Manner::GrantsOneTooMany) {
                return Reply::Bytes(bytes(200, state(id, *balance, *number)));
            }
            let problem = json!({"code": "insufficient_funds", "balance": shown, "amount": amount});
            return Reply::Bytes(bytes(409, problem));
        }
        *number += 1;
        let right = bytes(200, state(id, *balance + amount, *number));
        if amount < 0 || !matches!(manner, Manner::ForgetsDeposits) {
            *balance += amount;
        }
        match manner {
            Manner::LosesAnAnswer if third => Reply::Cut(Vec::new()),
            Manner::CutsAnAnswer if third => Reply::Cut(right[..right.len() - 1].to_vec()),
            Manner::StaysSilent if third => Reply::Silence,
            Manner::AnswersInChunks if third => Reply::Bytes(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
            ),
            Manner::RepeatsABalance if third => {
                Reply::Bytes(bytes(200, state(id, *balance - amount, *number)))
            }
            Manner::MixesUsersUp if third => {
                Reply::Bytes(bytes(200, state(id + 1, *balance, *number)))
            }
            _ => Reply::Bytes(right),
        }
    }
}

/// Method, path without its query, `Idempotency-Key`, body; nothing at the connection's end.
pub(crate) fn read_request(
    stream: &mut TcpStream,
    bytes: &mut Vec<u8>,
) -> Option<(String, String, Option<String>, Value)> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut headers);
        if let Ok(httparse::Status::Complete(head)) = request.parse(bytes) {
            let header = |name: &str| {
                let found = request.headers.iter().find(|header| header.name == name)?;
                String::from_utf8(found.value.to_vec()).ok()
            };
            let end = head + header("Content-Length")?.parse::<usize>().ok()?;
            if bytes.len() >= end {
                let method = request.method?.to_owned();
                let path = request.path?.split('?').next()?.to_owned();
                let key = header("Idempotency-Key");
                let body = serde_json::from_slice(&bytes[head..end]).unwrap_or_default();
                bytes.drain(..end);
                return Some((method, path, key, body));
            }
        }
        let mut more = [0; 1_024];
        match stream.read(&mut more) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&more[..count]),
        }
    }
}

/// One whole answer.
pub(crate) fn bytes(status: u16, server: &str, closes: bool, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let connection = if closes { "Connection: close\r\n" } else { "" };
    let retry = if status == 503 { "Retry-After: 1\r\n" } else { "" };
    let length = body.len();
    format!(
        "HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         X-Served-By: {server}\r\n{connection}{retry}\r\n{body}"
    )
    .into_bytes()
}
