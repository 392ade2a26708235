//! What is asked of the ledger, and the answers: lists of changes, and balances of now and then.

use chrono::{DateTime, Utc};
use std::fmt::Write;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::Asked;
use super::call::Call;
use super::command::{Command, read_id, take_limit};
use super::handlers::{Api, Replied};
use super::input::{Query, read_instant};
use super::media::Media;
use super::problem::Problem;
use super::reply::Reply;
use crate::balance::{self, AsOf, Reading, RecordedChange, Selection};
use crate::timestamp;

const CSV_TYPE: &str = "text/csv; charset=utf-8; header=present";
const CSV_HEADER: &str = "number,amount,balanceAfter,reference,setId,createdAt,actor\r\n";
/// What would end an address in the field `Link`, or its query, before its end; some programs look
/// for `<` as the beginning of the next one. What the client has encoded stays as it is.
const NOT_IN_A_LINK: &AsciiSet = &CONTROLS.add(b'#').add(b'<').add(b'>');

impl Command {
    pub(super) fn list_changes(call: &Call, id: &str) -> Result<Command, Problem> {
        let mut query = Query::parse(call.query());
        let media = Media::take(&mut query, call)?;
        let (from, to) = take_span(&mut query)?;
        let selection = Selection {
            user_id: read_id(id)?,
            before: query.take_integer("before", 0..=i64::MAX)?,
            after: query.take_integer("after", 0..=i64::MAX)?,
            from,
            to,
            reference: query.take_label("reference")?,
            limit: take_limit(&mut query)?,
        };
        query.end()?;
        Ok(Command::ListChanges(selection, media))
    }

    pub(super) fn read_balance(call: &Call, id: &str) -> Result<Command, Problem> {
        let mut query = Query::parse(call.query());
        let at = take_instant(&mut query, "at")?;
        let number = query.take_integer("number", 1..=i64::MAX)?;
        query.end()?;
        let as_of = match (at, number) {
            (None, None) => AsOf::Now,
            (Some(at), None) => AsOf::Instant(at),
            (None, Some(number)) => AsOf::Number(number),
            (Some(_), Some(_)) => {
                let rule = "give `at` or `number`, not both";
                return Err(Problem::invalid_request("number", rule));
            }
        };
        Ok(Command::ReadBalance(read_id(id)?, as_of))
    }
}

/// From an instant on, and up to one: each may be left out.
type Span = (Option<DateTime<Utc>>, Option<DateTime<Utc>>);

/// Removes the instants `from` and `to`, which must not be the wrong way round.
pub(super) fn take_span(query: &mut Query<'_>) -> Result<Span, Problem> {
    let span = (take_instant(query, "from")?, take_instant(query, "to")?);
    match span {
        (Some(from), Some(to)) if from > to => Err(Problem::must("from", "not be later than `to`")),
        span => Ok(span),
    }
}

/// Removes an instant; `None` if it is not given or empty.
fn take_instant(
    query: &mut Query<'_>,
    name: &'static str,
) -> Result<Option<DateTime<Utc>>, Problem> {
    query.take_text(name)?.map(|text| read_instant(name, &text)).transpose()
}

impl Api {
    pub(super) fn list_changes(
        &self,
        asked: &Asked<'_>,
        selection: &Selection,
        media: Media,
    ) -> Replied {
        let page = balance::list(&self.db, asked.deadline, selection)?;
        let page = page.ok_or_else(|| Problem::user_not_found(selection.user_id))?;
        let reply = match media {
            Media::Json => Reply::json(200, &page),
            Media::Csv => Reply::text(CSV_TYPE, csv(&page.changes)),
        };
        Ok(match page.next {
            Some(next) => reply.with_header("Link", link_to_next(asked.call.query(), next)),
            None => reply,
        })
    }

