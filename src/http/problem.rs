//! All error answers: `application/problem+json` (RFC 9457), with a `code` for programs to act on.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::Serialize;
use serde_json::Value;

use super::reply::{Reply, phrase};
use crate::config::Scope;
use crate::cron::UnhealthyJob;
use crate::db::Effect;

/// An error answer: a problem document, and one more header field if the status needs it.
#[derive(Debug)]
pub struct Problem {
    document: Box<Document>,
    header: Option<(&'static str, String)>,
}

#[derive(Debug, Default, Serialize)]
struct Document {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    /// What only some problems have, such as the balance that does not cover an amount.
    #[serde(flatten)]
    others: BTreeMap<&'static str, Value>,
}

impl Problem {
    fn new(status: u16, code: &'static str, detail: impl Into<String>) -> Problem {
        let document = Document {
            r#type: "about:blank",
            title: phrase(status),
            status,
            detail: detail.into(),
            code,
            ..Document::default()
        };
        Problem { document: Box::new(document), header: None }
    }

    fn with_header(self, name: &'static str, value: impl Into<String>) -> Problem {
        Problem { header: Some((name, value.into())), ..self }
    }

    fn with(mut self, name: &'static str, member: impl Into<Value>) -> Problem {
        self.document.others.insert(name, member.into());
        self
    }

    /// Names the user that the problem is about.
    pub(super) fn of_user(self, user_id: i64) -> Problem {
        self.with("userId", user_id)
    }

    /// Says where the field is: within this one.
    pub(super) fn within(self, place: &str) -> Problem {
        match self.document.others.get("field").and_then(Value::as_str) {
            Some(field) => {
                let field = format!("{place}.{field}");
                self.with("field", field)
            }
            None => self,
        }
    }

    fn with_outcome(mut self, outcome: &'static str) -> Problem {
        self.document.outcome = Some(outcome);
        self
    }

    pub(super) fn invalid_json(detail: impl Into<String>) -> Problem {
        Problem::new(400, "invalid_json", detail)
    }

    pub(super) fn invalid_request(field: &str, detail: impl Into<String>) -> Problem {
        Problem::new(400, "invalid_request", detail).with("field", field)
    }

    /// `rule` stands after "must".
    pub(super) fn must(field: &str, rule: impl Display) -> Problem {
        Problem::invalid_request(field, format!("`{field}` must {rule}"))
    }

    pub(super) fn missing(field: &'static str) -> Problem {
        Problem::invalid_request(field, format!("`{field}` is missing"))
    }

    pub(super) fn no_instant() -> Problem {
        Problem::invalid_request(
            "schedule",
            "`schedule` names no instant from now on; give another one",
        )
    }

    pub(super) fn malformed_length() -> Problem {
        Problem::must("Content-Length", "be one whole number")
    }

    /// No token was sent, or one that is not known; `why` may say which.
    pub(super) fn unauthorized(scope: Scope, why: &str) -> Problem {
        let detail = format!(
            "{why}this request needs the header `Authorization: Bearer <token>`, with a token \
             that has the scope `{}`",
            scope.name()
        );
        Problem::new(401, "unauthorized", detail).with_header("WWW-Authenticate", "Bearer")
    }

    /// The token is known, and does not allow this.
    pub(super) fn forbidden(scope: Scope) -> Problem {
        let scope = scope.name();
        let detail = format!("this token lacks the scope `{scope}`, which this request needs");
        Problem::new(403, "forbidden", detail).with("scope", scope)
    }

    pub(super) fn method_not_allowed(allowed: &str) -> Problem {
        let detail = format!("this path takes {allowed}");
        Problem::new(405, "method_not_allowed", detail).with_header("Allow", allowed)
    }

    pub(super) fn unsupported_encoding() -> Problem {
        let detail = "a body must come without a Content-Encoding";
        let problem = Problem::new(415, "unsupported_encoding", detail);
        problem.with_header("Accept-Encoding", "identity")
    }

    pub(super) fn external_id_taken(user_id: i64) -> Problem {
        let detail = format!("the user {user_id} has this external id");
        Problem::new(409, "external_id_taken", detail).of_user(user_id)
    }

    pub(super) fn insufficient_funds(balance: i64, amount: i64) -> Problem {
        let detail = format!("the balance is {balance}: it does not cover the change of {amount}");
        let problem = Problem::new(409, "insufficient_funds", detail).with("balance", balance);
        problem.with("amount", amount)
    }

    pub(super) fn amount_out_of_range(amount: i64) -> Problem {
        let detail = format!("a change of {amount} would take the balance beyond 64 bits");
        Problem::new(409, "amount_out_of_range", detail).with("amount", amount)
    }

