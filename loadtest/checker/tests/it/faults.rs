//! One fault is planted in a history in which every outcome and every number was told; so it is to
//! be found each time, by its name.

use std::collections::HashMap;

use checker::{Amount, Answer, Kind, Record, Request, State, check};

use crate::ledger::{Random, Traffic, history};

const HISTORIES: u64 = 1_000;
/// Of so many histories at least, in each kind, the fault could be planted.
const PLANTED_MIN: usize = 50;

/// Changes a history so that it becomes impossible; false where there is no place for it.
type Plant = fn(&mut Random, &mut Vec<Record>) -> bool;

fn assert_found(kind: Kind, plant: Plant) {
    let mut planted = 0;
    for seed in 0..HISTORIES {
        let mut random = Random(seed);
        let traffic = Traffic::random(&mut random).told();
        let mut records = history(seed, &traffic);
        if !plant(&mut random, &mut records) {
            continue;
        }
        planted += 1;
        let violations = check(&records).violations;
        let is_found = violations.iter().any(|violation| violation.kind == kind);
        assert!(is_found, "{seed}: {kind:?} is not among {violations:#?}");
    }
    assert!(planted >= PLANTED_MIN, "{kind:?}: planted {planted} times");
}

/// The changes that were made, each with its place in the history and among its members.
fn made(records: &[Record]) -> Vec<(usize, State, Amount)> {
    let mut found = Vec::new();
    for (index, record) in records.iter().enumerate() {
        if let (Request::Change { changes, .. }, Answer::Changed { states, replayed: false }) =
            (&record.request, &record.answer)
        {
            found.extend(states.iter().zip(changes).map(|(state, of)| (index, *state, *of)));
        }
    }
    found
}

fn states(record: &mut Record) -> &mut Vec<State> {
    match &mut record.answer {
        Answer::Changed { states, .. } => states,
        other => panic!("{other:?}"),
    }
}

fn is_single(record: &Record) -> bool {
    matches!(&record.request, Request::Change { changes, .. } if changes.len() == 1)
}

fn has_no_key(record: &Record) -> bool {
    matches!(&record.request, Request::Change { key: None, .. })
}

/// A single change without a key, and the one that follows it.
fn neighbours(random: &mut Random, records: &[Record]) -> Option<(usize, usize)> {
    let made = made(records);
    let place: HashMap<_, _> =
        made.iter().map(|(index, state, _)| ((state.user_id, state.number), *index)).collect();
    let pairs = made.iter().filter_map(|(index, state, _)| {
        let next = *place.get(&(state.user_id, state.number + 1))?;
        let plain = |index: usize| is_single(&records[index]) && has_no_key(&records[index]);
        (plain(*index) && plain(next)).then_some((*index, next))
    });
    random.pick(&pairs.collect::<Vec<_>>()).copied()
}

#[test]
fn a_lost_update() {
    // The second is decided on the state that the first was decided on.
    assert_found(Kind::NumberTwice, |random, records| {
        let Some((one, other)) = neighbours(random, records) else { return false };
        let Request::Change { changes, .. } = records[one].request.clone() else { return false };
        let before = states(&mut records[one])[0].balance - changes[0].amount;
        let Request::Change { changes, .. } = records[other].request.clone() else { return false };
        let number = states(&mut records[one])[0].number;
        let balance = before + changes[0].amount;
        states(&mut records[other])[0] = State { user_id: changes[0].user_id, balance, number };
        balance >= 0
    });
}

#[test]
fn a_wrong_balance() {
    assert_found(Kind::Balance, |random, records| {
        let made = made(records);
        let Some((index, of, _)) = random.pick(&made) else { return false };
        if !has_no_key(&records[*index]) {
            return false;
        }
        let state = states(&mut records[*index]).iter_mut().find(|state| *state == of);
        state.expect("it was made").balance += 1;
        true
    });
}

