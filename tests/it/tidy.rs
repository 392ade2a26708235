//! The code keeps the shape that `src/lib.rs` describes: who uses whom, how long things are, and
//! that lists which stand in two places agree.

use std::fs;
use std::path::{Path, PathBuf};

use balanced::http::ROUTES;

pub(crate) const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const FILE_LINES_MAX: usize = 300;
/// Of tests, which hold many cases of one kind.
const TEST_FILE_LINES_MAX: usize = 380;
const FUNCTION_LINES_MAX: usize = 60;
/// Of tests.
const CASE_LINES_MAX: usize = 70;
const COLUMNS_MAX: usize = 100;

pub(crate) fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(ROOT).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found
}

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(ROOT).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn modules_use_only_what_they_may() {
    for (module, allowed) in [
        ("shutdown", vec![]),
        ("config", vec![]),
        ("timestamp", vec![]),
        ("random", vec![]),
        ("logger", vec![]),
        ("metrics", vec![]),
        ("db", vec!["config", "shutdown", "random"]),
        ("migrate", vec!["db", "shutdown"]),
        ("balance", vec!["db", "timestamp"]),
        ("users", vec!["balance", "db"]),
        ("cron", vec!["db", "shutdown", "timestamp", "metrics", "random"]),
        ("jobs", vec!["cron"]),
        (
            "http",
            vec![
                "balance",
                "users",
                "cron",
                "db",
                "config",
                "logger",
                "metrics",
                "shutdown",
                "random",
                "timestamp",
            ],
        ),
    ] {
        let mut sources = vec![Path::new(ROOT).join(format!("src/{module}.rs"))];
        if Path::new(ROOT).join(format!("src/{module}")).is_dir() {
            sources.extend(files(&format!("src/{module}"), ".rs"));
        }
        for source in sources {
            for (number, line) in read(&source).lines().enumerate() {
                let used = line.split("crate::").skip(1).map(|rest| {
                    rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap()
                });
                for name in used {
                    let fine = name == module || allowed.contains(&name);
                    assert!(fine, "{}:{}: {module} uses {name}", source.display(), number + 1);
                }
            }
        }
    }
}

/// Nor unseen: by a type of another layer under a new name, or by a closure that is handed over.
/// The functions of jobs are such closures, and what runs aside stays in its layer.
#[test]
fn no_layer_is_crossed_by_a_re_export_or_a_closure() {
    for path in files("src", ".rs") {
        let text = read(&path);
        assert!(!text.contains("pub use crate::"), "{}", path.display());
        let may = path.ends_with("cron/functions.rs") || path.ends_with("http/aside.rs");
        assert_eq!(text.contains("dyn Fn"), may, "{}", path.display());
    }
}

#[test]
fn only_the_accept_loop_names_the_server_library() {
    for path in files("src", ".rs") {
        let text = read(&path);
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let names = code.clone().any(|line| line.contains("tiny_http::"));
        let may = path.ends_with("http/accept.rs") || path.ends_with("http/accept/client.rs");
        assert_eq!(names, may, "{}", path.display());
    }
}

/// Every decision about time is the database's, or a monotonic clock's. The skew between this
/// machine's clock and the database's is found, kept and shown, and nothing else.
#[test]
fn the_wall_clock_is_read_for_the_date_header_and_the_skew_that_is_shown_alone() {
    for path in files("src", ".rs") {
        let text = read(&path);
        let reads = ["SystemTime::now", "UNIX_EPOCH.elapsed", "Utc::now", "Local::now"];
        let reads: usize = reads.iter().map(|word| text.matches(word).count()).sum();
        let may = path.ends_with("http/reply.rs") || path.ends_with("db/probe.rs");
        assert_eq!(reads, usize::from(may), "{}", path.display());
        assert_eq!(text.contains("SystemTime"), may, "{}", path.display());
        let knows = text.contains("clock_skew");
        let places = ["db/probe.rs", "db/observed.rs", "http/handlers.rs", "src/metrics.rs"];
        let may = places.iter().any(|place| path.ends_with(place));
        let is_test = path.ends_with("metrics/tests.rs");
        assert_eq!(knows, may || is_test, "{}", path.display());
    }
}

