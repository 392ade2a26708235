//! The scripts do the same whatever their user's environment is, and leave nothing behind.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use postgres::{Client, NoTls};

use crate::support::until;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A folder that is removed with its database at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, mode: u32) -> Folder {
        let path = std::env::temp_dir().join(format!("balanced-{name}-{}", std::process::id()));
        fs::create_dir(&path).expect("a folder");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
        Folder(path)
    }

    fn state(&self) -> PathBuf {
        self.0.join("state of it")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = postgres_script("remove", &self.state()).output();
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn postgres_script(command: &str, folder: &Path) -> Command {
    let mut script = Command::new(format!("{ROOT}/scripts/postgres.sh"));
    script.arg(command).arg(folder);
    script
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("a script");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// What these lines of bash do after the file with which every script begins, in a hostile
/// environment.
fn bash(lines: &str, variables: &[(&str, &str)]) -> Output {
    let begin = format!("set -euo pipefail; source '{ROOT}/scripts/begin.sh'; {lines}");
    let mut bash = Command::new("bash");
    bash.args(["-pc", &begin]).envs(variables.iter().copied()).output().expect("bash")
}

fn read_env_file(content: &str, variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let folder = Folder::new(&format!("env-{:x}", fingerprint(content)), 0o755);
    let file = folder.0.join(".env");
    fs::write(&file, content).expect("the file");
    let path = file.display();
    let source = format!("source '{ROOT}/scripts/checks.sh'; read_env_file '{path}'");
    let output = bash(&format!("{source}; printf '%s|' \"${{A-}}\" \"${{B-}}\""), variables);
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn fingerprint(content: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

#[test]
fn env_file_is_read_as_docker_compose_reads_it() {
    for (content, a) in [
        ("A=plain", "plain"),
        ("export A=plain\r\n", "plain"),
        ("A= trimmed \t\n", "trimmed"),
        ("A=two words # a comment", "two words"),
        ("A=first\nA=last", "last"),
        ("A=", ""),
        ("A='$HOME \\n # \"all\" of it'  # a comment", "$HOME \\n # \"all\" of it"),
        ("A=\"it's\" # a comment", "it's"),
        ("A=host=x password='y'", "host=x password='y'"),
        ("A=''", ""),
    ] {
        let (code, stdout, stderr) = read_env_file(content, &[]);
        assert_eq!((code, stdout), (Some(0), format!("{a}||")), "{content}\n{stderr}");
    }
    let (_, stdout, _) = read_env_file("A=file\nB=file", &[("A", "")]);
    assert_eq!(stdout, "|file|", "the environment wins, and an empty value is one");
}

#[test]
fn what_docker_compose_would_read_otherwise_is_refused_with_the_way_out() {
    for content in [
        "A=pa$word",
        "A=\"pa$word\"",
        "A=back\\slash",
        "A=\"line\\n\"",
        "A=pass#word",
        "A=x\t# no comment to all",
        "A= # no comment to all",
        "A='one' two",
        "A=\"one",
        "A='end\\'",
    ] {
        let (code, _, stderr) = read_env_file(content, &[]);
        assert_eq!(code, Some(2), "{content}");
        assert!(stderr.contains(".env, line 1: the value of A"), "{stderr}");
        assert!(stderr.contains("single quotes: A='…'"), "{stderr}");
    }
}

#[test]
fn a_users_environment_does_not_reach_the_scripts() {
    let hostile = [
        ("LC_ALL", "C.UTF-8"),
        ("POSIXLY_CORRECT", "1"),
        ("TMPDIR", "/missing"),
        ("HOME", ""),
        ("CDPATH", "/"),
        ("BASH_ENV", "/missing"),
        ("TMOUT", "1"),
        ("SHELLOPTS", "noclobber:xtrace"),
        ("BASH_FUNC_printf%%", "() { exit 9; }"),
    ];
    let lines = "word=title; printf '%s|' \"${word^}\" \"$LC_ALL\" \"${TMPDIR-none}\" \
                 \"${CDPATH-none}${TMOUT-}\" \"$(umask)\" \"$(shopt -po posix)\"; [[ -d $HOME ]]; \
                 file=$(mktemp); : >\"$file\"; rm \"$file\"";
    let output = bash(&format!("umask 000; source '{ROOT}/scripts/begin.sh'; {lines}"), &hostile);
    assert_eq!(text(&output.stderr), "");
    assert_eq!(text(&output.stdout), "Title|C|none|none|0022|set +o posix|");
    assert!(output.status.success());
}

#[test]
fn a_program_is_found_where_cargo_says_it_is() {
    let artifact = |kind: &str, name: &str, executable: &str| {
        let target = format!(r#"{{"kind":["{kind}"],"name":"{name}"}}"#);
        let rest = format!(r#""target":{target},"executable":{executable},"fresh":true}}"#);
        format!(r#"{{"reason":"compiler-artifact",{rest}"#)
    };
    let messages = [
        artifact("lib", "balanced", "null"),
        artifact("bin", "other", r#""/other""#),
        artifact("bin", "balanced", r#""/a \"b\"\\c/balanced""#),
        r#"{"reason":"build-finished","success":true}"#.to_owned(),
    ]
    .join("\n");
    let output = bash(&format!("built balanced <<'END'\n{messages}\nEND"), &[]);
    assert_eq!(text(&output.stdout), r#"/a "b"\c/balanced"#, "{}", text(&output.stderr));
}

#[test]
fn a_folder_without_usable_programs_of_postgresql_is_told() {
    let folder = Folder::new("bindir", 0o755);
    let bindir = |programs: &OsStr| {
        let mut script = postgres_script("bindir", &folder.state());
        let output = script.env("PG_BINDIR", programs).output().expect("the script");
        assert_eq!(output.status.code(), Some(1));
        text(&output.stderr)
    };
    let stderr = bindir(folder.0.as_os_str());
    assert!(stderr.contains("There is no PostgreSQL in PG_BINDIR"), "{stderr}");
    for program in ["postgres", "initdb", "pg_ctl"] {
        fs::write(folder.0.join(program), "").expect("a program");
    }
    let stderr = bindir(folder.0.as_os_str());
    assert!(stderr.contains("/postgres does not run as the user"), "{stderr}");
}

/// Where the user who runs PostgreSQL may not enter, root's data lie elsewhere.
#[test]
fn a_removed_database_is_gone_wherever_it_lay() {
    for mode in [0o755, 0o700] {
        let folder = Folder::new(&format!("remove-{mode:o}"), mode);
        let state = folder.state();
        let url = succeed(&mut postgres_script("start", &state));
        let connect = || Client::connect(&url, NoTls).expect("the private PostgreSQL");
        connect().batch_execute("create table kept ()").expect("a table");
        let home = fs::canonicalize(state.join("postgres")).expect("its folder");
        succeed(&mut postgres_script("restart", &state));
        connect().batch_execute("select from kept").expect("a restart keeps the data");

        // The way that people take first.
        succeed(&mut postgres_script("stop", &state));
        let is_elsewhere = !home.starts_with(&folder.0);
        fs::remove_dir_all(&state).expect("the state folder");
        assert_eq!(home.exists(), is_elsewhere);

        succeed(&mut postgres_script("remove", &state));
        assert!(!home.exists(), "{}", home.display());
        assert!(!state.join("postgres").exists());
        succeed(&mut postgres_script("start", &state));
        connect().batch_execute("create table kept ()").expect("new data");
    }
}

/// Whether somebody waits for the lock of this file, by the kernel's list (proc(5), `/proc/locks`).
fn is_waited_for(file: &Path) -> bool {
    let inode = fs::metadata(file).expect("the lock").ino();
    let locks = fs::read_to_string("/proc/locks").expect("the kernel's list");
    locks.lines().any(|line| line.contains("->") && line.contains(&format!(":{inode} ")))
}

#[test]
fn a_database_is_not_removed_while_another_command_works_on_it() {
    let folder = Folder::new("remove-busy", 0o755);
    let state = folder.state();
    succeed(&mut postgres_script("start", &state));
    succeed(&mut postgres_script("stop", &state));
    let mut other = Command::new("flock");
    other.arg(state.join("postgres/lock")).args(["sh", "-c", "echo; read line"]);
    let mut other = other.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("flock");
    let mut stdout = BufReader::new(other.stdout.take().expect("a pipe"));
    stdout.read_line(&mut String::new()).expect("it has the lock");

    let mut remove = postgres_script("remove", &state);
    let mut remove = remove.stderr(Stdio::null()).spawn().expect("the script");
    until("it waits", Duration::from_secs(20), || is_waited_for(&state.join("postgres/lock")));
    assert!(state.join("postgres/data").exists());
    other.stdin.take();
    other.wait().expect("its end");
    assert!(remove.wait().expect("its end").success());
    assert!(!state.join("postgres").exists());
}

#[test]
fn a_database_that_is_held_ends_with_its_holder_and_no_earlier() {
    let folder = Folder::new("hold", 0o755);
    let state = folder.state();
    let mut script = postgres_script("hold", &state);
    script.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut keeper = script.env("TMOUT", "1").spawn().expect("the script");
    let mut url = String::new();
    let mut stdout = BufReader::new(keeper.stdout.take().expect("a pipe"));
    stdout.read_line(&mut url).expect("its URL");
    let answers = || Client::connect(url.trim(), NoTls).is_ok();
    assert!(answers());
    succeed(&mut postgres_script("restart", &state));
    succeed(&mut postgres_script("crash", &state));
    assert!(answers());
    assert!(keeper.try_wait().expect("its state").is_none(), "it has taken a restart for the end");

    drop(keeper.stdin.take());
    assert!(keeper.wait().expect("its end").success());
    assert!(!answers());

    let mut script = postgres_script("hold", &state);
    let mut keeper =
        script.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the script");
    let _open = keeper.stdin.take(); // `wait` would close it
    until("it runs", Duration::from_secs(20), answers);
    succeed(&mut postgres_script("stop", &state));
    assert_eq!(keeper.wait().expect("its end").code(), Some(1), "it says that the server is gone");
}
