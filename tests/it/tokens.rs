//! Who may do what: every route with every token and with none; how tokens are made, read and read
//! again; and that no text of one is ever told.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use balanced::config::{Scope, new_token};
use balanced::http::ROUTES;

use crate::openapi::operations;
use crate::support::{Local, LocalOptions, Postgres, Process, ask, change, until};

const OWN: &str = "correct-horse-battery";
const SOON: Duration = Duration::from_secs(20);

/// A file of tokens, which is removed at the end, and the text of each.
pub(crate) struct TokenFile(PathBuf);

impl TokenFile {
    pub(crate) fn new(name: &str) -> TokenFile {
        let file = format!("balanced-tokens-{name}-{}", std::process::id());
        TokenFile(std::env::temp_dir().join(file))
    }

    pub(crate) fn path(&self) -> String {
        self.0.to_str().expect("a plain path").to_owned()
    }

    /// Writes one token for each of these names and scopes, and returns their texts.
    pub(crate) fn write(&self, tokens: &[(&str, &[&str])]) -> Vec<String> {
        static COUNTER: AtomicU8 = AtomicU8::new(0);
        let new = |(name, scopes): &(&str, &[&str])| {
            let random = [COUNTER.fetch_add(1, Ordering::Relaxed); 32];
            new_token(name, scopes, &random).expect("a token")
        };
        let (texts, lines): (Vec<_>, Vec<_>) = tokens.iter().map(new).unzip();
        fs::write(&self.0, lines.join("\n")).expect("a file");
        texts
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

/// Nothing is changed by it: a body that no change takes, a job and a user that are not there.
fn status(addr: SocketAddr, method: &str, path: &str, token: Option<&str>) -> (u16, String) {
    let path = path.replace("{id}", "999").replace("{name}", "nobody");
    let field = token.map(bearer);
    let answer =
        ask(addr, &format!("{method} {path}"), Vec::from_iter(field.as_deref()).as_slice(), "{}");
    match answer.status {
        401 => {
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            let detail = answer.json()["detail"].to_string();
            assert_eq!(detail.contains("is not known here"), token.is_some(), "{detail}");
        }
        403 => return (403, answer.json()["scope"].as_str().expect("a scope").to_owned()),
        _ => {}
    }
    (answer.status, String::new())
}

/// The table of routes says what each needs; this says what that means for everybody.
#[test]
fn every_route_with_every_scope_and_none() {
    let database = Postgres::shared().migrated();
    let file = TokenFile::new("table");
    let names = Scope::ALL.map(Scope::name);
    let all: Vec<(&str, &[&str])> =
        names.iter().map(|name| (*name, std::slice::from_ref(name))).collect();
    let texts = file.write(&[all.as_slice(), &[("all", &names)]].concat());
    for open in [false, true] {
        let access = vec![("API_TOKENS_FILE", file.path()), ("OPEN_READS", open.to_string())];
        let options = LocalOptions { token: Some(OWN), access, ..LocalOptions::default() };
        let replica = Local::start_with(database.url(), options);
        let mut given: Vec<(Option<&str>, Vec<Scope>)> =
            vec![(None, vec![]), (Some("wrong-horse-battery"), vec![])];
        given.extend(
            texts.iter().zip(Scope::ALL).map(|(text, scope)| (Some(text.as_str()), vec![scope])),
        );
        given.extend([OWN, &texts[4]].map(|text| (Some(text), Scope::ALL.to_vec())));
        for route in &ROUTES {
            let needed = route.scope.filter(|scope| !(open && *scope == Scope::Read));
            for (token, scopes) in &given {
                let told = status(replica.addr, route.method, route.path, *token);
                let is_known = !scopes.is_empty();
                let what =
                    format!("{} {} {scopes:?} open={open}: {told:?}", route.method, route.path);
                match needed {
                    Some(scope) if !is_known => assert_eq!(told.0, 401, "{what}, {scope:?}"),
                    Some(scope) if !scopes.contains(&scope) => {
                        assert_eq!(told, (403, scope.name().to_owned()), "{what}");
                    }
                    // Nobody runs the jobs here, which may be due for long.
                    _ if route.path == "/health/jobs" => assert!([200, 503].contains(&told.0)),
                    _ => assert!(![401, 403, 500, 503].contains(&told.0), "{what}"),
                }
            }
        }
    }
    assert_eq!(database.number("select balance from users where id = 1"), 10_000);
}

#[test]
fn a_field_that_holds_no_token_is_told_so() {
    let database = Postgres::shared().migrated();
    let options = LocalOptions { token: Some(OWN), ..Default::default() };
    let replica = Local::start_with(database.url(), options);
    for (field, why) in [
        (None, "this request needs"),
        (Some(format!("Authorization: Basic {OWN}")), "the header `Authorization` that was sent"),
        (Some("Authorization: Bearer".to_owned()), "the header `Authorization` that was sent"),
        (Some(bearer("wrong-horse-battery")), "the token that was sent is not known here"),
    ] {
        let fields = Vec::from_iter(field.as_deref());
        let answer = ask(replica.addr, "GET /api/users/1", &fields, "");
        let detail = answer.json()["detail"].as_str().expect("a text").to_owned();
        assert!(answer.status == 401 && detail.starts_with(why), "{field:?}: {detail}");
    }
}

/// A new route must not be open because somebody forgot its scope.
#[test]
fn what_changes_something_has_a_scope_and_so_has_all_that_tells_of_the_database() {
    for route in &ROUTES {
        let pages =
            ["/", "/jobs/{name}", "/runs/{id}", "/users/{id}", "/api-docs", "/openapi.json"];
        let is_open = pages.contains(&route.path) || route.path.starts_with("/health");
        assert_eq!(route.scope.is_none(), is_open, "{} {}", route.method, route.path);
        // A schedule that is checked comes in a body, and nothing is changed.
        let is_checked = route.path == "/api/cron/schedules/check";
        let reads = route.scope == Some(Scope::Read) && !is_checked;
        assert!(!(reads && route.changes_something()), "{} {}", route.method, route.path);
    }
}

#[test]
fn a_token_that_is_made_works_once_its_line_is_in_the_file() {
    let database = Postgres::shared().migrated();
    let token = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_balanced"));
        let output = command.env_clear().arg("token").args(words).output().expect("a process");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("a text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    for wrong in [&[][..], &["ci"], &["ci", "write"], &["c i", "read"]] {
        let (code, out, told) = token(wrong);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{wrong:?}");
        assert!(told.contains("read, balance, jobs, run"), "{told}");
    }
    let (code, out, told) = token(&["ci", "read", "run"]);
    assert_eq!(code, Some(0), "{told}");
    let (text, line) = out.trim_end().split_once("\nline: ").expect("two lines");
    let text = text.strip_prefix("token: ").expect("the token");
    assert!(text.len() == 73 && !line.contains(text) && !told.contains(text), "{out}");
    assert_ne!(token(&["ci", "read", "run"]).1, out, "it is random");

    let file = TokenFile::new("made");
    fs::write(&file.0, format!("# made by hand\n{line} # the pipeline's\n")).unwrap();
    let access = vec![("API_TOKENS_FILE", file.path())];
    let replica = Local::start_with(database.url(), LocalOptions { access, ..Default::default() });
    let asked = |head: &str| ask(replica.addr, head, &[&bearer(text)], "{}").status;
    assert_eq!(asked("GET /api/users/1"), 200);
    assert_eq!(asked("POST /api/cron/jobs/nobody/run"), 404);
    assert_eq!(asked("POST /api/balance"), 403);
}

#[test]
fn a_file_with_faults_is_told_line_by_line_and_ends_the_start_with_2() {
    let file = TokenFile::new("faults");
    fs::write(&file.0, format!("ci {OWN}\n\n# fine\nci read {OWN}\n")).unwrap();
    let variables = [("API_TOKENS_FILE", file.path()), ("HTTP_WORKERS", "none".to_owned())];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let output = Process::command("host=x", &variables).output().expect("a process");
    let told = String::from_utf8(output.stderr).expect("a text");
    assert_eq!(output.status.code(), Some(2), "{told}");
    for part in ["HTTP_WORKERS=none", ", line 1: must be a name, scopes", ", line 4: must be a SHA"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(told.contains("3 settings") && !told.contains(OWN), "{told}");
}

#[test]
fn sighup_reads_the_file_again_and_without_a_file_it_ends_the_replica() {
    let database = Postgres::shared().migrated();
    let file = TokenFile::new("again");
    let old = file.write(&[("old", &["read"])]).remove(0);
    let path = file.path();
    let mut process = Process::start(database.url(), &[("API_TOKENS_FILE", &path)]);
    let read = |process: &Process, token: &str| {
        ask(process.addr, "GET /api/users/1", &[&bearer(token)], "").status
    };
    assert_eq!(read(&process, &old), 200);
    let new = file.write(&[("other", &["run"]), ("new", &["read"])]).remove(1);
    assert_eq!((read(&process, &old), read(&process, &new)), (200, 401), "not read yet");
    process.signal("-HUP");
    until("the new one counts", SOON, || read(&process, &new) == 200);
    assert_eq!(read(&process, &old), 401, "taken away");
    until("it is logged", SOON, || process.log().contains("event=tokens_read tokens=2 "));

    for (count, (text, why)) in
        (1..).zip([(String::new(), "at least one token"), ("#\n".repeat(200_000), "more than")])
    {
        fs::write(&file.0, text).unwrap();
        process.signal("-HUP");
        until("it is logged", SOON, || {
            process.log().matches("[ERROR] event=tokens_not_read ").count() == count
        });
        assert!(process.log().contains(why), "{}", process.log());
        assert_eq!(read(&process, &new), 200, "the tokens from before go on to count");
    }
    process.signal("-TERM");
    assert_eq!(process.wait(SOON).code(), Some(0));

    let mut without = Process::start(database.url(), &[]);
    without.signal("-HUP");
    assert_eq!(without.wait(SOON).code(), Some(0));
    assert!(without.log().contains("event=stopped"), "{}", without.log());
}

#[test]
fn the_text_of_a_token_is_in_no_log_and_no_answer_and_its_name_is_where_it_matters() {
    let database = Postgres::shared().migrated();
    let file = TokenFile::new("text");
    let named = file.write(&[("by-name", &["read"])]).remove(0);
    let path = file.path();
    let settings = [
        ("API_TOKEN", OWN),
        ("API_TOKENS_FILE", &path),
        ("RECORD_ACTOR", "true"),
        ("LOG_LEVEL", "trace"),
        ("JOB_MIN_SECONDS", "0"),
    ];
    let mut process = Process::start(database.url(), &settings);
    for (token, almost) in [(OWN, &OWN[1..]), (&named, &named[1..])] {
        for field in [
            bearer(token),
            format!("Authorization: Basic {token}"),
            bearer(almost),
            format!("{}\u{7f}", bearer(token)),
        ] {
            for operation in &operations() {
                let head = format!("{} {}", operation.method, operation.path);
                let answer = ask(process.addr, &head, &[&field], r#"{"enabled":true}"#);
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                assert!(!text.contains(almost), "{text}");
            }
        }
    }
    let changed = ask(process.addr, "POST /api/balance", &[&bearer(OWN)], &change(1, -2));
    assert_eq!(changed.balance(), 9_998);
    let user = ask(process.addr, "POST /api/users", &[&bearer(OWN)], "{\"balance\":5}");
    assert_eq!(user.balance(), 5);
    let set = r#"{"changes":[{"userId":1,"amount":-2},{"userId":2,"amount":2}]}"#;
    assert_eq!(ask(process.addr, "POST /api/changes", &[&bearer(OWN)], set).status, 200);
    let recorded = "select count(*) from balance_changes where actor = 'API_TOKEN'";
    assert_eq!(database.number(recorded), 4, "RECORD_ACTOR");
    // Where the checksum or the name belongs somebody has written the token.
    let lines = [format!("by-name read {named}"), format!("{named} read {}", "5".repeat(64))];
    for (count, line) in (1..).zip(lines) {
        fs::write(&file.0, line).unwrap();
        process.signal("-HUP");
        until("it is refused", SOON, || {
            process.log().matches("event=tokens_not_read").count() == count
        });
    }
    process.signal("-TERM");
    process.wait(SOON);
    let log = process.log();
    assert!(log.contains("[TRACE]") || log.contains("[DEBUG]"), "{log}");
    for actor in ["API_TOKEN", "by-name"] {
        let told = |line: &str| {
            line.contains("event=answered") && line.contains(&format!(" actor={actor} "))
        };
        assert!(log.lines().any(told), "{actor}: {log}");
    }
    for almost in [&OWN[1..], &named[1..]] {
        assert!(!log.contains(almost), "{log}");
    }
}
