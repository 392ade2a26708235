//! Reads the ledger: a user's changes, and what the balance was at an instant or after a change.
//!
//! A user's changes are numbered without a gap, and none is earlier than the one before it. So an
//! instant becomes a number by bisection, which reads about 20 rows of a million, and everything
//! else is read by numbers.

use chrono::{DateTime, TimeDelta, Utc};
use postgres::Row;
use serde::Serialize;

use crate::db::{Db, Deadline, Error, FromDatabase, Session, from_row};
use crate::timestamp;

/// One row of the ledger: a change that was applied.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedChange {
    /// Which of its user's changes it is, from 1 on, in the order of the commits.
    pub number: i64,
    /// What was added to the balance: negative if it was lowered, never zero.
    pub amount: i64,
    /// The user's balance just after this change.
    pub balance_after: i64,
    /// What the change was for, in the client's words.
    pub reference: Option<String>,
    /// The same in all changes that were made together.
    pub set_id: Option<String>,
    /// When the change was made, by the database's clock; never earlier than the user's change
    /// before.
    #[serde(serialize_with = "timestamp::as_text")]
    pub created_at: DateTime<Utc>,
    /// The name of the token that the client had, where that is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
}

/// A page of a user's changes, newest first.
#[derive(Clone, Debug, Serialize)]
pub struct RecordedChanges {
    /// The changes, by falling number.
    pub changes: Vec<RecordedChange>,
    /// The value of [`Selection::before`] for the next page; None if this is the last one.
    pub next: Option<i64>,
}

/// Selects changes of one user. All conditions that are given have to hold.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The id of the user.
    pub user_id: i64,
    /// Only changes with a smaller number than this.
    pub before: Option<i64>,
    /// Only changes with a larger number than this.
    pub after: Option<i64>,
    /// Only changes made at this instant or later.
    pub from: Option<DateTime<Utc>>,
    /// Only changes made before this instant.
    pub to: Option<DateTime<Utc>>,
    /// Only changes with exactly this reference.
    pub reference: Option<String>,
    /// The most changes of a page.
    pub limit: i64,
}

/// Where in the ledger a balance is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsOf {
    /// After all that was committed.
    Now,
    /// After all that was made at this instant or before.
    Instant(DateTime<Utc>),
    /// Just after the change with this number.
    Number(i64),
}

/// A user's balance at some place in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BalanceAsOf {
    /// The id of the user.
    pub user_id: i64,
    /// The balance after the change with that number.
    pub balance: i64,
    /// The number of the last change that counts; 0 if there was none.
    pub number: i64,
    /// The instant that was asked for, or that of the change, or the database's now.
    #[serde(serialize_with = "timestamp::as_text")]
    pub as_of: DateTime<Utc>,
}

/// What was found where a balance was to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The balance there.
    Balance(BalanceAsOf),
    /// No user has this id.
    NoSuchUser,
    /// The user had no change up to the instant.
    NoChangeYet,
    /// By the database's clock the instant has not come, so nobody knows.
    NotYet,
    /// The ledger has no change with this number.
    NoSuchNumber {
        /// How many changes there have been.
        changes: i64,
    },
}

/// Finds the last change that was made at an instant or before. Each step halves the numbers from
/// `low` to `high`, among which it is, by a look at the row in the middle. A row that was lost does
/// not stop it, because the nearest one below stands for it.
const FIND: &str = "\
with recursive halved as (
    select 0::bigint as low, changes as high, 0::bigint as number, null::bigint as balance
    from users where id = $1
    union all
    select
        case when found.created_at > $2 then low else middle end,
        case when found.created_at > $2 then found.id - 1 else high end,
        case when found.created_at <= $2 then found.id else number end,
        case when found.created_at <= $2 then found.balance_after else balance end
    from halved
    cross join lateral (select (low + high + 1) / 2 as middle) as split
    left join lateral (
        select id, created_at, balance_after from balance_changes
        where user_id = $1 and id <= middle order by id desc limit 1
    ) as found on true
    where low < high
)
select number, balance, $2::timestamptz <= clock_timestamp() as has_come
from halved where low >= high";
/// A user without such changes still gives one row, of nulls, so that an unknown user differs from
/// an empty page.
const LIST: &str = "\
select page.id as number, amount, balance_after, reference, set_id::text, created_at, actor
from users left join lateral (
    select * from balance_changes
    where user_id = $1 and id > $2 and id < $3
    order by id desc limit $4
) page on true
where users.id = $1
order by page.id desc";
/// Like [`LIST`]. The comparison stands alone, so that the index of the references is used.
const LIST_REFERENCE: &str = "\
select page.id as number, amount, balance_after, reference, set_id::text, created_at, actor
from users left join lateral (
    select * from balance_changes
    where user_id = $1 and id > $2 and id < $3 and reference = $5
    order by id desc limit $4
) page on true
where users.id = $1
order by page.id desc";
const READ_NOW: &str = "\
select balance, changes as number, clock_timestamp() as as_of from users where id = $1";
const READ_AFTER: &str = "\
select users.changes, made.id as number, made.balance_after as balance, made.created_at as as_of
from users left join balance_changes as made on made.user_id = users.id and made.id = $2
where users.id = $1";

