//! Lanes: of the requests that change one user's balance, a few are in workers' hands at a time,
//! and so are a few of all sets. The others are parked here, and hold neither a worker nor a
//! connection to the database.
//!
//! A worker that has answered one takes the next of its lane at once, so that nobody has to be
//! woken in between. Where more than one lane has a request to give, or all workers were busy when
//! others came, the lanes take turns (round robin), and a crowd at one user does not hold up the
//! others.
//!
//! A lane is the wait list of a lock, and no queue of work: what is parked is the open request of
//! a client, and is answered at its deadline. Pure: no thread, no clock.

use std::collections::{BTreeMap, HashMap, VecDeque};

/// Which requests wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    /// Those that change the balance of the user with this id.
    User(i64),
    /// Those that change several users' balances, all of them in one lane: a set may wait for any
    /// user's row, so many at once would hold every worker.
    Sets,
    /// Those that make a set of jobs so: one after the other, and each may be long.
    JobSets,
}

/// How many sets of jobs may be parked: each may have a megabyte.
const JOB_SETS_PARKED_MAX: usize = 8;

/// How many of a lane may be in workers' hands.
#[derive(Clone, Copy)]
pub(super) struct InHandMax {
    pub(super) user: usize,
    pub(super) sets: usize,
}

/// What is parked, and how many of each lane are in workers' hands.
pub(super) struct Lanes<T> {
    in_hand_max: InHandMax,
    parked_max: usize,
    /// By a number that rises with each, so that the first has waited longest.
    parked: BTreeMap<u64, Parked<T>>,
    next_number: u64,
    /// Those with requests in hand or parked.
    lanes: HashMap<Lane, LaneState>,
    /// Whose turn it is, for a worker that comes free.
    turns: VecDeque<Turn>,
}

struct Parked<T> {
    lane: Option<Lane>,
    item: T,
}

#[derive(Default)]
struct LaneState {
    in_hand: usize,
    /// Numbers of what is parked, the oldest first.
    parked: VecDeque<u64>,
    /// Whether it is among the turns.
    has_turn: bool,
}

enum Turn {
    /// Of the oldest one in this lane.
    Lane(Lane),
    /// Of a request without a lane, by its number.
    One(u64),
}

impl InHandMax {
    fn of(self, lane: Lane) -> usize {
        match lane {
            Lane::User(_) => self.user,
            Lane::Sets => self.sets,
            Lane::JobSets => 1,
        }
    }
}

impl<T> Lanes<T> {
    /// At most `in_hand_max` of a lane are in hand at once, and `parked_max` parked in all.
    pub(super) fn new(in_hand_max: InHandMax, parked_max: usize) -> Lanes<T> {
        Lanes {
            in_hand_max,
            parked_max,
            parked: BTreeMap::new(),
            next_number: 0,
            lanes: HashMap::new(),
            turns: VecDeque::new(),
        }
    }

    /// How many are parked.
    pub(super) fn parked(&self) -> usize {
        self.parked.len()
    }

    /// A request that a free worker has found: what this worker has to do now, if anything.
    ///
    /// # Errors
    /// The request comes back where as many are parked as may be.
    pub(super) fn arrive(&mut self, lane: Option<Lane>, item: T) -> Result<Option<T>, T> {
        if self.turns.is_empty() && self.take_in_hand(lane) {
            return Ok(Some(item));
        }
        self.park(lane, item)?;
        Ok(self.next())
    }

    /// A request that no worker has found: it waits for one.
    ///
    /// # Errors
    /// The request comes back where as many are parked as may be.
    pub(super) fn park(&mut self, lane: Option<Lane>, item: T) -> Result<(), T> {
        let job_sets = self.lanes.get(&Lane::JobSets).map_or(0, |lane| lane.parked.len());
        let is_one_more = lane == Some(Lane::JobSets) && job_sets >= JOB_SETS_PARKED_MAX;
        if is_one_more || self.parked.len() >= self.parked_max {
            return Err(item);
        }
        let number = self.next_number;
        self.next_number += 1;
        self.parked.insert(number, Parked { lane, item });
        match lane {
            None => self.turns.push_back(Turn::One(number)),
            Some(id) => {
                self.lanes.entry(id).or_default().parked.push_back(number);
                self.give_turn(id);
            }
        }
        Ok(())
    }

    /// What a worker that has come free does next: it is in its hands from now on.
    pub(super) fn next(&mut self) -> Option<T> {
        let number = match self.turns.pop_front()? {
            Turn::One(number) => number,
            Turn::Lane(id) => self.oldest_of(id)?,
        };
        self.parked.remove(&number).map(|found| found.item)
    }

    /// A request of this lane is in nobody's hands any more.
    pub(super) fn leave(&mut self, id: Lane) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.in_hand = lane.in_hand.saturating_sub(1);
            self.give_turn(id);
            self.forget_if_empty(id);
        }
    }

    /// Takes out those that have waited longest, as long as they are `lost`.
    pub(super) fn give_up(&mut self, lost: impl Fn(&T) -> bool) -> Vec<T> {
        let mut given_up = Vec::new();
        while let Some(first) = self.parked.first_entry().filter(|first| lost(&first.get().item)) {
            let Parked { lane, item } = first.remove();
            given_up.push(item);
            if let Some(id) = lane
                && let Some(lane) = self.lanes.get_mut(&id)
            {
                // The one that has waited longest of all is the oldest of its lane.
                lane.parked.pop_front();
                lane.has_turn &= !lane.parked.is_empty();
                self.forget_if_empty(id);
            }
        }
        if !given_up.is_empty() {
            let Lanes { turns, parked, lanes, .. } = self;
            turns.retain(|turn| match turn {
                Turn::One(number) => parked.contains_key(number),
                Turn::Lane(id) => lanes.get(id).is_some_and(|lane| lane.has_turn),
            });
        }
        given_up
    }

    fn take_in_hand(&mut self, lane: Option<Lane>) -> bool {
        let Some(id) = lane else { return true };
        let lane = self.lanes.entry(id).or_default();
        let has_room = lane.in_hand < self.in_hand_max.of(id);
        lane.in_hand += usize::from(has_room);
        has_room
    }

    /// The number of the oldest one in this lane, whose turn it is.
    fn oldest_of(&mut self, id: Lane) -> Option<u64> {
        let lane = self.lanes.get_mut(&id)?;
        lane.has_turn = false;
        let number = lane.parked.pop_front()?;
        lane.in_hand += 1;
        self.give_turn(id);
        Some(number)
    }

    /// Where something is parked and may be in hand, the lane has a turn.
    fn give_turn(&mut self, id: Lane) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let may = lane.in_hand < self.in_hand_max.of(id) && !lane.parked.is_empty();
        if may && !std::mem::replace(&mut lane.has_turn, true) {
            self.turns.push_back(Turn::Lane(id));
        }
    }

    fn forget_if_empty(&mut self, id: Lane) {
        let is_empty = |lane: &LaneState| lane.in_hand == 0 && lane.parked.is_empty();
        if self.lanes.get(&id).is_some_and(is_empty) {
            self.lanes.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests;
