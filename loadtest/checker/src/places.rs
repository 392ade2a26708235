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
    /// The links by user and balance.
    by_balance: Vec<(i64, i64, usize)>,
    /// The links before gaps in which there are states that nobody was told of.
    wide: Vec<usize>,
}

impl<'a> Places<'a> {
    fn new(chain: &'a Chain, gaps: &'a Gaps, bounds: &'a Bounds) -> Places<'a> {
        let links = chain.0.iter().enumerate();
        let mut by_balance: Vec<_> =
            links.map(|(index, link)| (link.user_id, link.balance, index)).collect();
        by_balance.sort_unstable();
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
        let key = (seen.user_id, seen.balance, first);
        let found = &self.by_balance[self.by_balance.partition_point(|link| *link < key)..];
        let mut found = found.iter().take_while(|(user_id, balance, index)| {
            (*user_id, *balance) == (key.0, key.1) && *index < end
        });
        match (found.next(), found.next()) {
            _ if unknown => Place::Many,
            (None, _) => Place::None,
            (Some((.., index)), None) => Place::One(*index),
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
