//! Clients that move money under keys, and remember what they were told; and the audit.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Answer, Client, Database, Random, SetOnDrop, change, post, until};

const USERS: usize = 5;
const OPENING: i64 = 20_000;
pub(super) const CLIENTS: usize = 8;
/// A client that has heard nothing for this long takes its connection for broken.
const PATIENCE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(30);

/// Users that the clients share.
pub(super) struct Bank {
    users: Vec<i64>,
}

/// One change, and what its client was told in the end: nothing, if it had to stop before.
struct Told {
    user_id: i64,
    amount: i64,
    answer: Option<(u16, i64)>,
    at: Instant,
}

/// What one client did.
#[derive(Default)]
pub(super) struct Report {
    told: Vec<Told>,
    reads: usize,
    retries: usize,
    longest: Duration,
}

/// What all did, and that it is so in the database.
pub(super) struct Audit {
    pub(super) applied: usize,
    pub(super) refused: usize,
    pub(super) unacknowledged: usize,
    pub(super) reads: usize,
    pub(super) retries: usize,
    /// The longest that any client had to go on trying.
    pub(super) longest: Duration,
    /// The longest time in which nobody's change was applied.
    pub(super) gap: Duration,
    /// Acknowledged and not there.
    pub(super) lost: usize,
    /// When the first of those was acknowledged, and the last.
    pub(super) lost_between: Option<(Instant, Instant)>,
}

struct Teller<'a> {
    addrs: &'a [SocketAddr],
    stop: &'a AtomicBool,
    client: Option<Client>,
    turn: usize,
    random: Random,
    report: Report,
}

impl Bank {
    /// Tries again, as clients do, where it is told that nothing was applied.
    pub(super) fn open(addr: SocketAddr) -> Bank {
        let body = format!("{{\"balance\":{OPENING}}}");
        let open = |_| {
            let mut user_id = None;
            until("a user is created", Duration::from_secs(60), || {
                user_id = post(addr, "/api/users", &body).json()["userId"].as_i64();
                user_id.is_some()
            });
            user_id.expect("an id")
        };
        Bank { users: (0..USERS).map(open).collect() }
    }

    /// Clients work at these addresses, one after the other, until `disturb` has ended; then every
    /// change of the database is held against what they were told.
    pub(super) fn work(
        &self,
        addrs: &[SocketAddr],
        seed: u64,
        database: &Database,
        disturb: impl FnOnce(),
    ) -> Audit {
        self.audit(database, &self.reports(addrs, seed, disturb), None)
    }

    /// What the clients were told until `disturb` had ended.
    pub(super) fn reports(
        &self,
        addrs: &[SocketAddr],
        seed: u64,
        disturb: impl FnOnce(),
    ) -> Vec<Report> {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let (stop, users) = (&stop, &self.users);
            let clients: Vec<_> = (0..CLIENTS)
                .map(|index| {
                    let random = Random(seed ^ (index as u64 + 1).rotate_left(32));
                    let report = Report::default();
                    let mut teller =
                        Teller { addrs, stop, client: None, turn: index, random, report };
                    scope.spawn(move || {
                        teller.work(index, users);
                        teller.report
                    })
                })
                .collect();
            let end = SetOnDrop(stop);
            disturb();
            drop(end);
            clients.into_iter().map(|client| client.join().expect("a client")).collect()
        })
    }

    /// Holds every change of the database against what the clients were told. What they were told
    /// until `may_be_lost` may have been lost by the database since.
    pub(super) fn audit(
        &self,
        database: &Database,
        reports: &[Report],
        may_be_lost: Option<Instant>,
    ) -> Audit {
        database.assert_books_balance();
        assert_eq!(database.number("select count(*) from users where balance < 0"), 0);
        let mut ledger = self.ledger(database);
        let mut audit = Audit {
            applied: 0,
            refused: 0,
            unacknowledged: 0,
            reads: reports.iter().map(|report| report.reads).sum(),
            retries: reports.iter().map(|report| report.retries).sum(),
            longest: reports.iter().map(|report| report.longest).max().unwrap_or_default(),
            gap: gap(reports),
            lost: 0,
            lost_between: None,
        };
        for Told { user_id, amount, answer, at } in reports.iter().flat_map(|report| &report.told) {
            let rows = ledger.remove(&(*user_id, *amount)).unwrap_or_default();
            let what = format!("the change of {amount} of user {user_id}, told {answer:?}");
            match answer {
                Some((200, _)) if rows.is_empty() && may_be_lost.is_some_and(|end| *at < end) => {
                    audit.lost += 1;
                    let (first, last) = audit.lost_between.unwrap_or((*at, *at));
                    audit.lost_between = Some((first.min(*at), last.max(*at)));
                }
                Some((200, balance)) => {
                    assert_eq!(rows, [*balance], "{what}: acknowledged, so applied exactly once");
                    audit.applied += 1;
                }
                Some(_) => {
                    assert!(rows.is_empty(), "{what}: refused, so never applied");
                    audit.refused += 1;
                }
                None => {
                    assert!(rows.len() <= 1, "{what}: unacknowledged, so not applied twice");
                    audit.unacknowledged += 1;
                }
            }
        }
        assert!(ledger.is_empty(), "changes that nobody asked for: {ledger:?}");
        audit
    }

    /// The balances after the changes of each user and amount, without the openings.
    fn ledger(&self, database: &Database) -> HashMap<(i64, i64), Vec<i64>> {
        let sql = "select user_id, amount, balance_after from balance_changes as change \
                   where user_id = any($1) and exists (select from balance_changes as opening \
                   where opening.user_id = change.user_id and opening.id < change.id)";
        let rows = database.connect().query(sql, &[&self.users]).expect("the ledger");
        let mut ledger = HashMap::<_, Vec<i64>>::new();
        for row in rows {
            ledger.entry((row.get(0), row.get(1))).or_default().push(row.get(2));
        }
        ledger
    }
}

