use proptest::prelude::*;

use super::Lane::{JobSets, Sets, User};
use super::*;

const IN_HAND_MAX: InHandMax = InHandMax { user: 2, sets: 1 };
const PARKED_MAX: usize = 6;

/// A request: its lane, and a number that rises with each.
type Item = (Option<Lane>, u32);

fn lanes(parked_max: usize) -> Lanes<Item> {
    Lanes::new(IN_HAND_MAX, parked_max)
}

#[test]
fn a_few_of_a_lane_are_in_hand_and_each_that_leaves_makes_room_for_the_oldest() {
    let mut lanes = lanes(9);
    let item = |number| (Some(User(7)), number);
    assert_eq!(lanes.arrive(Some(User(7)), item(1)), Ok(Some(item(1))));
    assert_eq!(lanes.arrive(Some(User(7)), item(2)), Ok(Some(item(2))));
    assert_eq!(lanes.arrive(Some(User(7)), item(3)), Ok(None));
    assert_eq!(lanes.arrive(Some(User(7)), item(4)), Ok(None));
    assert_eq!(
        lanes.arrive(Some(User(8)), (Some(User(8)), 5)),
        Ok(Some((Some(User(8)), 5))),
        "a neighbour"
    );
    assert_eq!(lanes.arrive(None, (None, 6)), Ok(Some((None, 6))), "who has no lane");
    assert_eq!(lanes.next(), None);
    lanes.leave(User(7));
    assert_eq!(lanes.next(), Some(item(3)));
    assert_eq!(lanes.next(), None);
    lanes.leave(User(7));
    lanes.leave(User(7));
    assert_eq!(lanes.next(), Some(item(4)));
    lanes.leave(User(7));
    lanes.leave(User(8));
    assert_eq!((lanes.parked(), lanes.lanes.len(), lanes.turns.len()), (0, 0, 0));
}

#[test]
fn a_crowd_at_one_user_and_the_others_take_turns() {
    let mut lanes = lanes(99);
    (0..9).for_each(|number| lanes.park(Some(User(1)), (Some(User(1)), number)).unwrap());
    lanes.park(None, (None, 9)).unwrap();
    lanes.park(Some(User(2)), (Some(User(2)), 10)).unwrap();
    let first: Vec<Item> = (0..4).filter_map(|_| lanes.next()).collect();
    assert_eq!(first, [(Some(User(1)), 0), (None, 9), (Some(User(2)), 10), (Some(User(1)), 1)]);
    assert_eq!(lanes.next(), None, "as many as may be are in hand");
}

#[test]
fn one_set_of_jobs_is_in_hand_and_few_are_parked_for_each_may_be_long() {
    let mut lanes = lanes(99);
    let item = |number| (Some(JobSets), number);
    assert_eq!(lanes.arrive(Some(JobSets), item(0)), Ok(Some(item(0))));
    (1..9).for_each(|number| assert_eq!(lanes.arrive(Some(JobSets), item(number)), Ok(None)));
    assert_eq!(lanes.arrive(Some(JobSets), item(9)), Err(item(9)));
    assert_eq!(lanes.arrive(Some(User(1)), (Some(User(1)), 10)), Ok(Some((Some(User(1)), 10))));
    lanes.leave(JobSets);
    assert_eq!(lanes.next(), Some(item(1)));
    assert_eq!(lanes.arrive(Some(JobSets), item(11)), Ok(None), "there is room again");
}

#[test]
fn what_finds_no_room_comes_back() {
    let mut lanes = lanes(1);
    lanes.park(None, (None, 1)).unwrap();
    assert_eq!(lanes.park(Some(User(1)), (Some(User(1)), 2)), Err((Some(User(1)), 2)));
    assert_eq!(lanes.arrive(Some(User(1)), (Some(User(1)), 3)), Err((Some(User(1)), 3)));
    assert_eq!(lanes.next(), Some((None, 1)));
    assert_eq!(lanes.arrive(Some(User(1)), (Some(User(1)), 4)), Ok(Some((Some(User(1)), 4))));
}

#[derive(Clone, Debug)]
enum Deed {
    Arrive(Option<Lane>),
    Park(Option<Lane>),
    Next,
    /// The one in hand at this place is answered.
    Answer(usize),
    /// So many of the oldest are lost.
    GiveUp(usize),
}

