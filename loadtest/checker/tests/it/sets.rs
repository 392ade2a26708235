//! Sets that cannot have happened at one instant, or only in part.

use checker::{Amount, Answer, Kind, Record, Request, State, check};

use crate::ledger::Ledger;

/// What clients saw between these instants; both users begin with 50.
fn told(requests: &[(u64, u64, Request)]) -> Vec<Record> {
    let mut ledger = Ledger::default();
    let record = |(client, (begun, ended, request)): (u64, &(u64, u64, Request))| {
        let answer = ledger.answer(request, true);
        Record { client, begun: *begun, ended: *ended, request: request.clone(), answer }
    };
    (0..).zip(requests).map(record).collect()
}

fn change(members: &[(i64, i64)]) -> Request {
    let changes =
        members.iter().map(|(user_id, amount)| Amount { user_id: *user_id, amount: *amount });
    Request::Change { changes: changes.collect(), key: None }
}

fn read(user_id: i64) -> Request {
    Request::Read { user_id }
}

#[test]
fn a_set_that_is_torn_over_two_instants() {
    let mut records =
        told(&[(10, 50, change(&[(1, -5), (2, 5)])), (20, 22, read(1)), (30, 32, read(2))]);
    assert_eq!(check(&records).violations, []);
    // Whoever has read that user 1 has paid then reads that user 2 has not got it.
    records[2].answer = Answer::Balance { balance: 50, number: Some(1) };
    let violations = check(&records).violations;
    assert_eq!(violations.len(), 1, "{violations:#?}");
    assert_eq!(violations[0].kind, Kind::TornSet);
    assert_eq!(violations[0].records[..2], [2, 1]);
    assert!(violations[0].records.contains(&0));
    // The other way round in time it is two instants again.
    (records[2].begun, records[2].ended) = (12, 14);
    assert_eq!(check(&records).violations, []);
}

#[test]
fn two_sets_of_which_each_comes_before_the_other() {
    let sets = [(10, 50, change(&[(1, -5), (2, 5)])), (10, 50, change(&[(1, -6), (2, 6)]))];
    let mut records = told(&sets);
    assert_eq!(check(&records).violations, []);
    for (index, balance, number) in [(0, 61, 3), (1, 56, 2)] {
        if let Answer::Changed { states, .. } = &mut records[index].answer {
            states[1] = State { user_id: 2, balance, number };
        }
    }
    let violations = check(&records).violations;
    assert_eq!(violations.len(), 1, "{violations:#?}");
    assert_eq!(violations[0].kind, Kind::TornSet);
    let mut records = violations[0].records.clone();
    records.sort_unstable();
    assert_eq!(records, [0, 1]);
}

#[test]
fn half_a_set() {
    let requests = [
        (1, 2, read(1)),
        (1, 2, read(2)),
        (10, 20, change(&[(1, -5), (2, 5)])),
        (30, 32, read(1)),
        (40, 42, read(2)),
    ];
    let mut records = told(&requests);
    assert_eq!(check(&records).violations, []);
    records[4].answer = Answer::Balance { balance: 50, number: Some(1) };
    assert_eq!(check(&records).violations[0].kind, Kind::StaleRead);
    for answer in [Answer::Unknown, Answer::NotApplied] {
        // Only user 1 has its half.
        records[2].answer = answer;
        let violations = check(&records).violations;
        assert_eq!(violations[0].kind, Kind::Unasked, "{violations:#?}");
    }
}
