//! What some tests need and not every machine has. A test asks for it here: it either gets it, or
//! says that it is left out, or fails where `CI=true` says that no test may be.

use std::env;
use std::io::Write;
use std::path::PathBuf;
use std::thread;

/// Where Debian has programs that are not on an ordinary user's `PATH`.
const MORE_FOLDERS: [&str; 2] = ["/usr/local/sbin", "/usr/sbin"];
/// Names of tools that are taken for missing, to see what happens then.
const HIDDEN: &str = "WITHOUT_TOOLS";

/// The program of this name.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(MORE_FOLDERS.map(PathBuf::from));
    let found = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
    tool(name, found)
}

/// A file of the packages that `run-tests.sh` gets from npm, by `tests/client/package.json`.
pub(crate) fn from_npm(name: &str, file: &str) -> Option<PathBuf> {
    let packages = env::var_os("NPM_PACKAGES").map(PathBuf::from);
    tool(name, packages.map(|packages| packages.join(file)).filter(|file| file.is_file()))
}

/// The tool of this name, as far as it was found.
pub(crate) fn tool<T>(name: &str, found: Option<T>) -> Option<T> {
    let hidden = env::var(HIDDEN).unwrap_or_default();
    let found = found.filter(|_| !hidden.split_whitespace().any(|word| word == name));
    if found.is_none() {
        let all_must_run = env::var("CI").is_ok_and(|value| value == "true");
        assert!(!all_must_run, "{name} is missing, and CI=true lets no test be left out");
        let test = thread::current().name().unwrap_or("a test").to_owned();
        // A test that passes would keep to itself what it prints by a macro.
        let _ = writeln!(std::io::stderr(), "{test} is left out: {name} is missing");
    }
    found
}
