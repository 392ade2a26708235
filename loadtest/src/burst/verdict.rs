//! Whether a burst came out as it had to: evidence in, sentences out. Nothing here touches a
//! socket or a clock.

use crate::report::{ErrorCount, grouped};

/// What was seen.
pub(super) struct Evidence {
    /// Withdrawals, one on each.
    pub(super) connections: u64,
    /// The balance before; not negative.
    pub(super) reset: i64,
    /// What each withdrawal takes; positive.
    pub(super) amount: i64,
    /// What each success said the balance was, in any order.
    pub(super) balances: Vec<i64>,
    /// Refused as insufficient funds.
    pub(super) refused: u64,
    /// Everything else.
    pub(super) errors: Vec<ErrorCount>,
    /// What each target said at the end.
    pub(super) ends: Vec<(String, Result<i64, String>)>,
}

impl Evidence {
    /// Everything that is wrong, each thing in a sentence; none if all is right.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = self.wrong_counts();
        faults.extend(self.wrong_balances());
        faults.extend(self.wrong_ends());
        faults
    }

    fn wrong_counts(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let all = grouped(self.connections);
        let covered = (self.reset / self.amount).unsigned_abs().min(self.connections);
        let succeeded = self.balances.len() as u64;
        if succeeded != covered {
            let (is, right) = (grouped(succeeded), grouped(covered));
            faults.push(format!("{is} of {all} withdrawals succeeded instead of exactly {right}"));
        }
        let left_over = self.connections - covered;
        if self.refused != left_over {
            let (is, right) = (grouped(self.refused), grouped(left_over));
            faults.push(format!(
                "{is} of {all} withdrawals were refused as insufficient funds instead of {right}"
            ));
        }
        let failed: u64 = self.errors.iter().map(|error| error.count).sum();
        if failed > 0 {
            let kind = |error: &ErrorCount| format!("{} × {}", grouped(error.count), error.kind);
            let kinds: Vec<_> = self.errors.iter().map(kind).collect();
            let (is, kinds) = (grouped(failed), kinds.join(", "));
            faults.push(format!("{is} of {all} withdrawals failed: {kinds}"));
        }
        faults
    }

    /// Successes take turns: each must have left a balance of its own, and together all balances
    /// from `reset − amount` down without a gap.
    fn wrong_balances(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut falling = self.balances.clone();
        falling.sort_unstable_by_key(|balance| std::cmp::Reverse(*balance));
        let twins: Vec<_> = falling.windows(2).filter(|pair| pair[0] == pair[1]).collect();
        if let Some(first) = twins.first() {
            faults.push(format!(
                "balance {} was reported by more than one success (such repeats: {})",
                first[0],
                grouped(twins.len() as u64),
            ));
        }
        falling.dedup();
        let possible = |balance: &i64| {
            *balance < self.reset && (self.reset - balance) % self.amount == 0 && *balance >= 0
        };
        let impossible: Vec<_> = falling.iter().filter(|balance| !possible(balance)).collect();
        if let Some(first) = impossible.first() {
            faults.push(format!(
                "balance {first} was reported by a success, but withdrawals of {} from {} cannot \
                 leave it (such balances: {})",
                self.amount,
                self.reset,
                grouped(impossible.len() as u64),
            ));
        }
        falling.retain(possible);
        let Some(lowest) = falling.last() else {
            return faults;
        };
        let steps = ((self.reset - lowest) / self.amount).unsigned_abs();
        let unseen = steps - falling.len() as u64;
        if unseen > 0 {
            let mut expected = self.reset;
            let gap = falling.iter().find_map(|balance| {
                expected -= self.amount;
                (*balance != expected).then_some(expected)
            });
            faults.push(format!(
                "balance {} was reported by no success, though a lower one was: an answer got \
                 lost or told another balance (such gaps: {})",
                gap.unwrap_or(expected),
                grouped(unseen),
            ));
        }
        faults
    }

    fn wrong_ends(&self) -> Vec<String> {
        let taken = i128::from(self.amount) * self.balances.len() as i128;
        let right = i128::from(self.reset) - taken;
        let mut faults = Vec::new();
        for (url, end) in &self.ends {
            match end {
                Ok(balance) if i128::from(*balance) == right => {}
                Ok(balance) => faults.push(format!(
                    "{url} ends with balance {balance} instead of {right}, which is {} less {} \
                     withdrawals of {}",
                    self.reset,
                    grouped(self.balances.len() as u64),
                    self.amount,
                )),
                Err(reason) => faults.push(format!("the balance at the end is unknown: {reason}")),
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten withdrawals of 2 from 10: five succeed.
    fn right() -> Evidence {
        Evidence {
            connections: 10,
            reset: 10,
            amount: 2,
            balances: vec![4, 8, 6, 0, 2],
            refused: 5,
            errors: Vec::new(),
            ends: vec![("http://a".to_owned(), Ok(0)), ("http://b".to_owned(), Ok(0))],
        }
    }

    fn closed(count: u64) -> Vec<ErrorCount> {
        vec![ErrorCount { kind: "closed".to_owned(), count, example: String::new(), shed: false }]
    }

    fn end(balance: i64) -> Vec<(String, Result<i64, String>)> {
        vec![("http://a".to_owned(), Ok(balance))]
    }

    #[test]
    fn a_right_burst_has_no_fault() {
        let odd = Evidence { reset: 11, balances: vec![9, 7, 5, 3, 1], ends: end(1), ..right() };
        let short = Evidence {
            connections: 3,
            balances: vec![8, 6, 4],
            refused: 0,
            ends: end(4),
            ..right()
        };
        let empty = Evidence { reset: 0, balances: vec![], refused: 10, ends: end(0), ..right() };
        let huge = Evidence {
            connections: 1,
            reset: i64::MAX,
            amount: i64::MAX,
            balances: vec![0],
            refused: 0,
            ..right()
        };
        for evidence in [right(), odd, short, empty, huge] {
            assert_eq!(evidence.faults(), Vec::<String>::new());
        }
    }

    fn expect(evidence: &Evidence, sentences: &[&str]) {
        let faults = evidence.faults();
        assert_eq!(faults.len(), sentences.len(), "{faults:#?}");
        for (fault, sentence) in faults.iter().zip(sentences) {
            assert!(fault.starts_with(sentence), "{sentence}: {faults:#?}");
        }
    }

    #[test]
    fn wrong_counts_are_told() {
        let lost = Evidence { balances: vec![8, 6, 2, 0], errors: closed(1), ..right() };
        expect(
            &Evidence { ends: end(0), ..lost },
            &[
                "4 of 10 withdrawals succeeded instead of exactly 5",
                "1 of 10 withdrawals failed: 1 × closed",
                "balance 4 was reported by no success, though a lower one was",
                "http://a ends with balance 0 instead of 2, which is 10 less 4 withdrawals of 2",
            ],
        );
        let one_more = Evidence { balances: vec![8, 6, 4, 2, 0, 0], refused: 4, ..right() };
        expect(
            &Evidence { ends: end(0), ..one_more },
            &[
                "6 of 10 withdrawals succeeded instead of exactly 5",
                "4 of 10 withdrawals were refused as insufficient funds instead of 5",
                "balance 0 was reported by more than one success (such repeats: 1)",
                "http://a ends with balance 0 instead of -2",
            ],
        );
        expect(
            &Evidence { refused: 4, errors: closed(1), ..right() },
            &[
                "4 of 10 withdrawals were refused as insufficient funds instead of 5",
                "1 of 10 withdrawals failed: 1 × closed",
            ],
        );
    }

    #[test]
    fn balances_that_do_not_fit_together_are_told() {
        expect(
            &Evidence { balances: vec![8, 6, 6, 2, 0], ..right() },
            &[
                "balance 6 was reported by more than one success (such repeats: 1)",
                "balance 4 was reported by no success, though a lower one was",
            ],
        );
        let strange = "balance 1 was reported by a success, but withdrawals of 2 from 10 cannot";
        expect(&Evidence { balances: vec![8, 6, 4, 2, 1], ..right() }, &[strange]);
        let untouched = "balance 10 was reported by a success, but withdrawals of 2 from 10 cannot";
        expect(&Evidence { balances: vec![10, 8, 6, 4, 2], ..right() }, &[untouched]);
    }

    #[test]
    fn a_wrong_or_unknown_end_is_told() {
        let wrong = Evidence { ends: end(2), ..right() };
        expect(&wrong, &["http://a ends with balance 2 instead of 0"]);
        let unknown = Evidence { ends: vec![(String::new(), Err("gone".to_owned()))], ..right() };
        expect(&unknown, &["the balance at the end is unknown: gone"]);
    }
}
