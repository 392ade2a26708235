//! Properties that hold for any method and any path.

use proptest::prelude::*;

use super::*;

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "get"];

fn settings() -> ProptestConfig {
    ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() }
}

fn method() -> impl Strategy<Value = String> {
    prop_oneof![6 => prop::sample::select(&METHODS[..]).prop_map(str::to_owned), 1 => "\\PC{0,8}"]
}

/// Known words, numbers and anything else between slashes, so that many are routes.
fn path() -> impl Strategy<Value = String> {
    const WORDS: [&str; 14] = [
        "health", "live", "ready", "api", "balance", "users", "changes", "cron", "jobs", "status",
        "history", "run", "1", "",
    ];
    let begin = prop::sample::select(
        &["", "/", "/api", "//api/users", "/api/users", "/api/cron", "/api/cron/jobs"][..],
    );
    let word = prop::sample::select(&WORDS[..]).prop_map(str::to_owned);
    let segment = prop_oneof![4 => word, 1 => "[0-9]{1,20}", 1 => "\\PC{0,6}"];
    let segments = prop::collection::vec(segment, 0..4);
    let routed = (begin, segments).prop_map(|(begin, segments)| {
        segments.iter().fold(begin.to_owned(), |path, segment| path + "/" + segment)
    });
    prop_oneof![8 => routed, 1 => "\\PC{0,20}"]
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn a_refusal_names_exactly_the_methods_that_are_routes(method in method(), path in path()) {
        let routed = |method: &&&str| Route::find(method, &path).is_ok();
        match Route::find(&method, &path) {
            Ok((route, _)) => {
                let method = if method == "HEAD" { "GET" } else { &*method };
                prop_assert_eq!(route.method, method);
            }
            Err(NoRoute::NotFound) => prop_assert_eq!(METHODS.iter().find(routed), None),
            Err(NoRoute::MethodNotAllowed(allowed)) => {
                let routed: Vec<&str> = METHODS.iter().filter(routed).copied().collect();
                prop_assert_eq!(routed.join(", "), allowed);
                prop_assert!(!routed.contains(&&*method));
            }
        }
    }

    #[test]
    fn an_id_has_one_spelling(id in 1..=i64::MAX, before in "[0+ -]{1,3}", behind in "[^0-9]") {
        let user = |id: &str| Route::find("GET", &format!("/api/users/{id}")).map(|_| ());
        prop_assert_eq!(user(&id.to_string()), Ok(()));
        prop_assert_eq!(user(&format!("{before}{id}")), Err(NoRoute::NotFound));
        prop_assert_eq!(user(&format!("{id}{behind}")), Err(NoRoute::NotFound));
    }

    #[test]
    fn a_route_with_an_id_or_a_name_is_printed_as_it_was_read(method in method(), path in path()) {
        if let Ok((route, argument)) = Route::find(&method, &path)
            && route.path.contains('{')
        {
            let printed = route.path.replace("{id}", argument).replace("{name}", argument);
            prop_assert_eq!(printed, path);
        }
    }
}
