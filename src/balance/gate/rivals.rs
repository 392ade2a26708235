//! Whether others, too, change the user whose changes pass here. No replica knows another; but who
//! finds another balance than it has left itself is not alone.

/// The balances that the last changes of one user have left, as this replica made them.
#[derive(Default)]
pub(super) struct Rivals {
    user_id: i64,
    left: [Option<i64>; LEFT],
    next: usize,
    /// The share of changes that found a balance of somebody else: a moving average.
    strange: f32,
}

/// More than there are changes in the database at once: their answers may overtake each other.
const LEFT: usize = super::TURNS_MAX + 1;
/// How much one change weighs.
const WEIGHT: f32 = 1.0 / 16.0;
/// Alone, answers that overtake each other are some per cent. With one other that is as busy it is
/// about every second; fewer only where amounts are so alike that a balance comes again by chance.
const STRANGE_MAX: f32 = 0.2;

impl Rivals {
    /// Notes a change that was applied: what it found, and what it left.
    pub(super) fn note(&mut self, user_id: i64, found: i64, left: i64) {
        if self.user_id != user_id {
            // Another user of the same stripe: nothing is known of what it was left with.
            *self = Rivals { user_id, strange: self.strange, ..Rivals::default() };
        } else {
            let strange = if self.left.contains(&Some(found)) { 0.0 } else { 1.0 };
            self.strange += (strange - self.strange) * WEIGHT;
        }
        self.left[self.next] = Some(left);
        self.next = (self.next + 1) % LEFT;
    }

    /// Whether there seem to be others.
    pub(super) fn are_likely(&self) -> bool {
        self.strange > STRANGE_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_finds_what_it_has_left_is_alone() {
        let mut rivals = Rivals::default();
        for left in 1..1_000 {
            rivals.note(1, left - 1, left);
            assert!(!rivals.are_likely(), "{left}");
        }
    }

    #[test]
    fn answers_that_overtake_each_other_are_no_rivals() {
        let mut rivals = Rivals::default();
        for pair in 0..500 {
            // Of ten changes, one is noted before the one that came before it.
            let first = pair * 2;
            let two = [(first, first + 1), (first + 1, first + 2)];
            let order = if pair % 5 == 0 { [1, 0] } else { [0, 1] };
            for index in order {
                rivals.note(1, two[index].0, two[index].1);
            }
            assert!(!rivals.are_likely(), "{pair}");
        }
    }

    #[test]
    fn one_who_finds_other_balances_is_not_alone_until_that_ends() {
        let mut rivals = Rivals::default();
        for change in 1..100 {
            // Another one takes 3 after each.
            rivals.note(1, change * -5 + 2, change * -5);
        }
        assert!(rivals.are_likely());
        for left in 1..100 {
            rivals.note(1, left - 1, left);
        }
        assert!(!rivals.are_likely());
    }

    /// The hardest case: everybody adds and takes 1, so the same balances come again and again.
    #[test]
    fn others_that_add_and_take_the_same_are_noticed() {
        let mut bits = 0x9E37_79B9_7F4A_7C15_u64;
        let mut sign = || {
            bits ^= bits << 13;
            bits ^= bits >> 7;
            bits ^= bits << 17;
            if bits.count_ones().is_multiple_of(2) { 1 } else { -1 }
        };
        for others in [1, 2, 4] {
            let (mut rivals, mut balance, mut likely) = (Rivals::default(), 1_000_000, 0);
            for change in 0..2_000 {
                (0..others).for_each(|_| balance += sign());
                let own = sign();
                rivals.note(1, balance, balance + own);
                balance += own;
                likely += i32::from(change >= 100 && rivals.are_likely());
            }
            assert!(likely > 1_700, "{others} others: in {likely} of 1,900 changes");
        }
    }

    #[test]
    fn another_user_of_the_stripe_is_no_rival() {
        let mut rivals = Rivals::default();
        for change in 0..1_000 {
            rivals.note(change % 2, change * 7, change * 7 + 1);
        }
        assert!(!rivals.are_likely());
    }
}
