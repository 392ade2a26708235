//! Decides whether a recorded history of balance requests is possible: whether each request can
//! have taken effect at one instant between its beginning and its end, so that all answers are
//! those of one exact ledger (strict serializability; Herlihy and Wing call it linearizability).
//!
//! In general this is hard to decide. It is easy here for the reason that Gibbons and Korach give
//! for registers: the order of the writes is known, because the service numbers the changes of each
//! user, 1, 2, 3 … To look for contradictions in a graph is the idea of Elle, of the Jepsen tests.
//!
//! # A history
//!
//! The first line is `{"history":1}`, the version. Each other line is a [`Record`]: who asked, when
//! it began and ended, what was asked, what was answered. The instants are nanoseconds of ONE
//! monotonic clock. A beginning may be noted too early and an end too late, never the other way
//! round: that only proves less. The order of the lines does not matter; other members of a line
//! are ignored.
//!
//! ```text
//! {"history":1}
//! {"client":1,"begun":10,"ended":25,"request":{"read":{"userId":1}},
//!  "answer":{"balance":{"balance":50,"number":1}}}
//! {"client":1,"begun":30,"ended":45,
//!  "request":{"change":{"changes":[{"userId":1,"amount":-2}],"key":"a-1"}},
//!  "answer":{"changed":{"states":[{"userId":1,"balance":48,"number":2}],"replayed":false}}}
//! {"client":2,"begun":31,"ended":50,
//!  "request":{"change":{"changes":[{"userId":1,"amount":-49}]}},
//!  "answer":{"refused":{"userId":1,"balance":48,"replayed":false}}}
//! {"client":2,"begun":60,"ended":90,
//!  "request":{"change":{"changes":[{"userId":1,"amount":5},{"userId":2,"amount":-5}]}},
//!  "answer":"unknown"}
//! ```
//! (A record is one line; these are broken to be read.) The other answer is `"notApplied"`, which
//! stands for whatever changed nothing. `{"at":{"userId":1,"number":2}}` asks for a state of the
//! past.
//!
//! The history must hold every request that can have changed these users since the first that was
//! told of them. A user's opening state is what a read tells that has ended before; what is unknown
//! in the end is told by a read behind all. Keys that were used before the history began are not
//! known: their replays are called wrong.
//!
//! # What is decided
//!
//! All known states of a user stand in a row, by number. A change that was told as number n with
//! amount a and balance b says that the state n is b, and that n − 1 was b − a. Where a number has
//! two balances or two changes, that is a violation. A graph says what comes before what: each
//! state of a user before the next, and whatever was read at a state between the change that led
//! to it and the next one. A set is one node in the rows of all its users. The requests of one key
//! are one node: from the beginning of the one that was decided to the end of the first that was
//! told.
//!
//! **Exact.** Where all outcomes and numbers were told, the history is possible if and only if the
//! graph has no circle, and no node has ended before one began that comes before it. *Only if*: a
//! circle has no order, and such a pair has none that agrees with real time. *If*: call the latest
//! beginning among a node and all before it its earliest instant. Order the nodes by it, and where
//! it is the same, as the graph does, which has no circle. What comes before in the graph has no
//! later earliest instant, so the order is one of the graph, and thus all answers are right. And if
//! x had ended before y began, then x's earliest instant is not after x's end, so it is before y's
//! beginning, and so before y's earliest instant: x stands first, as real time wants it.
//!
//! **Without a number** (refusals, and reads that tell only the balance) the answer is placed where
//! it must have been: among the states that can have been current between its beginning and its
//! end, by the bounds of the graph, those with its balance. None: a violation. One: it becomes a
//! node, and the graph is judged again, so nothing is lost by it. Several, or states of which
//! nobody was told: it proves nothing, and is counted in [`Verdict::unplaced`].
//!
//! **Gaps.** States of which no change was told can only have been left by requests of unknown
//! outcome, each of them once. A gap of one change has a known amount, and needs a candidate of
//! that very amount (a candidate: one change of such a request); a gap of k changes needs k
//! candidates that add up to its sum. A candidate fits a gap if it had begun before the gap's last
//! possible instant; it may come as late as it likes. The gaps of one user end in the order of
//! their numbers, so there is a candidate for each if and only if the first n of them find n, for
//! each n (the theorem of Hall, for sets that contain one another). The candidates of a set have
//! not begun before each of its users has room for its change.
//!
//! # What is never said, and what can be missed
//!
//! A possible history is never called impossible: each violation above follows from two lines, or
//! from a count, whatever order is assumed. Missed can be: several balances without a number that
//! are possible each by itself and not together; a candidate that one gap of one change and another
//! gap of several need both; a set of unknown outcome whose halves are needed at two places that
//! exclude each other; a balance below 0 within a gap; sums of gaps with more than 32 changes or
//! 1,000 candidates, or that are not decided in 10,000 steps; a user of whom no number was told at
//! all; which user of a refused set is named, if more than one does not cover.
//!
//! The steps are [`check`]'s: evidence, rows of states, graph, places, gaps. Each is a sort or a
//! walk along the graph: O(n log n) for n records.

mod chain;
mod gaps;
mod order;
mod places;
mod record;
mod requests;
mod verdict;

use chain::Chain;
use gaps::Gaps;
use order::Graph;
pub use record::{Amount, Answer, Record, Request, State, read, write_head, write_record};
use requests::Evidence;
pub use verdict::{Kind, Violation};

/// What [`check`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Contradictions; none: the history is possible, as far as the crate's page says.
    pub violations: Vec<Violation>,
    /// Balances told without a number that may have been one of several states, and prove nothing.
    pub unplaced: usize,
}

/// Judges a whole history, in any order of its records. It takes O(n log n).
pub fn check(records: &[Record]) -> Verdict {
    let mut unplaced = 0;
    let violations = judge(records, &mut unplaced).err().unwrap_or_default();
    Verdict { violations, unplaced }
}

/// Each step may rely on what the ones before have found to be so.
fn judge(records: &[Record], unplaced: &mut usize) -> Result<(), Vec<Violation>> {
    let mut evidence = Evidence::gather(records);
    let mut graph = Graph::default();
    let chain = Chain::build(records, &mut evidence, &mut graph);
    none_of(&mut evidence.violations)?;

    let gaps = Gaps::find(&chain, &evidence.pending);
    gaps.begin(&chain, &evidence.pending, &mut graph);
    chain.place_numbered(&evidence, &mut graph);
    let bounds = graph.bounds(records)?;

    *unplaced = places::place(&chain, &gaps, &bounds, &mut evidence, &mut graph);
    evidence.violations.extend(gaps.fill(&chain, &evidence.pending, &bounds));
    none_of(&mut evidence.violations)?;
    graph.bounds(records).map(|_| ())
}

fn none_of(violations: &mut Vec<Violation>) -> Result<(), Vec<Violation>> {
    match violations.is_empty() {
        true => Ok(()),
        false => Err(std::mem::take(violations)),
    }
}
