//! Clients may reach the door by HTTPS, and then by nothing else: tokens travel there.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::{Client, Door, Local, LocalOptions, Postgres, change};

/// An authority, and a file with a certificate for `localhost` that it has signed.
pub(crate) struct Certificate {
    authority: CertificateDer<'static>,
    pub(crate) authority_pem: String,
    pub(crate) file: PathBuf,
}

impl Certificate {
    pub(crate) fn new(authority: &str) -> Certificate {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, authority);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(parameters, KeyPair::generate().expect("a key"));
        let ca = ca.expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let own = CertificateParams::new(["localhost".to_owned()])
            .and_then(|parameters| parameters.signed_by(&key, &ca))
            .expect("a certificate");
        let name = format!("balanced-door-{}-{authority}.pem", std::process::id());
        let file = std::env::temp_dir().join(name);
        std::fs::write(&file, own.pem() + &key.serialize_pem()).expect("a file");
        Certificate { authority: ca.der().clone(), authority_pem: ca.pem(), file }
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

type Encrypted = StreamOwned<ClientConnection, TcpStream>;

/// A connection of a client that trusts this authority, and takes the door for this host.
fn connect(door: &Door, trusted: &CertificateDer<'static>, host: &'static str) -> Encrypted {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).expect("an authority");
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let host = ServerName::try_from(host).expect("a name");
    let connection = ClientConnection::new(Arc::new(config), host).expect("settings");
    StreamOwned::new(connection, TcpStream::connect(door.addr).expect("the door"))
}

/// Sends one request, and gives all that comes until the end.
fn ask(stream: &mut Encrypted, request: &str) -> std::io::Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn withdrawal(fields: &str) -> String {
    let body = change(1, -2);
    format!(
        "POST /api/balance HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Length: {}\r\n{fields}\r\n{body}",
        body.len()
    )
}

#[test]
fn a_client_that_verifies_the_door_is_served_and_everybody_else_sends_nothing() {
    let database = Postgres::shared().migrated();
    let token = Some("correct-horse");
    let replica = Local::start_with(database.url(), LocalOptions { token, ..Default::default() });
    let ours = Certificate::new("ours");
    let file = ours.file.to_str().expect("a plain path");
    let Some(door) = Door::start_with(&[replica.addr], &[("DOOR_CERTIFICATE", file)]) else {
        return;
    };
    let asked = |host, fields: &str| {
        let mut stream = connect(&door, &ours.authority, host);
        let answer = ask(&mut stream, &withdrawal(fields))?;
        let protocol = stream.conn.alpn_protocol().map(<[u8]>::to_vec);
        assert_eq!(protocol.as_deref(), Some(&b"http/1.1"[..]), "not HTTP/2");
        Ok::<String, std::io::Error>(answer)
    };
    let right = "Authorization: Bearer correct-horse\r\n";
    let served = asked("localhost", right).expect("an answer");
    assert!(served.starts_with("HTTP/1.1 200 ") && served.contains("\"balance\":9998"), "{served}");
    assert!(asked("localhost", "").expect("an answer").starts_with("HTTP/1.1 401 "));
    // A page of the door's own address is no other site's, whatever its scheme.
    let page = format!("{right}Origin: https://localhost\r\n");
    assert!(asked("localhost", &page).expect("an answer").starts_with("HTTP/1.1 200 "));

    let refused = asked("example.com", right).expect_err("a certificate for another host");
    assert!(refused.to_string().contains("not valid for name"), "{refused}");
    let mut deceived = connect(&door, &Certificate::new("strangers").authority, "localhost");
    let refused = ask(&mut deceived, &withdrawal(right)).expect_err("another authority");
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
    let mut plain = Client::connect(door.addr);
    plain.send(withdrawal(right));
    assert!(plain.try_receive().ok().flatten().is_none(), "plain text is answered");
    assert_eq!(database.number("select balance from users where id = 1"), 9_996);
}

/// As docs/deployment.md shows it.
#[test]
fn curl_is_served_with_the_authoritys_file() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    let ours = Certificate::new("of-curl");
    let file = ours.file.to_str().expect("a plain path");
    let Some(door) = Door::start_with(&[replica.addr], &[("DOOR_CERTIFICATE", file)]) else {
        return;
    };
    let authority = ours.file.with_extension("ca");
    std::fs::write(&authority, &ours.authority_pem).expect("a file");
    let curl = Command::new("curl")
        .args(["-sS", "-m", "20", "--cacert"])
        .arg(&authority)
        .args([
            "-d",
            &change(1, -2),
            &format!("https://localhost:{}/api/balance", door.addr.port()),
        ])
        .output();
    let _ = std::fs::remove_file(&authority);
    let said = curl.expect("curl");
    let answer = String::from_utf8_lossy(&said.stdout);
    assert_eq!(
        answer,
        "{\"userId\":1,\"balance\":9998,\"number\":2}",
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
}
