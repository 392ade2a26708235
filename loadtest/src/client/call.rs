//! Single calls, one after the other: read a balance, list users, watch the jobs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Answer, Request, Target};
use crate::outcome::{User, describe};

/// A little more than a replica grants a request by default, so that it is the one to say why.
const CALL_LIMIT: Duration = Duration::from_secs(35);
/// The most rows the service lists at once.
const PAGE_ROWS: usize = 1_000;

/// Who calls: a target and the token to show it.
pub(crate) struct Caller<'a> {
    target: &'a Target,
    token: Option<&'a str>,
    limit: Duration,
}

#[derive(Deserialize)]
struct UserPage {
    users: Vec<User>,
    next: Option<i64>,
}

impl<'a> Caller<'a> {
    /// Calls `target`; an answer may take 35 s.
    pub(crate) fn new(target: &'a Target, token: Option<&'a str>) -> Caller<'a> {
        Caller { target, token, limit: CALL_LIMIT }
    }

    /// The same with another limit, to connect and then again to answer.
    pub(crate) fn within(self, limit: Duration) -> Caller<'a> {
        Caller { limit, ..self }
    }

    /// Reads a user's balance.
    ///
    /// # Errors
    /// Anything but that, as a sentence.
    pub(crate) fn balance(&self, user_id: i64) -> Result<i64, String> {
        let path = format!("/api/users/{user_id}");
        let user: User = self.get(&path)?;
        match user.user_id == user_id {
            true => Ok(user.balance),
            false => Err(self.sentence("GET", &path, "answered for another user")),
        }
    }

    /// Reads the first `count` users by id, or all where there are fewer.
    ///
    /// # Errors
    /// Anything but a list, as a sentence.
    pub(crate) fn users(&self, count: usize) -> Result<Vec<User>, String> {
        let mut users: Vec<User> = Vec::new();
        let mut after = Some(0);
        while let Some(from) = after.filter(|_| users.len() < count) {
            let limit = PAGE_ROWS.min(count - users.len());
            let page: UserPage = self.get(&format!("/api/users?after={from}&limit={limit}"))?;
            users.extend(page.users);
            // A list that does not advance would never end.
            after = page.next.filter(|next| *next > from);
        }
        Ok(users)
    }

    /// Changes a balance once; `Ok(None)` where the service would not or could not tell.
    ///
    /// # Errors
    /// An answer that trying again cannot mend, as a sentence.
    pub(crate) fn change(&self, user_id: i64, amount: i64) -> Result<Option<i64>, String> {
        let path = "/api/balance";
        let mut request = Vec::new();
        Request::new(self.target, self.token, "POST", path).write_change(
            &mut request,
            b"",
            user_id,
            amount,
        );
        self.exchange("POST", path, &request, |answer| match answer.status {
            200 => Ok(serde_json::from_slice(answer.body).ok().map(|user: User| user.balance)),
            409 | 500..=599 => Ok(None),
            _ => Err(describe(answer)),
        })
    }

    /// Reads the JSON document at `path`.
    ///
    /// # Errors
    /// Anything but a 200 with such a document, as a sentence.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let mut request = Vec::new();
        Request::new(self.target, self.token, "GET", path).write(
            &mut request,
            b"",
            format_args!(""),
        );
        self.exchange("GET", path, &request, |answer| match answer.status {
            200 => serde_json::from_slice(answer.body).map_err(|error| error.to_string()),
            _ => Err(describe(answer)),
        })
    }

    /// One connection, one request, one answer.
    fn exchange<T>(
        &self,
        method: &str,
        path: &str,
        request: &[u8],
        read: impl FnOnce(&Answer<'_>) -> Result<T, String>,
    ) -> Result<T, String> {
        let talk = || -> Result<T, String> {
            let mut stream = TcpStream::connect_timeout(&self.target.address(), self.limit)
                .map_err(|error| error.to_string())?;
            stream.write_all(request).map_err(|error| error.to_string())?;
            let bytes = read_answer(&mut stream, self.limit)?;
            let answer = Answer::parse(&bytes).map_err(|failure| failure.to_string())?;
            answer.map_or_else(|| Err("answered nothing".to_owned()), |answer| read(&answer))
        };
        talk().map_err(|reason| self.sentence(method, path, &reason))
    }

    fn sentence(&self, method: &str, path: &str, reason: &str) -> String {
        format!("{method} {}{path}: {reason}", self.target.url())
    }
}

/// Reads until a whole answer is there.
fn read_answer(stream: &mut TcpStream, limit: Duration) -> Result<Vec<u8>, String> {
    let end = Instant::now() + limit;
    let mut bytes = Vec::new();
    let mut scratch = [0; super::SCRATCH_BYTES];
    while Answer::parse(&bytes).map_err(|failure| failure.to_string())?.is_none() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("no answer within {} s", limit.as_secs()));
        }
        stream.set_read_timeout(Some(left)).map_err(|error| error.to_string())?;
        match stream.read(&mut scratch) {
            Ok(0) => return Err("closed before a full answer".to_owned()),
            Ok(count) => bytes.extend_from_slice(&scratch[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(bytes)
}
