//! The document of the interface says what the program does: neither more nor less.

mod answers;
mod client;
mod examples;
mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use balanced::http::{NoRoute, ROUTES, Route};
use serde_json::{Value, json};

use crate::support::{Process, ask, get};

const DOCUMENT: &str = include_str!("../../src/http/openapi.json");

/// What can be asked for, by the document.
pub(crate) struct Operation {
    pub(crate) method: String,
    /// With something that can be for what varies.
    pub(crate) path: String,
    pub(crate) route: &'static Route,
    template: String,
    value: Value,
}

pub(crate) fn operations() -> Vec<Operation> {
    let mut operations = Vec::new();
    for (template, methods) in document()["paths"].as_object().unwrap() {
        for (method, value) in methods.as_object().unwrap() {
            let (method, path) = (method.to_uppercase(), filled(template));
            let (route, _) = Route::find(&method, &path)
                .unwrap_or_else(|_| panic!("{method} {template} is documented only"));
            let (template, value) = (template.clone(), value.clone());
            operations.push(Operation { method, path, route, template, value });
        }
    }
    operations
}

fn document() -> Value {
    serde_json::from_str(DOCUMENT).expect("JSON")
}

fn filled(template: &str) -> String {
    template.replace("{id}", "1").replace("{name}", "there")
}

fn source(path: &str) -> String {
    fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).expect(path)
}

/// What stands between each pair of the two.
fn between<'a>(text: &'a str, start: &'a str, end: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(start).skip(1).map(move |rest| rest.split(end).next().unwrap())
}

#[test]
fn every_route_is_documented_and_nothing_else() {
    let routes: BTreeSet<_> = ROUTES.iter().map(|route| (route.method, route.path)).collect();
    let documented = operations();
    let documented: BTreeSet<_> =
        documented.iter().map(|operation| (operation.route.method, operation.route.path)).collect();
    assert_eq!(documented, routes);
}

#[test]
fn every_path_takes_the_methods_that_are_documented() {
    for (template, methods) in document()["paths"].as_object().unwrap() {
        let Err(NoRoute::MethodNotAllowed(allowed)) = Route::find("BREW", &filled(template)) else {
            panic!("{template} takes any method");
        };
        let documented: BTreeSet<String> = methods
            .as_object()
            .unwrap()
            .keys()
            .flat_map(|method| match method.as_str() {
                "get" => vec!["GET".to_owned(), "HEAD".to_owned()],
                other => vec![other.to_uppercase()],
            })
            .collect();
        assert_eq!(allowed.split(", ").map(str::to_owned).collect::<BTreeSet<_>>(), documented);
    }
}

#[test]
fn every_operation_names_its_scope_and_what_changes_something_may_not_come_from_elsewhere() {
    for Operation { method, template, route, value, .. } in operations() {
        let what = format!("{method} {template}");
        // An empty list says that no token is needed; without one nothing is said.
        let security = match route.scope {
            Some(scope) => json!([{}, {"token": [scope.name()]}]),
            None => json!([]),
        };
        assert_eq!(value["security"], security, "{what}");
        let answer = |status: &str| value["responses"].get(status).map(|it| it["$ref"].clone());
        let shared = |name: &str| Some(json!(format!("#/components/responses/{name}")));
        let is_guarded = route.scope.is_some();
        assert_eq!(answer("401"), shared("Unauthorized").filter(|_| is_guarded), "{what}");
        let forbidden = if route.changes_something() { "ForbiddenChange" } else { "Forbidden" };
        assert_eq!(answer("403"), shared(forbidden).filter(|_| is_guarded), "{what}");
    }
}

