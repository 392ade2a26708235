//! Users: create, read, list, and the list of a user's changes.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use postgres::error::SqlState;
use serde::Serialize;

use crate::db::{Db, Deadline, Error};
use crate::timestamp;

/// A user and the balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// The id, given by the database.
    pub user_id: i64,
    /// Never negative.
    pub balance: i64,
}

/// What became of a creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// There is a new user.
    Created(User),
    /// An earlier creation with the same key made this one; the balance is the opening one.
    Replayed(User),
    /// Refused: the key stands for another opening balance.
    KeyReused,
}

/// One row of the ledger.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedChange {
    /// Rises with time within a user.
    pub id: i64,
    /// Never zero.
    pub amount: i64,
    /// The balance this change left.
    pub balance_after: i64,
    /// By the database's clock.
    #[serde(serialize_with = "timestamp::as_text")]
    pub created_at: DateTime<Utc>,
}

/// A part of a list: at most `limit` rows behind (or before) the row named by `from`.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// The last id of the page before.
    pub from: Option<i64>,
    /// The most rows.
    pub limit: i64,
}

/// Reads and creates users.
pub struct Users {
    db: Arc<Db>,
}

/// An opening balance is a change like any other; of zero it is none.
const CREATE: &str = "\
with created as (
    insert into users (balance) values ($1) returning id, balance
), recorded as (
    insert into balance_changes (user_id, amount, balance_after)
    select id, balance, balance from created where balance <> 0
)
select id, balance from created";
/// Of twins that run at once none sees another's row: each waits at the key's index until the
/// first has committed, and then fails as a whole, so that the user it has made is undone.
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
/// The user's row comes even without a change, so that an unknown user can be told from one
/// whose page is empty.
const CHANGES: &str = "\
select page.id, page.amount, page.balance_after, page.created_at
from users left join lateral (
    select id, amount, balance_after, created_at from balance_changes
    where user_id = $1 and id < $2
    order by id desc limit $3
) page on true
where users.id = $1
order by page.id desc";

impl Users {
    /// Users kept in this database.
    pub fn new(db: Arc<Db>) -> Users {
        Users { db }
    }

    /// Creates a user; the opening balance must not be negative.
    ///
    /// # Errors
    /// A fault of the database.
    pub fn create(&self, deadline: &Deadline, balance: i64) -> Result<User, Error> {
        self.db.run(deadline, |session| {
            let rows = session.query(CREATE, &[&balance])?;
            Ok(user(&rows[0]))
        })
    }

    /// The same, once only under each key.
    ///
    /// # Errors
    /// A fault of the database.
    pub fn create_once(
        &self,
        deadline: &Deadline,
        balance: i64,
        key: &str,
    ) -> Result<Creation, Error> {
        self.db.run(deadline, |session| {
            let rows = match session.query(CREATE_ONCE, &[&balance, &key]) {
                // A twin was faster, and now its user is found.
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

    /// One user, if there is one of this id.
    ///
    /// # Errors
    /// A fault of the database.
    pub fn read(&self, deadline: &Deadline, user_id: i64) -> Result<Option<User>, Error> {
        self.db.run(deadline, |session| {
            Ok(session.query_opt(READ, &[&user_id])?.map(|row| user(&row)))
        })
    }

    /// Users by rising id.
    ///
    /// # Errors
    /// A fault of the database.
    pub fn list(&self, deadline: &Deadline, page: Page) -> Result<Vec<User>, Error> {
        let after = page.from.unwrap_or(i64::MIN);
        self.db.run(deadline, |session| {
            Ok(session.query(LIST, &[&after, &page.limit])?.iter().map(user).collect())
        })
    }

    /// A user's changes, newest first; none when there is no such user.
    ///
    /// # Errors
    /// A fault of the database.
    pub fn changes(
        &self,
        deadline: &Deadline,
        user_id: i64,
        page: Page,
    ) -> Result<Option<Vec<RecordedChange>>, Error> {
        let before = page.from.unwrap_or(i64::MAX);
        self.db.run(deadline, |session| {
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
}

fn user(row: &postgres::Row) -> User {
    User { user_id: row.get("id"), balance: row.get("balance") }
}
