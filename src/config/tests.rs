use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::unistd::{User, getuid};
use postgres::config::{SslMode, TargetSessionAttrs};

use super::*;

fn read(variables: &[(&str, &str)]) -> Result<Config, Faults> {
    Config::read(|name| {
        variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    })
}

fn faulty(variables: &[(&str, &str)]) -> Vec<&'static str> {
    let faults = read(variables).err().expect("a fault");
    faults.0.iter().map(|fault| fault.name).collect()
}

const URL: (&str, &str) = ("DATABASE_URL", "postgresql://me@localhost/x");

#[test]
fn every_default_is_valid() {
    let config = read(&[URL, ("LISTEN_ADDR", "127.0.0.1:4000")]).expect("defaults");
    assert_eq!(config.request_timeout, Duration::from_secs(30));
    assert_eq!(config.cron_lease, Duration::from_secs(15));
    assert!(config.replica_name.ends_with(":4000"), "{}", config.replica_name);
    assert!(config.tokens.is_empty());
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let config = read(&[URL, ("API_TOKEN", ""), ("HTTP_WORKERS", " ")]).expect("defaults");
    assert!(config.tokens.is_empty());
    assert_eq!(config.http_workers, 8);
}

#[test]
fn all_faults_are_reported_at_once() {
    let names = faulty(&[
        ("LISTEN_ADDR", "3001"),
        ("HTTP_WORKERS", "0"),
        ("DB_POOL_SIZE", "many"),
        ("CRON_ENABLED", "perhaps"),
        ("CRON_MAX_RUNS", "0"),
        ("REQUEST_TIMEOUT_SECONDS", "1.5"),
        ("REPLICA_NAME", "a\nb"),
        ("API_TOKEN", "short"),
        ("API_TOKENS_FILE", "/nowhere/tokens"),
        ("OPEN_READS", "maybe"),
        ("TRUSTED_ORIGINS", "https://a.example/path"),
        ("LOG_LEVEL", "loud"),
        ("CRON_LEASE_SECONDS", "3"),
        ("CRON_POLL_MS", "2000"),
    ]);
    assert_eq!(
        names,
        [
            "DATABASE_URL",
            "LISTEN_ADDR",
            "REPLICA_NAME",
            "CRON_ENABLED",
            "CRON_MAX_RUNS",
            "HTTP_WORKERS",
            "DB_POOL_SIZE",
            "API_TOKEN",
            "API_TOKENS_FILE",
            "OPEN_READS",
            "TRUSTED_ORIGINS",
            "REQUEST_TIMEOUT_SECONDS",
            "LOG_LEVEL",
            "CRON_POLL_MS"
        ]
    );
}

