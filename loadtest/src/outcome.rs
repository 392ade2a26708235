//! What an answer means: the change was made, it was rightly refused, or something failed.

use std::fmt;
use std::io;
use std::time::Duration;

use serde::Deserialize;

use crate::client::Answer;

/// The most characters of an answer that an example shows.
const EXAMPLE_CHARS_MAX: usize = 200;

/// A user as the service shows one.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct User {
    /// The id.
    pub(crate) user_id: i64,
    /// The balance right after the change, or when it was read.
    pub(crate) balance: i64,
}

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    /// Whose balance.
    pub(crate) user_id: i64,
    /// What is added; a withdrawal is negative.
    pub(crate) amount: i64,
}

/// The two answers a change may rightly get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// 200: made, and durable; the balance it left.
    Succeeded(i64),
    /// 409 `insufficient_funds`: nothing was changed.
    Refused,
}

/// Anything else, with an example for whoever has to find out why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Failures of one kind are counted together.
    pub(crate) kind: String,
    /// This one in particular.
    pub(crate) example: String,
    /// Of the full, well-formed answer, if one came.
    pub(crate) status: Option<u16>,
    /// Whether it is a 503 that says that nothing was changed and when to come back.
    pub(crate) shed: bool,
}

/// The members of a problem document that decide.
#[derive(Deserialize)]
pub(crate) struct Problem {
    /// What kind of problem it is.
    pub(crate) code: Option<String>,
    /// The balance that does not cover.
    pub(crate) balance: Option<i64>,
    /// Whether the change may have been made.
    pub(crate) outcome: Option<String>,
}

impl Outcome {
    /// Judges the answer to `change`.
    ///
    /// # Errors
    /// Any other answer, and one of the two that contradicts itself or the request.
    pub(crate) fn judge(change: Change, answer: &Answer<'_>) -> Result<Outcome, Failure> {
        let wrong = |kind: &str| Failure::answer(kind.to_owned(), answer);
        if answer.status == 200 {
            let Ok(user) = serde_json::from_slice::<User>(answer.body) else {
                return Err(wrong("200 without user and balance"));
            };
            return match user {
                User { user_id, .. } if user_id != change.user_id => {
                    Err(wrong("200 for another user"))
                }
                User { balance, .. } if balance < 0 => Err(wrong("200 with a negative balance")),
                User { balance, .. } => Ok(Outcome::Succeeded(balance)),
            };
        }
        let problem: Option<Problem> = serde_json::from_slice(answer.body).ok();
        let code = problem.as_ref().and_then(|problem| problem.code.as_deref());
        if (answer.status, code) != (409, Some("insufficient_funds")) {
            return Err(Failure::problem(problem.as_ref(), answer));
        }
        match problem.and_then(|problem| problem.balance) {
            None => Err(wrong("409 insufficient_funds without a balance")),
            // Beyond 64 bits it is covered all the more.
            Some(balance) if balance.checked_add(change.amount).is_none_or(|left| left >= 0) => {
                Err(wrong("409 insufficient_funds with a balance that covers the amount"))
            }
            Some(_) => Ok(Outcome::Refused),
        }
    }
}

impl Failure {
    /// A full answer that should have been another.
    pub(crate) fn answer(kind: String, answer: &Answer<'_>) -> Failure {
        let (example, status) = (describe(answer), Some(answer.status));
        Failure { kind, example, status, shed: false }
    }

    /// An answer that is an error, by what it says of the change and of trying again.
    fn problem(problem: Option<&Problem>, answer: &Answer<'_>) -> Failure {
        let code = problem.and_then(|problem| problem.code.as_deref());
        let outcome = problem.and_then(|problem| problem.outcome.as_deref());
        let mut kind = format!("{} {}", answer.status, code.unwrap_or("(no code)"));
        if let Some(outcome) = outcome {
            kind.extend([" ", &shown(outcome.as_bytes())]);
        }
        if answer.status == 503 && !answer.retry_after {
            kind.push_str(" without Retry-After");
        }
        let unchanged = outcome == Some("not_applied");
        let shed = answer.status == 503 && unchanged && answer.retry_after;
        Failure { shed, ..Failure::answer(kind, answer) }
    }

    /// No answer, or none that could be read.
    fn unanswered(kind: &str, example: String) -> Failure {
        Failure { kind: kind.to_owned(), example, status: None, shed: false }
    }

    /// What came is no answer.
    pub(crate) fn malformed(reason: &str, bytes: &[u8]) -> Failure {
        Failure::unanswered("malformed answer", format!("{reason}: {}", shown(bytes)))
    }

    /// The connection could not be made, after all attempts.
    pub(crate) fn not_connected(reason: &str) -> Failure {
        Failure::unanswered("not connected", reason.to_owned())
    }

    /// Its time was over before a connection was free for it.
    pub(crate) fn not_sent(limit: Duration) -> Failure {
        let example = format!("no connection was free for {} s", limit.as_secs());
        Failure::unanswered("not sent in time", example)
    }

