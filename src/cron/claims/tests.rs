use super::*;

#[test]
fn the_handicap_always_rises_and_stays_below_ten_steps() {
    let step = Duration::from_secs(3);
    assert_eq!(handicap(0, step), Duration::ZERO);
    assert_eq!(handicap(1, step), step);
    assert!(handicap(2, step) > Duration::from_millis(5_454));
    for held in 0..10_000 {
        assert!(handicap(held + 1, step) > handicap(held, step), "{held}");
        assert!(handicap(held + 1, step) < step * 10, "{held}");
    }
    assert!(handicap(usize::MAX, Duration::from_secs(60)) <= Duration::from_secs(600));
    assert_eq!(handicap(7, Duration::ZERO), Duration::ZERO);
}