/// Every pair of a status and a code, in the sources of the replica and of the door.
#[test]
fn every_code_is_documented_and_nothing_else() {
    let mut real = BTreeSet::new();
    let problems = source("src/http/problem.rs");
    for problem in between(&problems, "Problem::new(", "\",") {
        if let Some((status, code)) = problem.split_once(", \"") {
            real.insert((status.to_owned(), code.to_owned()));
        }
    }
    for row in between(&problems, ") => ", "\",") {
        if let Some((status, code)) = row.split_once(" \"") {
            real.insert((status.to_owned(), code.to_owned()));
        }
    }
    let invalid = ("400".to_owned(), "invalid_request".to_owned());
    assert!(real.contains(&invalid) && real.len() > 15, "{real:?}");
    let door = source("deploy/haproxy.cfg");
    for problem in between(&door, "string '", "'") {
        let problem: Value = serde_json::from_str(problem).expect("JSON");
        let code = problem["code"].as_str().unwrap().to_owned();
        real.insert((problem["status"].to_string(), code));
    }
    let mut documented = BTreeSet::new();
    for response in document()["components"]["responses"].as_object().unwrap().values() {
        let problem = &response["content"]["application/problem+json"]["schema"]["properties"];
        let code = &problem["code"];
        let codes = code.get("enum").and_then(Value::as_array).cloned();
        for code in codes.unwrap_or_else(|| vec![code["const"].clone()]) {
            if let Some(code) = code.as_str() {
                documented.insert((problem["status"]["const"].to_string(), code.to_owned()));
            }
        }
    }
    assert_eq!(real, documented, "those of the program, those of the document");
    let page = source("docs/api.md");
    for (status, code) in real {
        assert!(page.contains(&format!("`{code}`")), "docs/api.md lacks {status} {code}");
    }
}

/// Every value of an object with its place.
fn walk<'a>(value: &'a Value, at: &str, seen: &mut BTreeMap<String, &'a Value>) {
    let members: Vec<(String, &Value)> = match value {
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), value)).collect()
        }
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect()
        }
        _ => Vec::new(),
    };
    for (name, value) in members {
        let place = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
        walk(value, &place, seen);
        seen.insert(place, value);
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_component_is_used() {
    let document = document();
    let mut places = BTreeMap::new();
    walk(&document, "#", &mut places);
    let mut used = BTreeSet::new();
    for (place, value) in &places {
        if place.ends_with("/$ref") {
            let target = value.as_str().unwrap();
            assert!(places.contains_key(target), "{place}: {target}");
            used.insert(target);
        }
        if place.ends_with("/operationId") && place.contains("/links/") {
            let known =
                operations().iter().any(|operation| operation.value["operationId"] == **value);
            assert!(known, "{place}: {value}");
        }
    }
    for kind in ["schemas", "responses", "headers", "parameters", "examples"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            let place = format!("#/components/{kind}/{name}");
            assert!(used.contains(place.as_str()), "{place} is not used");
        }
    }
    let mut ids: Vec<_> =
        operations().iter().map(|one| one.value["operationId"].to_string()).collect();
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all, "one id for each operation");
}

#[test]
fn every_list_says_what_is_in_it_and_the_server_is_where_the_document_was_read() {
    let document = document();
    let mut places = BTreeMap::new();
    walk(&document, "#", &mut places);
    for (place, value) in &places {
        let is_list = value["type"] == "array" || value["type"] == json!(["array", "null"]);
        assert!(!is_list || value.get("items").is_some(), "{place}");
    }
    // By a relative address, which holds behind a proxy that strips a prefix, too.
    assert_eq!(document["servers"][0]["url"], ".");
}

#[test]
fn the_status_of_a_shared_answer_is_the_one_it_stands_under() {
    let document = document();
    for Operation { method, template, value, .. } in operations() {
        for (status, response) in value["responses"].as_object().unwrap() {
            let Some(shared) = response["$ref"].as_str() else { continue };
            let shared = document.pointer(&shared[1..]).unwrap();
            let schema = &shared["content"]["application/problem+json"]["schema"];
            let says = &schema["properties"]["status"]["const"];
            let fits = says.is_null() || says.as_u64() == status.parse().ok();
            assert!(fits, "{method} {template} {status}: {says}");
        }
    }
}

#[test]
fn the_document_is_served_while_the_database_is_away() {
    let nowhere = "host=/nowhere user=nobody";
    let process = Process::spawn(&mut Process::command(nowhere, &[]));
    let answer = get(process.addr, "/openapi.json");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!(String::from_utf8(answer.body).unwrap(), DOCUMENT);
    assert_eq!(get(process.addr, "/api/users").code(), "database_unavailable");
    let refused = ask(process.addr, "POST /openapi.json", &[], "");
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
}

#[test]
fn the_document_and_the_program_have_one_version() {
    assert_eq!(document()["info"]["version"], env!("CARGO_PKG_VERSION"));
}
