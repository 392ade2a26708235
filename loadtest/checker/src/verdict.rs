//! What contradicts what.

use std::fmt;

/// Lines of a history that cannot all be true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// In which way.
    pub kind: Kind,
    /// The indices of the records, in the order in which the sentence speaks of them.
    pub records: Vec<usize>,
    /// What they say, and why it is impossible.
    pub sentence: String,
}

/// The ways in which a history can be impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An answer that does not fit its request: other users, a balance below 0, ended before begun.
    Answer,
    /// A key under which more than one request was decided.
    KeyTwice,
    /// A replay that differs from the answer that it repeats, or has nothing to repeat.
    Replay,
    /// Two changes of a user with one number: one of them is lost.
    NumberTwice,
    /// Two balances at one number.
    Balance,
    /// A change without a request that can have made it: an unknown one counts once.
    Unasked,
    /// By its number a change comes before one that had ended when it began.
    Order,
    /// A read of a state that had been changed when it began.
    StaleRead,
    /// A read of a state that cannot have been reached when it ended.
    EarlyRead,
    /// A refusal whose balance covers the amount, or was never the balance while it was under way.
    Refusal,
    /// A set whose changes cannot have happened at one instant.
    TornSet,
}

impl Kind {
    /// The name that people read.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Answer => "impossible answer",
            Kind::KeyTwice => "key applied twice",
            Kind::Replay => "wrong replay",
            Kind::NumberTwice => "number given twice",
            Kind::Balance => "wrong balance",
            Kind::Unasked => "change that nobody asked for",
            Kind::Order => "effect outside of its request",
            Kind::StaleRead => "stale read",
            Kind::EarlyRead => "read before its time",
            Kind::Refusal => "wrong refusal",
            Kind::TornSet => "torn set",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.kind.name(), self.sentence)
    }
}
