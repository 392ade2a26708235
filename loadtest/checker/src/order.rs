//! The order that the numbers give, held against real time.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use crate::record::{Record, Request};
use crate::requests::{Made, Seen, SeenAs};
use crate::verdict::{Kind, Violation};

/// Of contradictions in time, no more than this are looked into.
const TOLD_MAX: usize = 20;

/// Something that happened at one instant between two others.
#[derive(Clone, Copy)]
pub(crate) struct Node {
    pub(crate) begun: u64,
    pub(crate) ended: u64,
    pub(crate) record: usize,
    pub(crate) role: Role,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Change,
    Read,
    Refusal,
}

/// The first happened before the second.
pub(crate) struct Edge {
    from: u32,
    to: u32,
}

#[derive(Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) edges: Vec<Edge>,
}

/// Of each node, the earliest and the latest instant at which it can have happened.
pub(crate) struct Bounds {
    pub(crate) earliest: Vec<u64>,
    pub(crate) latest: Vec<u64>,
}

impl Node {
    pub(crate) fn made(made: &Made) -> Node {
        let Made { begun, ended, record } = *made;
        Node { begun, ended, record, role: Role::Change }
    }

    /// A change of which only the state is known that it led to.
    pub(crate) fn reached(record: usize) -> Node {
        Node { begun: 0, ended: u64::MAX, record, role: Role::Change }
    }

    pub(crate) fn seen(seen: &Seen) -> Node {
        let role = if seen.kind == SeenAs::Refusal { Role::Refusal } else { Role::Read };
        Node { begun: seen.begun, ended: seen.ended, record: seen.record, role }
    }
}

impl Edge {
    pub(crate) fn new(from: usize, to: usize) -> Edge {
        let number = |node| u32::try_from(node).expect("fewer than 2^32 requests");
        Edge { from: number(from), to: number(to) }
    }
}

impl Graph {
    pub(crate) fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Finds the bounds of all nodes, or what makes them impossible.
    pub(crate) fn bounds(&self, records: &[Record]) -> Result<Bounds, Vec<Violation>> {
        let successors = Neighbours::after(self);
        let order = successors.sorted(self.nodes.len());
        if order.len() < self.nodes.len() {
            return Err(vec![self.circle(records, &order)]);
        }
        let mut earliest: Vec<u64> = self.nodes.iter().map(|node| node.begun).collect();
        let mut late = Vec::new();
        for node in order.iter().map(|node| *node as usize) {
            if earliest[node] > self.nodes[node].ended {
                late.push(node);
                // So that one contradiction is told once.
                earliest[node] = self.nodes[node].begun;
            }
            for next in successors.of(node) {
                earliest[*next as usize] = earliest[*next as usize].max(earliest[node]);
            }
        }
        if !late.is_empty() {
            let before = Neighbours::before(self);
            late.truncate(TOLD_MAX);
            return Err(late.iter().map(|node| self.too_late(records, &before, *node)).collect());
        }
        let mut latest: Vec<u64> = self.nodes.iter().map(|node| node.ended).collect();
        for node in order.iter().rev().map(|node| *node as usize) {
            let after = successors.of(node).iter().map(|next| latest[*next as usize]);
            latest[node] = after.min().map_or(latest[node], |after| after.min(latest[node]));
        }
        Ok(Bounds { earliest, latest })
    }

    /// A node that had ended before one began that comes before it, of which the nearest is told.
    fn too_late(&self, records: &[Record], before: &Neighbours, node: usize) -> Violation {
        let ended = self.nodes[node].ended;
        let mut towards = HashMap::from([(node, node)]);
        let mut queue = VecDeque::from([node]);
        let mut first = node;
        while let Some(node) = queue.pop_front() {
            first = node;
            if self.nodes[node].begun > ended {
                break;
            }
            for next in before.of(node).iter().map(|next| *next as usize) {
                if let Entry::Vacant(vacant) = towards.entry(next) {
                    vacant.insert(node);
                    queue.push_back(next);
                }
            }
        }
        let mut path = vec![first];
        while let Some(next) = towards.get(&first).filter(|next| **next != first) {
            first = *next;
            path.push(first);
        }
        let (before, after) = (&self.nodes[path[0]], &self.nodes[node]);
        let is = |role| before.role == role || after.role == role;
        let mut involved = vec![before.record, after.record];
        let others = users(&records[after.record]);
        let related = users(&records[before.record]).iter().any(|user| others.contains(user));
        let kind = if !related {
            let between = path.iter().skip(1).take(path.len().saturating_sub(2));
            let between = between.map(|node| self.nodes[*node].record);
            involved.extend(between.filter(|record| users(&records[*record]).len() > 1));
            Kind::TornSet
        } else if is(Role::Refusal) {
            Kind::Refusal
        } else if before.role == Role::Read {
            Kind::StaleRead
        } else if after.role == Role::Read {
            Kind::EarlyRead
        } else {
            Kind::Order
        };
        let sentence = format!(
            "by its number the first comes before the second, and began {} ns after that one had \
             ended",
            before.begun.saturating_sub(after.ended)
        );
        Violation { kind, records: involved, sentence }
    }

