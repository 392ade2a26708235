use super::*;

fn takes(system: i64, timeline: u32, started: i64) -> HostState {
    let started = DateTime::from_timestamp(started, 0).expect("an instant");
    HostState::Takes(Server { system, timeline, started })
}

fn two() -> Primaries {
    Primaries::new(vec!["a:1".to_owned(), "b:2".to_owned()])
}

fn admitted(primaries: &Primaries) -> [bool; 2] {
    [0, 1].map(|host| primaries.admit(host).is_ok())
}

/// The hosts whose connections are ended after this answer.
fn left_by(primaries: &Primaries, host: usize, known: HostState) -> Vec<usize> {
    let changes = primaries.note(host, known);
    changes.into_iter().filter(|(_, reason)| reason.is_some()).map(|(host, _)| host).collect()
}

#[test]
fn of_two_that_take_changes_the_later_promoted_is_right_for_good() {
    let primaries = two();
    let left = |host, known| left_by(&primaries, host, known);
    assert!(left(0, takes(7, 1, 10)).is_empty());
    assert!(left(1, HostState::Nothing).is_empty());
    assert_eq!(left(1, takes(7, 2, 20)), [0]);
    assert_eq!(admitted(&primaries), [false, true]);
    assert!(left(1, primaries.last_known(1, false)).is_empty());
    assert_eq!(admitted(&primaries), [false, true], "the right one is away for a moment");
    assert!(left(0, takes(7, 1, 10)).is_empty());
    assert_eq!(admitted(&primaries), [false, true]);
    assert!(left(1, HostState::Nothing).is_empty());
    assert_eq!(admitted(&primaries), [true, true], "it was made to follow the other");
    assert_eq!(left(1, takes(7, 2, 20)), [0]);
    assert_eq!(left(0, takes(7, 3, 30)), [1], "the other is promoted in its turn");
    assert_eq!(admitted(&primaries), [true, false]);
    assert!(left(1, HostState::Nothing).is_empty());
    assert_eq!(admitted(&primaries), [true, true], "a standby does no harm");
}

#[test]
fn what_the_timeline_does_not_tell_is_for_an_operator() {
    for other in [takes(7, 1, 20), takes(8, 1, 20), takes(8, 2, 20)] {
        let primaries = two();
        let left = |host, known| left_by(&primaries, host, known);
        left(0, takes(7, 1, 10));
        assert!(left(1, other).is_empty(), "{other:?}");
        assert_eq!(admitted(&primaries), [false, false], "a doubt is enough to connect to none");
        assert!(left(0, takes(7, 1, 10)).is_empty());
        assert_eq!(left(1, other), [0, 1], "both have said it again");
        let reason = primaries.admit(0).expect_err("barred").reason().to_owned();
        assert!(reason.contains("a:1 and b:2"), "{reason}");
        primaries.note(0, primaries.last_known(0, false));
        assert_eq!(admitted(&primaries), [false, false], "silence tells nothing");
        primaries.note(0, primaries.last_known(0, true));
        assert_eq!(admitted(&primaries), [true, true], "it has ended");
    }
}

#[test]
fn a_third_that_was_promoted_after_both_ends_a_doubt() {
    let names = ["a:1", "b:2", "c:3"];
    let primaries = Primaries::new(names.map(str::to_owned).to_vec());
    primaries.note(0, takes(7, 1, 10));
    primaries.note(1, takes(7, 1, 20));
    primaries.note(0, primaries.last_known(0, false));
    primaries.note(1, primaries.last_known(1, false));
    assert!(primaries.admit(2).is_err(), "silence tells nothing");
    primaries.note(2, takes(7, 2, 30));
    assert_eq!([0, 1, 2].map(|host| primaries.admit(host).is_ok()), [false, false, true]);
}

#[test]
fn two_names_of_one_server_are_one() {
    let primaries = two();
    let left = |host, known| left_by(&primaries, host, known);
    left(0, takes(7, 1, 10));
    assert!(left(1, takes(7, 1, 10)).is_empty());
    assert_eq!(admitted(&primaries), [true, true]);
    assert!(left(1, takes(7, 1, 15)).is_empty(), "it was started again");
    assert!(left(0, takes(7, 1, 15)).is_empty());
    assert_eq!(admitted(&primaries), [true, true]);
    assert_eq!(left(1, takes(7, 2, 20)), [0], "an address that has moved");
    assert!(left(0, takes(7, 2, 20)).is_empty());
    assert_eq!(admitted(&primaries), [true, true]);
}
