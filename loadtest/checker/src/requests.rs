//! From requests to what they are evidence of: changes that were made, changes that may have been
//! made, and balances that were seen. The requests of one key are one change.

use crate::record::{Amount, Answer, Record, Request, State};
use crate::verdict::{Kind, Violation};

/// A change, or a set of changes at one instant, that was made between two instants.
pub(crate) struct Made {
    pub(crate) begun: u64,
    pub(crate) ended: u64,
    pub(crate) record: usize,
}

/// A change or a set that was made once, at any time after it had begun, or never.
pub(crate) struct Pending<'a> {
    pub(crate) begun: u64,
    pub(crate) record: usize,
    pub(crate) changes: &'a [Amount],
}

/// A balance that somebody was told.
pub(crate) struct Seen {
    pub(crate) user_id: i64,
    pub(crate) balance: i64,
    pub(crate) number: Option<i64>,
    pub(crate) begun: u64,
    pub(crate) ended: u64,
    pub(crate) record: usize,
    pub(crate) kind: SeenAs,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SeenAs {
    /// The balance at some instant of the request.
    Current,
    /// The same, and it does not cover.
    Refusal,
    /// The balance at that instant or before.
    Past,
}

/// All the evidence, and what contradicts itself in it.
#[derive(Default)]
pub(crate) struct Evidence<'a> {
    pub(crate) made: Vec<Made>,
    pub(crate) pending: Vec<Pending<'a>>,
    pub(crate) seen: Vec<Seen>,
    pub(crate) violations: Vec<Violation>,
}

