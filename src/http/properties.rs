//! Properties that hold for any body, query and header.

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use proptest::prelude::*;
use serde_json::{Map, Value};

use super::input::Query;
use super::*;
use crate::balance::{Change, ChangeSet};

fn settings() -> ProptestConfig {
    ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() }
}

fn change(body: &str) -> Result<Change, (&'static str, Option<String>)> {
    let call = Call { body: body.as_bytes().to_vec(), ..Call::default() };
    read_change(&call).map_err(|problem| (problem.code(), problem.field()))
}

fn refused(field: &str) -> Result<Change, (&'static str, Option<String>)> {
    Err(("invalid_request", Some(field.to_owned())))
}

fn object(members: &[(&str, String)], space: &str) -> String {
    let members: Vec<String> = members
        .iter()
        .map(|(name, value)| format!("{space}\"{name}\"{space}:{space}{value}{space}"))
        .collect();
    format!("{space}{{{}}}{space}", members.join(","))
}

fn amount() -> impl Strategy<Value = i64> {
    prop_oneof![any::<i64>(), -9..9i64].prop_filter("no change", |amount| *amount != 0)
}

fn space() -> impl Strategy<Value = String> {
    "[ \t\r\n]{0,3}"
}

/// JSON that is no whole number of 64 bits.
fn no_integer() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|number| format!("\"{number}\"")),
        any::<i32>().prop_map(|number| format!("{number}.0")),
        any::<i32>().prop_map(|number| format!("{number}e0")),
        (1..9u64).prop_map(|more| (i64::MAX as u64 + more).to_string()),
        any::<i64>().prop_map(|number| format!("[{number}]")),
        "[1-9][0-9]{19,40}",
        prop::sample::select(&["true", "false", "null", "{}", "\"\"", "-0.0"][..])
            .prop_map(str::to_owned),
    ]
}

