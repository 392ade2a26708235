//! One HTTP request into bytes, with what never changes on a target laid out once.

use std::io::Write;

use super::Target;

/// The requests of one method and path to one target.
pub(crate) struct Request {
    /// Up to the first header that differs between requests.
    beginning: Vec<u8>,
    body: Vec<u8>,
}

impl Request {
    /// Lays out the constant part.
    pub(crate) fn new(target: &Target, token: Option<&str>, method: &str, path: &str) -> Request {
        let host = target.authority();
        let mut beginning = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n\
             Content-Type: application/json\r\n"
        );
        if let Some(token) = token {
            beginning.extend(["Authorization: Bearer ", token, "\r\n"]);
        }
        Request { beginning: beginning.into_bytes(), body: Vec::new() }
    }

    /// Puts a request with this JSON body into `bytes`, in place of what was there; `key` is the
    /// whole `Idempotency-Key` line, or empty.
    pub(crate) fn write(&mut self, bytes: &mut Vec<u8>, key: &[u8], body: std::fmt::Arguments<'_>) {
        // The body first: its length stands before it. Writing into memory cannot fail.
        self.body.clear();
        let _ = self.body.write_fmt(body);
        bytes.clear();
        bytes.extend_from_slice(&self.beginning);
        bytes.extend_from_slice(key);
        let _ = write!(bytes, "Content-Length: {}\r\n\r\n", self.body.len());
        bytes.extend_from_slice(&self.body);
    }

    /// The same as [`Request::write`] for one withdrawal or deposit.
    pub(crate) fn write_change(
        &mut self,
        bytes: &mut Vec<u8>,
        key: &[u8],
        user_id: i64,
        amount: i64,
    ) {
        self.write(bytes, key, format_args!(r#"{{"userId":{user_id},"amount":{amount}}}"#));
    }
}

/// Puts the header line of a key into `line`: unique by `run` across processes, by `number`
/// within one.
pub(crate) fn quoted_key(line: &mut Vec<u8>, run: u64, number: u64) {
    line.clear();
    let _ = write!(line, "Idempotency-Key: \"loadtest-{run:016x}-{number}\"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_request_is_these_bytes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let target = Target::reach(&super::super::BaseUrl::parse(&url).unwrap()).unwrap();
        let mut request = Request::new(&target, Some("t"), "POST", "/api/balance");
        let (mut bytes, mut key) = (b"old".to_vec(), Vec::new());
        quoted_key(&mut key, 10, 7);
        request.write_change(&mut bytes, &key, 1, -2);
        let expected = format!(
            "POST /api/balance HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\n\
             Content-Type: application/json\r\nAuthorization: Bearer t\r\n\
             Idempotency-Key: \"loadtest-000000000000000a-7\"\r\nContent-Length: 24\r\n\r\n\
             {{\"userId\":1,\"amount\":-2}}",
            target.authority(),
        );
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }
}