/// Lists a user's changes, newest first; None if no user has this id.
///
/// # Errors
/// Those of the database.
pub fn list(
    db: &Db,
    deadline: &Deadline,
    selection: &Selection,
) -> Result<Option<RecordedChanges>, Error> {
    let Selection { user_id, before, after, from, to, reference, limit } = selection;
    db.run(deadline, |session| {
        let (mut after, mut before) = (after.unwrap_or(0), before.unwrap_or(i64::MAX));
        if let Some(from) = from {
            let Some(found) = find_before(session, *user_id, *from)? else { return Ok(None) };
            after = after.max(found);
        }
        if let Some(to) = to {
            let Some(found) = find_before(session, *user_id, *to)? else { return Ok(None) };
            before = before.min(found + 1);
        }
        // One more than the page has room for tells whether another page follows.
        let more = limit + 1;
        let rows = match reference {
            Some(reference) => {
                session.query(LIST_REFERENCE, &[user_id, &after, &before, &more, reference])?
            }
            None => session.query(LIST, &[user_id, &after, &before, &more])?,
        };
        Ok((!rows.is_empty()).then(|| page(&rows, *limit)))
    })
}

/// The number of the last change before an instant; 0 if there is none. The driver cuts an instant
/// off after the microseconds, which are all that the database knows.
fn find_before(
    session: &mut Session,
    user_id: i64,
    instant: DateTime<Utc>,
) -> FromDatabase<Option<i64>> {
    let just_before = instant - TimeDelta::nanoseconds(1);
    let row = session.query_opt(FIND, &[&user_id, &just_before])?;
    Ok(row.map(|row| row.get("number")))
}

fn page(rows: &[Row], limit: i64) -> RecordedChanges {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let changes: Vec<_> = rows.iter().take(limit).filter_map(change).collect();
    let next = changes.last().map(|change| change.number).filter(|_| rows.len() > limit);
    RecordedChanges { changes, next }
}

fn change(row: &Row) -> Option<RecordedChange> {
    let number = row.get::<_, Option<i64>>("number")?;
    Some(from_row!(row => RecordedChange {
        amount, balance_after, reference, set_id, created_at, actor; number
    }))
}

/// Reads what a user's balance is, or was.
///
/// # Errors
/// Those of the database.
pub fn read_as_of(
    db: &Db,
    deadline: &Deadline,
    user_id: i64,
    as_of: AsOf,
) -> Result<Reading, Error> {
    db.run(deadline, |session| {
        let row = match as_of {
            AsOf::Now => session.query_opt(READ_NOW, &[&user_id])?,
            AsOf::Instant(instant) => session.query_opt(FIND, &[&user_id, &instant])?,
            AsOf::Number(number) => session.query_opt(READ_AFTER, &[&user_id, &number])?,
        };
        Ok(row.map_or(Reading::NoSuchUser, |row| reading(user_id, as_of, &row)))
    })
}

fn reading(user_id: i64, asked: AsOf, row: &Row) -> Reading {
    let as_of = match asked {
        AsOf::Instant(_) if !row.get::<_, bool>("has_come") => return Reading::NotYet,
        AsOf::Instant(instant) => Some(instant),
        AsOf::Now | AsOf::Number(_) => row.get("as_of"),
    };
    match (row.get("balance"), as_of) {
        (Some(balance), Some(as_of)) => {
            Reading::Balance(BalanceAsOf { user_id, balance, number: row.get("number"), as_of })
        }
        _ if matches!(asked, AsOf::Number(_)) => {
            Reading::NoSuchNumber { changes: row.get("changes") }
        }
        _ => Reading::NoChangeYet,
    }
}