/// Behind a proxy that strips a prefix such an address is another server's.
#[test]
fn no_page_names_an_address_from_the_root() {
    for path in files("src/http/page", "") {
        let text = read(&path);
        let names = ROUTES.iter().map(|route| route.path.split('/').nth(1).unwrap());
        let quoted = names
            .filter(|name| !name.is_empty())
            .flat_map(|name| ['"', '\'', '`'].map(|quote| format!("{quote}/{name}")));
        for address in quoted.chain(["href=\"/".to_owned()]) {
            assert!(!text.contains(&address), "{}: {address}", path.display());
        }
    }
}

#[test]
fn files_functions_and_lines_are_short() {
    for folder in ["src", "loadtest/checker/src", "tests", "loadtest", "fuzz/fuzz_targets"] {
        for path in files(folder, ".rs") {
            let is_program = folder.ends_with("src") && !path.ends_with("tests.rs");
            let (file_max, function_max) = match is_program {
                true => (FILE_LINES_MAX, FUNCTION_LINES_MAX),
                false => (TEST_FILE_LINES_MAX, CASE_LINES_MAX),
            };
            let text = read(&path);
            let lines = text.lines().count();
            assert!(lines <= file_max, "{}: {lines} lines", path.display());
            for (number, line) in text.lines().enumerate() {
                let at = format!("{}:{}", path.display(), number + 1);
                assert!(line.chars().count() <= COLUMNS_MAX, "{at} is too wide");
            }
            for (line, length) in functions(&text) {
                let at = format!("{}:{line}", path.display());
                assert!(length <= function_max, "{at}: a function of {length} lines");
            }
        }
    }
}

/// Where each function begins that is in no other, and how many lines it has with its signature,
/// which may have several.
fn functions(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut start = None;
    for (number, line) in text.lines().enumerate() {
        let (code, indent) = (line.trim(), line.len() - line.trim_start().len());
        let begins = code.starts_with("fn ") || (code.contains(" fn ") && !code.contains('"'));
        if begins && start.is_none() && !code.starts_with("//") && !code.ends_with('}') {
            start = Some((number, indent));
        }
        // That of a trait has no body.
        start.take_if(|(_, of)| indent == *of && code.ends_with(';'));
        if let Some((first, _)) = start.take_if(|(_, of)| indent == *of && code == "}") {
            found.push((first + 1, number - first + 1));
        }
    }
    found
}

#[test]
fn functions_are_found_whatever_their_signatures_look_like() {
    let text = "\
fn a() {
}

impl B {
    fn c(
        d: u8,
    ) {
        d;
    }
}

trait E {
    fn f();
    fn g(
        h: u8,
    );
}
";
    assert_eq!(functions(text), [(1, 2), (5, 5)]);
}

#[test]
fn every_file_of_sql_is_compiled_in() {
    let mut names: Vec<String> = files("sql", "")
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let compiled: Vec<&str> =
        balanced::migrate::MIGRATIONS.iter().map(|migration| migration.name).collect();
    assert_eq!(names, compiled);
}

/// So bash reads no `BASH_ENV`, which may end a script before it has done anything, with success.
#[test]
fn every_script_that_is_run_starts_bash_without_the_users_functions() {
    let mut scripts = files("scripts", ".sh");
    scripts.extend(["run-replicas.sh", "run-tests.sh", "bench.sh", ".ci/run"].map(PathBuf::from));
    for script in scripts {
        let text = read(&script);
        let to_be_sourced = text.starts_with("# shellcheck shell=bash\n");
        let alone = text.starts_with("#!/usr/bin/env -S bash -p\n");
        assert!(to_be_sourced || alone, "{}", script.display());
    }
}

#[test]
fn every_setting_is_in_the_example_and_on_its_page() {
    for document in [".env.example", "docs/configuration.md"] {
        let text = read(document);
        for setting in balanced::config::SETTINGS {
            assert!(text.contains(setting.name), "{document} lacks {}", setting.name);
        }
    }
}