    /// Each node that could not be sorted has one of its kind before it: so going back from any of
    /// them ends in a circle.
    fn circle(&self, records: &[Record], sorted: &[u32]) -> Violation {
        let mut is_left = vec![true; self.nodes.len()];
        sorted.iter().for_each(|node| is_left[*node as usize] = false);
        let mut before = vec![0; self.nodes.len()];
        for edge in self.edges.iter().filter(|edge| is_left[edge.from as usize]) {
            before[edge.to as usize] = edge.from as usize;
        }
        let mut place = vec![None; self.nodes.len()];
        let (mut path, mut node) = (Vec::new(), is_left.iter().position(|left| *left).unwrap_or(0));
        while place[node].is_none() {
            place[node] = Some(path.len());
            path.push(node);
            node = before[node];
        }
        let circle = path[place[node].unwrap_or(0)..].iter().rev();
        let circle = circle.map(|node| self.nodes[*node].record);
        let records = circle.filter(|record| users(&records[*record]).len() > 1).collect();
        let sentence = "by the numbers each comes before the next, and the last before the first";
        Violation { kind: Kind::TornSet, records, sentence: sentence.to_owned() }
    }
}

/// The nodes right after, or right before, each node.
struct Neighbours {
    /// Where those of each node begin; at the end, their count.
    begins: Vec<u32>,
    nodes: Vec<u32>,
}

impl Neighbours {
    fn after(graph: &Graph) -> Neighbours {
        Neighbours::new(graph, |edge| (edge.from, edge.to))
    }

    fn before(graph: &Graph) -> Neighbours {
        Neighbours::new(graph, |edge| (edge.to, edge.from))
    }

    fn new(graph: &Graph, ends: impl Fn(&Edge) -> (u32, u32)) -> Neighbours {
        let mut begins = vec![0; graph.nodes.len() + 1];
        for (of, _) in graph.edges.iter().map(&ends) {
            begins[of as usize + 1] += 1;
        }
        for index in 1..begins.len() {
            begins[index] += begins[index - 1];
        }
        let (mut free, mut nodes) = (begins.clone(), vec![0; graph.edges.len()]);
        for (of, other) in graph.edges.iter().map(&ends) {
            let place = &mut free[of as usize];
            nodes[*place as usize] = other;
            *place += 1;
        }
        Neighbours { begins, nodes }
    }

    fn of(&self, node: usize) -> &[u32] {
        &self.nodes[self.begins[node] as usize..self.begins[node + 1] as usize]
    }

    /// Each node behind all that come before it; those on a circle, and behind one, are missing.
    fn sorted(&self, count: usize) -> Vec<u32> {
        let mut missing = vec![0_u32; count];
        self.nodes.iter().for_each(|node| missing[*node as usize] += 1);
        let mut order: Vec<u32> =
            (0..).zip(&missing).filter(|of| *of.1 == 0).map(|of| of.0).collect();
        let mut next = 0;
        while let Some(node) = order.get(next).copied() {
            next += 1;
            for after in self.of(node as usize) {
                missing[*after as usize] -= 1;
                if missing[*after as usize] == 0 {
                    order.push(*after);
                }
            }
        }
        order
    }
}

/// Whom a request concerns.
fn users(record: &Record) -> Vec<i64> {
    match &record.request {
        Request::Change { changes, .. } => changes.iter().map(|change| change.user_id).collect(),
        Request::Read { user_id } | Request::At { user_id, .. } => vec![*user_id],
    }
}
