//! An exact ledger, and clients that ask it at random: each request takes effect at one instant
//! between its beginning and its end, in one order of all.

use std::collections::HashMap;

use checker::{Amount, Answer, Record, Request, State};

/// A set has no more changes than these and one.
const MORE_MAX: u64 = 4;

/// splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.bits() % end
    }

    /// True this often in a hundred times.
    pub(crate) fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let end = u64::try_from(from.len()).unwrap();
        (end > 0).then(|| &from[usize::try_from(self.below(end)).unwrap()])
    }
}

/// What the clients do, in percent where nothing else is said.
#[derive(Clone, Debug)]
pub(crate) struct Traffic {
    pub(crate) users: u64,
    pub(crate) clients: u64,
    pub(crate) requests: u64,
    /// The longest way to the ledger, and back.
    pub(crate) latency: u64,
    pub(crate) amount_max: u64,
    pub(crate) unknown: u64,
    pub(crate) keyed: u64,
    pub(crate) sets: u64,
    pub(crate) reads: u64,
    pub(crate) numbered: u64,
    /// Of the reads, those of the past.
    pub(crate) past: u64,
    /// Whether every user is read in the end.
    pub(crate) closing: bool,
}

impl Traffic {
    /// A few of everything.
    pub(crate) fn random(random: &mut Random) -> Traffic {
        Traffic {
            users: 1 + random.below(5),
            clients: 1 + random.below(8),
            requests: 10 + random.below(150),
            latency: 1 + random.below(60),
            amount_max: 1 + random.below(40),
            unknown: random.below(3) * random.below(20),
            keyed: random.below(60),
            sets: random.below(50),
            reads: random.below(60),
            numbered: random.below(101),
            past: random.below(30),
            closing: random.percent(70),
        }
    }

    /// The same, with every outcome and every number told.
    pub(crate) fn told(self) -> Traffic {
        Traffic { unknown: 0, numbered: 100, closing: true, ..self }
    }
}

/// The truth.
#[derive(Default)]
pub(crate) struct Ledger {
    states: HashMap<i64, State>,
    /// The balance at each number that was passed.
    past: HashMap<(i64, i64), i64>,
    keys: HashMap<(Option<i64>, String), (Request, Answer)>,
}

impl Ledger {
    pub(crate) fn state(&mut self, user_id: i64) -> &mut State {
        // An opening balance is a change, too.
        self.states.entry(user_id).or_insert(State { user_id, balance: 50, number: 1 })
    }

    /// The answer to a request whose instant is now.
    pub(crate) fn answer(&mut self, request: &Request, is_numbered: bool) -> Answer {
        match request {
            Request::Read { user_id } => {
                let State { balance, number, .. } = *self.state(*user_id);
                Answer::Balance { balance, number: is_numbered.then_some(number) }
            }
            Request::At { user_id, number } => {
                let at = (*user_id, *number);
                self.past.get(&at).map_or(Answer::NotApplied, |balance| Answer::Balance {
                    balance: *balance,
                    number: Some(*number),
                })
            }
            Request::Change { changes, key: None } => self.change(changes),
            Request::Change { changes, key: Some(key) } => {
                let owner = (changes.len() == 1).then(|| changes[0].user_id);
                let key = (owner, key.clone());
                if let Some((first, answer)) = self.keys.get(&key) {
                    return if first == request { replay(answer) } else { Answer::NotApplied };
                }
                let answer = self.change(changes);
                self.keys.insert(key, (request.clone(), answer.clone()));
                answer
            }
        }
    }

    fn change(&mut self, changes: &[Amount]) -> Answer {
        let short = changes.iter().find(|of| self.state(of.user_id).balance + of.amount < 0);
        if let Some(Amount { user_id, .. }) = short {
            let balance = self.state(*user_id).balance;
            return Answer::Refused { user_id: *user_id, balance, replayed: false };
        }
        let states = changes.iter().map(|of| {
            let state = self.state(of.user_id);
            state.balance += of.amount;
            state.number += 1;
            let state = *state;
            self.past.insert((state.user_id, state.number), state.balance);
            state
        });
        Answer::Changed { states: states.collect(), replayed: false }
    }
}

fn replay(answer: &Answer) -> Answer {
    let mut answer = answer.clone();
    if let Answer::Changed { replayed, .. } | Answer::Refused { replayed, .. } = &mut answer {
        *replayed = true;
    }
    answer
}

