//! TLS to PostgreSQL: what each `sslmode` accepts and refuses, with a real server and its own
//! certificate authority.

mod server;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use balanced::db::{Error, Limits, Manager};
use r2d2::ManageConnection;

use crate::support::{Postgres, Process, change, post, target, until};
use server::Server;

/// A replica without jobs, so that what a test sees of it is about requests.
fn started(url: &str, name: &str) -> Process {
    Process::start(url, &[("REPLICA_NAME", name), ("CRON_ENABLED", "false")])
}

/// `balanced migrate`: connects once; its exit code and what it says.
fn migrate(url: &str) -> (Option<i32>, String) {
    let output = Process::command(url, &[]).arg("migrate").output().expect("a process");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn assert_refused(url: &str, reason: &str) {
    let (code, text) = migrate(url);
    assert_eq!(code, Some(1), "{url}: {text}");
    assert!(text.contains(reason), "{url}: {text}");
}

/// Whether a connection that verifies nothing is encrypted.
fn is_encrypted(url: &str) -> Result<bool, Error> {
    let mut client = target(url, "tests").open(Limits::for_requests(Duration::from_secs(30)), 0)?;
    let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    Ok(client.query_one(sql, &[]).expect(sql).get(0))
}

#[test]
fn verify_full_serves_requests_and_jobs_over_tls() {
    let server = Server::shared();
    let url = server.url("postgres@localhost", "sslmode=verify-full&sslrootcert=$/ours.pem");
    let replica = Process::start(&url, &[("REPLICA_NAME", "full"), ("JOB_MIN_SECONDS", "0")]);
    assert_eq!(post(replica.addr, "/api/balance", &change(1, -2)).status, 200);
    let count = "select count(*) from cron_runs where server = 'full' and outcome = 'succeeded'";
    let mut admin = server.admin();
    until("a job has run", Duration::from_secs(30), || {
        admin.query_one(count, &[]).unwrap().get::<_, i64>(0) > 0
    });
    let connections = server.connections("full");
    assert!(connections.len() >= 4, "of requests, health, leases, steps: {connections:?}");
    assert!(connections.iter().all(|connection| connection == "encrypted"), "{connections:?}");
    assert!(!replica.log().contains("event=tls_not_verified"), "{}", replica.log());
}

/// Not even the user's name is sent, which comes before any password.
#[test]
fn a_server_of_an_unknown_authority_is_told_nothing() {
    let server = Server::shared();
    let url = |mode: &str, file: &str| {
        let words = format!("sslmode={mode}&sslrootcert=$/{file}");
        server.url("mallory:s3cret@localhost", &words)
    };
    for mode in ["require", "verify-ca", "verify-full"] {
        assert_refused(&url(mode, "strangers.pem"), "UnknownIssuer");
        assert_refused(&url(mode, "impostors.pem"), "BadSignature");
    }
    let url = url("verify-full", "strangers.pem");
    let mut replica = Process::spawn(&mut Process::command(&url, &[]));
    until("the reason is told", Duration::from_secs(10), || {
        let log = replica.log();
        log.lines().any(|line| line.contains("database_away") && line.contains("UnknownIssuer"))
    });
    assert!(replica.is_alive(), "{}", replica.log());
    assert!(!server.log().contains("mallory"), "{}", server.log());
    // Who verifies nothing does tell it the name: the log would have shown it.
    assert_refused(&server.url("trudy:s3cret@localhost", "sslmode=require"), "\"trudy\"");
    assert!(server.log().contains("trudy"), "{}", server.log());
}

#[test]
fn a_certificate_for_another_host_is_refused_by_verify_full_alone() {
    let server = Server::shared();
    let url = |words: &str| server.url("postgres@127.0.0.1", words);
    let reason = "certificate not valid for name";
    assert_refused(&url("sslmode=verify-full&sslrootcert=$/ours.pem"), reason);
    for (mode, name) in [("verify-ca", "chain"), ("require", "required-chain")] {
        let replica = started(&url(&format!("sslmode={mode}&sslrootcert=$/ours.pem")), name);
        assert_eq!(post(replica.addr, "/api/balance", &change(1, -2)).status, 200);
        assert!(server.connections(name).iter().all(|connection| connection == "encrypted"));
        assert!(!replica.log().contains("event=tls_not_verified"), "{}", replica.log());
    }
}

#[test]
fn require_without_authorities_encrypts_and_warns_once() {
    let server = Server::shared();
    let replica = started(&server.url("postgres@127.0.0.1", "sslmode=require"), "unverified");
    assert_eq!(post(replica.addr, "/api/balance", &change(1, -2)).status, 200);
    let connections = server.connections("unverified");
    assert!(!connections.is_empty());
    assert!(connections.iter().all(|connection| connection == "encrypted"), "{connections:?}");
    let log = replica.log();
    assert_eq!(log.matches("event=tls_not_verified").count(), 1, "{log}");
}

#[test]
fn disable_stays_plain() {
    let server = Server::shared();
    let replica = started(&server.url("postgres@localhost", "sslmode=disable"), "plain");
    assert_eq!(post(replica.addr, "/api/balance", &change(1, -2)).status, 200);
    let connections = server.connections("plain");
    assert!(!connections.is_empty());
    assert!(connections.iter().all(|connection| connection == "plain"), "{connections:?}");
    assert!(!replica.log().contains("event=tls_not_verified"), "{}", replica.log());
}

#[test]
fn prefer_encrypts_where_it_can_and_require_where_it_must() {
    let server = Server::shared();
    let encrypted = |user, words| is_encrypted(&server.url(&format!("{user}@localhost"), words));
    assert!(encrypted("postgres", "").unwrap());
    assert!(encrypted("postgres", "sslmode=require").unwrap());
    // This one may come in plain text only.
    assert!(!encrypted("plain_only", "sslmode=prefer").unwrap());
    let refused = encrypted("plain_only", "sslmode=require").expect_err("refused");
    assert!(refused.reason().contains("pg_hba.conf rejects connection"), "{refused}");
    // An address without a name, which the driver by itself cannot encrypt to.
    let address = format!("hostaddr=127.0.0.1 port={} user=postgres", server.port());
    assert!(is_encrypted(&address).unwrap());
}

/// The length and the number that PostgreSQL's protocol gives it.
const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// A server that knows no TLS is asked for it, and told nothing more.
#[test]
fn require_does_not_speak_to_a_server_without_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().unwrap().port();
    let heard = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut request = [0; 8];
        stream.read_exact(&mut request).expect("a request for TLS");
        assert_eq!(request, TLS_REQUEST);
        stream.write_all(b"N").expect("sent");
        let mut more = Vec::new();
        stream.read_to_end(&mut more).expect("the end");
        more
    });
    let url = format!("postgresql://me:s3cret@127.0.0.1:{port}/x?sslmode=require");
    assert_refused(&url, "server does not support TLS");
    assert_eq!(heard.join().unwrap(), b"");
}

