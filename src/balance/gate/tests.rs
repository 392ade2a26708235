use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::*;
use crate::balance::Outcome;

fn change(user_id: i64, amount: i64) -> Change {
    Change::new(user_id, amount).expect("an amount")
}

fn within(millis: u64) -> Arc<Attempt> {
    Arc::new(Attempt::within(Duration::from_millis(millis)))
}

fn applied(balance: i64) -> Result<Answer, Error> {
    Ok(Answer { outcome: Outcome::Changed { balance }, replayed: false })
}

fn turn(gate: &Gate, user_id: i64) -> Turn<'_> {
    gate.enter(user_id, &within(60_000)).expect("a turn")
}

fn is_kept_out(gate: &Gate, user_id: i64) -> bool {
    gate.enter(user_id, &within(5)).is_err()
}

/// All turns but one: who takes that one is alone.
fn all_but_one(gate: &Gate, user_id: i64) -> Vec<Turn<'_>> {
    (1..TURNS_MAX).map(|_| turn(gate, user_id)).collect()
}

fn waiting(gate: &Gate, user_id: i64) -> usize {
    gate.stripes[stripe_of(user_id)].lock().waiting.len()
}

fn until(done: impl Fn() -> bool) {
    while !done() {
        thread::yield_now();
    }
}

#[test]
fn a_change_waits_for_its_own_user_only_and_no_longer_than_its_attempt() {
    let gate = Gate::new(8);
    let _others = all_but_one(&gate, 1);
    let first = turn(&gate, 1);
    assert!(is_kept_out(&gate, 1));
    drop(turn(&gate, 2));
    drop(first);
    drop(turn(&gate, 1));
}

#[test]
fn the_turn_is_passed_on_by_its_drop_and_not_to_those_who_have_left() {
    let gate = Gate::new(8);
    let others = all_but_one(&gate, 1);
    let first = turn(&gate, 1);
    thread::scope(|scope| {
        assert!(is_kept_out(&gate, 1));
        assert_eq!(waiting(&gate, 1), 0, "who has left leaves nothing behind");
        let next = scope.spawn(|| drop(turn(&gate, 1)));
        until(|| waiting(&gate, 1) == 1);
        drop(first);
        next.join().unwrap();
    });
    drop(others);
    assert_eq!(gate.stripes[stripe_of(1)].lock().turns, 0);
}

#[test]
fn the_turn_is_not_spent_on_those_whose_time_is_over() {
    let gate = Gate::new(8);
    let _others = all_but_one(&gate, 1);
    let first = turn(&gate, 1);
    let given_up = within(60_000);
    thread::scope(|scope| {
        let late = scope.spawn(|| gate.enter(1, &given_up).is_err());
        until(|| waiting(&gate, 1) == 1);
        given_up.give_up();
        drop(first);
        assert!(late.join().unwrap());
    });
    assert_eq!(gate.stripes[stripe_of(1)].lock().turns, TURNS_MAX - 1);
}

#[test]
fn a_panic_passes_the_turn_on() {
    let gate = Gate::new(8);
    let _others = all_but_one(&gate, 1);
    thread::scope(|scope| {
        let first = scope.spawn(|| {
            let _turn = turn(&gate, 1);
            until(|| waiting(&gate, 1) == 1);
            panic!("as a bug would");
        });
        until(|| gate.stripes[stripe_of(1)].lock().turns == TURNS_MAX);
        drop(turn(&gate, 1));
        assert!(first.join().is_err());
    });
}

#[test]
fn beside_rivals_there_is_one_turn_and_again_more_without_them() {
    let gate = Gate::new(8);
    let mut turns = all_but_one(&gate, 1);
    let note = |turn: &Turn<'_>, balance| turn.note(&change(1, 1), &applied(balance));
    (0..100).for_each(|change| note(&turns[0], change * 7));
    thread::scope(|scope| {
        let next = scope.spawn(|| turn(&gate, 1));
        until(|| waiting(&gate, 1) == 1);
        while turns.len() > 1 {
            turns.pop();
            assert_eq!(waiting(&gate, 1), 1, "more than one turn");
        }
        turns.pop();
        turns.push(next.join().unwrap());
    });
    assert!(is_kept_out(&gate, 1), "a second turn beside rivals");
    (0..100).for_each(|balance| note(&turns[0], balance));
    turns.extend(all_but_one(&gate, 1));
    assert_eq!(gate.stripes[stripe_of(1)].lock().turns, TURNS_MAX);
}

/// Never more than there are turns are inside at once, whatever becomes of their number meanwhile,
/// and everybody gets in.
#[test]
fn a_crowd_comes_in_few_at_a_time_and_all_of_it() {
    const THREADS: usize = 16;
    const CHANGES: usize = 500;
    let gate = Gate::new(8);
    let (inside, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let was_alone = [AtomicBool::new(false), AtomicBool::new(false)];
    let start = Barrier::new(THREADS);
    let apply = |turn: Turn<'_>| {
        assert!(inside.fetch_add(1, Ordering::SeqCst) < TURNS_MAX, "too many at once");
        let count = done.fetch_add(1, Ordering::SeqCst) + 1;
        inside.fetch_sub(1, Ordering::SeqCst);
        let balance = i64::try_from(count).unwrap();
        // Every other while it looks as if somebody else changed the same user, too.
        let seen = if (count / 200).is_multiple_of(2) { balance } else { balance * 7 };
        turn.note(&change(1, 1), &applied(seen));
        let alone = !turn.stripe.lock().rivals.are_likely();
        was_alone[usize::from(alone)].store(true, Ordering::SeqCst);
    };
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                start.wait();
                (0..CHANGES).for_each(|_| apply(turn(&gate, 1)));
            });
        }
    });
    assert_eq!(done.into_inner(), THREADS * CHANGES);
    assert!(was_alone.iter().all(|seen| seen.load(Ordering::SeqCst)), "the limit has not moved");
    let stripe = gate.stripes[stripe_of(1)].lock();
    assert_eq!((stripe.turns, stripe.waiting.len()), (0, 0));
}

#[test]
fn one_user_takes_at_most_half_of_the_connections() {
    for (connections, turns) in [(1, 1), (2, 1), (3, 1), (4, 2), (6, 3), (100, TURNS_MAX)] {
        let gate = Gate::new(connections);
        let _taken: Vec<_> = (0..turns).map(|_| turn(&gate, 1)).collect();
        assert!(is_kept_out(&gate, 1), "{connections} connections");
    }
}

#[test]
fn neighbouring_users_spread_over_all_stripes() {
    let mut counts = vec![0; STRIPES];
    (0..i64::try_from(STRIPES).unwrap() * 8).for_each(|id| counts[stripe_of(id)] += 1);
    assert!(counts.iter().all(|count| (1..=24).contains(count)), "{counts:?}");
}