    /// The database refuses the statement, and would refuse it again.
    pub(super) fn refused_for_good() -> Problem {
        let detail = "the database refuses this, and will again; nothing was changed, and the log \
                      has the reason under this X-Request-Id";
        Problem::new(500, "internal", detail).with_outcome("not_applied")
    }

    /// `effect` speaks of this request only, not of earlier ones with the same Idempotency-Key.
    pub(super) fn database_unavailable(effect: Effect) -> Problem {
        let (outcome, detail) = match effect {
            Effect::NotApplied => {
                ("not_applied", "the database did not take this request; nothing was changed")
            }
            Effect::Unknown => (
                "unknown",
                "the database took this request and has not answered: it may or may not have \
                 been applied; keep the Idempotency-Key and try again",
            ),
        };
        let problem = Problem::new(503, "database_unavailable", detail).with_outcome(outcome);
        problem.with_header("Retry-After", "1")
    }

    /// The answer of a health check that says why this replica should get no requests now.
    pub(super) fn not_ready(reason: &str) -> Problem {
        Problem::new(503, "not_ready", reason).with_header("Retry-After", "1")
    }

    /// The first of the jobs that should be looked at.
    pub(super) fn jobs_unhealthy(detail: String, first: Vec<UnhealthyJob>) -> Problem {
        let problem = Problem::new(503, "jobs_unhealthy", detail);
        let first = serde_json::to_value(first).unwrap_or_default();
        problem.with_header("Retry-After", "30").with("jobs", first)
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> &'static str {
        self.document.code
    }

    #[cfg(test)]
    pub(super) fn field(&self) -> Option<String> {
        self.document.others.get("field").and_then(Value::as_str).map(str::to_owned)
    }
}

/// Makes a function of each row: its arguments, its status and code, and the sentence that they
/// stand in.
macro_rules! problems {
    ($($name:ident($($given:ident: $type:ty),*) =>
        $status:literal $code:literal, $detail:literal;)*) => {
        impl Problem {
            $(pub(super) fn $name($($given: $type),*) -> Problem {
                Problem::new($status, $code, format!($detail))
            })*
        }
    };
}

// `malformed`: the request is not valid HTTP, or a proxy may read it differently than we do.
problems! {
    malformed(detail: &str) => 400 "invalid_request", "{detail}";
    cross_site_request() => 403 "cross_site_request",
        "a page of another site may not change anything here";
    not_found() => 404 "not_found", "there is nothing at this path";
    user_not_found(user_id: i64) => 404 "user_not_found", "there is no user {user_id}";
    no_change_yet(user_id: i64) => 404 "user_not_found",
        "the user {user_id} had no change up to that instant";
    no_such_number(user_id: i64, changes: i64) => 404 "not_found",
        "there is no such change: the user {user_id} has had {changes}";
    run_not_found(run_id: i64) => 404 "not_found",
        "there is no run {run_id}: there never was, or it is too old";
    job_not_found(name: &str) => 404 "job_not_found", "there is no job {name:?}";
    incomplete_body() => 408 "request_timeout",
        "the body ended early, or did not go on for 30 seconds";
    no_request() => 408 "request_timeout",
        "no complete request of HTTP/1.1 arrived within 75 seconds";
    job_running(name: &str) => 409 "job_running", "the job {name:?} is running";
    group_running(name: &str) => 409 "job_running",
        "the job {name:?} is running, and so is another job of that group; change its group once \
         one of them has ended";
    job_not_running(name: &str, run_id: i64) => 409 "job_not_running",
        "the run {run_id} is not open, or is not one of the job {name:?}";
    job_paused(detail: String) => 409 "job_paused", "{detail}";
    precondition_failed(detail: &str) => 412 "precondition_failed", "{detail}";
    body_too_large(bytes_max: usize) => 413 "body_too_large",
        "a body may have at most {bytes_max} bytes";
    key_reused(stands_for: &str) => 422 "idempotency_key_reused",
        "this Idempotency-Key stands for {stands_for}";
    unbalanced(sum: i128) => 422 "unbalanced",
        "the amounts add up to {sum}, and `balanced` demands 0";
    internal() => 500 "internal",
        "something went wrong here; the log has it under this X-Request-Id";
}

impl From<Problem> for Reply {
    fn from(problem: Problem) -> Reply {
        let Problem { document, header } = problem;
        let outcome = document.outcome.unwrap_or(document.code);
        let reply = Reply::json(document.status, &document)
            .typed("application/problem+json")
            .with_outcome(outcome);
        match header {
            Some((name, value)) => reply.with_header(name, value),
            None => reply,
        }
    }
}
