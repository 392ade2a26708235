use std::rc::Rc;

use super::super::samples::{ended, running, status, waiting};
use super::*;

const SMALL: Size = Size { columns: 80, lines: 24 };

/// What a watch has seen.
fn chronicle(readings: Vec<Status>) -> (Rc<Status>, Chronicle) {
    let mut chronicle = Chronicle::default();
    let readings: Vec<_> = readings.into_iter().map(Rc::new).collect();
    readings.iter().for_each(|status| chronicle.take(status));
    (readings.last().expect("a reading").clone(), chronicle)
}

fn view<'a>(status: &'a Status, chronicle: &'a Chronicle) -> View<'a> {
    View {
        status: Some(status),
        age: Duration::ZERO,
        watched: Duration::from_secs(60),
        left: Some(Duration::from_millis(101_200)),
        targets: 5,
        silent: Vec::new(),
        chronicle,
    }
}

fn texts(view: &View<'_>, size: Size) -> Vec<String> {
    rows(view, size).into_iter().map(|row| row.text).collect()
}

/// Two readings in which a run breaks off.
fn disturbed() -> (Rc<Status>, Chronicle) {
    let after = |outcome| Some(ended(1, "replica-1", outcome));
    let jobs = |id, server: &str, last_run| {
        let failed = Job { last_run: after(Outcome::Failed), ..waiting("c-third") };
        let done = Job { last_run: after(Outcome::Succeeded), ..waiting("b-second") };
        vec![done, Job { last_run, ..running("a-first", server, id, 0) }, failed]
    };
    chronicle(vec![
        status("replica-2", 250, jobs(1, "replica-1", None)),
        status("replica-2", 258, jobs(2, "replica-2", after(Outcome::Abandoned))),
    ])
}

#[test]
fn a_table_is_readable() {
    let (last, chronicle) = disturbed();
    assert_eq!(
        texts(&view(&last, &chronicle), SMALL),
        [
            "07:04:18Z  1:42 left  5/5 targets  1 running, 2 waiting",
            "",
            "job      state   server     time",
            "a-first  running replica-2  0:30 ██████████░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░  25%",
            "b-second waiting                 in 42 s; succeeded after 2:00 on replica-1",
            "c-third  waiting                 in 42 s; failed: why",
            "",
            "replica-1 0    replica-2 1 ▪",
            "",
            "07:04:18Z  a-first: taken over by replica-2 from replica-1 (run 1 abandoned, no…",
        ]
    );
    let tones: Vec<_> = rows(&view(&last, &chronicle), SMALL).iter().map(|row| row.tone).collect();
    assert_eq!(tones[3..6], [Tone::Plain, Tone::Faint, Tone::Alarm]);
    assert_eq!(
        line(&view(&last, &chronicle)),
        "07:04:18Z  1:42 left  5/5 targets  1 running, 2 waiting; jobs per server: replica-1 0, \
         replica-2 1"
    );
}

#[test]
fn seconds_count_on_between_readings_and_progress_does_not() {
    let (last, chronicle) = disturbed();
    let later = View { age: Duration::from_secs(3), ..view(&last, &chronicle) };
    let rows = texts(&later, SMALL);
    assert!(rows[3].contains(" 0:33 ███") && rows[3].ends_with(" 25%"), "{}", rows[3]);
    assert!(rows[4].contains("in 39 s"), "{}", rows[4]);
}

