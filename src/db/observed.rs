//! What the probe sees of the database that is only shown to people: no code may decide by it.

use std::time::Instant;

/// What one answer of the database has told.
#[derive(Clone, Copy, Debug)]
pub struct Observed {
    /// This machine's clock minus the database's, in seconds, as exact as the probe's round trip.
    pub clock_skew_seconds: f64,
    /// Whether commits survive a crash of the database's machine, as its settings say.
    pub durable: bool,
    /// The oldest transaction that somebody in the database still needs; None where its user may
    /// not see that.
    pub oldest: Option<Oldest>,
}

/// A transaction whose dead row versions, and all later ones, the database has to keep.
#[derive(Clone, Copy, Debug)]
pub struct Oldest {
    id: i64,
    /// How many transactions have begun since.
    pub behind: i64,
    since: Instant,
}

impl Oldest {
    /// What is seen now, after `before`. Where no transaction has begun since, nobody needs an old
    /// one: then it is only the next one, which it may be for hours.
    pub(super) fn after(before: Option<Oldest>, id: i64, behind: i64) -> Oldest {
        let same = before.filter(|before| before.id == id && before.behind > 0);
        Oldest { id, behind, since: same.map_or_else(Instant::now, |before| before.since) }
    }

    /// For how many seconds it has been the oldest, as far as the probe has seen it.
    pub fn age_seconds(&self) -> f64 {
        if self.behind == 0 { 0.0 } else { self.since.elapsed().as_secs_f64() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_counted_while_the_same_transaction_is_needed() {
        let next = Oldest::after(None, 7, 0);
        let pause = || std::thread::sleep(std::time::Duration::from_millis(2));
        pause();
        assert_eq!(next.age_seconds(), 0.0, "it is the next one, and nobody needs an old one");
        let needed = Oldest::after(Some(next), 7, 1);
        pause();
        let age = needed.age_seconds();
        let later = Oldest::after(Some(needed), 7, 5_000);
        assert!(age > 0.0 && later.age_seconds() >= age);
        let other = Oldest::after(Some(later), 5_007, 1);
        assert!(other.since > later.since);
    }
}
