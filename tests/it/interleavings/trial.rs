//! A trial: every pair of some statements, from every state, in every order that can be.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::isolation::{Permutation, Tester};
use super::statements::Statement;
use crate::support::{Database, Postgres};

/// What pairs of statements are tried on.
pub(super) struct Trial {
    /// Makes the schema `trial`: the states, `begin()` and `judge()`.
    pub(super) set_up: &'static str,
    /// Names, and calls of functions of the set-up.
    pub(super) states: &'static [(&'static str, &'static str)],
    /// Who must not wait for whom.
    pub(super) may_wait: fn(waits: &str, has_come_first: &str) -> bool,
}

/// What a trial found.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) pairs: usize,
    pub(super) permutations: usize,
    /// By who waits, and for whom: the states in which it does.
    pub(super) waits: BTreeMap<(&'static str, &'static str), BTreeSet<&'static str>>,
    /// By pair and sentence: how often, and the first permutation in which it was so.
    pub(super) broken: BTreeMap<([&'static str; 2], String), (usize, String)>,
}

/// Two statements, each in a session and a transaction of its own.
type Pair<'a> = [&'a Statement; 2];

/// A state, and what a permutation that began from it gave.
type Done = (&'static str, Permutation);

/// The database's processors are shared with the other tests.
const WORKERS: usize = 2;

impl Trial {
    /// Tries every pair, also of a statement with itself.
    pub(super) fn of_all(&self, tester: &Tester, statements: &[Statement]) -> Findings {
        let pairs: Vec<Pair> = (0..statements.len())
            .flat_map(|first| (first..statements.len()).map(move |second| (first, second)))
            .map(|(first, second)| [&statements[first], &statements[second]])
            .collect();
        self.of(tester, &pairs)
    }

    pub(super) fn of(&self, tester: &Tester, pairs: &[Pair]) -> Findings {
        let findings = Mutex::new(Findings { pairs: pairs.len(), ..Findings::default() });
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    let database = Postgres::shared().migrated();
                    database.connect().batch_execute(self.set_up).expect("the set-up");
                    while let Some(pair) = pairs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        // Each permutation deletes what the one before has made, and what is
                        // dead would slow all later ones down.
                        database.connect().batch_execute("vacuum").expect("no dead rows");
                        let found = self.try_pair(tester, &database, pair);
                        findings.lock().note(self, pair, found);
                    }
                });
            }
        });
        findings.into_inner()
    }

    /// First who waits: a session that waits for another cannot end before it.
    fn try_pair(&self, tester: &Tester, database: &Database, pair: &Pair) -> Vec<Done> {
        let run = |orders: &[(&'static str, Order)]| -> Vec<Done> {
            let done = tester.run(database.url(), &self.specification(pair, orders));
            assert_eq!(done.len(), orders.len(), "permutations were left out");
            orders.iter().map(|(state, _)| *state).zip(done).collect()
        };
        let states = || self.states.iter().map(|state| state.0);
        let probes: Vec<_> = states()
            .map(|state| (state, ["b1", "b2", "s1", "s2", "c1", "c2"].to_vec()))
            .chain(states().map(|state| (state, ["b1", "b2", "s2", "s1", "c2", "c1"].to_vec())))
            .collect();
        let waits: BTreeSet<(&str, String)> = run(&probes)
            .into_iter()
            .flat_map(|(state, done)| done.waited.into_iter().map(move |step| (state, step)))
            .collect();
        let waits = |state, step: &str| waits.contains(&(state, step.to_owned()));
        let orders: Vec<_> = states()
            .flat_map(|state| {
                let cannot_be = move |order: &Order| {
                    (waits(state, "s2") && overtakes(order, 2, 1))
                        || (waits(state, "s1") && overtakes(order, 1, 2))
                };
                let merged = orders(pair).into_iter();
                merged.filter(move |order| !cannot_be(order)).map(move |order| (state, order))
            })
            .collect();
        run(&orders)
    }

    fn specification(&self, pair: &Pair, orders: &[(&'static str, Order)]) -> String {
        let mut text = "session world\n".to_owned();
        for (state, call) in self.states {
            text.push_str(&format!("step {state} {{ select {call}; }}\n"));
        }
        text.push_str(
            "step ready { select trial.begin(); }\n\
             step judge { select trial.judge(); }\n",
        );
        for (session, statement) in (1..).zip(pair) {
            let Statement { name, sql, arguments } = statement;
            let mut arguments = arguments(session);
            if !arguments.is_empty() {
                arguments = format!(" ({arguments})");
            }
            text.push_str(&format!(
                "session number_{session}\n\
                 setup {{ set trial.session = {session}; \
                 set search_path = trial, pg_catalog, public; \
                 deallocate all; prepare \"{name}\" as {sql}; }}\n\
                 step b{session} {{ begin; }}\n\
                 step s{session} {{ execute \"{name}\"{arguments}; }}\n\
                 step c{session} {{ commit; }}\n"
            ));
        }
        for (state, order) in orders {
            text.push_str(&format!("permutation {state} ready {} judge\n", order.join(" ")));
        }
        text
    }
}

/// The steps of both sessions: begin, statement, commit.
type Order = Vec<&'static str>;

/// Those that differ. Which of two transactions begins first, with nothing in between, makes no
/// difference; nor does when one begins whose statement does not read that instant; nor does which
/// of two equal statements comes first.
fn orders(pair: &Pair) -> Vec<Order> {
    let [reads_1, reads_2] = pair.map(|statement| statement.sql.contains("now()"));
    let is_twin = pair[0].name == pair[1].name;
    let differs = |order: &Order| match order[..3] {
        ["b1", "b2", ..] => true,
        ["b2", "b1", ..] => false,
        ["b1", "s1", ..] => reads_2,
        _ => reads_1 && !is_twin,
    };
    merged(&["b1", "s1", "c1"], &["b2", "s2", "c2"]).into_iter().filter(differs).collect()
}

/// Every way to put two lists into one that keeps the order of each.
fn merged(one: &[&'static str], two: &[&'static str]) -> Vec<Order> {
    let (Some((first, rest)), Some((second, others))) = (one.split_first(), two.split_first())
    else {
        return vec![[one, two].concat()];
    };
    let behind = |step: &&'static str, rest: Vec<Order>| {
        let step = *step;
        rest.into_iter().map(move |order| [&[step], order.as_slice()].concat())
    };
    behind(first, merged(rest, two)).chain(behind(second, merged(one, others))).collect()
}

/// Whether one session comes after the other and ends before it.
fn overtakes(order: &Order, one: usize, other: usize) -> bool {
    let at = |step: &str, session: usize| {
        let name = format!("{step}{session}");
        order.iter().position(|step| *step == name).expect("a step")
    };
    at("s", other) < at("s", one) && at("c", one) < at("c", other)
}

impl Findings {
    fn note(&mut self, trial: &Trial, pair: &Pair, found: Vec<Done>) {
        let names = pair.map(|statement| statement.name);
        for (state, done) in found {
            self.permutations += 1;
            let mut sentences = done.broken;
            sentences.extend(done.errors.iter().map(|error| format!("error: {}", error.trim())));
            for step in done.waited {
                let (waits, first) = if step == "s1" { (0, 1) } else { (1, 0) };
                let (waits, first) = (names[waits], names[first]);
                self.waits.entry((waits, first)).or_default().insert(state);
                if !(trial.may_wait)(waits, first) {
                    sentences.push(format!("{waits} waits for {first}"));
                }
            }
            for sentence in sentences {
                let found = self.broken.entry((names, sentence));
                found.or_insert_with(|| (0, done.steps.clone())).0 += 1;
            }
        }
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} pairs, {} permutations", self.pairs, self.permutations)?;
        for ((waits, first), states) in &self.waits {
            let states: Vec<&str> = states.iter().copied().collect();
            writeln!(f, "  {waits} waits for {first}: {}", states.join(", "))?;
        }
        for (([one, two], sentence), (times, steps)) in &self.broken {
            writeln!(f, "  1 {one}, 2 {two}: {sentence}: {times} times, first in: {steps}")?;
        }
        Ok(())
    }
}