#[test]
fn what_is_lost_is_said() {
    let (last, chronicle) = disturbed();
    let refused = (Duration::from_secs(12), "GET http://b: Connection refused");
    let one = View { silent: vec![refused], ..view(&last, &chronicle) };
    let shown = texts(&one, SMALL);
    assert!(shown[0].contains("4/5 targets"), "{}", shown[0]);
    assert_eq!(shown[1], "no status for 12 s: GET http://b: Connection refused");
    assert!(shown[4].contains(" 0:30 "), "{}", shown[4]);

    let age = Duration::from_secs(12);
    let all = View { silent: vec![refused; 5], age, left: None, ..one };
    let shown = rows(&all, SMALL);
    assert!(shown[0].text.contains("watched 1:00  0/5 targets"), "{}", shown[0].text);
    assert_eq!(shown[1].text, "NO STATUS for 12 s; trying again; below: what was seen last");
    assert_eq!(shown[2].text, "  GET http://b: Connection refused");
    assert_eq!((shown[1].tone, shown[5].tone), (Tone::Alarm, Tone::Faint));
    assert!(shown[5].text.contains(" 0:30 "), "time stands still: {}", shown[5].text);
    assert!(
        line(&all).ends_with("seen last;   GET http://b: Connection refused"),
        "{}",
        line(&all)
    );

    let nothing = View { status: None, ..all };
    assert_eq!(
        texts(&nothing, SMALL)[..2],
        ["watched 1:00  0/5 targets", "NO STATUS for 12 s; trying again"]
    );
}

#[test]
fn it_fits_a_terminal_of_any_size() {
    let long = "x".repeat(63);
    let host = "a-host-of-many-letters.example.com";
    let job = |number: i64| {
        let name = format!("{number:02}{long}");
        Job { progress: Some(1.0), ..running(&name, &format!("{host}:{number}"), number, 0) }
    };
    let stalled = Job { state: State::Stalled, ..job(31) };
    let jobs =
        || vec![waiting("00"); 2].into_iter().chain((1..=30).map(job)).chain([stalled.clone()]);
    let paused = jobs().map(|job| Job { enabled: false, ..job }).collect();
    let (last, chronicle) =
        chronicle(vec![status("r", 0, jobs().collect()), status("r", 1, paused)]);
    let reason = "a reason that is told at length ".repeat(9);
    let silent = vec![(Duration::from_secs(9), reason.as_str()); 4];
    let view = View { silent, ..view(&last, &chronicle) };
    for lines in 1..60 {
        for columns in 1..200 {
            let rows = texts(&view, Size { columns, lines });
            assert!(rows.len() <= lines, "{} rows in {lines} lines", rows.len());
            let widest = rows.iter().map(|row| row.chars().count()).max();
            assert!(widest <= Some(columns), "{widest:?} in {columns} columns: {rows:#?}");
        }
    }
    let shown = texts(&View { silent: Vec::new(), ..view }, SMALL);
    assert_eq!(shown.len(), 24, "{shown:#?}");
    assert!(shown[3].starts_with("31xxxxxxxxxxxxxxxxxxxxxxx… stalled …"), "first: {}", shown[3]);
    assert!(shown[4].contains("…xample.com:1 ") && shown[4].ends_with("100%"), "{}", shown[4]);
    assert!(
        shown.iter().any(|row| row.starts_with("… and ") && row.ends_with(" more")),
        "{shown:#?}"
    );
    assert!(shown[23].ends_with(": p…"), "{shown:#?}");
}

#[test]
fn forty_columns_still_say_who_runs_what() {
    let (last, chronicle) = disturbed();
    let rows = texts(&view(&last, &chronicle), Size { columns: 40, lines: 10 });
    assert_eq!(rows[2], "a-first  running replica-2  0:30  25%");
    assert_eq!(rows[4], "c-third  waiting                 in 42 …");
}

#[test]
fn a_server_that_is_not_seen_any_more_stays() {
    let job = || vec![running("a", "r-2", 1, 0)];
    let (last, chronicle) = chronicle(vec![
        status("r-1", 0, job()),
        status("r-2", 10, job()),
        status("r-2", 40, job()),
    ]);
    let shown = texts(&view(&last, &chronicle), SMALL);
    assert_eq!(shown[5], "r-1 0 unseen 0:40  r-2 1 ▪");
}

#[test]
fn a_name_cannot_command_the_terminal() {
    assert_eq!(harmless("a\x1b[2Jb\n"), "a [2Jb ");
    let (last, chronicle) = chronicle(vec![status("a\x1b[2J", 0, vec![])]);
    assert!(texts(&view(&last, &chronicle), SMALL).iter().all(|row| !row.contains('\x1b')));
}
