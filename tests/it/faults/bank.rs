//! Clients that move money, alone and in sets, and remember what they were told; and the audit.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Answer, Client, Database, History, Random, SetOnDrop, change, post, until};

const USERS: usize = 50;
/// A set has as many pairs, each with a withdrawal and a deposit, at most.
const PAIRS_MAX: usize = 3;
const OPENING: i64 = 20_000;
pub(super) const CLIENTS: usize = 8;
/// A client that has heard nothing for this long takes its connection for broken.
const PATIENCE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(30);

/// Users that the clients share.
pub(super) struct Bank {
    users: Vec<i64>,
    history: History,
}

/// One change, or several in a set, and what its client was told in the end: a status and the
/// balances; nothing, if it had to stop before.
struct Told {
    changes: Vec<(i64, i64)>,
    answer: Option<(u16, Vec<i64>)>,
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
    /// How many of those were sets.
    pub(super) sets: usize,
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
    index: usize,
    addrs: &'a [SocketAddr],
    stop: &'a AtomicBool,
    history: &'a History,
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
        let bank = Bank { users: (0..USERS).map(open).collect(), history: History::new() };
        bank.history.read(&[addr], &bank.users);
        bank
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
            let (stop, users, history) = (&stop, &self.users, &self.history);
            let clients: Vec<_> = (0..CLIENTS)
                .map(|index| {
                    let random = Random(seed ^ (index as u64 + 1).rotate_left(32));
                    let report = Report::default();
                    let (client, turn) = (None, index);
                    let mut teller =
                        Teller { index, addrs, stop, history, client, turn, random, report };
                    scope.spawn(move || {
                        teller.work(users);
                        teller.report
                    })
                })
                .collect();
            let end = SetOnDrop(stop);
            disturb();
            drop(end);
            let reports = clients.into_iter().map(|client| client.join().expect("a client"));
            let reports = reports.collect();
            self.history.read(addrs, users);
            reports
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
        if may_be_lost.is_none() {
            self.history.check();
        }
        database.assert_books_balance();
        assert_eq!(database.number("select count(*) from users where balance < 0"), 0);
        let torn = "select count(*) from (select from balance_changes where set_id is not null \
                    group by set_id having sum(amount) <> 0) as torn";
        assert_eq!(database.number(torn), 0, "sets that are neither whole nor absent");
        let mut ledger = self.ledger(database);
        let mut audit = Audit {
            applied: 0,
            sets: 0,
            refused: 0,
            unacknowledged: 0,
            reads: reports.iter().map(|report| report.reads).sum(),
            retries: reports.iter().map(|report| report.retries).sum(),
            longest: reports.iter().map(|report| report.longest).max().unwrap_or_default(),
            gap: gap(reports),
            lost: 0,
            lost_between: None,
        };
        for Told { changes, answer, at } in reports.iter().flat_map(|report| &report.told) {
            let rows: Vec<_> = changes.iter().filter_map(|change| ledger.remove(change)).collect();
            let what = format!("the changes {changes:?}, told {answer:?}");
            match answer {
                Some((200, _)) if rows.is_empty() && may_be_lost.is_some_and(|end| *at < end) => {
                    audit.lost += 1;
                    let (first, last) = audit.lost_between.unwrap_or((*at, *at));
                    audit.lost_between = Some((first.min(*at), last.max(*at)));
                }
                Some((200, balances)) => {
                    let told: Vec<_> = balances.iter().map(|balance| vec![*balance]).collect();
                    assert_eq!(rows, told, "{what}: acknowledged, so applied exactly once");
                    audit.applied += 1;
                    audit.sets += usize::from(changes.len() > 1);
                }
                Some(_) => {
                    assert!(rows.is_empty(), "{what}: refused, so never applied");
                    audit.refused += 1;
                }
                None => {
                    let once = rows.iter().all(|balances| balances.len() == 1);
                    assert!(once, "{what}: unacknowledged, so not applied twice");
                    let whole = [0, changes.len()].contains(&rows.len());
                    assert!(whole, "{what}: neither whole nor absent");
                    audit.unacknowledged += 1;
                }
            }
        }
        assert!(audit.lost == 0 || !self.history.is_possible(), "what was lost is not noticed");
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
    fn work(&mut self, users: &[i64]) {
        let index = self.index;
        for serial in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let user_id = users[self.random.below(users.len())];
            if self.random.below(5) == 0 {
                self.read(user_id);
                continue;
            }
            // No two requests are of one amount, so each change is found again in the ledger.
            let number = i64::try_from(serial * CLIENTS + index + 1).expect("a small number");
            let changes = match self.random.below(2) {
                0 if self.random.below(10) < 6 => vec![(user_id, -number)],
                0 => vec![(user_id, number)],
                _ => self.transfer(users, number),
            };
            let answer = self.change(&changes, &format!("{index}-{serial}"));
            self.report.told.push(Told { changes, answer, at: Instant::now() });
        }
    }

    /// Withdrawals and as many deposits, of users in any order.
    fn transfer(&mut self, users: &[i64], number: i64) -> Vec<(i64, i64)> {
        let mut users = users.to_vec();
        let pairs = 1 + self.random.below(PAIRS_MAX);
        let mut next = || users.swap_remove(self.random.below(users.len()));
        (0..2 * pairs).map(|place| (next(), [number, -number][place % 2])).collect()
    }

    /// Asks for one change, or for a set of them.
    fn change(&mut self, changes: &[(i64, i64)], key: &str) -> Option<(u16, Vec<i64>)> {
        let key = format!("Idempotency-Key: \"{key}\"");
        let bodies: Vec<String> =
            changes.iter().map(|(user_id, amount)| change(*user_id, *amount)).collect();
        let (head, body) = match &bodies[..] {
            [body] => ("POST /api/balance", body.clone()),
            all => ("POST /api/changes", format!("{{\"changes\":[{}]}}", all.join(","))),
        };
        let answer = match self.random.below(100) {
            0 => self.send_and_leave(head, &[&key], &body),
            // Without a key: sent twice by anybody on the way, it would be applied twice.
            1..20 => self.once(head, &body),
            _ => self.until_answered(head, &[&key], body),
        }?;
        let told = answer.json();
        let expected = answer.status == 200 || answer.code() == "insufficient_funds";
        assert!(expected, "{changes:?}: {told}");
        let told = told["changes"].as_array().cloned().unwrap_or_else(|| vec![told]);
        let balances: Vec<i64> =
            told.iter().map(|told| told["balance"].as_i64().expect("a balance")).collect();
        assert!(balances.iter().all(|balance| *balance >= 0), "{changes:?}: {balances:?}");
        Some((answer.status, balances))
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
        let mut client = self.client.take()?;
        let begun = Instant::now();
        // Whether it arrives is what nobody is to know.
        let _ = client.try_send_request(head, headers, body);
        self.history.note(self.index, begun, (head, headers, body), None);
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
        let begun = Instant::now();
        let answer = client.try_ask(head, headers, body).ok().flatten();
        self.history.note(self.index, begun, (head, headers, body), answer.as_ref());
        let answer = answer?;
        if answer.header("connection") == Some("close") {
            self.client = None;
        }
        Some(answer)
    }
}