#[test]
fn a_fault_says_name_value_and_rule_and_no_secret() {
    let faults = read(&[
        ("DATABASE_URL", "postgresql://me:s3cret@db:1:2/x"),
        ("HTTP_WORKERS", "-1"),
        ("API_TOKEN", "s3cret!"),
    ]);
    let text = faults.err().expect("faults").to_string();
    assert!(text.contains("HTTP_WORKERS=-1: must be a whole number from 1 to 1000"), "{text}");
    assert!(text.contains("DATABASE_URL=postgresql://me:****@db"), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
}

fn refusal(url: &str) -> String {
    let faults = read(&[("DATABASE_URL", url)]).err().unwrap_or_else(|| panic!("{url}: read"));
    faults.to_string()
}

#[test]
fn the_words_on_tls_reach_the_driver() {
    for (url, mode) in [
        ("postgresql://me@db/x", SslMode::Prefer),
        ("postgresql://me@db/x?sslmode=disable", SslMode::Disable),
        ("host=db sslmode=require sslnegotiation=direct", SslMode::Require),
        ("host=/run/a sslmode=require", SslMode::Disable),
        ("postgresql:///x?host=%2Frun%2Fa&sslmode=verify-full", SslMode::Disable),
        ("host=/run/a,db", SslMode::Prefer),
        ("host=/run/a hostaddr=10.0.0.1 sslmode=require", SslMode::Require),
    ] {
        let config = read(&[("DATABASE_URL", url)]).unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(config.database.parameters.get_ssl_mode(), mode, "{url}");
        assert_eq!(config.database.is_encrypted_only(), mode == SslMode::Require, "{url}");
    }
}

#[test]
fn what_cannot_be_kept_of_tls_is_refused() {
    for (url, rule) in [
        ("postgresql://me@db/x?sslmode=verify-full", "must be given sslrootcert=FILE"),
        ("postgresql://me@db/x?sslmode=tls", "must be given one of sslmode=disable"),
        ("host=/run/a,db sslmode=require", "must be of hosts alone"),
        ("host=db sslnegotiation=direct", "must be given sslmode=require or stronger"),
        ("sslmode=require", "must be one that names a host"),
        ("host=db sslmode=verify-ca sslrootcert=/no/such.pem", "/no/such.pem: No such file"),
        ("host=db sslmode=verify-ca sslrootcert=/dev/null", "holds no certificate in PEM form"),
        ("host=a,b hostaddr=127.0.0.1", "as many addresses in hostaddr as it has hosts"),
        ("host=a,b,c port=1,2", "one port for all hosts, or one for each"),
        ("host=db sslrootcert=/ca.pem password=s3cret", "sslmode=prefer verifies nothing"),
        (
            "postgresql://me@db/x?sslmode=verify-ca&sslrootcert=/no/such?password=s3cret",
            "an sslrootcert that can be used",
        ),
    ] {
        assert!(refusal(url).contains(rule), "{url}: {}", refusal(url));
        assert!(!refusal(url).contains("s3cret"), "{url}: {}", refusal(url));
    }
}

#[test]
fn the_words_of_libpq_mean_what_they_mean_to_it() {
    let (any, writable) = (TargetSessionAttrs::Any, TargetSessionAttrs::ReadWrite);
    let limit = |milliseconds| Some(Duration::from_millis(milliseconds));
    for (words, timeout, count, attributes) in [
        ("", None, None, any),
        ("tcp_user_timeout=2500", limit(2_500), None, any),
        ("tcp_user_timeout=0", limit(0), None, any),
        ("tcp_user_timeout=-1", limit(0), None, any),
        ("tcp_user_timeout=1 tcp_user_timeout=2", limit(2), None, any),
        ("keepalives_count=4", None, Some(4), any),
        ("keepalives_retries=5", None, Some(5), any),
        ("target_session_attrs=read-write", None, None, writable),
        ("target_session_attrs=any", None, None, any),
        ("gssencmode=disable sslsni=1 client_encoding=UTF8", None, None, any),
        ("gssencmode=prefer client_encoding=utf-8", None, None, any),
        ("client_encoding=Unicode", None, None, any),
        ("client_encoding=auto", None, None, any),
    ] {
        let url = format!("postgresql://me:a:b#c?d@db/x?{}", words.replace(' ', "&"));
        for text in [url, format!("host=db user=me password=a:b#c?d {words}")] {
            let config = read(&[("DATABASE_URL", &text)]);
            let config = config.unwrap_or_else(|faults| panic!("{text}: {faults}"));
            let parameters = config.database.parameters;
            assert_eq!(parameters.get_tcp_user_timeout().copied(), timeout, "{text}");
            assert_eq!(parameters.get_keepalives_retries(), count, "{text}");
            assert_eq!(parameters.get_target_session_attrs(), attributes, "{text}");
            assert_eq!(parameters.get_password(), Some(&b"a:b#c?d"[..]), "{text}");
        }
    }
}

#[test]
fn what_cannot_be_kept_of_the_words_of_libpq_is_refused() {
    let writable = "must be given target_session_attrs=any or read-write";
    let encoded = "percent-encode it";
    for (text, rule) in [
        ("host=db gssencmode=require", "gssencmode=require: must be given gssencmode=disable or"),
        ("host=/run/a gssencmode=require", "must be given gssencmode=disable or prefer"),
        ("host=db sslsni=0", "sslsni=0: must be given sslsni=1"),
        ("host=db client_encoding=LATIN1", "must be given client_encoding=UTF8 or auto"),
        ("host=db target_session_attrs=primary", writable),
        ("host=db target_session_attrs=standby", writable),
        ("host=db target_session_attrs=prefer-standby", writable),
        ("postgresql://me:s3cret@db/x?target_session_attrs=read-only", writable),
        ("host=db tcp_user_timeout=5s", "must be given tcp_user_timeout in whole milliseconds"),
        ("host=db keepalives_count=0", "must be given a keepalives_count from 1 to 127"),
        ("postgresql://me:a@s3cret@db/x", encoded),
        ("postgresql://me:s3cret@b:c@db:5432/x", encoded),
        ("postgresql://me:a@b/s3cret@db/x", encoded),
        ("postgresql://me:a/s3cret@db/x", encoded),
        ("postgresql://me:a@s3cret?b@db/x", encoded),
        ("postgresql://me:a@b?s3cret=c@db/x?sslmode=require", encoded),
        ("postgresql://me@host:s3cret@db/x", encoded),
        ("postgresql://db/x?user=me&password=a@s3cret", encoded),
        ("postgresql://db?user=me&password=s3cret@b", encoded),
    ] {
        assert!(refusal(text).contains(rule), "{text}: {}", refusal(text));
        assert!(!refusal(text).contains("s3cret"), "{text}: {}", refusal(text));
    }
}

/// Makes a home folder with a password file of this text and mode.
fn home(name: &str, text: &str, mode: u32) -> String {
    let folder = std::env::temp_dir().join(format!("balanced-{name}-{}", std::process::id()));
    let file = folder.join(".pgpass");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(&file, text).expect("a file");
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("a mode");
    folder.to_str().expect("a path").to_owned()
}

#[test]
fn the_password_file_is_read_as_libpq_reads_it() {
    let name = User::from_uid(getuid()).unwrap().expect("a user").name;
    let lines = r"#:5432:x:me:comment
db:5432:x:me:first
db:*:x:me:second
localhost:*:*:*:local
\:\:1:5432:x:me:a\:b\\c:rest
*:*:you:you:its user's database
*:*:x:me
*:*:x:*:anybody's";
    let home = home("lines", &format!("{lines}\n*:*:system:{name}:mine\r\n"), 0o600);
    let second = Some("second");
    for (text, expected) in [
        ("host=db user=me dbname=x", vec![Some("first")]),
        ("host=db user=me dbname=x port=5433", vec![second]),
        ("host=db,db user=me dbname=x port=5432,5433", vec![Some("first"), second]),
        ("host=/tmp,/run/a,/var/run/postgresql user=me", vec![Some("local"), None, Some("local")]),
        ("postgresql://me@[::1]/x", vec![Some(r"a:b\c")]),
        ("hostaddr=10.0.0.1 user=you", vec![Some("its user's database")]),
        ("host=# user=me dbname=x", vec![Some("anybody's")]),
        ("host=db dbname=system", vec![Some("mine")]),
        ("host=db user=me", vec![None]),
    ] {
        let config = read(&[("DATABASE_URL", text), ("HOME", &home)]).expect(text);
        let bytes = |password: &str| password.as_bytes().to_vec();
        let expected: Vec<_> = expected.into_iter().map(|one| one.map(bytes)).collect();
        assert_eq!(config.database.passwords.of_hosts, expected, "{text}");
        assert_eq!(config.database.parameters.get_password(), None, "{text}");
    }
    fs::remove_dir_all(home).expect("the folder");
}

#[test]
fn the_password_is_the_texts_own_or_of_its_variable_or_of_the_file() {
    let (home, open) = (home("home", "*:*:*:*:home", 0o600), home("open", "*:*:*:*:open", 0o640));
    let (file, open_file) = (format!("{home}/.pgpass"), format!("{open}/.pgpass"));
    let (own, bare) = ("host=db user=me password=own", "host=db user=me password=''");
    let (none, url) = (String::new(), "postgresql://me@db/x");
    for (text, set, file, home, expected) in [
        (own, "variable", &file, &home, "own"),
        (url, " variable ", &file, &home, " variable "),
        (bare, "", &file, &open, "home"),
        (url, "", &none, &home, "home"),
        (url, "", &open_file, &home, "ignored"),
        (url, "", &none, &open, "ignored"),
        (url, "", &open, &home, "ignored"),
        (url, "", &none, &file, "none"),
        (url, "", &none, &none, "none"),
    ] {
        let variables: [(&str, &str); 4] =
            [("DATABASE_URL", text), ("PGPASSWORD", set), ("PGPASSFILE", file), ("HOME", home)];
        let Database { parameters, passwords, .. } = read(&variables).expect(text).database;
        let of_file = passwords.of_hosts.into_iter().flatten().next();
        let own = parameters.get_password().filter(|password| !password.is_empty());
        let found = match (own, of_file, passwords.ignored) {
            (Some(password), None, None) => String::from_utf8(password.to_vec()).unwrap(),
            (None, Some(password), None) => String::from_utf8(password).unwrap(),
            (None, None, Some(reason)) if reason.starts_with(&open) => "ignored".to_owned(),
            (None, None, None) => "none".to_owned(),
            _ => panic!("{variables:?}: more than one"),
        };
        assert_eq!(found, expected, "{variables:?}");
    }
    fs::remove_dir_all(home).expect("the folder");
    fs::remove_dir_all(open).expect("the folder");
}

#[test]
fn several_hosts_are_accepted() {
    let url = "postgresql://me@a:5432,b:5433/x?target_session_attrs=read-write";
    let config = read(&[("DATABASE_URL", url)]).expect("several hosts");
    assert_eq!(config.database.parameters.get_hosts().len(), 2);
}

#[test]
fn a_poll_longer_than_a_third_of_the_lease_is_refused() {
    assert_eq!(
        faulty(&[URL, ("CRON_LEASE_SECONDS", "6"), ("CRON_POLL_MS", "2001")]),
        ["CRON_POLL_MS"]
    );
}

#[test]
fn every_setting_of_the_list_is_read() {
    let asked = std::cell::RefCell::new(Vec::new());
    drop(Config::read(|name| {
        asked.borrow_mut().push(name.to_owned());
        None
    }));
    for setting in SETTINGS {
        assert!(asked.borrow().iter().any(|name| name == setting.name), "{}", setting.name);
    }
}