#[test]
fn a_change_that_takes_effect_after_its_answer_or_before_its_beginning() {
    assert_found(Kind::Order, |random, records| {
        let Some((one, other)) = neighbours(random, records) else { return false };
        let late = records[other].ended + 1;
        (records[one].begun, records[one].ended) = (late, late + 1);
        true
    });
    assert_found(Kind::Order, |random, records| {
        let Some((one, other)) = neighbours(random, records) else { return false };
        let early = records[one].begun.saturating_sub(2);
        (records[other].begun, records[other].ended) = (early, early + 1);
        true
    });
}

/// A read, and the state before the change that had ended when it began, or behind one that had
/// not begun when it ended.
fn out_of_time(records: &[Record], is_late: bool) -> Vec<(usize, State)> {
    let made = made(records);
    let mut found = Vec::new();
    for (index, record) in records.iter().enumerate() {
        let Request::Read { user_id } = record.request else { continue };
        for (change, state, of) in &made {
            let change = &records[*change];
            let at = match is_late {
                true if change.ended < record.begun => {
                    State { balance: state.balance - of.amount, number: state.number - 1, ..*state }
                }
                false if record.ended < change.begun => *state,
                _ => continue,
            };
            if state.user_id == user_id {
                found.push((index, at));
            }
        }
    }
    found
}

fn misread(random: &mut Random, records: &mut [Record], is_late: bool) -> bool {
    let found = out_of_time(records, is_late);
    let Some((index, State { balance, number, .. })) = random.pick(&found).copied() else {
        return false;
    };
    records[index].answer = Answer::Balance { balance, number: Some(number) };
    true
}

#[test]
fn a_stale_read() {
    assert_found(Kind::StaleRead, |random, records| misread(random, records, true));
}

#[test]
fn a_read_of_what_is_still_to_come() {
    assert_found(Kind::EarlyRead, |random, records| misread(random, records, false));
}

#[test]
fn a_past_balance_that_never_was_or_is_still_to_come() {
    fn past(records: &[Record]) -> Vec<(usize, i64, i64)> {
        let of = |(index, record): (usize, &Record)| match (&record.request, &record.answer) {
            (Request::At { user_id, number }, Answer::Balance { .. }) => {
                Some((index, *user_id, *number))
            }
            _ => None,
        };
        records.iter().enumerate().filter_map(of).collect()
    }
    assert_found(Kind::Balance, |random, records| {
        let Some((index, _, number)) = random.pick(&past(records)).copied() else { return false };
        if let Answer::Balance { balance, .. } = &mut records[index].answer {
            *balance += 1;
        }
        number > 1
    });
    assert_found(Kind::EarlyRead, |_, records| {
        let made = made(records);
        let early = past(records).into_iter().find_map(|(index, user_id, number)| {
            let is_it = |state: &State| (state.user_id, state.number) == (user_id, number);
            let (change, ..) = made.iter().find(|(_, state, _)| is_it(state))?;
            Some((index, records[*change].begun))
        });
        let Some((index, begun)) = early.filter(|(_, begun)| *begun > 0) else { return false };
        (records[index].begun, records[index].ended) = (begun - 1, begun - 1);
        true
    });
}

/// The balances that a user never had between these instants.
fn never(records: &[Record], user_id: i64, balance: i64) -> bool {
    let was = made(records).iter().any(|(_, state, of)| {
        let before = state.balance - of.amount;
        state.user_id == user_id && (state.balance == balance || before == balance)
    });
    !was
}

#[test]
fn a_stale_read_without_a_number() {
    assert_found(Kind::StaleRead, |random, records| {
        let found = out_of_time(records, true);
        let Some((index, state)) = random.pick(&found).copied() else { return false };
        let once = made(records)
            .iter()
            .filter(|(_, of, _)| (of.user_id, of.balance) == (state.user_id, state.balance))
            .count()
            == 1;
        records[index].answer = Answer::Balance { balance: state.balance, number: None };
        once && state.number > 1 && state.balance != 50
    });
}

#[test]
fn a_refusal_with_a_balance_that_never_was() {
    assert_found(Kind::Refusal, |random, records| {
        let refused = records.iter().enumerate().filter_map(|(index, record)| {
            match (&record.request, &record.answer) {
                (
                    Request::Change { changes, key: None },
                    Answer::Refused { user_id, balance, .. },
                ) => Some((index, *user_id, *balance, changes.clone())),
                _ => None,
            }
        });
        let refused: Vec<_> = refused.collect();
        let Some((index, user_id, balance, _)) = random.pick(&refused) else { return false };
        if *balance == 0 || !never(records, *user_id, balance - 1) {
            return false;
        }
        let (user_id, balance) = (*user_id, balance - 1);
        records[*index].answer = Answer::Refused { user_id, balance, replayed: false };
        balance != 50
    });
}

