use checker::{Verdict, check};

use crate::ledger::{Random, Traffic, history};

#[test]
fn what_has_happened_is_possible() {
    let (mut unplaced, mut requests) = (0, 0);
    for seed in 0..5_000 {
        let traffic = Traffic::random(&mut Random(seed));
        let records = history(seed, &traffic);
        let verdict = check(&records);
        assert!(verdict.violations.is_empty(), "{seed}: {traffic:?}\n{:#?}", verdict.violations);
        unplaced += verdict.unplaced;
        requests += records.len();
    }
    println!("{requests} requests, of which {unplaced} balances have no single place");
    assert!(unplaced * 20 < requests, "too much is left undecided: {unplaced}");
}

#[test]
fn an_empty_history_is_possible() {
    assert_eq!(check(&[]), Verdict::default());
}