impl<'a> Evidence<'a> {
    pub(crate) fn gather(records: &'a [Record]) -> Evidence<'a> {
        let mut evidence = Evidence::default();
        let mut keyed = Vec::new();
        for (index, record) in records.iter().enumerate() {
            if let Some(sentence) = fault(record) {
                evidence.violate(Kind::Answer, &[index], sentence);
                continue;
            }
            match (&record.request, &record.answer) {
                (Request::Change { changes, key: Some(key) }, _) => {
                    let owner = (changes.len() == 1).then(|| changes[0].user_id);
                    keyed.push((owner, key.as_str(), record.begun, index));
                }
                (Request::Change { key: None, .. }, _) => evidence.settle(records, &[index]),
                (_, Answer::Balance { .. }) => evidence.see(record, index),
                _ => {}
            }
        }
        keyed.sort_unstable();
        for group in keyed.chunk_by(|one, other| (one.0, one.1) == (other.0, other.1)) {
            let group: Vec<usize> = group.iter().map(|(.., index)| *index).collect();
            evidence.settle(records, &group);
        }
        // Who looks at one user after the other finds what it needs in the processor's caches.
        evidence.seen.sort_by_key(|seen| seen.user_id);
        evidence
    }

    fn violate(&mut self, kind: Kind, records: &[usize], sentence: &str) {
        let (records, sentence) = (records.to_vec(), sentence.to_owned());
        self.violations.push(Violation { kind, records, sentence });
    }

    fn see(&mut self, record: &Record, index: usize) {
        let Answer::Balance { balance, number } = record.answer else { return };
        let (user_id, number, kind) = match record.request {
            Request::At { user_id, number } => (user_id, Some(number), SeenAs::Past),
            Request::Read { user_id } => (user_id, number, SeenAs::Current),
            Request::Change { .. } => return,
        };
        let (begun, ended) = (record.begun, record.ended);
        self.seen.push(Seen { user_id, balance, number, begun, ended, record: index, kind });
    }

    /// Takes what was decided by the requests of one key, in the order of their beginnings, or by
    /// one without a key.
    fn settle(&mut self, records: &'a [Record], group: &[usize]) {
        let told = |index: &&usize| decision(&records[**index]).is_some();
        let is_first = |index: &&usize| decision(&records[**index]) == Some(false);
        let mut firsts = group.iter().filter(is_first);
        let original = firsts.next().copied();
        if let (Some(one), Some(other)) = (original, firsts.next()) {
            let sentence = "both were decided by themselves, although their key is the same";
            return self.violate(Kind::KeyTwice, &[one, *other], sentence);
        }
        let Some(index) = original.or_else(|| group.iter().find(told).copied()) else {
            return self.may_have_made(records, group);
        };
        let first = &records[index];
        for other in group.iter().filter(told) {
            if !agree(first, &records[*other]) {
                let sentence = "they have one key, and the answers are not the same";
                return self.violate(Kind::Replay, &[index, *other], sentence);
            }
        }
        let may_be_it = |other: &&usize| {
            let record = &records[**other];
            record.answer == Answer::Unknown && record.request == first.request
        };
        let Some(by) = original.or_else(|| group.iter().find(may_be_it).copied()) else {
            let sentence = "it repeats an answer, and no request was there before";
            return self.violate(Kind::Replay, &[index], sentence);
        };
        let begun = records[by].begun;
        let last = group.iter().filter(told).min_by_key(|index| records[**index].ended);
        let ended = last.map_or(first.ended, |index| records[*index].ended);
        if ended < begun {
            let sentence = "an answer was repeated before the request for it had begun";
            return self.violate(Kind::Replay, &[by, *last.unwrap_or(&index)], sentence);
        }
        match first.answer {
            Answer::Refused { user_id, balance, .. } => {
                let (number, kind) = (None, SeenAs::Refusal);
                self.seen.push(Seen {
                    user_id,
                    balance,
                    number,
                    begun,
                    ended,
                    record: index,
                    kind,
                });
            }
            _ => self.made.push(Made { begun, ended, record: index }),
        }
    }

    /// Under one key at most one of them; those with other amounts are not told from one another.
    fn may_have_made(&mut self, records: &'a [Record], group: &[usize]) {
        let before = self.pending.len();
        for index in group {
            let Record { request: Request::Change { changes, .. }, answer, begun, .. } =
                &records[*index]
            else {
                continue;
            };
            let is_new = self.pending[before..].iter().all(|known| known.changes != changes);
            if *answer == Answer::Unknown && is_new {
                self.pending.push(Pending { begun: *begun, record: *index, changes });
            }
        }
    }
}

/// Whether the answer that decides a change is a replay; none where nothing was decided.
fn decision(record: &Record) -> Option<bool> {
    match record.answer {
        Answer::Changed { replayed, .. } | Answer::Refused { replayed, .. } => Some(replayed),
        _ => None,
    }
}

fn agree(one: &Record, other: &Record) -> bool {
    let same = match (&one.answer, &other.answer) {
        (Answer::Changed { states: one, .. }, Answer::Changed { states: other, .. }) => {
            one == other
        }
        (
            Answer::Refused { user_id, balance, .. },
            Answer::Refused { user_id: other_id, balance: other, .. },
        ) => (user_id, balance) == (other_id, other),
        _ => false,
    };
    same && one.request == other.request
}

/// What is impossible about one answer by itself.
fn fault(record: &Record) -> Option<&'static str> {
    if record.ended < record.begun {
        return Some("it ended before it began");
    }
    match (&record.request, &record.answer) {
        (_, Answer::NotApplied | Answer::Unknown) => None,
        (Request::Change { changes, .. }, Answer::Changed { states, .. }) => {
            let pairs = || changes.iter().zip(states);
            if changes.len() != states.len() || pairs().any(|(of, state)| !fits(of, state)) {
                return Some("the states are not those of the users that were to be changed");
            }
            let wrong = pairs().any(|(of, state)| impossible(of, state));
            wrong.then_some("a balance would be below 0, or a number below 1")
        }
        (Request::Change { changes, .. }, Answer::Refused { user_id, balance, .. }) => {
            let Some(of) = changes.iter().find(|of| of.user_id == *user_id) else {
                return Some("it was refused for a user who was not to be changed");
            };
            let covered = balance.checked_add(of.amount).is_none_or(|left| left >= 0);
            (covered || *balance < 0).then_some("the balance is below 0, or covers the amount")
        }
        (Request::Read { .. } | Request::At { .. }, Answer::Balance { balance, number }) => {
            let below = *balance < 0 || number.is_some_and(|number| number < 0);
            below.then_some("the balance or the number is below 0")
        }
        _ => Some("this is no answer to such a request"),
    }
}

fn fits(change: &Amount, state: &State) -> bool {
    change.user_id == state.user_id
}

fn impossible(change: &Amount, state: &State) -> bool {
    let before = state.balance.checked_sub(change.amount);
    state.balance < 0 || state.number < 1 || before.is_none_or(|before| before < 0)
}
