//! Made-up watches: one in which all is right, and for each check some in which it is not.

use super::record::Record;
use super::samples::{at, running, status, succeeded, waiting};
use super::status::{Job, Outcome, Run, State, Status};
use super::verdict::{Check, Evidence, Judgement};

/// Readings, the history, and what is asked for.
struct Case {
    readings: Vec<Status>,
    history: Result<Vec<Run>, String>,
    spread_max: usize,
}

impl Case {
    /// Two jobs on two servers, over after 120 s.
    fn right() -> Case {
        let both = || vec![running("a", "r-1", 1, 0), running("b", "r-2", 2, 0)];
        Case {
            readings: vec![
                status("r-1", 1, both()),
                status("r-2", 2, both()),
                status("r-1", 150, vec![waiting("a"), waiting("b")]),
            ],
            history: Ok(vec![
                succeeded("b", "r-2", 2, (0, 121)),
                succeeded("a", "r-1", 1, (0, 120)),
            ]),
            spread_max: 1,
        }
    }

    fn with_history(runs: Vec<Run>) -> Case {
        Case { history: Ok(runs), ..Case::right() }
    }

    /// Two readings that show the same, and an empty history.
    fn shown(jobs: Vec<Job>) -> Case {
        let readings = vec![status("r-1", 1, jobs.clone()), status("r-2", 2, jobs)];
        Case { readings, history: Ok(Vec::new()), spread_max: 1 }
    }

    /// Judges; of two readings at one instant, the target of the first says the same again.
    fn checks(&self) -> Vec<Check> {
        let mut record = Record::default();
        for reading in &self.readings {
            record.take(reading.clone());
        }
        for pair in self.readings.windows(2).filter(|pair| pair[0].now == pair[1].now) {
            record.compare(&pair[0], &pair[1]);
            record.settle(&pair[0], &pair[1], Some(&pair[0]));
        }
        let evidence = Evidence {
            record: &record,
            begin: self.readings[0].now,
            last: &self.readings[self.readings.len() - 1],
            history: &self.history,
            spread_max: self.spread_max,
            run_seconds_min: 120,
        };
        evidence.checks()
    }

    /// Expects that the check called `name` has this result, and this text in its explanation.
    fn expect(&self, name: &str, result: Judgement, text: &str) {
        let checks = self.checks();
        let check = checks.iter().find(|check| check.name == name).expect("such a check");
        assert_eq!(check.result, result, "{name}: {}", check.explanation);
        assert!(check.explanation.contains(text), "{name}: {} lacks {text}", check.explanation);
    }
}

const PASSED: Judgement = Judgement::Passed;
const FAILED: Judgement = Judgement::Failed;
const NOT_JUDGED: Judgement = Judgement::NotJudged;

#[test]
fn a_right_watch_passes() {
    let case = Case::right();
    let failed: Vec<_> = case.checks().into_iter().filter(|check| check.result == FAILED).collect();
    assert!(failed.is_empty(), "{failed:?}");
    case.expect("one server at a time", PASSED, "2 runs of 2 jobs");
    case.expect("first wave", PASSED, "r-1 1, r-2 1: max − min 0, at most 1");
    case.expect(
        "starts per server",
        Judgement::Figures,
        "r-1 0, r-2 0 (2 more runs had begun before)",
    );
    case.expect("least run time", PASSED, "120.000 s (run 1 of a) is the shortest of 2");
    case.expect("every run in the history", PASSED, "2 runs seen that are over");
}

#[test]
fn a_run_begins_when_the_one_before_has_ended_and_not_sooner() {
    let first = || succeeded("a", "r-1", 1, (0, 120));
    let abandoned = |to| Run { outcome: Outcome::Abandoned, ..succeeded("a", "r-1", 1, (0, to)) };
    let second = |from| succeeded("a", "r-2", 3, (from, from + 120));
    let other = || succeeded("b", "r-2", 2, (0, 121));
    let name = "one server at a time";
    for runs in [vec![second(120), other(), first()], vec![second(15), other(), abandoned(15)]] {
        Case::with_history(runs).expect(name, PASSED, "3 runs of 2 jobs");
    }
    let early = "run 3 of a on r-2 began 1.000 s before run 1 on r-1 ended (such overlaps: 1)";
    Case::with_history(vec![second(119), other(), first()]).expect(name, FAILED, early);
    let within = || vec![second(1), other(), Run { finished_at: at(600), ..first() }];
    Case::with_history(within()).expect(name, FAILED, "such overlaps: 1");
    let third = succeeded("a", "r-1", 4, (200, 320));
    let all = [vec![third], within()].concat();
    Case::with_history(all).expect(name, FAILED, "such overlaps: 2");
}

