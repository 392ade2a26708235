//! The documents say what is so: links lead somewhere, commands and tests exist, figures are those
//! that were measured, each alert has its section. And what was delivered stays as it is.

mod figures;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use regex_lite::Regex;
use sha2::{Digest, Sha256};

use crate::support::tool;
use crate::tidy::{ROOT, files};

const README_LINES_MAX: usize = 220;
/// Migrations that users have: a file that is not here may still change.
const DELIVERED: [(&str, &str); 11] = [
    ("0001_users.sql", "fbed8edc95fcb33a9894505e578d287ffd8ef67cb7b35b7b986a7bef9dbf8170"),
    (
        "0002_idempotency_keys.sql",
        "7e1ba7fc57fb08aa800bc4086f0de79283904be71d68c7bbf638eb3892b4450a",
    ),
    ("0003_cron.sql", "a6036dfecdfe06a2f84274a991df478c2e0ce31b359064f479ce75483fc71bd6"),
    ("0004_sample_jobs.sql", "f1e42f9564f6a8cb7f8afde17623656cfaf156557965450628e057df4f8fce50"),
    ("0005_creation_keys.sql", "59ae3293f8b67af9b06ae39c02704e5ca6b6a795a3e9311596462343c9c93f71"),
    ("0006_settings_tag.sql", "23f0cd51b484ef2e1cbfbce986244764fdad9bdeab57753399a01501bbcd2838"),
    ("0007_write_instants.sql", "91e0ed2fd1fd811e3695559de7e0dce39d9897edb155742068dc35e506a2f18f"),
    ("0008_numbers.sql", "a5f1280ed9cf8107da7622ec407a7c8618c114531474f1a7b7cea6ff6a23fc35"),
    ("0009_cheaper_rows.sql", "df7cf51c2c0433725e7238ec59267500b274df7a156bd70833a33d9bbc49b0fb"),
    ("0010_jobs.sql", "edff739e489b5ef9325a6563e1ab05503b1f7526e8be6e8fed53ce51efbd16a0"),
    (
        "0011_no_earlier_build.sql",
        "0e9c75a69755f6bbc2b6424aa2c34941255c0925e367f4d00ea7cf0837e9e255",
    ),
];

fn read(path: &str) -> String {
    fs::read_to_string(format!("{ROOT}/{path}")).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What users read, by its path from the root.
fn pages() -> Vec<(String, String)> {
    let mut paths = vec!["README.md".to_owned(), "bench/README.md".to_owned()];
    paths.extend(["CONTRIBUTING", "SECURITY", "CHANGELOG"].map(|name| format!("{name}.md")));
    paths.extend(
        files("docs", ".md").iter().map(|path| {
            path.strip_prefix(ROOT).expect("a path below").to_string_lossy().into_owned()
        }),
    );
    paths.into_iter().map(|path| (path.clone(), read(&path))).collect()
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a pattern")
}

/// What the pattern's first group is, everywhere.
fn all<'a>(pattern: &str, text: &'a str) -> Vec<&'a str> {
    let pattern = regex(pattern);
    pattern.captures_iter(text).map(|found| found.get(1).unwrap().as_str()).collect()
}

/// The addresses of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let outside = page.split("\n```").step_by(2).collect::<Vec<_>>().join("\n");
    let headings = outside.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| -> String {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut links = 0;
    for (path, page) in pages() {
        let folder = Path::new(ROOT).join(&path);
        for link in all(r"\]\(([^)\s]+)\)", &page) {
            if link.starts_with("http") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => folder.clone(),
                file => folder.parent().unwrap().join(file),
            };
            assert!(target.exists(), "{path} has a link to {link}");
            let known = anchor.is_empty()
                || anchors(&fs::read_to_string(&target).expect("a page")).contains(anchor);
            assert!(known, "{path} has a link to {link}, and there is no such heading");
            links += 1;
        }
    }
    assert!(links > 80, "{links}");
}

#[test]
fn every_file_that_is_named_exists() {
    let folders = "scripts|tests|deploy|docs|src|sql|loadtest";
    let pattern = format!(r"(?:^|[\s`(=/])((?:\./[a-z-]+\.sh|(?:{folders})/[\w@./-]*\w)\*?)");
    let mut named = 0;
    for (path, page) in pages() {
        for file in all(&pattern, &page).into_iter().filter(|file| !file.ends_with('*')) {
            assert!(Path::new(ROOT).join(file).exists(), "{path} names {file}");
            named += 1;
        }
    }
    assert!(named > 100, "{named}");
}