    pub(super) fn read_balance(&self, asked: &Asked<'_>, user_id: i64, as_of: AsOf) -> Replied {
        let problem = match balance::read_as_of(&self.db, asked.deadline, user_id, as_of)? {
            Reading::Balance(balance) => return Ok(Reply::json(200, &balance)),
            Reading::NoSuchUser => Problem::user_not_found(user_id),
            Reading::NoChangeYet => Problem::no_change_yet(user_id),
            Reading::NoSuchNumber { changes } => Problem::no_such_number(user_id, changes),
            Reading::NotYet => Problem::must("at", "not be later than the database's clock"),
        };
        Err(problem.into())
    }
}

/// The list in CSV (RFC 4180), with texts of clients in quotes, and empty where there is none.
fn csv(changes: &[RecordedChange]) -> String {
    let quoted = |text: &Option<String>| {
        let text = text.as_ref().map(|text| text.replace('"', "\"\""));
        text.map(|text| format!("\"{text}\"")).unwrap_or_default()
    };
    let mut text = CSV_HEADER.to_owned();
    for change in changes {
        let RecordedChange { number, amount, balance_after, reference, set_id, actor, .. } = change;
        let (reference, actor) = (quoted(reference), quoted(actor));
        let set_id = set_id.as_deref().unwrap_or_default();
        let created_at = timestamp::text(&change.created_at);
        // Writing into memory cannot fail.
        let _ = write!(
            text,
            "{number},{amount},{balance_after},{reference},{set_id},{created_at},{actor}\r\n"
        );
    }
    text
}

/// The next page, with all other parameters as they were sent. The address is relative, so that it
/// leads through a proxy that strips a prefix, too.
fn link_to_next(query: &str, next: i64) -> String {
    let others = query.split('&').filter(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        !pair.is_empty() && name != "before"
    });
    let others: String = others.map(|pair| format!("{pair}&")).collect();
    let others = utf8_percent_encode(&others, NOT_IN_A_LINK);
    format!("<changes?{others}before={next}>; rel=\"next\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_keeps_the_other_parameters_and_cannot_be_left() {
        for (query, link) in [
            ("", "changes?before=7"),
            ("before=9&limit=2", "changes?limit=2&before=7"),
            ("&limit=2&before=&format=csv&", "changes?limit=2&format=csv&before=7"),
            ("to=2026-01-01T00:00:00+01:00", "changes?to=2026-01-01T00:00:00+01:00&before=7"),
            ("reference=%22%3E;%20a", "changes?reference=%22%3E;%20a&before=7"),
            ("reference=a>,<#b", "changes?reference=a%3E,%3C%23b&before=7"),
        ] {
            assert_eq!(link_to_next(query, 7), format!("<{link}>; rel=\"next\""), "{query}");
        }
    }

    #[test]
    fn an_instant_has_an_offset_in_any_spelling() {
        let at = |text: &str| {
            let mut query = Query::parse(text);
            take_instant(&mut query, "at").map(|at| at.map(|at| timestamp::text(&at)))
        };
        for same in [
            "at=2026-03-01T12:00:00Z",
            "at=2026-03-01T12:00:00.000000000z",
            "at=2026-03-01T13:00:00+01:00",
            "at=2026-03-01T13:00:00%2B01:00",
            "at=2026-03-01T13:00:00%2001:00",
            "at=2026-03-01%2012:00:00Z",
            "at=2026-03-01T06:30:00-05:30",
        ] {
            assert_eq!(at(same).unwrap().as_deref(), Some("2026-03-01T12:00:00.000000Z"), "{same}");
        }
        assert_eq!(at("at=").unwrap(), None);
        for wrong in [
            "at=2026-03-01T12:00:00",
            "at=2026-03-01",
            "at=2026-02-30T12:00:00Z",
            "at=1772366400",
            "at=yesterday",
            "at=%20",
        ] {
            assert_eq!(at(wrong).unwrap_err().field().as_deref(), Some("at"), "{wrong}");
        }
    }
}
