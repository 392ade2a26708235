//! Every pair of statements in every order in which two sessions can begin, run and commit them.
//!
//! PostgreSQL's own `isolationtester` runs them. What comes out is judged by what must be so after
//! any order (the view `trial.broken` of each set-up), not by texts that are expected. Orders that
//! cannot be are left out: whoever waits for a session does not end before it.

mod isolation;
pub(crate) mod statements;
mod trial;

use std::time::Instant;

use isolation::Tester;
use statements::{NEIGHBOUR, OTHERS, STEP, Statement};
use trial::Trial;

/// The states of a job from which the statements of a lease begin.
const LEASES: Trial = Trial {
    set_up: include_str!("interleavings/leases.sql"),
    states: &[
        ("waiting", "trial.waits('30 min')"),
        ("due", "trial.waits('-10 min')"),
        ("running", "trial.runs(true, '15 min')"),
        ("expired", "trial.runs(true, '-1 min')"),
        ("orphaned", "trial.runs(false, '-1 min')"),
        ("stopped", "trial.was_stopped()"),
        ("set_back", "trial.was_set_back()"),
        ("waiting_set_back", "trial.waits_set_back()"),
        ("ended_for_1", "trial.ends_for(1, true)"),
        ("ended_for_2", "trial.ends_for(2, true)"),
        ("ended_paused_for_1", "trial.ends_for(1, false)"),
    ],
    // The run of a job that is deleted is closed, and TELL may be at it for a moment.
    may_wait: |waits, first| !NEVER_WAIT.contains(&waits) || (waits, first) == ("DELETE", "TELL"),
};

/// What the thread that renews does, and what people ask for and are answered.
const NEVER_WAIT: [&str; 10] =
    ["OFFER", "FREE", "MEND", "MEND_SLOTS", "CLAIM", "RENEW", "TELL", "END", "RUN_NOW", "DELETE"];

const SAME_KEY: [&str; 2] = [OTHERS, "SET -61"];

/// The balances from which changes begin: enough for both, for one, for none, and the largest.
const CHANGES: Trial = Trial {
    set_up: include_str!("interleavings/balances.sql"),
    states: &[
        ("rich", "trial.opens(200)"),
        ("scarce", "trial.opens(100)"),
        ("poor", "trial.opens(20)"),
        ("full", "trial.opens(9223372036854775807)"),
    ],
    may_wait: |waits, first| {
        let pair = [waits, first];
        // Two sets with nothing in common but the key wait for each other at the key alone.
        let may_meet = !pair.contains(&OTHERS) || pair.iter().all(|it| SAME_KEY.contains(it));
        may_meet && (waits == NEIGHBOUR) == (first == NEIGHBOUR)
    },
};

#[test]
fn two_statements_of_a_lease_keep_its_promises_in_every_order() {
    let Some(tester) = Tester::find() else { return };
    let start = Instant::now();
    let findings = LEASES.of_all(&tester, &statements::leases());
    println!("{findings}in {:.1?}", start.elapsed());
    assert!(findings.broken.is_empty(), "{findings}");
}

#[test]
fn two_changes_of_a_balance_keep_the_books_in_every_order() {
    let Some(tester) = Tester::find() else { return };
    let start = Instant::now();
    let findings = CHANGES.of_all(&tester, &statements::changes());
    println!("{findings}in {:.1?}", start.elapsed());
    assert!(findings.broken.is_empty(), "{findings}");
}

/// What judges the orders does judge: each weakening of the lock by which CLAIM picks a job is
/// found out.
#[test]
fn a_claim_with_a_weaker_lock_is_found_out() {
    let Some(tester) = Tester::find() else { return };
    let all = statements::leases();
    for weaker in ["", "for update", "for no key update", "for no key update skip locked"] {
        let lock = "limit 1\n    for update skip locked\n";
        let claim = named(&all, "CLAIM").with(lock, &format!("limit 1\n    {weaker}\n"));
        let findings = LEASES.of(&tester, &[[&claim, &claim], [&claim, named(&all, STEP)]]);
        println!("CLAIM with {weaker:?}: {findings}");
        assert!(!findings.broken.is_empty(), "CLAIM with {weaker:?} was not found out");
    }
}

/// What a run says counts as its step: nobody may close the run meanwhile.
#[test]
fn a_line_of_a_run_that_is_not_locked_is_found_out() {
    let Some(tester) = Tester::find() else { return };
    let all = statements::leases();
    let tell = named(&all, "TELL").with("    for update of cron_runs skip locked\n", "");
    for other in ["CLAIM", "END"] {
        let findings = LEASES.of(&tester, &[[&tell, named(&all, other)]]);
        println!("TELL without a lock, with {other}: {findings}");
        assert!(!findings.broken.is_empty(), "with {other} it was not found out");
    }
}

/// PATCH and RUN_NOW come between what MEND has read and what MEND_SLOTS writes.
#[test]
fn a_new_slot_for_a_row_that_was_written_meanwhile_is_found_out() {
    let Some(tester) = Tester::find() else { return };
    let all = statements::leases();
    let mend = named(&all, "MEND_SLOTS").with(" and job.written_at = anew.written_at", "");
    for (other, sentence) in [
        ("PATCH", "a job waits for a slot of the schedule that it had"),
        ("RUN_NOW", "a job that was asked for waits for its slot"),
    ] {
        let findings = LEASES.of(&tester, &[[&mend, named(&all, other)]]);
        println!("MEND_SLOTS of whatever is there, with {other}: {findings}");
        let is_found = findings.broken.keys().any(|(_, found)| found == sentence);
        assert!(is_found, "with {other} it was not found out");
    }
}

#[test]
fn a_change_that_does_not_lock_what_it_decides_by_is_found_out() {
    let Some(tester) = Tester::find() else { return };
    let all = statements::changes();
    for name in ["CHANGE_LOCKED -60", "CHANGE_ONCE -61", "SET -60", "SET -61"] {
        let change = named(&all, name).with(" for no key update\n", "\n");
        let findings = CHANGES.of(&tester, &[[&change, named(&all, "CHANGE -60")]]);
        println!("{name} without a lock: {findings}");
        assert!(!findings.broken.is_empty(), "{name} without a lock was not found out");
    }
}

fn named<'a>(statements: &'a [Statement], name: &str) -> &'a Statement {
    statements.iter().find(|statement| statement.name == name).expect("a statement")
}