#[test]
fn a_refusal_of_what_was_covered_throughout() {
    // It tells of a balance that did not cover, of a time that was over.
    assert_found(Kind::Refusal, |random, records| {
        let found = out_of_time(records, true);
        let Some((index, State { user_id, balance, .. })) = random.pick(&found).copied() else {
            return false;
        };
        let (begun, ended) = (records[index].begun, records[index].ended);
        let is_current = made(records).iter().any(|(change, state, of)| {
            let ends = records[*change].ended;
            let of_user = state.user_id == user_id;
            of_user && state.balance == balance
                || of_user && state.balance - of.amount == balance && ends >= begun
        });
        let changes = vec![Amount { user_id, amount: -balance - 1 }];
        records.push(Record {
            client: 99,
            begun,
            ended,
            request: Request::Change { changes, key: None },
            answer: Answer::Refused { user_id, balance, replayed: false },
        });
        !is_current
    });
}

#[test]
fn a_refusal_whose_own_balance_covers() {
    assert_found(Kind::Answer, |random, records| {
        let Some((index, state, _)) = random.pick(&made(records)).copied() else { return false };
        let (user_id, balance) = (state.user_id, i64::MAX / 2);
        records[index].answer = Answer::Refused { user_id, balance, replayed: false };
        true
    });
}

fn replays(records: &[Record]) -> Vec<usize> {
    let is_replay = |record: &Record| match record.answer {
        Answer::Changed { replayed, .. } | Answer::Refused { replayed, .. } => replayed,
        _ => false,
    };
    (0..records.len()).filter(|index| is_replay(&records[*index])).collect()
}

#[test]
fn a_replay_with_another_answer() {
    assert_found(Kind::Replay, |random, records| {
        let Some(index) = random.pick(&replays(records)).copied() else { return false };
        match &mut records[index].answer {
            Answer::Changed { states, .. } => states[0].number += 1,
            // Less is not covered either.
            Answer::Refused { balance, .. } if *balance > 0 => *balance -= 1,
            _ => return false,
        }
        true
    });
}

#[test]
fn a_replay_of_nothing() {
    assert_found(Kind::Replay, |random, records| {
        let Some((index, ..)) = random.pick(&made(records)).copied() else { return false };
        if let Answer::Changed { replayed, .. } = &mut records[index].answer {
            *replayed = true;
        }
        has_no_key(&records[index])
    });
}

#[test]
fn a_key_that_is_decided_twice() {
    assert_found(Kind::KeyTwice, |random, records| {
        let Some(index) = random.pick(&replays(records)).copied() else { return false };
        if let Answer::Changed { replayed, .. } | Answer::Refused { replayed, .. } =
            &mut records[index].answer
        {
            *replayed = false;
        }
        true
    });
}

#[test]
fn a_change_that_nobody_asked_for() {
    assert_found(Kind::Unasked, |random, records| {
        let Some((index, ..)) = random.pick(&made(records)).copied() else { return false };
        records[index].answer = Answer::NotApplied;
        has_no_key(&records[index])
    });
}

#[test]
fn an_unknown_change_that_is_made_twice() {
    // As if the request of the one had led to the other, too.
    assert_found(Kind::Unasked, |random, records| {
        let Some((one, other)) = neighbours(random, records) else { return false };
        records[one].answer = Answer::Unknown;
        records.remove(other);
        true
    });
}

#[test]
fn an_unknown_change_that_is_made_by_another_amount() {
    assert_found(Kind::Unasked, |random, records| {
        let Some((one, _)) = neighbours(random, records) else { return false };
        records[one].answer = Answer::Unknown;
        if let Request::Change { changes, .. } = &mut records[one].request {
            changes[0].amount += 1;
        }
        true
    });
}
