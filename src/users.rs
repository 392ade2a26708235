//! Users: to create, read and list them, and to list a user's changes.

use chrono::{DateTime, Utc};
use postgres::error::SqlState;
use serde::Serialize;

use crate::db::{Db, Deadline, Error};
use crate::timestamp;

/// A user's id and balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// The id, given by the database.
    pub user_id: i64,
    /// Never negative.
    pub balance: i64,
}

/// The result of a request to create a user, perhaps under an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// A new user was created.
    Created(User),
    /// An earlier request with the same key created this user; the balance is the opening one.
    Replayed(User),
    /// Refused: an earlier request used the key with another opening balance.
    KeyReused,
}

/// One row of the ledger: a change that was applied.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedChange {
    /// A later change of the same user has a higher id.
    pub id: i64,
    /// What was added to the balance: negative if it was lowered, never zero.
    pub amount: i64,
    /// The user's balance just after this change.
    pub balance_after: i64,
    /// When the change was made, by the database's clock.
    #[serde(serialize_with = "timestamp::as_text")]
    pub created_at: DateTime<Utc>,
}

/// A part of a list: at most `limit` rows that follow the row `from` in the list's order.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// The last id of the page before; None for the first page.
    pub from: Option<i64>,
    /// The largest number of rows.
    pub limit: i64,
}

/// The ledger records an opening balance as a change, unless it is zero. Without a key the table of
/// keys is left alone: it may be locked, or lie on another machine.
const CREATE: &str = "\
with created as (
    insert into users (balance) values ($1) returning id, balance
), recorded as (
    insert into balance_changes (user_id, amount, balance_after)
    select id, balance, balance from created where balance <> 0
)
select id, balance from created";
/// Two concurrent requests with one key do not see each other's row. The second waits at the unique
/// index until the first commits; then its whole statement fails, so its new user is undone.
const CREATE_ONCE: &str = "\
with found as (
    select user_id, balance from creation_keys where key = $2
), created as (
    insert into users (balance) select $1::bigint where not exists (select from found)
    returning id, balance
), recorded as (
    insert into balance_changes (user_id, amount, balance_after)
    select id, balance, balance from created where balance <> 0
), kept as (
    insert into creation_keys (key, user_id, balance) select $2, id, balance from created
)
select user_id as id, balance, true as replayed from found
union all
select id, balance, false from created";
const READ: &str = "select id, balance from users where id = $1";
const LIST: &str = "select id, balance from users where id > $1 order by id limit $2";
/// A user without changes still gives one row, of nulls, so that an unknown user differs from an
/// empty page.
const CHANGES: &str = "\
select page.id, page.amount, page.balance_after, page.created_at
from users left join lateral (
    select id, amount, balance_after, created_at from balance_changes
    where user_id = $1 and id < $2
    order by id desc limit $3
) page on true
where users.id = $1
order by page.id desc";

/// Creates a user with this opening balance, which must not be negative; at most one for each key.
///
/// # Errors
/// Those of the database; [`Error::effect`] says whether the user may have been created. A request
/// that is sent again with its key creates no second user.
pub fn create(
    db: &Db,
    deadline: &Deadline,
    balance: i64,
    key: Option<&str>,
) -> Result<Creation, Error> {
    db.run(deadline, |session| {
        let Some(key) = key else {
            return Ok(Creation::Created(user(&session.query_one(CREATE, &[&balance])?)));
        };
        let rows = match session.query(CREATE_ONCE, &[&balance, &key]) {
            // Another request with this key has just committed, and now its user is found.
            Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
                session.query(CREATE_ONCE, &[&balance, &key])?
            }
            rows => rows?,
        };
        Ok(match user(&rows[0]) {
            created if !rows[0].get::<_, bool>("replayed") => Creation::Created(created),
            found if found.balance == balance => Creation::Replayed(found),
            _ => Creation::KeyReused,
        })
    })
}

/// Reads one user; None if no user has this id.
///
/// # Errors
/// Those of the database.
pub fn read(db: &Db, deadline: &Deadline, user_id: i64) -> Result<Option<User>, Error> {
    db.run(deadline, |session| Ok(session.query_opt(READ, &[&user_id])?.map(|row| user(&row))))
}

/// Lists users by rising id; `page.from` is the id before the first of them.
///
/// # Errors
/// Those of the database.
pub fn list(db: &Db, deadline: &Deadline, page: Page) -> Result<Vec<User>, Error> {
    let after = page.from.unwrap_or(i64::MIN);
    db.run(deadline, |session| {
        Ok(session.query(LIST, &[&after, &page.limit])?.iter().map(user).collect())
    })
}

/// Lists a user's changes, newest first; None if no user has this id.
///
/// # Errors
/// Those of the database.
pub fn changes(
    db: &Db,
    deadline: &Deadline,
    user_id: i64,
    page: Page,
) -> Result<Option<Vec<RecordedChange>>, Error> {
    let before = page.from.unwrap_or(i64::MAX);
    db.run(deadline, |session| {
        let rows = session.query(CHANGES, &[&user_id, &before, &page.limit])?;
        let changes = rows.iter().filter_map(|row| {
            Some(RecordedChange {
                id: row.get::<_, Option<i64>>("id")?,
                amount: row.get("amount"),
                balance_after: row.get("balance_after"),
                created_at: row.get("created_at"),
            })
        });
        Ok((!rows.is_empty()).then(|| changes.collect()))
    })
}

fn user(row: &postgres::Row) -> User {
    User { user_id: row.get("id"), balance: row.get("balance") }
}
