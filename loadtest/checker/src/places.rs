//! Balances that were told without a number: which state can it have been?

use crate::chain::Chain;
use crate::gaps::Gaps;
use crate::order::{Bounds, Graph, Node};
use crate::requests::{Evidence, Seen, SeenAs};
use crate::verdict::{Kind, Violation};

/// Places each balance that only one state can have been, and finds those that none can. Returns
/// how many may have been more than one, and bind nothing.
pub(crate) fn place(
    chain: &Chain,
    gaps: &Gaps,
    bounds: &Bounds,
    evidence: &mut Evidence<'_>,
    graph: &mut Graph,
) -> usize {
    let places = Places::new(chain, gaps, bounds);
    let (mut unplaced, mut violations) = (0, Vec::new());
    for seen in evidence.seen.iter().filter(|seen| seen.number.is_none()) {
        match places.of(seen) {
            Place::One(index) => chain.place(index, Node::seen(seen), false, graph),
            Place::Many => unplaced += 1,
            Place::None => violations.push(never_current(seen)),
        }
    }
    evidence.violations.append(&mut violations);
    unplaced
}

fn never_current(seen: &Seen) -> Violation {
    let kind = if seen.kind == SeenAs::Refusal { Kind::Refusal } else { Kind::StaleRead };
    let (user_id, balance) = (seen.user_id, seen.balance);
    let sentence = format!("user {user_id} had the balance {balance} at no instant of the request");
    Violation { kind, records: vec![seen.record], sentence }
}

enum Place {
    None,
    One(usize),
    Many,
}

struct Places<'a> {
    chain: &'a Chain,
    gaps: &'a Gaps,
    bounds: &'a Bounds,
    /// The links of each user by balance.
    by_balance: Vec<usize>,
    /// The links before gaps in which there are states that nobody was told of.
    wide: Vec<usize>,
}

impl<'a> Places<'a> {
    fn new(chain: &'a Chain, gaps: &'a Gaps, bounds: &'a Bounds) -> Places<'a> {
        let mut by_balance: Vec<usize> = (0..chain.0.len()).collect();
        let links = |index: usize| &chain.0[index];
        for of_user in by_balance.chunk_by_mut(|a, b| links(*a).user_id == links(*b).user_id) {
            of_user.sort_by_key(|index| links(*index).balance);
        }
        let wide = gaps.wide().map(|gap| gap.link).collect();
        Places { chain, gaps, bounds, by_balance, wide }
    }

    fn of(&self, seen: &Seen) -> Place {
        let links = self.chain.of(seen.user_id);
        let (all, Bounds { earliest, latest }) = (&self.chain.0, self.bounds);
        if links.is_empty() {
            return Place::Many;
        }
        // The states that can have been the current one in that time are neighbours.
        let ended = |index: usize| latest[all[index].next] < seen.begun;
        let reached = |index: usize| earliest[all[index].node] <= seen.ended;
        let first = partition(links.clone(), ended);
        let end = partition(links.clone(), reached);
        let is_spare = self.gaps.has_spare(seen.user_id);
        let before_all = seen.begun <= latest[all[links.start].node];
        let unknown = is_spare && (before_all || end == links.end)
            || self
                .wide
                .get(self.wide.partition_point(|link| *link < first))
                .is_some_and(|link| *link < end);
        let by_balance = &self.by_balance[links];
        let key = |index: usize| (all[index].balance, index);
        let begin = by_balance.partition_point(|index| key(*index) < (seen.balance, first));
        let mut found = by_balance[begin..].iter();
        let mut found = || found.next().filter(|index| key(**index) < (seen.balance, end));
        match (found(), found()) {
            _ if unknown => Place::Many,
            (None, _) => Place::None,
            (Some(index), None) => Place::One(*index),
            _ => Place::Many,
        }
    }
}

/// The first number in the range for which this is not so any more.
fn partition(range: std::ops::Range<usize>, is_so: impl Fn(usize) -> bool) -> usize {
    let (mut begin, mut end) = (range.start, range.end);
    while begin < end {
        let middle = begin + (end - begin) / 2;
        if is_so(middle) {
            begin = middle + 1;
        } else {
            end = middle;
        }
    }
    begin
}
