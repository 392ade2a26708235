//! Every error a client can see: `application/problem+json` (RFC 9457), with a `code` to act on.

use serde::Serialize;

use super::reply::{Reply, phrase};
use crate::db::Outcome;

/// An error on its way to the client.
#[derive(Debug, Serialize)]
pub struct Problem {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    balance: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    #[serde(skip)]
    header: Option<(&'static str, &'static str)>,
}

impl Problem {
    fn new(status: u16, code: &'static str, detail: &str) -> Problem {
        Problem {
            r#type: "about:blank",
            title: phrase(status),
            status,
            detail: detail.to_owned(),
            code,
            field: None,
            balance: None,
            amount: None,
            outcome: None,
            header: None,
        }
    }

    pub(super) fn invalid_json(detail: &str) -> Problem {
        Problem::new(400, "invalid_json", detail)
    }

    pub(super) fn invalid_request(field: &str, detail: &str) -> Problem {
        let field = Some(field.to_owned());
        Problem { field, ..Problem::new(400, "invalid_request", detail) }
    }

    pub(super) fn unauthorized() -> Problem {
        let detail = "this request needs the header `Authorization: Bearer <API_TOKEN>`";
        let header = Some(("WWW-Authenticate", "Bearer"));
        Problem { header, ..Problem::new(401, "unauthorized", detail) }
    }

    pub(super) fn not_found() -> Problem {
        Problem::new(404, "not_found", "there is nothing at this path")
    }

    pub(super) fn user_not_found(user_id: i64) -> Problem {
        Problem::new(404, "user_not_found", &format!("there is no user {user_id}"))
    }

    pub(super) fn method_not_allowed(allowed: &'static str) -> Problem {
        let detail = format!("this path takes {allowed}");
        let header = Some(("Allow", allowed));
        Problem { header, ..Problem::new(405, "method_not_allowed", &detail) }
    }

    pub(super) fn insufficient_funds(balance: i64, amount: i64) -> Problem {
        let detail = format!("the balance is {balance}: it does not cover the change of {amount}");
        Problem {
            balance: Some(balance),
            amount: Some(amount),
            ..Problem::new(409, "insufficient_funds", &detail)
        }
    }

    pub(super) fn amount_out_of_range(amount: i64) -> Problem {
        let detail = format!("a change of {amount} would take the balance beyond 64 bits");
        Problem { amount: Some(amount), ..Problem::new(409, "amount_out_of_range", &detail) }
    }

    pub(super) fn length_required() -> Problem {
        let detail = "send the body in one piece, with Content-Length";
        Problem::new(411, "length_required", detail)
    }

    pub(super) fn body_too_large() -> Problem {
        let detail = format!("a body may have at most {} bytes", super::call::BODY_BYTES_MAX);
        Problem::new(413, "body_too_large", &detail)
    }

    pub(super) fn key_reused() -> Problem {
        let detail = "this Idempotency-Key stands for a change of another amount";
        Problem::new(422, "idempotency_key_reused", detail)
    }

    pub(super) fn internal() -> Problem {
        let detail = "something went wrong here; the log has it under this X-Request-Id";
        Problem::new(500, "internal", detail)
    }

    /// What is known of this attempt, and of this attempt only.
    pub(super) fn database_unavailable(outcome: Outcome) -> Problem {
        let (outcome, detail) = match outcome {
            Outcome::NotApplied => {
                ("not_applied", "the database did not take this request; nothing was changed")
            }
            Outcome::Unknown => (
                "unknown",
                "the database took this request and has not answered: it may or may not have \
                 been applied; keep the Idempotency-Key and try again",
            ),
        };
        let header = Some(("Retry-After", "1"));
        let outcome = Some(outcome);
        Problem { outcome, header, ..Problem::new(503, "database_unavailable", detail) }
    }

    /// The answer of a health check: why this replica should get no requests now.
    pub(super) fn not_ready(reason: &str) -> Problem {
        let header = Some(("Retry-After", "1"));
        Problem { header, ..Problem::new(503, "not_ready", reason) }
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    #[cfg(test)]
    pub(super) fn field(&self) -> Option<String> {
        self.field.clone()
    }
}

impl From<Problem> for Reply {
    fn from(problem: Problem) -> Reply {
        let reply = Reply::json(problem.status, &problem).typed("application/problem+json");
        match problem.header {
            Some((name, value)) => reply.with_header(name, value),
            None => reply,
        }
    }
}
