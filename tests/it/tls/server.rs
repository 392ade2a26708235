use std::path::PathBuf;
use std::sync::OnceLock;

use postgres::{Client, NoTls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::support::Postgres;

/// A private PostgreSQL that offers TLS on the loopback, with a certificate for `localhost`.
pub(super) struct Server {
    postgres: Postgres,
    port: u16,
}

type Authority = CertifiedIssuer<'static, KeyPair>;

impl Server {
    /// The one of all these tests.
    pub(super) fn shared() -> &'static Server {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(Server::start)
    }

    fn start() -> Server {
        let server = Server { postgres: Postgres::lend(), port: free_port() };
        let ours = authority("ours");
        for (file, authority) in [
            ("ours.pem", &ours),
            ("strangers.pem", &authority("strangers")),
            ("impostors.pem", &authority("ours")),
        ] {
            std::fs::write(server.file(file), authority.pem()).expect("a file");
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(["localhost".to_owned()])
            .and_then(|parameters| parameters.signed_by(&key, &ours))
            .expect("a certificate");
        let port = server.port.to_string();
        let mut admin = server.postgres.admin();
        // Written by the server itself, so the key belongs to the user that it runs as.
        for (text, program) in [
            (certificate.pem(), "cat > server.crt"),
            (key.serialize_pem(), "umask 077 && cat > server.key"),
            (RULES.to_owned(), "cat - pg_hba.conf > pg_hba.new && mv pg_hba.new pg_hba.conf"),
        ] {
            let lines = format!("select unnest(string_to_array($text${}$text$, E'\\n'))", text);
            admin.batch_execute(&format!("copy ({lines}) to program '{program}'")).expect(program);
        }
        admin.batch_execute(ROLES).expect("roles");
        for (setting, value) in [
            ("ssl", "on"),
            ("listen_addresses", "127.0.0.1"),
            ("port", port.as_str()),
            ("log_connections", "on"),
        ] {
            let set = format!("alter system set {setting} = '{value}'");
            admin.batch_execute(&set).expect("a setting");
        }
        server.postgres.crash_and_restart();
        server
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// `ours.pem` has signed the server's certificate; `strangers.pem` has not, nor has
    /// `impostors.pem`, which bears the name of the one that has.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.postgres.folder().join(name)
    }

    /// A URL with these words on TLS, of which `$` stands for the folder of the files.
    pub(super) fn url(&self, user_at_host: &str, words: &str) -> String {
        let folder = self.postgres.folder().to_str().expect("a plain path");
        let words = words.replace('$', folder);
        format!("postgresql://{user_at_host}:{}/balanced?{words}", self.port)
    }

    pub(super) fn admin(&self) -> Client {
        let url = self.url("postgres@localhost", "sslmode=disable");
        Client::connect(&url, NoTls).expect("the private PostgreSQL")
    }

    /// `encrypted` or `plain` for each connection of a replica.
    pub(super) fn connections(&self, replica_name: &str) -> Vec<String> {
        let sql = "select case when ssl then 'encrypted' else 'plain' end \
                   from pg_stat_ssl join pg_stat_activity using (pid) where application_name = $1";
        let name = format!("balanced {replica_name}");
        let rows = self.admin().query(sql, &[&name]).expect("the connections");
        rows.iter().map(|row| row.get(0)).collect()
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.file("postgres/postgresql.log")).expect("the server's log")
    }
}

/// Tried from the first on; behind them stands "everybody, without a password".
const RULES: &str = "hostssl all plain_only all reject\nhost all by_password all scram-sha-256";
const ROLES: &str = "create role plain_only login; \
                     set password_encryption = 'scram-sha-256'; \
                     create role by_password login password 's3cret'";

fn authority(name: &str) -> Authority {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(parameters, KeyPair::generate().expect("a key")).expect("a CA")
}

/// One that no other test is given meanwhile: the system gives away those above 32,767 alone.
fn free_port() -> u16 {
    let first = 20_000 + u16::try_from(std::process::id() % 10_000).expect("a small number");
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (first..32_000).find(is_free).expect("a free port")
}