    /// The peer ended the connection in the middle of an answer, or before one.
    pub(crate) fn closed(received_bytes: usize) -> Failure {
        let example = format!("after {received_bytes} bytes of it");
        Failure::unanswered("closed before a full answer", example)
    }

    /// The connection broke.
    pub(crate) fn broken(error: &io::Error, when: &str) -> Failure {
        let kind = match error.kind() {
            io::ErrorKind::ConnectionReset => "connection reset",
            _ => "connection broken",
        };
        Failure::unanswered(kind, format!("{error}, {when}"))
    }

    /// Nobody answered in time.
    pub(crate) fn timed_out(limit_seconds: u64, received_bytes: usize) -> Failure {
        let example = format!("none in {limit_seconds} s; {received_bytes} bytes had come");
        Failure::unanswered("no full answer in time", example)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.kind, self.example)
    }
}

/// An answer as an example: the status and the code, who gave it, the beginning of the body.
pub(crate) fn describe(answer: &Answer<'_>) -> String {
    let by = if answer.served_by.is_empty() { "?" } else { answer.served_by };
    let problem = serde_json::from_slice(answer.body).ok();
    let code = problem.and_then(|problem: Problem| problem.code).unwrap_or_default();
    let blank = if code.is_empty() { "" } else { " " };
    let (status, code, body) = (answer.status, shown(code.as_bytes()), shown(answer.body));
    let hint = if status == 401 { " (give one of the service's tokens with --token)" } else { "" };
    format!("{status}{blank}{code} by {by}{hint}: {body}")
}

/// On one line, cut, and without anything a terminal would obey.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * EXAMPLE_CHARS_MAX)]);
    text.chars()
        .take(EXAMPLE_CHARS_MAX)
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHDRAWAL: Change = Change { user_id: 1, amount: -2 };

    fn judge(status: u16, body: &str) -> Result<Outcome, String> {
        judge_with(status, true, body).map_err(|failure| failure.kind)
    }

    fn judge_with(status: u16, retry_after: bool, body: &str) -> Result<Outcome, Failure> {
        let body = body.as_bytes();
        let answer = Answer { status, served_by: "r", closes: false, retry_after, body };
        Outcome::judge(WITHDRAWAL, &answer)
    }

    #[test]
    fn the_two_right_answers_are_told_from_all_others() {
        let refusal = r#"{"code":"insufficient_funds","balance":1,"amount":-2}"#;
        assert_eq!(judge(200, r#"{"userId":1,"balance":0}"#), Ok(Outcome::Succeeded(0)));
        assert_eq!(judge(409, refusal), Ok(Outcome::Refused));
        for (status, body, kind) in [
            (200, "{}", "200 without user and balance"),
            (200, r#"{"userId":1,"balance":2.0}"#, "200 without user and balance"),
            (200, r#"{"userId":2,"balance":2}"#, "200 for another user"),
            (200, r#"{"userId":1,"balance":-2}"#, "200 with a negative balance"),
            (409, r#"{"code":"job_running"}"#, "409 job_running"),
            (
                409,
                r#"{"code":"insufficient_funds","balance":2}"#,
                "409 insufficient_funds with a balance that covers the amount",
            ),
            (409, r#"{"code":"insufficient_funds"}"#, "409 insufficient_funds without a balance"),
            (503, r#"{"code":"database_unavailable"}"#, "503 database_unavailable"),
            (503, "<html>", "503 (no code)"),
            (500, refusal, "500 insufficient_funds"),
        ] {
            assert_eq!(judge(status, body), Err(kind.to_owned()), "{status} {body}");
        }
    }

    #[test]
    fn only_an_honest_503_that_says_when_to_come_back_is_shed() {
        let (not_applied, unknown) =
            (r#"{"code":"c","outcome":"not_applied"}"#, r#"{"code":"c","outcome":"unknown"}"#);
        for (status, retry_after, body, kind, shed) in [
            (503, true, not_applied, "503 c not_applied", true),
            (503, false, not_applied, "503 c not_applied without Retry-After", false),
            (503, true, unknown, "503 c unknown", false),
            (504, true, not_applied, "504 c not_applied", false),
            (503, false, "<html>", "503 (no code) without Retry-After", false),
        ] {
            let failure = judge_with(status, retry_after, body).unwrap_err();
            assert_eq!((&*failure.kind, failure.shed), (kind, shed));
            assert_eq!(failure.status, Some(status), "{kind}");
        }
    }

    #[test]
    fn an_example_is_one_harmless_line() {
        let failure = Failure::malformed("bad", b"a\r\n\x1b[2Jb");
        assert_eq!(failure.example, "bad: a   [2Jb");
        assert!(Failure::malformed("bad", &[b'x'; 9_000]).example.len() < 300);
    }
}