/// A request under way.
struct Trip {
    begun: u64,
    /// When it reaches the ledger, if it does.
    effect: Option<u64>,
    ended: u64,
    is_told: bool,
    is_numbered: bool,
    client: u64,
    request: Request,
}

/// A history that is possible, because it has happened.
pub(crate) fn history(seed: u64, traffic: &Traffic) -> Vec<Record> {
    let mut random = Random(seed);
    let mut trips = reads_of_all(traffic, 1);
    let mut last = 10;
    for client in 1..=traffic.clients {
        let mut clock = 10;
        for serial in 0..traffic.requests / traffic.clients {
            clock = ask(&mut random, traffic, client, serial, clock, &mut trips);
        }
        last = last.max(clock);
    }
    if traffic.closing {
        // Behind whatever is still on its way.
        trips.extend(reads_of_all(traffic, last + 20 * traffic.latency));
    }
    let mut order: Vec<usize> = (0..trips.len()).collect();
    order.sort_by_key(|index| trips[*index].effect);
    let mut ledger = Ledger::default();
    let mut answers = vec![Answer::Unknown; trips.len()];
    for index in order {
        let trip = &trips[index];
        if trip.effect.is_some() {
            let answer = ledger.answer(&trip.request, trip.is_numbered);
            if trip.is_told {
                answers[index] = answer;
            }
        }
    }
    let records = trips.into_iter().zip(answers).map(|(trip, answer)| {
        let Trip { begun, ended, client, request, .. } = trip;
        Record { client, begun, ended, request, answer }
    });
    records.collect()
}

fn reads_of_all(traffic: &Traffic, at: u64) -> Vec<Trip> {
    let read = |user_id| Trip {
        begun: at,
        effect: Some(at),
        ended: at + 1,
        is_told: true,
        is_numbered: true,
        client: 0,
        request: Request::Read { user_id },
    };
    (1..=traffic.users.cast_signed()).map(read).collect()
}

/// One request, sent until its outcome is told if it has a key; when its client goes on.
fn ask(
    random: &mut Random,
    traffic: &Traffic,
    client: u64,
    serial: u64,
    clock: u64,
    trips: &mut Vec<Trip>,
) -> u64 {
    let mut clock = clock + random.below(traffic.latency);
    let request = request(random, traffic, client, serial);
    let is_change = matches!(request, Request::Change { .. });
    let is_keyed = matches!(request, Request::Change { key: Some(_), .. });
    let is_numbered = random.percent(traffic.numbered);
    loop {
        let begun = clock;
        let effect = begun + random.below(traffic.latency);
        let is_told = !random.percent(traffic.unknown);
        let (effect, ended) = match is_told {
            true => (Some(effect), effect + random.below(traffic.latency)),
            // It may come late, or never.
            false => {
                let late = begun + random.below(6 * traffic.latency);
                (random.percent(60).then_some(late), begun + random.below(traffic.latency))
            }
        };
        let request = request.clone();
        trips.push(Trip { begun, effect, ended, is_told, is_numbered, client, request });
        clock = ended + 1;
        if !is_change || !is_keyed || (is_told && !random.percent(20)) {
            return clock;
        }
    }
}

fn request(random: &mut Random, traffic: &Traffic, client: u64, serial: u64) -> Request {
    let users = traffic.users.cast_signed();
    let user = |random: &mut Random| 1 + random.below(traffic.users).cast_signed();
    if random.percent(traffic.reads) {
        let user_id = user(random);
        let number = 2 + random.below(8).cast_signed();
        return match random.percent(traffic.past) {
            true => Request::At { user_id, number },
            false => Request::Read { user_id },
        };
    }
    // Some keys are shared by all clients, which is a race, and often a reuse.
    let serial =
        if random.percent(10) { "shared".to_owned() } else { format!("{client}-{serial}") };
    let key = random.percent(traffic.keyed).then_some(serial);
    let first = user(random);
    let members = match random.percent(traffic.sets) {
        true if users > 1 => 2 + random.below((traffic.users - 1).min(MORE_MAX)).cast_signed(),
        _ => 1,
    };
    let amount = |random: &mut Random| {
        let amount = 1 + random.below(traffic.amount_max).cast_signed();
        if random.percent(50) { amount } else { -amount }
    };
    let changes = (0..members).map(|index| {
        let user_id = 1 + (first - 1 + index) % users;
        Amount { user_id, amount: amount(random) }
    });
    Request::Change { changes: changes.collect(), key }
}
