//! What the handlers read: bodies and queries.

use balanced::balance::IdempotencyKey;
use balanced::cron::{Filter, Settings, SettingsChange};
use balanced::http::{self, Call, Problem, Reply};
use serde_json::{Map, Value, json};

use crate::text::lines;

/// An `Idempotency-Key`, a line end, a body.
pub fn balance(data: &[u8]) {
    let (key, body) = lines(data);
    let call = Call {
        idempotency_key: Some(key.clone()).filter(|key| !key.is_empty()),
        body: body.clone().into_bytes(),
        ..Call::default()
    };
    let text = body.strip_prefix('\u{feff}').unwrap_or(&body);
    let read: Option<Map<String, Value>> = serde_json::from_str(text).ok();
    let is_json = serde_json::from_str::<Value>(text).is_ok();
    match http::read_change(&call) {
        Ok(change) => {
            let (user_id, amount) = (change.user_id(), change.amount());
            assert_ne!(amount, 0);
            assert!(key.is_empty() || IdempotencyKey::parse(&key).is_ok());
            let mut object = json!({ "amount": amount, "userId": user_id });
            if let Some(reference) = read.as_ref().and_then(|read| read.get("reference")) {
                assert!(reference.is_string());
                object["reference"] = reference.clone();
            }
            assert_eq!(read.map(Value::Object), Some(object.clone()));
            let again = Call { body: object.to_string().into_bytes(), ..call };
            assert_eq!(http::read_change(&again).ok().as_ref(), Some(&change));
            let without_key = Call { idempotency_key: None, ..again };
            let is_the_same = http::read_change(&without_key).ok() == Some(change);
            assert_eq!(is_the_same, key.is_empty());
        }
        Err(problem) => {
            let (field, said) = refused(problem, is_json);
            let is_whole = |name| read.as_ref().is_some_and(|read| read[name].is_i64());
            match &*field {
                "userId" | "amount" if said.contains("twice") => {}
                "userId" | "amount" if said.contains("missing") => {
                    assert!(read.is_some_and(|read| !read.contains_key(&field)));
                }
                "amount" if said.contains("not be 0") => assert_eq!(read.unwrap()["amount"], 0),
                "userId" | "amount" => assert!(!is_whole(&field)),
                "Idempotency-Key" => assert!(IdempotencyKey::parse(&key).is_err()),
                _ => assert!(read.is_none_or(|read| read.contains_key(&field))),
            }
        }
    }
}

/// A body.
pub fn set(data: &[u8]) {
    let call = Call { body: data.to_vec(), ..Call::default() };
    let text = data.strip_prefix("\u{feff}".as_bytes()).unwrap_or(data);
    let read: Option<Value> = serde_json::from_slice(text).ok();
    match http::read_set(&call) {
        Ok(set) => {
            // In another spelling it means the same: nothing was given twice, and nothing guessed.
            let body = read.expect("JSON").to_string().into_bytes();
            assert_eq!(http::read_set(&Call { body, ..call }).ok(), Some(set));
        }
        Err(problem) => {
            let (field, said) = refused(problem, read.is_some());
            let place = field.strip_prefix("changes[").and_then(|rest| rest.split_once(']'));
            if let Some((place, _)) = place {
                let place: usize = place.parse().expect("a number");
                assert!(read.expect("JSON")["changes"].get(place).is_some(), "{field}: {said}");
            }
        }
    }
}

/// A body.
pub fn job(data: &[u8]) {
    let call = Call { body: data.to_vec(), ..Call::default() };
    let text = data.strip_prefix("\u{feff}".as_bytes()).unwrap_or(data);
    let read: Option<Map<String, Value>> = serde_json::from_slice(text).ok();
    let is_json = serde_json::from_slice::<Value>(text).is_ok();
    match http::read_job_change(&call) {
        Ok(change) => {
            let settings = change.applied_to(&Settings::default());
            let mut object = serde_json::to_value(settings).expect("settings");
            let object = object.as_object_mut().expect("an object");
            for (name, given) in read.iter().flatten() {
                let is_kept = object[name] == *given || given.is_null() || name == "schedule";
                assert!(is_kept, "{name}: {given} became {}", object[name]);
            }
            let read = read.expect("an object");
            object.retain(|name, _| read.contains_key(name));
            let body = serde_json::to_vec(object).expect("JSON");
            let again = http::read_job_change(&Call { body, ..call }).expect("the same");
            let settings = |change: SettingsChange| change.applied_to(&Settings::default());
            assert_eq!(settings(again), settings(change));
        }
        Err(problem) => {
            let (field, _) = refused(problem, is_json);
            assert!(read.is_none_or(|read| read.contains_key(&field)));
        }
    }
}

/// A query.
pub fn runs(data: &[u8]) {
    let query = String::from_utf8_lossy(data);
    let read = |query: &str| {
        let target = format!("/api/cron/history?{query}");
        http::read_run_filter(&Call { target, ..Call::default() })
    };
    match read(&query) {
        Ok(filter) => {
            assert!((1..=1_000).contains(&filter.limit) && filter.before.is_none_or(|id| id >= 0));
            for text in [&filter.job, &filter.server, &filter.outcome].into_iter().flatten() {
                assert!(!text.is_empty() && !text.contains('\0'));
            }
            // An offset may lead to a year that has more than four digits.
            let mut bounds = [filter.from, filter.to].into_iter().flatten();
            if bounds.all(|at| !at.to_rfc3339().starts_with(['+', '-'])) {
                let again = read(&printed(&filter)).expect("the same");
                assert_eq!(format!("{again:?}"), format!("{filter:?}"));
            }
        }
        Err(problem) => {
            let (field, _) = refused(problem, true);
            assert!(query.contains(&field));
        }
    }
}

fn printed(filter: &Filter) -> String {
    let mut query = format!("limit={}", filter.limit);
    for (name, value) in
        [("job", &filter.job), ("server", &filter.server), ("outcome", &filter.outcome)]
    {
        let bytes = value.iter().flat_map(|text| text.bytes());
        let encoded: String = bytes.map(|byte| format!("%{byte:02x}")).collect();
        query += &format!("&{name}={encoded}");
    }
    for (name, at) in [("from", filter.from), ("to", filter.to)] {
        let at = at.map(|at| at.to_rfc3339().replace('+', "%2B")).unwrap_or_default();
        query += &format!("&{name}={at}");
    }
    let before = filter.before.map(|id| id.to_string()).unwrap_or_default();
    query + "&before=" + &before
}

/// The field and the words of a refusal, which is one of those that the interface knows.
fn refused(problem: Problem, is_json: bool) -> (String, String) {
    let reply = Reply::from(problem);
    let document: Value = serde_json::from_slice(reply.body()).expect("JSON");
    let text = |name: &str| document[name].as_str().unwrap_or_default().to_owned();
    assert_eq!(reply.status(), if text("code") == "unbalanced" { 422 } else { 400 });
    match &*text("code") {
        "invalid_json" => assert!(!is_json && document.get("field").is_none()),
        "invalid_request" => assert!(is_json && document.get("field").is_some()),
        "unbalanced" => assert!(is_json && document.get("field").is_none()),
        code => panic!("{code}"),
    }
    (text("field"), text("detail"))
}