/// Something like JSON, often nearly a change.
fn body() -> impl Strategy<Value = Vec<u8>> {
    const WORDS: [&str; 16] = [
        "{",
        "}",
        "[",
        ":",
        ",",
        "\"userId\"",
        "\"amount\"",
        "{\"userId\":1,\"amount\":",
        "\"",
        "\\u0000",
        "1",
        "-2",
        ".5",
        "e3",
        " ",
        "null",
    ];
    let words = prop::collection::vec(prop::sample::select(&WORDS[..]), 0..12);
    prop_oneof![
        3 => words.prop_map(|words| words.concat().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..64),
    ]
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn a_change_is_read_exactly_in_any_order_and_spacing(
        (user_id, amount, space) in (any::<i64>(), amount(), space()),
        swapped: bool,
    ) {
        let mut members = [("userId", user_id.to_string()), ("amount", amount.to_string())];
        if swapped {
            members.reverse();
        }
        let read = change(&object(&members, &space));
        prop_assert_eq!(read, Ok(Change::new(user_id, amount, None, None).unwrap()));
    }

    #[test]
    fn whatever_is_not_exactly_a_change_is_refused_by_the_name_of_its_field(
        (user_id, amount, space) in (any::<i64>(), amount(), space()),
        (at, other) in (0..2usize, 0..3usize),
        (no_integer, unknown) in (no_integer(), "[a-zA-Z_]{0,8}"),
    ) {
        prop_assume!(!["userId", "amount"].contains(&&*unknown));
        let members = [("userId", user_id.to_string()), ("amount", amount.to_string())];
        let name = members[at].0;
        let read = |members: &[(&str, String)]| change(&object(members, &space));

        let mut wrong = members.clone();
        wrong[at].1 = no_integer;
        prop_assert_eq!(read(&wrong), refused(name));
        let missing = [members[1 - at].clone()];
        prop_assert_eq!(read(&missing), refused(name));
        let mut doubled = members.to_vec();
        doubled.insert(other, members[at].clone());
        prop_assert_eq!(read(&doubled), refused(name));
        let mut more = members.to_vec();
        more.insert(other, (&unknown, user_id.to_string()));
        prop_assert_eq!(read(&more), refused(&unknown));
        let zero = [members[0].clone(), ("amount", "0".to_owned())];
        prop_assert_eq!(read(&zero), refused("amount"));
        let text = object(&members, &space);
        let cut = text.trim_end().strip_suffix('}').unwrap();
        prop_assert_eq!(change(cut), Err(("invalid_json", None)));
    }

    #[test]
    fn any_bytes_are_refused_or_mean_what_they_say(body in body()) {
        let call = Call { body, ..Call::default() };
        let read: Option<Map<String, Value>> = serde_json::from_slice(&call.body).ok();
        match read_change(&call) {
            Ok(change) => {
                let read = read.unwrap();
                prop_assert_eq!(read.len(), 2);
                prop_assert_eq!(read["userId"].as_i64(), Some(change.user_id()));
                prop_assert_eq!(read["amount"].as_i64(), Some(change.amount()));
            }
            Err(problem) => {
                let is_json = serde_json::from_slice::<Value>(&call.body).is_ok();
                prop_assert_eq!(problem.code() == "invalid_request", is_json);
                prop_assert_eq!(problem.field().is_some(), is_json);
                prop_assert_eq!(Reply::from(problem).status(), 400);
            }
        }
    }

    #[test]
    fn a_set_is_read_exactly_and_refused_by_the_place_of_what_is_wrong(
        amounts in prop::collection::vec(amount(), 2..=100),
        (first, at, space) in (-9..9i64, any::<prop::sample::Index>(), space()),
        (no_integer, balanced) in (no_integer(), any::<bool>()),
    ) {
        let changes: Vec<(i64, i64)> = (first..).zip(amounts).collect();
        let members = changes.iter().map(|(user_id, amount)| {
            [("userId", user_id.to_string()), ("amount", amount.to_string())]
        });
        let members: Vec<[(&str, String); 2]> = members.collect();
        let read = |members: &[Vec<(&str, String)>]| {
            let changes: Vec<_> = members.iter().map(|members| object(members, &space)).collect();
            let changes = format!("[{}]", changes.join(","));
            let body = object(&[("balanced", balanced.to_string()), ("changes", changes)], &space);
            read_set(&Call { body: body.into_bytes(), ..Call::default() })
                .map_err(|problem| (problem.code(), problem.field()))
        };
        let members: Vec<Vec<_>> = members.into_iter().map(Vec::from).collect();
        let sum: i128 = changes.iter().map(|(_, amount)| i128::from(*amount)).sum();
        let expected = match ChangeSet::new(changes.clone(), false, None, None) {
            Ok(set) if sum == 0 || !balanced => Ok(set),
            _ => Err(("unbalanced", None)),
        };
        prop_assert_eq!(read(&members), expected);
        let place = at.index(members.len());
        let of = |name: &str| Err(("invalid_request", Some(format!("changes[{place}].{name}"))));
        for (member, name) in ["userId", "amount"].into_iter().enumerate() {
            let mut wrong = members.clone();
            wrong[place][member].1.clone_from(&no_integer);
            prop_assert_eq!(read(&wrong), of(name));
            let mut missing = members.clone();
            missing[place].remove(member);
            prop_assert_eq!(read(&missing), of(name));
            let mut doubled = members.clone();
            doubled[place].push(members[place][member].clone());
            prop_assert_eq!(read(&doubled), of(name));
        }
        let mut twice = members.clone();
        twice.insert(place, members[0].clone());
        twice.truncate(100);
        let later = format!("changes[{}].userId", place.max(1));
        let refused = Err(("invalid_request", Some(later)));
        prop_assert_eq!(read(&twice), refused);
    }

    #[test]
    fn a_change_of_a_job_is_read_as_it_was_printed(
        name in prop::option::of("[a-z0-9][a-z0-9-]{0,62}"),
        minutes in prop::option::of(1..=9_999u32),
        enabled: Option<bool>,
        space in space(),
    ) {
        let schedule = minutes.map(|minutes| format!("every {minutes}m"));
        let quoted = |text: &String| format!("\"{text}\"");
        let members: Vec<(&str, String)> = [
            ("function", name.as_ref().map(quoted)),
            ("schedule", schedule.as_ref().map(quoted)),
            ("enabled", enabled.map(|flag| flag.to_string())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
        let call = |body: String| Call { body: body.into_bytes(), ..Call::default() };
        let read = read_job_change(&call(object(&members, &space))).unwrap();
        prop_assert_eq!(read.function.map(|name| name.as_str().to_owned()), name);
        prop_assert_eq!(read.schedule.map(|schedule| schedule.text().to_owned()), schedule);
        prop_assert_eq!(read.enabled, enabled);
        for (at, member) in members.iter().enumerate() {
            let mut wrong = members.clone();
            wrong[at].1 = "null".to_owned();
            let doubled = [&members[..], std::slice::from_ref(member)].concat();
            for body in [object(&wrong, &space), object(&doubled, &space)] {
                let problem = read_job_change(&call(body)).unwrap_err();
                prop_assert_eq!(problem.field(), Some(member.0.to_owned()));
            }
        }
    }

    #[test]
    fn a_text_of_a_query_comes_through_percent_encoding_as_it_was(text in "\\PC{0,12}", nul: bool) {
        let given = if nul { text.clone() + "\0" } else { text.clone() };
        let query = format!("job={}", percent_encode(given.as_bytes(), NON_ALPHANUMERIC));
        let taken = Query::parse(&query).take_text("job");
        match nul {
            true => prop_assert_eq!(taken.unwrap_err().field(), Some("job".to_owned())),
            false => prop_assert_eq!(taken.unwrap(), Some(text).filter(|text| !text.is_empty())),
        }
    }

    #[test]
    fn any_query_is_refused_by_a_name_it_has_or_keeps_the_limits(
        query in "((job|outcome|before|from|limit|x)=(failed|[0-9]{1,4}|[%0-9a-f=]{0,9})&?){0,4}",
    ) {
        let target = format!("/api/cron/history?{query}");
        match read_run_filter(&Call { target, ..Call::default() }) {
            Ok(filter) => {
                prop_assert!((1..=1_000).contains(&filter.limit));
                prop_assert!(filter.before.is_none_or(|before| before >= 0));
                let texts = [filter.job, filter.server, filter.outcome];
                prop_assert!(texts.iter().flatten().all(|text| !text.contains('\0')));
            }
            Err(problem) => {
                let field = problem.field().unwrap();
                prop_assert!(query.split('&').any(|pair| pair.split('=').next() == Some(&field)));
                prop_assert_eq!(Reply::from(problem).status(), 400);
            }
        }
    }

    #[test]
    fn a_request_id_is_safe_in_a_header_and_in_a_log(
        given in "\\PC{0,9}|[!-9:/=]{0,3}|[a-z]{1,9}|[a-z]{127,129}",
    ) {
        let id = request_id(Some(&given));
        prop_assert!((1..=128).contains(&id.len()));
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:+/=".contains(c);
        prop_assert!(id.chars().all(plain));
        let is_sane = (1..=128).contains(&given.len()) && given.chars().all(plain);
        prop_assert_eq!(id == given, is_sane);
    }
}
