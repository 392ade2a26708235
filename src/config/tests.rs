use postgres::config::SslMode;

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
    assert_eq!(config.cron.lease, Duration::from_secs(15));
    assert!(config.replica_name.ends_with(":4000"), "{}", config.replica_name);
    assert!(config.api_token.is_none());
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let config = read(&[URL, ("API_TOKEN", ""), ("HTTP_WORKERS", " ")]).expect("defaults");
    assert!(config.api_token.is_none());
    assert_eq!(config.http_workers, 8);
}

#[test]
fn all_faults_are_reported_at_once() {
    let names = faulty(&[
        ("LISTEN_ADDR", "3001"),
        ("HTTP_WORKERS", "0"),
        ("DB_POOL_SIZE", "many"),
        ("CRON_ENABLED", "perhaps"),
        ("REQUEST_TIMEOUT_SECONDS", "1.5"),
        ("REPLICA_NAME", "a\nb"),
        ("API_TOKEN", "short"),
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
            "HTTP_WORKERS",
            "DB_POOL_SIZE",
            "API_TOKEN",
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

fn tls_rule(url: &str) -> String {
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
        assert!(tls_rule(url).contains(rule), "{url}: {}", tls_rule(url));
        assert!(!tls_rule(url).contains("s3cret"), "{url}: {}", tls_rule(url));
    }
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
fn a_token_matches_itself_only() {
    let token = Token("correct horse".to_owned());
    assert!(token.matches("correct horse"));
    for other in ["", "correct hors", "correct horsf", "correct horse ", "xorrect horse"] {
        assert!(!token.matches(other), "{other}");
    }
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
