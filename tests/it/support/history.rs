use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use checker::{Amount, Record, Request, State, check, write_record};
use serde_json::Value;

use super::{Answer, Client, until};

/// Whoever has not answered for so long is not waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// The violations that are shown, and the records of each.
const SHOWN: usize = 5;

/// What clients asked, and what they were told, to be held against an exact ledger. Nobody else may
/// change the balances that they change.
pub(crate) struct History {
    epoch: Instant,
    records: Mutex<Vec<Record>>,
}

impl History {
    pub(crate) fn new() -> History {
        History { epoch: Instant::now(), records: Mutex::default() }
    }

    /// Notes a request and its answer, which has just come; none where it did not, although some of
    /// the request may have been sent. What is not about balances is passed by.
    pub(crate) fn note(
        &self,
        client: usize,
        begun: Instant,
        (head, headers, body): (&str, &[&str], &str),
        answer: Option<&Answer>,
    ) {
        let Some(request) = request(head, headers, body) else { return };
        let nanos = |at: Instant| u64::try_from((at - self.epoch).as_nanos()).expect("nanoseconds");
        let (begun, ended) = (nanos(begun), nanos(Instant::now()));
        let answer = answer.map_or(checker::Answer::Unknown, |answer| told(&request, answer));
        let client = client as u64;
        self.records.lock().unwrap().push(Record { client, begun, ended, request, answer });
    }

    /// Reads the states of these users wherever it is told, before the clients begin and when all
    /// have ended; where it was not told only after all others, since that may last as long as
    /// the patience.
    pub(crate) fn read(&self, addrs: &[SocketAddr], users: &[i64]) {
        let mut turns: VecDeque<SocketAddr> = addrs.iter().copied().collect();
        for user_id in users {
            let head = format!("GET /api/users/{user_id}/changes?limit=1");
            until("the last change is read", Duration::from_secs(60), || {
                let (begun, addr) = (Instant::now(), turns.pop_front().expect("an address"));
                let client = Client::try_connect_with(addr, PATIENCE);
                let answer = client.and_then(|mut client| client.try_ask(&head, &[], ""));
                let answer = answer.ok().flatten();
                self.note(0, begun, (&head, &[], ""), answer.as_ref());
                let is_told = answer.is_some_and(|answer| answer.status == 200);
                if is_told {
                    turns.push_back(addr);
                } else if turns.is_empty() {
                    turns.extend(addrs);
                }
                is_told
            });
        }
    }

    /// Whether an exact ledger can have given these answers.
    pub(crate) fn is_possible(&self) -> bool {
        check(&self.records.lock().unwrap()).violations.is_empty()
    }

    /// Fails if no exact ledger can have given these answers; how many there are.
    pub(crate) fn check(&self) -> usize {
        let records = self.records.lock().unwrap();
        let begun = Instant::now();
        let verdict = check(&records);
        let took = begun.elapsed();
        println!(
            "a history of {} requests, checked in {took:.1?}; {} balances have no single place",
            records.len(),
            verdict.unplaced
        );
        let mut text = Vec::new();
        for violation in verdict.violations.iter().take(SHOWN) {
            text.extend(format!("{violation}\n").bytes());
            for record in violation.records.iter().take(SHOWN) {
                write_record(&mut text, &records[*record]).expect("memory");
            }
        }
        let text = String::from_utf8(text).expect("a text");
        assert!(text.is_empty(), "{} violations:\n{text}", verdict.violations.len());
        records.len()
    }
}

fn request(head: &str, headers: &[&str], body: &str) -> Option<Request> {
    let key = headers.iter().find_map(|line| line.strip_prefix("Idempotency-Key: "));
    let key = key.map(|key| key.trim_matches('"').to_owned());
    let changes = match head {
        "POST /api/balance" => vec![serde_json::from_str(body).expect("a change")],
        "POST /api/changes" => {
            let body: Value = serde_json::from_str(body).expect("a set");
            serde_json::from_value::<Vec<Amount>>(body["changes"].clone()).expect("changes")
        }
        _ => {
            let path = head.strip_prefix("GET /api/users/")?;
            let end = path.find(['/', '?']).unwrap_or(path.len());
            let user_id = path[..end].parse().ok()?;
            return Some(match &path[end..] {
                "" | "/balance" | "/changes?limit=1" => Request::Read { user_id },
                more => {
                    let number = more.strip_prefix("/balance?number=")?.parse().ok()?;
                    Request::At { user_id, number }
                }
            });
        }
    };
    Some(Request::Change { changes, key })
}

fn told(request: &Request, answer: &Answer) -> checker::Answer {
    if answer.status == 408 || answer.status >= 500 {
        let body = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        return match body["outcome"].as_str() {
            Some("not_applied") => checker::Answer::NotApplied,
            _ => checker::Answer::Unknown,
        };
    }
    let replayed = answer.header("idempotency-replayed").is_some();
    match (request, answer.status) {
        (Request::Change { .. }, 200) => {
            let body = answer.json();
            let states = match body.get("changes") {
                Some(changes) => changes.clone(),
                None => Value::Array(vec![body]),
            };
            let states: Vec<State> = serde_json::from_value(states).expect("states");
            checker::Answer::Changed { states, replayed }
        }
        (Request::Change { changes, .. }, 409) if answer.code() == "insufficient_funds" => {
            let user_id = answer.json()["userId"].as_i64().unwrap_or(changes[0].user_id);
            checker::Answer::Refused { user_id, balance: answer.balance(), replayed }
        }
        (Request::Read { .. } | Request::At { .. }, 200) => {
            let body = answer.json();
            let last = &body["changes"][0];
            let balance = body["balance"].as_i64().or_else(|| last["balanceAfter"].as_i64());
            let number = body["number"].as_i64().or_else(|| last["number"].as_i64());
            checker::Answer::Balance { balance: balance.expect("a balance"), number }
        }
        _ => checker::Answer::NotApplied,
    }
}
