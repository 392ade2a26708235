//! Where the password comes from if `DATABASE_URL` has none, in libpq's order: `PGPASSWORD`, then
//! the password file, which may have a different one for each host.

use std::cmp::max;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use postgres::config::Host;

/// The passwords that were found in the password file.
#[derive(Clone, Default)]
pub struct Passwords {
    /// One for each host, in the order of the URL; empty if the file is not needed.
    pub of_hosts: Vec<Option<Vec<u8>>>,
    /// The file and the reason, if the file exists but was not used.
    pub ignored: Option<String>,
}

/// Default socket folders of libpq's builds; the password file calls their hosts `localhost`.
const DEFAULT_FOLDERS: [&str; 2] = ["/tmp", "/var/run/postgresql"];

impl Passwords {
    /// Sets the password for all hosts if `PGPASSWORD` has one; else reads the password file.
    pub(super) fn find(
        parameters: &mut postgres::Config,
        user: &str,
        look_up: impl Fn(&str) -> Option<String>,
    ) -> Passwords {
        let variable = |name| look_up(name).filter(|value| !value.is_empty());
        if parameters.get_password().is_some_and(|password| !password.is_empty()) {
            return Passwords::default();
        }
        if let Some(password) = variable("PGPASSWORD") {
            parameters.password(password);
            return Passwords::default();
        }
        let default = || variable("HOME").map(|home| format!("{home}/.pgpass"));
        let Some(file) = variable("PGPASSFILE").or_else(default) else {
            return Passwords::default();
        };
        match read(&file) {
            Ok(text) => {
                let count = max(parameters.get_hosts().len(), parameters.get_hostaddrs().len());
                let keys = (0..count).map(|index| keys(parameters, user, index));
                let of_hosts = keys.map(|keys| password(&text, &keys)).collect();
                Passwords { of_hosts, ignored: None }
            }
            Err(reason) => {
                Passwords { ignored: Some(format!("{file}: {reason}")), ..Passwords::default() }
            }
        }
    }
}

/// The text of the file, or why it is not used. A file that does not exist counts as empty.
fn read(file: &str) -> Result<Vec<u8>, String> {
    let Ok(about) = fs::metadata(file) else { return Ok(Vec::new()) };
    if !about.is_file() {
        return Err("it is not a plain file".to_owned());
    }
    if about.permissions().mode() & 0o077 != 0 {
        return Err("it is open to its group or to others: chmod 600".to_owned());
    }
    fs::read(file).map_err(|error| error.to_string())
}

/// What a matching line of the file begins with: host, port, database and user.
fn keys(parameters: &postgres::Config, user: &str, index: usize) -> [String; 4] {
    let is_default = |folder: &Path| DEFAULT_FOLDERS.map(Path::new).contains(&folder);
    let host = match parameters.get_hosts().get(index) {
        Some(Host::Tcp(name)) => name.clone(),
        Some(Host::Unix(folder)) if is_default(folder) => "localhost".to_owned(),
        Some(Host::Unix(folder)) => folder.display().to_string(),
        None => parameters.get_hostaddrs()[index].to_string(),
    };
    let ports = parameters.get_ports();
    let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
    let name = parameters.get_dbname().unwrap_or(user);
    [host, port.to_string(), name.to_owned(), user.to_owned()]
}

/// The password of the first line that matches.
fn password(text: &[u8], keys: &[String; 4]) -> Option<Vec<u8>> {
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"#"));
    let rests = lines.filter_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        keys.iter().try_fold(line, |rest, key| match (rest.strip_prefix(b"*:"), field(rest)) {
            (Some(rest), _) => Some(rest),
            (None, (plain, rest)) => rest.filter(|_| plain == key.as_bytes()),
        })
    });
    rests.map(|rest| field(rest).0).next()
}

/// The first field without its escapes, and the text after its colon, if there is one.
fn field(line: &[u8]) -> (Vec<u8>, Option<&[u8]>) {
    let mut plain = Vec::new();
    let mut bytes = line.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b':' => return (plain, Some(&line[at + 1..])),
            b'\\' => plain.push(bytes.next().map_or(b'\\', |(_, escaped)| *escaped)),
            byte => plain.push(*byte),
        }
    }
    (plain, None)
}
