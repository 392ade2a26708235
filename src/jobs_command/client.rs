//! One request to a replica or to the door, over HTTP or HTTPS, on a connection of its own.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use balanced::config::{self, ROOT_FILES};
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;

const DEFAULT_URL: &str = "http://127.0.0.1:8080";
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// A replica answers within REQUEST_TIMEOUT_SECONDS and a few more; its default is 30.
const READ_MAX: Duration = Duration::from_secs(60);
/// Much more than 10,000 jobs need.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Where the service is, and the token for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Service {
    is_encrypted: bool,
    /// The name or the address alone, as it is looked up and as a certificate must name it.
    host: String,
    port: u16,
    /// The host and the port as the URL has them.
    authority: String,
    /// What stands before each path, where a proxy strips it; empty, or with a slash first.
    prefix: String,
    token: Option<String>,
}

impl Service {
    /// The one that BALANCED_URL and BALANCED_TOKEN name. The error is the rule that they break.
    pub(super) fn of_environment() -> Result<Service, String> {
        let set = |name| std::env::var(name).ok().filter(|text| !text.trim().is_empty());
        let url = set("BALANCED_URL").unwrap_or_else(|| DEFAULT_URL.to_owned());
        let service = Service::at(url.trim()).ok_or_else(|| {
            // A URL may hold a password, so it is not shown.
            format!(
                "BALANCED_URL must be http:// or https:// with a host, a port and a path before \
                 /api if there are any, such as {DEFAULT_URL}"
            )
        })?;
        let token = set("BALANCED_TOKEN").map(|token| token.trim().to_owned());
        if token.iter().any(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err("BALANCED_TOKEN must be one token, of printable characters".to_owned());
        }
        Ok(Service { token, ..service })
    }

    fn at(url: &str) -> Option<Service> {
        let (scheme, rest) = url.split_once("://")?;
        let (is_encrypted, port) = match scheme {
            "http" => (false, 80),
            "https" => (true, 443),
            _ => return None,
        };
        let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, digits)) if !digits.ends_with(']') => (host, digits.parse().ok()?),
            _ => (authority, port),
        };
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"@?#".contains(&byte);
        let is_whole = !bare.is_empty() && (bare != host || !host.contains([':', '[', ']']));
        (is_whole && rest.bytes().all(is_plain)).then(|| Service {
            is_encrypted,
            host: bare.to_owned(),
            port,
            authority: authority.to_owned(),
            prefix: prefix.trim_end_matches('/').to_owned(),
            token: None,
        })
    }

    /// Sends one request, and returns the JSON of a good answer.
    ///
    /// # Errors
    /// One line: what the service refuses, or why it was not reached.
    pub(super) fn ask(&self, method: &str, path: &str, body: &str) -> Result<Value, String> {
        let scheme = if self.is_encrypted { "https" } else { "http" };
        let place = format!("{scheme}://{}", self.authority);
        let answer = self.exchange(method, path, body).map_err(|error| {
            format!("{place} was not reached: {error}; BALANCED_URL says where the service is")
        })?;
        let (status, body) = read(&answer)
            .ok_or_else(|| format!("{place} has not given a whole answer of HTTP/1.1"))?;
        let document: Value = serde_json::from_slice(body).unwrap_or_default();
        match status {
            200..=299 if document.is_object() => Ok(document),
            200..=299 => Err(format!("{place} is no such service: it has not answered in JSON")),
            _ => Err(refusal(status, &document, &place)),
        }
    }

    fn exchange(&self, method: &str, path: &str, body: &str) -> io::Result<Vec<u8>> {
        let mut socket = self.connect()?;
        socket.set_read_timeout(Some(READ_MAX))?;
        socket.set_write_timeout(Some(READ_MAX))?;
        let Service { authority, prefix, .. } = self;
        let token = self.token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n"));
        let request = format!(
            "{method} {prefix}{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\
             Content-Length: {}\r\n{}\r\n{body}",
            body.len(),
            token.unwrap_or_default(),
        );
        match self.is_encrypted {
            true => speak(&mut StreamOwned::new(self.encryption()?, socket), &request),
            false => speak(&mut socket, &request),
        }
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut failure = io::Error::other("the host has no address");
        for addr in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&addr, CONNECT_MAX) {
                Ok(socket) => return Ok(socket),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn encryption(&self) -> io::Result<ClientConnection> {
        let file = std::env::var("SSL_CERT_FILE").ok().filter(|file| !file.is_empty());
        let file = file
            .as_deref()
            .or_else(|| ROOT_FILES.into_iter().find(|file| std::path::Path::new(file).is_file()));
        let file = file.ok_or_else(|| {
            io::Error::other("SSL_CERT_FILE must name a PEM file of the authorities to trust")
        })?;
        let roots = config::authorities(file)
            .map_err(|reason| io::Error::other(format!("SSL_CERT_FILE={file}: {reason}")))?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)
    }
}