/// The password's proof is bound to the server's certificate, so nobody between can pass it on.
#[test]
fn a_password_is_bound_to_the_channel() {
    let server = Server::shared();
    let words = "sslmode=require&channel_binding=require";
    assert!(is_encrypted(&server.url("by_password:s3cret@localhost", words)).unwrap());
    let plain =
        server.url("by_password:s3cret@localhost", "sslmode=disable&channel_binding=require");
    assert!(is_encrypted(&plain).is_err());
}

#[test]
fn over_a_socket_there_is_no_tls_whatever_the_mode() {
    let database = Postgres::shared().empty();
    for mode in ["require", "verify-full"] {
        let (code, text) = migrate(&format!("{}&sslmode={mode}", database.url()));
        assert_eq!(code, Some(0), "{text}");
        assert!(!text.contains("event=tls_not_verified"), "{text}");
    }
}

#[test]
fn a_file_that_is_missing_is_told_with_exit_code_2() {
    let url = "postgresql://me:s3cret@db/x?sslmode=verify-full&sslrootcert=/no/such.pem";
    let output = Process::command(url, &[("HTTP_WORKERS", "0")]).output().expect("a process");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("/no/such.pem: No such file"), "{text}");
    assert!(text.contains("HTTP_WORKERS=0"), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
}

#[test]
fn a_connection_that_died_while_idle_is_noticed_over_tls() {
    let server = Server::shared();
    let target = target(&server.url("postgres@localhost", "sslmode=require"), "idle");
    let manager = Manager::new(target, Limits::for_requests(Duration::from_secs(30)));
    for dies in [false, true, false] {
        let mut session = manager.connect().unwrap();
        let pid: i32 = session.query_opt("select pg_backend_pid()", &[]).unwrap().unwrap().get(0);
        if dies {
            server.admin().execute("select pg_terminate_backend($1)", &[&pid]).unwrap();
        }
        thread::sleep(Duration::from_millis(300));
        assert_eq!(manager.is_valid(&mut session).is_err(), dies);
    }
}
