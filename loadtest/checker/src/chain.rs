//! The states of each user in the order of their numbers: those that were told, and the one before
//! each change that was told. Between two of them is one known change, or a gap.

use std::ops::Range;

use crate::order::{Edge, Graph, Node};
use crate::record::{Answer, Record, Request};
use crate::requests::{Evidence, SeenAs};
use crate::verdict::{Kind, Violation};

/// A known state of a user.
pub(crate) struct Link {
    pub(crate) user_id: i64,
    pub(crate) number: i64,
    pub(crate) balance: i64,
    /// Who told of it.
    pub(crate) record: usize,
    /// The node at whose instant it begins.
    pub(crate) node: usize,
    /// The node at whose instant the next known state begins; behind the last one, of any change
    /// that may still come.
    pub(crate) next: usize,
    /// Whether it was left by a change that was acknowledged.
    acknowledged: bool,
}

/// Changes between two known states of which nobody was told.
pub(crate) struct Gap {
    pub(crate) user_id: i64,
    /// How many.
    pub(crate) count: usize,
    /// What they add up to.
    pub(crate) sum: i64,
    /// The state before it; the next link is the one behind it.
    pub(crate) link: usize,
}

/// All known states, by user and number.
pub(crate) struct Chain(pub(crate) Vec<Link>);

/// That a user had this balance at this number.
struct Claim {
    user_id: i64,
    number: i64,
    /// The changes themselves come first.
    is_other: bool,
    balance: i64,
    record: usize,
    made: usize,
}

impl Chain {
    /// Puts what is known of each number together, and each change and state into the graph.
    pub(crate) fn build(
        records: &[Record],
        evidence: &mut Evidence<'_>,
        graph: &mut Graph,
    ) -> Chain {
        let mut claims = claims(records, evidence);
        claims.sort_unstable_by_key(|claim| {
            (claim.user_id, claim.number, claim.is_other, claim.record)
        });
        // In the order of the links, because what is near in the memory is found sooner.
        let mut nodes: Vec<Option<usize>> = vec![None; evidence.made.len()];
        let mut links = Vec::new();
        for group in claims.chunk_by(|a, b| (a.user_id, a.number) == (b.user_id, b.number)) {
            let first = &group[0];
            if let [one, other, ..] = group
                && !other.is_other
            {
                let sentence =
                    format!("user {} was given number {} twice", one.user_id, one.number);
                let records = vec![one.record, other.record];
                evidence.violations.push(Violation { kind: Kind::NumberTwice, records, sentence });
            } else if let Some(other) = group.iter().find(|of| of.balance != first.balance) {
                let (one, two) = (first.balance, other.balance);
                let sentence = format!(
                    "user {} had the balance {one} at number {}, and by the other line {two}",
                    first.user_id, first.number
                );
                let records = vec![first.record, other.record];
                evidence.violations.push(Violation { kind: Kind::Balance, records, sentence });
            }
            let acknowledged = !first.is_other;
            let node = match acknowledged {
                true => *nodes[first.made]
                    .get_or_insert_with(|| graph.add(Node::made(&evidence.made[first.made]))),
                false => graph.add(Node::reached(first.record)),
            };
            let Claim { user_id, number, balance, record, .. } = *first;
            links.push(Link { user_id, number, balance, record, node, next: node, acknowledged });
        }
        for index in 0..links.len() {
            let of_user = |next: &&Link| next.user_id == links[index].user_id;
            links[index].next = match links.get(index + 1).filter(of_user) {
                Some(next) => next.node,
                None => graph.add(Node::reached(links[index].record)),
            };
            graph.edges.push(Edge::new(links[index].node, links[index].next));
        }
        Chain(links)
    }

    /// The states of one user.
    pub(crate) fn of(&self, user_id: i64) -> Range<usize> {
        let begin = self.0.partition_point(|link| link.user_id < user_id);
        let count = self.0[begin..].partition_point(|link| link.user_id == user_id);
        begin..begin + count
    }

    /// Puts what was seen between the change that led to it and the next one.
    pub(crate) fn place(&self, index: usize, node: Node, is_past: bool, graph: &mut Graph) {
        let seen = graph.add(node);
        graph.edges.push(Edge::new(self.0[index].node, seen));
        if !is_past {
            graph.edges.push(Edge::new(seen, self.0[index].next));
        }
    }

    /// Places whatever was told with a number.
    pub(crate) fn place_numbered(&self, evidence: &Evidence<'_>, graph: &mut Graph) {
        for seen in &evidence.seen {
            let Some(number) = seen.number else { continue };
            let at = (seen.user_id, number);
            let Ok(index) = self.0.binary_search_by_key(&at, |link| (link.user_id, link.number))
            else {
                continue;
            };
            self.place(index, Node::seen(seen), seen.kind == SeenAs::Past, graph);
        }
    }

    /// All gaps, in the order of users and numbers.
    pub(crate) fn gaps(&self) -> Vec<Gap> {
        let pairs = self.0.windows(2).enumerate();
        let gaps =
            pairs.filter(|(_, pair)| pair[0].user_id == pair[1].user_id && !pair[1].acknowledged);
        gaps.map(|(link, pair)| Gap {
            user_id: pair[0].user_id,
            count: usize::try_from(pair[1].number - pair[0].number).unwrap_or(usize::MAX),
            sum: pair[1].balance - pair[0].balance,
            link,
        })
        .collect()
    }
}

fn claims(records: &[Record], evidence: &Evidence<'_>) -> Vec<Claim> {
    let mut claims = Vec::with_capacity(2 * evidence.made.len());
    for (index, made) in evidence.made.iter().enumerate() {
        let record = &records[made.record];
        let (Request::Change { changes, .. }, Answer::Changed { states, .. }) =
            (&record.request, &record.answer)
        else {
            continue;
        };
        for (change, state) in changes.iter().zip(states) {
            let after = Claim {
                user_id: state.user_id,
                number: state.number,
                is_other: false,
                balance: state.balance,
                record: made.record,
                made: index,
            };
            let (number, balance) = (state.number - 1, state.balance - change.amount);
            claims.push(Claim { number, balance, is_other: true, ..after });
            claims.push(after);
        }
    }
    for seen in &evidence.seen {
        let Some(number) = seen.number else { continue };
        let (user_id, balance, record) = (seen.user_id, seen.balance, seen.record);
        claims.push(Claim { user_id, number, is_other: true, balance, record, made: 0 });
    }
    claims
}