#[test]
fn every_test_that_is_named_exists() {
    let mut named = 0;
    for page in ["docs/failure-modes.md", "docs/performance.md", "CONTRIBUTING.md"] {
        for test in all(r"\b([a-z_]+(?:::[a-z_]+)*::[a-z0-9_]*)", &read(page)) {
            let (module, begin) = test.rsplit_once("::").unwrap();
            let module = format!("tests/it/{}", module.replace("::", "/"));
            let folder = Path::new(ROOT).join(&module);
            let mut texts: Vec<String> =
                fs::read_to_string(folder.with_extension("rs")).into_iter().collect();
            if folder.is_dir() {
                texts.extend(files(&module, ".rs").iter().flat_map(fs::read_to_string));
            }
            let found = texts.iter().any(|text| text.contains(&format!("#[test]\nfn {begin}")));
            assert!(found, "{page} names {test}");
            named += 1;
        }
    }
    assert!(named > 50, "{named}");
}

/// Programs, scripts and tests, or what is given to them.
fn sources() -> String {
    let single = [".env.example", "compose.yaml", "run-replicas.sh", "run-tests.sh", "bench.sh"];
    let mut texts: Vec<String> = single.map(read).into();
    let folders = ["src", "tests", "loadtest", "scripts", "deploy"];
    for path in folders.iter().flat_map(|folder| files(folder, "")) {
        texts.extend(fs::read_to_string(path));
    }
    texts.join("\n")
}

#[test]
fn every_variable_and_every_option_of_ours_that_is_named_exists() {
    let sources = sources();
    let mut named = 0;
    for (path, page) in pages() {
        for variable in all(r"\b([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)\b", &page) {
            // The compiler's.
            let known = variable == "RUSTC_BOOTSTRAP" || sources.contains(variable);
            assert!(known, "{path} names {variable}");
            named += 1;
        }
        for command in all(r"((?:loadtest|balanced jobs) .*--.*)", &page) {
            let last = command.rsplit("loadtest ").next().unwrap();
            for option in all(r"(--[a-z][a-z-]+)", last) {
                assert!(sources.contains(option), "{path} names {option} in {command}");
            }
        }
    }
    assert!(named > 100, "{named}");
}

/// Each command of a page's consoles, with what it prints.
fn walked(page: &str) -> BTreeSet<String> {
    let consoles = page.split("\n```console\n").skip(1);
    let consoles = consoles.map(|rest| rest.split("\n```").next().unwrap());
    consoles.flat_map(|console| console.split("$ ").skip(1)).map(|it| it.trim().into()).collect()
}

#[test]
fn the_readme_is_short_and_shows_what_the_walk_has_tried() {
    let (readme, tutorial) = (read("README.md"), read("docs/tutorial.md"));
    let lines = readme.lines().count();
    assert!(lines <= README_LINES_MAX, "README.md has {lines} lines");
    let (shown, tried) = (walked(&readme), walked(&tutorial));
    assert!(shown.len() == 6 && shown.is_subset(&tried), "{:#?}", shown.difference(&tried));
}

#[test]
fn every_page_names_its_reader_and_is_found_from_the_readme() {
    let readme = read("README.md");
    for (path, page) in pages().into_iter().filter(|(path, _)| path.starts_with("docs/")) {
        let first = page.lines().nth(2).unwrap_or_default();
        assert!(first.starts_with("*For "), "{path} begins with {first}");
        assert!(readme.contains(&format!("({path})")), "README.md does not lead to {path}");
    }
}

#[test]
fn every_alert_leads_to_its_section_of_the_runbook() {
    let (alerts, runbook) = (read("deploy/alerts.yml"), read("docs/runbook.md"));
    let names = all(r"- alert: (\w+)", &alerts);
    let links = all(r"runbook_url: docs/runbook\.md#(\w+)", &alerts);
    let wanted: Vec<String> = names.iter().map(|name| name.to_lowercase()).collect();
    assert_eq!(links, wanted);
    for name in names {
        assert!(runbook.contains(&format!("\n### {name}\n")), "docs/runbook.md lacks {name}");
    }
}

#[test]
fn delivered_migrations_are_never_changed() {
    for (name, known) in DELIVERED {
        let digest = Sha256::digest(read(&format!("sql/{name}")));
        let sum: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(sum, known, "sql/{name}");
    }
}

/// 0 is a service that may do nothing, 100 in this option's measure one that may do everything.
const EXPOSURE_MAX: &str = "--threshold=30";

#[test]
fn the_unit_of_systemd_is_hardened() {
    let analyze = |words: &[&str]| {
        let unit = "deploy/systemd/balanced@.service";
        let mut command = Command::new("systemd-analyze");
        command.arg("security").args(words).arg(unit).current_dir(ROOT).output()
    };
    // One before version 250 cannot judge a file.
    let able = analyze(&["--offline=true"]).ok().filter(|said| said.status.success());
    let Some(said) = tool("systemd-analyze", able) else { return };
    let judged = analyze(&["--offline=true", EXPOSURE_MAX]).expect("systemd-analyze");
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
}
