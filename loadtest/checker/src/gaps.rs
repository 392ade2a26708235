//! The changes that nobody was told of, held against the requests whose outcome is unknown.

use std::collections::HashMap;

use crate::chain::{Chain, Gap};
use crate::order::{Bounds, Graph};
use crate::requests::Pending;
use crate::verdict::{Kind, Violation};

/// In gaps of so many changes, among so many candidates, and in so many steps amounts are searched
/// for that add up to the gap's sum; beyond that there may be some.
const COUNT_MAX: usize = 32;
const CANDIDATES_MAX: usize = 1_000;
const STEPS_MAX: u32 = 10_000;

/// One change of a pending request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    user_id: i64,
    /// The earliest instant at which it can have been made.
    earliest: u64,
    amount: i64,
    pending: usize,
}

/// The gaps, and who may have filled them.
pub(crate) struct Gaps {
    gaps: Vec<Gap>,
    /// By user and earliest instant.
    candidates: Vec<Candidate>,
    /// By user, amount and earliest instant.
    by_amount: Vec<Candidate>,
    /// The users with more candidates than gaps that need one, in the order of their ids.
    spare: Vec<i64>,
}

impl Gaps {
    pub(crate) fn find(chain: &Chain, pending: &[Pending<'_>]) -> Gaps {
        let candidates = pending.iter().enumerate().flat_map(|(index, of)| {
            of.changes.iter().map(move |change| Candidate {
                user_id: change.user_id,
                earliest: of.begun,
                amount: change.amount,
                pending: index,
            })
        });
        let mut candidates: Vec<Candidate> = candidates.collect();
        candidates.sort_unstable();
        let gaps = chain.gaps();
        let mut needed: HashMap<i64, usize> = HashMap::new();
        for gap in &gaps {
            let count = needed.entry(gap.user_id).or_default();
            *count = count.saturating_add(gap.count);
        }
        let users = candidates.chunk_by(|one, other| one.user_id == other.user_id);
        let spare = users.map(|of| (of[0].user_id, of.len()));
        let spare = spare.filter(|(user_id, count)| needed.get(user_id).is_none_or(|n| n < count));
        let spare = spare.map(|(user_id, _)| user_id).collect();
        let by_amount = by_amount(&candidates);
        Gaps { gaps, candidates, by_amount, spare }
    }

    /// The candidates of one amount.
    fn alike(&self, user_id: i64, amount: i64) -> &[Candidate] {
        let key = |candidate: &Candidate| (candidate.user_id, candidate.amount);
        let begin = self.by_amount.partition_point(|candidate| key(candidate) < (user_id, amount));
        let count = self.by_amount[begin..].partition_point(|of| key(of) == (user_id, amount));
        &self.by_amount[begin..begin + count]
    }

    fn of(&self, user_id: i64) -> &[Candidate] {
        let begin = self.candidates.partition_point(|candidate| candidate.user_id < user_id);
        let count =
            self.candidates[begin..].partition_point(|candidate| candidate.user_id == user_id);
        &self.candidates[begin..begin + count]
    }

    /// Whether a user has more candidates than gaps that need one.
    pub(crate) fn has_spare(&self, user_id: i64) -> bool {
        self.spare.binary_search(&user_id).is_ok()
    }

    /// Gaps behind which there are states that nobody was told of.
    pub(crate) fn wide(&self) -> impl Iterator<Item = &Gap> {
        self.gaps.iter().filter(|gap| gap.count > 1)
    }

    /// A gap has no end before the first requests began that can have filled it.
    pub(crate) fn begin(&self, chain: &Chain, pending: &[Pending<'_>], graph: &mut Graph) {
        for gap in &self.gaps {
            let last = match gap.count {
                1 => self.alike(gap.user_id, gap.sum).first(),
                count => self.of(gap.user_id).get(count - 1),
            };
            if let Some(candidate) = last {
                let node = &mut graph.nodes[chain.0[gap.link].next];
                (node.begun, node.record) = (candidate.earliest, pending[candidate.pending].record);
            }
        }
    }

    /// Holds each gap against the candidates that had begun before its last possible instant.
    pub(crate) fn fill(
        mut self,
        chain: &Chain,
        pending: &[Pending<'_>],
        bounds: &Bounds,
    ) -> Vec<Violation> {
        let mut kinds: Vec<&Gap> = self.gaps.iter().collect();
        kinds.sort_unstable_by_key(|gap| (gap.user_id, gap.one(), gap.link));
        self.candidates = deferred(&self.candidates, &kinds, chain, bounds);
        self.by_amount = by_amount(&self.candidates);
        let latest = |gap: &Gap| bounds.latest[chain.0[gap.link].next];
        let mut unfilled: Vec<usize> = Vec::new();
        // The gaps of a user end in the order of their numbers. So where the first n of them find n
        // candidates that had begun, for each n, there is a candidate of its own for each.
        let alike = kinds.chunk_by(|a, b| (a.user_id, a.one()) == (b.user_id, b.one()));
        for gaps in alike.filter(|gaps| gaps[0].count == 1) {
            let mut candidates = self.alike(gaps[0].user_id, gaps[0].sum).iter();
            let lacks = |gap: &&&Gap| {
                candidates.next().is_none_or(|candidate| candidate.earliest > latest(gap))
            };
            unfilled.extend(gaps.iter().filter(lacks).map(|gap| gap.link));
        }
        for gaps in self.gaps.chunk_by(|one, other| one.user_id == other.user_id) {
            let (candidates, mut count) = (self.of(gaps[0].user_id), 0_usize);
            for gap in gaps {
                count = count.saturating_add(gap.count);
                let begun =
                    candidates.partition_point(|candidate| candidate.earliest <= latest(gap));
                if begun < count || !reaches(&candidates[..begun], gap) {
                    unfilled.push(gap.link);
                }
            }
        }
        unfilled.sort_unstable();
        unfilled.dedup();
        let gap_at = |link| &self.gaps[self.gaps.partition_point(|gap| gap.link < link)];
        unfilled.into_iter().map(|link| self.violation(gap_at(link), chain, pending)).collect()
    }

    fn violation(&self, gap: &Gap, chain: &Chain, pending: &[Pending<'_>]) -> Violation {
        let (before, behind) = (&chain.0[gap.link], &chain.0[gap.link + 1]);
        let sentence = format!(
            "user {} has changes after number {} up to {} that add up to {}, and no requests of \
             unknown outcome are left that can have made them",
            gap.user_id, before.number, behind.number, gap.sum
        );
        let alike = self.alike(gap.user_id, gap.sum).first();
        let alike = alike.map(|candidate| pending[candidate.pending].record);
        let records = [before.record, behind.record].into_iter().chain(alike).collect();
        Violation { kind: Kind::Unasked, records, sentence }
    }
}

impl Gap {
    /// The amount of a gap of one change.
    fn one(&self) -> Option<i64> {
        (self.count == 1).then_some(self.sum)
    }
}

fn by_amount(candidates: &[Candidate]) -> Vec<Candidate> {
    let mut candidates = candidates.to_vec();
    candidates.sort_by_key(|candidate| (candidate.user_id, candidate.amount));
    candidates
}

/// The same candidates, those of a set not before all of its users have room for its changes.
fn deferred(
    candidates: &[Candidate],
    kinds: &[&Gap],
    chain: &Chain,
    bounds: &Bounds,
) -> Vec<Candidate> {
    let latest = |gap: &Gap| bounds.latest[chain.0[gap.link].next];
    let room = |candidate: &Candidate| {
        let links = chain.of(candidate.user_id);
        let (Some(first), Some(last)) = (chain.0[links.clone()].first(), chain.0[links].last())
        else {
            return candidate.earliest;
        };
        if candidate.earliest <= bounds.latest[first.node] {
            return candidate.earliest;
        }
        let gap_of = |one: Option<i64>| {
            let of = |gap: &Gap| (gap.user_id, gap.one());
            let is_before = |gap: &&Gap| {
                of(gap) < (candidate.user_id, one)
                    || of(gap) == (candidate.user_id, one) && latest(gap) < candidate.earliest
            };
            let gap = kinds.get(kinds.partition_point(is_before))?;
            let link = &chain.0[gap.link];
            // Of several changes the first one may be long before the next known state.
            let node = if gap.count == 1 { link.next } else { link.node };
            (of(gap) == (candidate.user_id, one)).then(|| bounds.earliest[node])
        };
        let rooms = [gap_of(None), gap_of(Some(candidate.amount))].into_iter().flatten();
        rooms.fold(bounds.earliest[last.next], u64::min).max(candidate.earliest)
    };
    let mut rooms: Vec<(usize, u64)> =
        candidates.iter().map(|candidate| (candidate.pending, room(candidate))).collect();
    rooms.sort_unstable();
    let last = |candidate: &Candidate| {
        let end = rooms.partition_point(|(pending, _)| *pending <= candidate.pending);
        Candidate { earliest: rooms[end - 1].1, ..*candidate }
    };
    let mut candidates: Vec<Candidate> = candidates.iter().map(last).collect();
    candidates.sort_unstable();
    candidates
}

/// Whether as many of the candidates as the gap has changes add up to its sum; true where that
/// would take too long to find out.
fn reaches(candidates: &[Candidate], gap: &Gap) -> bool {
    if gap.count == 1 || gap.count > COUNT_MAX || candidates.len() > CANDIDATES_MAX {
        return true;
    }
    let mut amounts: Vec<i128> =
        candidates.iter().map(|candidate| i128::from(candidate.amount)).collect();
    amounts.sort_unstable();
    add_up(&amounts, gap.count, gap.sum.into(), &mut { STEPS_MAX })
}

fn add_up(amounts: &[i128], count: usize, sum: i128, steps: &mut u32) -> bool {
    if count == 1 {
        return amounts.binary_search(&sum).is_ok();
    }
    for (index, amount) in amounts.iter().enumerate() {
        // The amounts rise: with this one as the least, the sum is at least so much.
        if amounts.len() - index < count || amount * count as i128 > sum {
            return false;
        }
        if *steps == 0 {
            return true;
        }
        *steps -= 1;
        if add_up(&amounts[index + 1..], count - 1, sum - amount, steps) {
            return true;
        }
    }
    false
}