/// All that comes until the end. A request that is refused early may find its connection cut while
/// it is being sent, with the answer there to be read.
fn speak(stream: &mut (impl Read + Write), request: &str) -> io::Result<Vec<u8>> {
    let sent = stream.write_all(request.as_bytes()).and_then(|()| stream.flush());
    let mut answer = Vec::new();
    let received = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
    match sent.and(received) {
        // Whether an answer is whole is told by its length, not by how the connection ends.
        Err(error) if answer.is_empty() => Err(error),
        _ => Ok(answer),
    }
}

/// The status and the body; None if the answer has another form, or is not whole.
fn read(answer: &[u8]) -> Option<(u16, &[u8])> {
    let head_length = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..head_length]).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("Content-Length").then(|| value.trim().parse::<usize>())
    };
    let length = head.lines().find_map(field)?.ok()?;
    Some((status, answer[head_length + 4..].get(..length)?))
}

/// What a problem document says, and where.
fn refusal(status: u16, problem: &Value, place: &str) -> String {
    let Some(detail) = problem["detail"].as_str() else {
        return format!("{place} has answered with the status {status}");
    };
    match (status, problem["field"].as_str()) {
        (401, _) => format!("{detail}; BALANCED_TOKEN must have one"),
        (_, Some(field)) if !detail.contains(field) => format!("{field}: {detail}"),
        _ => detail.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> Option<(bool, String, u16, String)> {
        let service = Service::at(url)?;
        Some((service.is_encrypted, service.host, service.port, service.prefix))
    }

    #[test]
    fn a_url_names_a_scheme_a_host_and_perhaps_a_port_and_a_path() {
        for (url, is_encrypted, host, port, prefix) in [
            (DEFAULT_URL, false, "127.0.0.1", 8080, ""),
            ("http://a", false, "a", 80, ""),
            ("https://a.example/", true, "a.example", 443, ""),
            ("https://a.example:8443/balanced/", true, "a.example", 8443, "/balanced"),
            ("http://[::1]:3001", false, "::1", 3001, ""),
            ("http://[::1]", false, "::1", 80, ""),
        ] {
            let expected = Some((is_encrypted, host.to_owned(), port, prefix.to_owned()));
            assert_eq!(place(url), expected, "{url}");
        }
        for wrong in [
            "",
            "a",
            "127.0.0.1:8080",
            "ftp://a",
            "http://",
            "http://:80",
            "http://a:b",
            "http://a:70000",
            "http://::1",
            "http://me:secret@a",
            "http://a/?x",
            "http://a b",
            "http://a\r\nX: y",
        ] {
            assert_eq!(place(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_answer_is_whole_or_none() {
        let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(read(answer), Some((404, &b"{}"[..])));
        for length in 0..answer.len() {
            assert_eq!(read(&answer[..length]), None, "the first {length} bytes");
        }
        assert_eq!(read(b"HTTP/1.1 200 OK\r\n\r\n{}"), None, "without a length");
        assert_eq!(read(b"SSH-2.0-x\r\n\r\n"), None);
    }
}
