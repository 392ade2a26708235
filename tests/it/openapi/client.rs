//! What a generator of clients makes of the document compiles, and does what it says.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Local, Postgres, from_npm, program};
use crate::tidy::ROOT;

/// Runs it in this folder, and gives what it prints.
fn run(program: &Path, arguments: &[&str], folder: &Path) -> String {
    let output = Command::new(program).args(arguments).current_dir(folder).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    assert!(output.status.success(), "{}: {output:#?}", program.display());
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_generated_client_is_compiled_and_works() {
    let Some(generator) = from_npm("openapi-typescript", ".bin/openapi-typescript") else { return };
    let Some(compiler) = from_npm("typescript", ".bin/tsc") else { return };
    let Some(node) = program("node") else { return };
    // Modules are looked for beside the file that names them, or above.
    let folder = generator.ancestors().nth(3).expect("a folder").join("client");
    fs::create_dir_all(&folder).expect("a folder");
    fs::copy(format!("{ROOT}/tests/client/client.ts"), folder.join("client.ts")).expect("a copy");
    fs::write(folder.join("package.json"), r#"{"type": "module"}"#).expect("a file");
    let document = format!("{ROOT}/src/http/openapi.json");
    run(&generator, &[&document, "--output", "schema.ts"], &folder);
    let strictly = ["--strict", "--target", "es2022", "--module", "nodenext", "client.ts"];
    run(&compiler, &strictly, &folder);

    let database = Postgres::shared().migrated().without_jobs();
    let replica = Local::start(database.url());
    let said = run(&node, &["client.js", &format!("http://{}", replica.addr)], &folder);
    let expected = [
        "user 2 5",
        "changed 9998",
        "refused 409 insufficient_funds 9998",
        "change -2 9998",
        "at first 10000",
        "job nightly paused never run",
        "refused 409 job_paused",
        "deleted 204",
        "jobs 0 0",
        "runs 0 null",
        "health ready",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
}