fn deed() -> impl Strategy<Value = Deed> {
    let lane = || {
        let user = (1..4i64).prop_map(User);
        prop::option::weighted(0.8, prop_oneof![3 => user, 1 => Just(Sets)])
    };
    prop_oneof![
        3 => lane().prop_map(Deed::Arrive),
        2 => lane().prop_map(Deed::Park),
        2 => Just(Deed::Next),
        4 => (0..9usize).prop_map(Deed::Answer),
        1 => (0..3usize).prop_map(Deed::GiveUp),
    ]
}

/// What must be true of any order of events, kept in the simplest way.
#[derive(Default)]
struct Model {
    parked: Vec<Item>,
    in_hand: Vec<Item>,
}

impl Model {
    fn count(&self, lane: Lane) -> usize {
        self.in_hand.iter().filter(|(of, _)| *of == Some(lane)).count()
    }

    fn may_be_in_hand(&self, item: Item) -> bool {
        item.0.is_none_or(|lane| self.count(lane) < IN_HAND_MAX.of(lane))
    }

    /// The caller has this in hand now: it was the oldest of its lane, and there was room.
    fn takes(&mut self, item: Item) {
        let oldest = self.parked.iter().position(|(lane, _)| *lane == item.0);
        if let Some(at) = self.parked.iter().position(|parked| *parked == item) {
            assert!(item.0.is_none() || oldest == Some(at), "{item:?} before an older one");
            self.parked.remove(at);
        }
        assert!(self.may_be_in_hand(item), "{item:?} is one too many");
        self.in_hand.push(item);
    }
}

fn settings() -> ProptestConfig {
    ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn nobody_is_lost_nor_held_twice_and_no_free_turn_is_left_unused(
        deeds in prop::collection::vec(deed(), 0..60),
    ) {
        let mut lanes = lanes(PARKED_MAX);
        let mut model = Model::default();
        for (number, deed) in (0u32..).zip(deeds) {
            match deed {
                Deed::Arrive(lane) => match lanes.arrive(lane, (lane, number)) {
                    Ok(Some(item)) => {
                        if item != (lane, number) {
                            model.parked.push((lane, number));
                        }
                        model.takes(item);
                    }
                    Ok(None) => model.parked.push((lane, number)),
                    Err(item) => {
                        prop_assert_eq!(item, (lane, number));
                        prop_assert_eq!(model.parked.len(), PARKED_MAX);
                    }
                },
                Deed::Park(lane) => match lanes.park(lane, (lane, number)) {
                    Ok(()) => model.parked.push((lane, number)),
                    Err(_) => prop_assert_eq!(model.parked.len(), PARKED_MAX),
                },
                Deed::Next => match lanes.next() {
                    Some(item) => {
                        prop_assert!(model.parked.contains(&item));
                        model.takes(item);
                    }
                    None => {
                        let left = model.parked.iter().find(|item| model.may_be_in_hand(**item));
                        prop_assert_eq!(left, None, "somebody is parked beside a free turn");
                    }
                },
                Deed::Answer(at) if at < model.in_hand.len() => {
                    let (lane, _) = model.in_hand.swap_remove(at);
                    lane.into_iter().for_each(|lane| lanes.leave(lane));
                }
                Deed::Answer(_) => {}
                Deed::GiveUp(count) => {
                    let limit = model.parked.get(count).map_or(u32::MAX, |(_, number)| *number);
                    let given_up = lanes.give_up(|(_, number)| *number < limit);
                    let lost: Vec<Item> =
                        model.parked.extract_if(.., |(_, number)| *number < limit).collect();
                    prop_assert_eq!(given_up, lost);
                }
            }
            prop_assert_eq!(lanes.parked(), model.parked.len());
        }
        loop {
            while let Some(item) = lanes.next() {
                model.takes(item);
            }
            let Some((lane, _)) = model.in_hand.pop() else { break };
            lane.into_iter().for_each(|lane| lanes.leave(lane));
        }
        prop_assert_eq!(model.parked, []);
        prop_assert_eq!((lanes.lanes.len(), lanes.turns.len()), (0, 0), "nothing is kept");
    }
}