#[test]
fn an_open_run_overlaps_with_what_begins_behind_it() {
    let mut case = Case::shown(vec![running("a", "r-1", 1, 0)]);
    case.expect("one server at a time", PASSED, "1 runs of 1 jobs");
    case.history = Ok(vec![succeeded("a", "r-2", 2, (1, 2))]);
    let sentence = "run 2 of a on r-2 began though run 1 on r-1 has not ended";
    case.expect("one server at a time", FAILED, sentence);
}

#[test]
fn a_run_on_two_servers_is_found_out() {
    let mut case = Case::shown(vec![running("a", "r-1", 1, 0)]);
    case.readings.push(status("r-1", 3, vec![running("a", "r-2", 1, 0)]));
    case.expect("one server at a time", FAILED, "run 1 was shown as a on r-1 and as a on r-2");
}

#[test]
fn an_uneven_first_wave_fails() {
    let one_sided = vec![running("a", "r-1", 1, 0), running("b", "r-1", 2, 0)];
    let mut case = Case::shown(one_sided);
    case.expect("first wave", FAILED, "r-1 2, r-2 0: max − min 2, at most 1");
    case.spread_max = 2;
    case.expect("first wave", PASSED, "max − min 2, at most 2");
}

#[test]
fn short_runs_make_a_wave_of_their_first() {
    let mut case = Case::right();
    case.readings = vec![
        status("r-1", 0, vec![waiting("a"), waiting("b")]),
        status("r-2", 9, vec![waiting("a"), waiting("b")]),
    ];
    let first = [succeeded("b", "r-1", 2, (3, 4)), succeeded("a", "r-1", 1, (1, 2))];
    let again = [succeeded("a", "r-2", 4, (7, 8)), succeeded("b", "r-2", 3, (5, 6))];
    case.history = Ok([again, first].concat());
    case.expect("first wave", FAILED, "r-1 2, r-2 0: max − min 2, at most 1; the first run of");
    case.expect("starts per server", Judgement::Figures, "r-1 2, r-2 2");
}

#[test]
fn no_wave_is_not_judged_unless_nothing_ran_at_all() {
    let case = Case::shown(vec![running("a", "r-1", 1, 0), waiting("b")]);
    case.expect("first wave", NOT_JUDGED, "1 of 2 enabled jobs never ran while watched, such as b");
    Case::shown(vec![waiting("b")]).expect("first wave", FAILED, "no job ran");
    let paused = Job { enabled: false, ..running("a", "r-1", 1, 0) };
    Case::shown(vec![paused]).expect("first wave", NOT_JUDGED, "no job is enabled");
}

#[test]
fn only_runs_that_succeeded_must_take_their_time() {
    let right = || succeeded("b", "r-2", 2, (0, 121));
    let short = || succeeded("a", "r-1", 1, (0, 119));
    let name = "least run time";
    let text = "119.000 s (run 1 of a) is the shortest of 2 that succeeded; at least 120 s";
    Case::with_history(vec![right(), short()]).expect(name, FAILED, text);
    let failed = Run { outcome: Outcome::Failed, ..short() };
    Case::with_history(vec![right(), failed]).expect(name, PASSED, "121.000 s");
    let mut late = Case::with_history(vec![short()]);
    late.readings.remove(0);
    late.readings[0].now = at(120);
    late.expect(name, NOT_JUDGED, "no run succeeded while watched");
}

#[test]
fn targets_that_disagree_fail() {
    let readings = vec![
        status("r-1", 1, vec![running("a", "r-1", 1, 0)]),
        status("r-2", 1, vec![running("a", "r-2", 2, 0)]),
    ];
    let case = Case { readings, ..Case::right() };
    case.expect(
        "targets agree",
        FAILED,
        "a: running (run 1, r-1) by r-1, then running (run 2, r-2)",
    );
    Case::right().expect("targets agree", NOT_JUDGED, "no two targets answered");
}

#[test]
fn a_run_that_is_over_is_in_the_history_once_as_it_was_seen() {
    let (a, b) = (|| succeeded("a", "r-1", 1, (0, 120)), || succeeded("b", "r-2", 2, (0, 121)));
    let name = "every run in the history";
    let lost = "run 1, seen as a on r-1 is there 0 times (such runs: 1)";
    Case::with_history(vec![b()]).expect(name, FAILED, lost);
    Case::with_history(vec![b(), a(), a()]).expect(name, FAILED, "is there 2 times");
    let elsewhere = Run { server: "r-3".to_owned(), ..a() };
    Case::with_history(vec![b(), elsewhere]).expect(name, FAILED, "is a on r-3 there");
    let unknown = Case { history: Err("gone".to_owned()), ..Case::right() };
    unknown.expect(name, FAILED, "it is unknown: gone");
}

#[test]
fn a_run_that_is_not_over_need_not_be_in_the_history() {
    let stalled = Job { state: State::Stalled, ..running("b", "r-2", 2, 0) };
    let case = Case::shown(vec![running("a", "r-1", 1, 0), stalled]);
    case.expect("every run in the history", NOT_JUDGED, "no run that was seen is over");
}
