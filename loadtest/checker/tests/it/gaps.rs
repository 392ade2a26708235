//! Requests of unknown outcome: each was made at one place, or at none.

use checker::{Amount, Answer, Kind, Record, Request, check};

/// Reads of user 1, each at an instant with a balance and a number, and changes that were begun at
/// an instant and never told of.
fn kinds(reads: &[(u64, i64, Option<i64>)], unknown: &[(u64, i64)]) -> Vec<Kind> {
    let user_id = 1;
    let reads = reads.iter().map(|(at, balance, number)| Record {
        client: 1,
        begun: *at,
        ended: *at + 1,
        request: Request::Read { user_id },
        answer: Answer::Balance { balance: *balance, number: *number },
    });
    let unknown = unknown.iter().map(|(at, amount)| Record {
        client: 2,
        begun: *at,
        ended: *at + 1,
        request: Request::Change { changes: vec![Amount { user_id, amount: *amount }], key: None },
        answer: Answer::Unknown,
    });
    let records: Vec<Record> = reads.chain(unknown).collect();
    check(&records).violations.iter().map(|violation| violation.kind).collect()
}

#[test]
fn an_unknown_change_is_made_once_or_never() {
    let reads = [(1, 50, Some(1)), (21, 43, Some(2)), (31, 36, Some(3))];
    assert_eq!(kinds(&reads[..1], &[(10, -7)]), []);
    assert_eq!(kinds(&reads[..2], &[(10, -7)]), []);
    assert_eq!(kinds(&reads, &[(10, -7), (10, -7)]), []);
    assert_eq!(kinds(&reads, &[(10, -7)]), [Kind::Unasked]);
    // That there are two is not enough.
    assert_eq!(kinds(&reads, &[(10, -7), (10, -8)]), [Kind::Unasked]);
    // Nobody looked between the two.
    let reads = [(1, 50, Some(1)), (31, 36, Some(3))];
    assert_eq!(kinds(&reads, &[(10, -7), (10, -7)]), []);
    assert_eq!(kinds(&reads, &[(10, -7)]), [Kind::Unasked]);
    assert_eq!(kinds(&reads, &[(10, -7), (10, -8), (10, 3)]), [Kind::Unasked]);
    assert_eq!(kinds(&reads, &[(10, -9), (10, -8), (10, -5), (10, 3)]), []);
}

#[test]
fn an_unknown_change_is_not_made_before_it_has_begun() {
    let reads = [(1, 50, Some(1)), (21, 43, Some(2)), (41, 36, Some(3))];
    assert_eq!(kinds(&reads, &[(10, -7), (30, -7)]), []);
    assert_eq!(kinds(&reads[..2], &[(30, -7)]), [Kind::EarlyRead]);
    assert_eq!(kinds(&reads, &[(30, -7), (30, -7)]), [Kind::EarlyRead]);
    // The second may be anywhere, but the first gap is too early for it.
    assert_eq!(kinds(&reads, &[(10, -7), (50, -7)]), [Kind::Unasked]);
}

#[test]
fn a_balance_without_a_number_is_one_that_unknown_changes_can_have_left() {
    let reads = [(1, 50, Some(1)), (25, 43, None), (31, 36, Some(3)), (41, 36, None)];
    assert_eq!(kinds(&reads, &[(10, -7), (10, -7)]), []);
    let stale = [(1, 50, Some(1)), (21, 43, Some(2)), (31, 50, None)];
    assert_eq!(kinds(&stale, &[(10, -7)]), [Kind::StaleRead]);
    // Another unknown change may have led there.
    assert_eq!(kinds(&stale, &[(10, -7), (10, 7)]), []);
    let early = [(1, 50, Some(1)), (3, 43, None), (21, 43, Some(2))];
    assert_eq!(kinds(&early, &[(10, -7)]), [Kind::StaleRead]);
}