fn gap(reports: &[Report]) -> Duration {
    let all = reports.iter().flat_map(|report| &report.told);
    let applied = all.filter(|told| matches!(told.answer, Some((200, _))));
    let mut instants: Vec<Instant> = applied.map(|told| told.at).collect();
    instants.sort_unstable();
    instants.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

impl Teller<'_> {
    fn work(&mut self, index: usize, users: &[i64]) {
        for serial in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let user_id = users[self.random.below(users.len())];
            if self.random.below(5) == 0 {
                self.read(user_id);
                continue;
            }
            // No two changes are of one amount, so each is found again in the ledger.
            let number = i64::try_from(serial * CLIENTS + index + 1).expect("a small number");
            let amount = if self.random.below(10) < 6 { -number } else { number };
            let key = format!("Idempotency-Key: \"{index}-{serial}\"");
            let (head, body) = ("POST /api/balance", change(user_id, amount));
            let answer = match self.random.below(100) {
                0 => self.send_and_leave(head, &[&key], &body),
                // Without a key: sent twice by anybody on the way, it would be applied twice.
                1..20 => self.once(head, &body),
                _ => self.until_answered(head, &[&key], body),
            };
            let answer = answer.map(|answer| {
                let expected = answer.status == 200 || answer.code() == "insufficient_funds";
                assert!(expected && answer.balance() >= 0, "{amount}: {}", answer.json());
                (answer.status, answer.balance())
            });
            self.report.told.push(Told { user_id, amount, answer, at: Instant::now() });
        }
    }

    fn read(&mut self, user_id: i64) {
        let head = format!("GET /api/users/{user_id}");
        if let Some(answer) = self.until_answered(&head, &[], String::new()) {
            assert!(answer.status == 200 && answer.balance() >= 0, "{}", answer.json());
            self.report.reads += 1;
        }
    }

    /// Gives up on the answer at once.
    fn send_and_leave(&mut self, head: &str, headers: &[&str], body: &str) -> Option<Answer> {
        let client = self.client.take();
        // Whether it arrives is what nobody is to know.
        let _ = client.map(|mut client| client.try_send_request(head, headers, body));
        None
    }

    /// Sends the request and never again; none where its outcome is not told.
    fn once(&mut self, head: &str, body: &str) -> Option<Answer> {
        let answer = self.attempt(head, &[], body);
        if answer.is_none() {
            self.client = None;
            self.turn += 1;
        }
        answer.filter(|answer| answer.status < 500 && answer.status != 408)
    }

    /// Sends the request until it is answered by more than an outage; none at the end.
    fn until_answered(&mut self, head: &str, headers: &[&str], body: String) -> Option<Answer> {
        let begun = Instant::now();
        loop {
            match self.attempt(head, headers, &body) {
                Some(answer) if answer.status < 500 && answer.status != 408 => {
                    self.report.longest = self.report.longest.max(begun.elapsed());
                    return Some(answer);
                }
                Some(answer) => assert_ne!(answer.status, 500, "{}", answer.json()),
                None => {
                    self.client = None;
                    self.turn += 1;
                }
            }
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            self.report.retries += 1;
            thread::sleep(RETRY);
        }
    }

    /// None where the connection broke.
    fn attempt(&mut self, head: &str, headers: &[&str], body: &str) -> Option<Answer> {
        let client = match &mut self.client {
            Some(client) => client,
            none => {
                let addr = self.addrs[self.turn % self.addrs.len()];
                none.insert(Client::try_connect_with(addr, PATIENCE).ok()?)
            }
        };
        client.try_send_request(head, headers, body).ok()?;
        let answer = client.try_receive().ok()??;
        if answer.header("connection") == Some("close") {
            self.client = None;
        }
        Some(answer)
    }
}
