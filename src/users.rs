//! Users: to create, read and list them.

use postgres::error::SqlState;
use serde::Serialize;

use crate::balance::IdempotencyKey;
use crate::db::{Db, Deadline, Error, FromDatabase, Session, from_row};

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// The id, given by the database.
    pub user_id: i64,
    /// Never negative.
    pub balance: i64,
    /// What another system calls this user; no two users have one external id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
}

/// A user to create.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// The opening balance, not negative.
    pub balance: i64,
    /// What another system calls this user: 1 to 255 printable characters.
    pub external_id: Option<String>,
    /// A creation that is sent again under its key creates no second user.
    pub key: Option<IdempotencyKey>,
}

/// The result of a request to create a user, perhaps under an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Creation {
    /// A new user was created.
    Created(User),
    /// An earlier request with the same key created this user; the balance is the opening one.
    Replayed(User),
    /// Refused: an earlier request used the key with another opening balance or external id.
    KeyReused,
    /// Refused: another user has the external id.
    Taken {
        /// The id of that user.
        user_id: i64,
    },
}

/// Selects users. All conditions that are given have to hold.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Only the user with this external id.
    pub external_id: Option<String>,
    /// Only users with a larger id than this: the last id of a page, to read the next page.
    pub after: Option<i64>,
    /// The most users of a page.
    pub limit: i64,
}

/// The ledger records an opening balance as the first change, unless it is zero. What has neither a
/// key nor an external id leaves their tables alone: they may be locked, or on another machine.
const CREATE: &str = "\
with created as (
    insert into users (balance, changes, changed_at)
    select $1::bigint, least($1, 1), case when $1 > 0 then clock_timestamp() end
    returning id, balance, external_id, changed_at
), recorded as (
    insert into balance_changes (user_id, id, amount, balance_after, created_at, actor)
    select id, 1, balance, balance, changed_at, $2::text from created where balance > 0
)
select id, balance, external_id from created";
/// Two concurrent requests with one key or external id do not see each other's row. The second
/// waits at the unique index until the first commits; then its whole statement fails, so its new
/// user is undone.
const CREATE_ONCE: &str = "\
with found as (
    select user_id, balance, external_id from creation_keys where key = $4::text
), taken as (
    select user_id from external_ids
    where external_id = $3::text and not exists (select from found)
), created as (
    insert into users (balance, changes, changed_at, external_id)
    select $1::bigint, least($1, 1), case when $1 > 0 then clock_timestamp() end, $3::text
    where not exists (select from found) and not exists (select from taken)
    returning id, balance, external_id, changed_at
), recorded as (
    insert into balance_changes (user_id, id, amount, balance_after, created_at, actor)
    select id, 1, balance, balance, changed_at, $2::text from created where balance > 0
), named as (
    insert into external_ids (external_id, user_id)
    select external_id, id from created where external_id is not null
), kept as (
    insert into creation_keys (key, user_id, balance, external_id)
    select $4, id, balance, external_id from created where $4 is not null
)
select user_id as id, balance, external_id, 'replayed' as outcome from found
union all
select user_id, 0, null, 'taken' from taken
union all
select id, balance, external_id, 'created' from created";
const READ: &str = "select id, balance, external_id from users where id = $1";
const LIST: &str = "\
select id, balance, external_id from users where id > $1 order by id limit $2::bigint + 1";
/// Without a join, which the two tables could not have where they lie on different machines.
const FIND: &str = "\
select id, balance, external_id from users
where id = (select user_id from external_ids where external_id = $3) and id > $1
limit $2::bigint + 1";

/// Creates a user; at most one for each key, and for each external id. The ledger names the
/// `actor`, if there is one, with the opening balance.
///
/// # Errors
/// Those of the database; [`Error::effect`] says whether the user may have been created. A request
/// that is sent again with its key creates no second user.
pub fn create(
    db: &Db,
    deadline: &Deadline,
    new: &NewUser,
    actor: Option<&str>,
) -> Result<Creation, Error> {
    db.run(deadline, |session| {
        if new.key.is_none() && new.external_id.is_none() {
            let row = session.query_one(CREATE, &[&new.balance, &actor])?;
            return Ok(Creation::Created(user(&row)));
        }
        match create_once(session, new, actor) {
            // Another request with the key or the external id has just committed: what it has
            // created is found now.
            Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
                create_once(session, new, actor)
            }
            creation => creation,
        }
    })
}

fn create_once(
    session: &mut Session,
    new: &NewUser,
    actor: Option<&str>,
) -> FromDatabase<Creation> {
    let NewUser { balance, external_id, key } = new;
    let key = key.as_ref().map(IdempotencyKey::as_str);
    let row = session.query_one(CREATE_ONCE, &[balance, &actor, external_id, &key])?;
    let user = user(&row);
    Ok(match row.get("outcome") {
        "created" => Creation::Created(user),
        "taken" => Creation::Taken { user_id: user.user_id },
        _ if user.balance == *balance && user.external_id == *external_id => {
            Creation::Replayed(user)
        }
        _ => Creation::KeyReused,
    })
}

/// Reads one user; None if no user has this id.
///
/// # Errors
/// Those of the database.
pub fn read(db: &Db, deadline: &Deadline, user_id: i64) -> Result<Option<User>, Error> {
    db.run(deadline, |session| Ok(session.query_opt(READ, &[&user_id])?.map(|row| user(&row))))
}

/// Lists users by rising id: a page of them, and one more if another page follows.
///
/// # Errors
/// Those of the database.
pub fn list(db: &Db, deadline: &Deadline, selection: &Selection) -> Result<Vec<User>, Error> {
    let Selection { external_id, after, limit } = selection;
    let after = after.unwrap_or(i64::MIN);
    db.run(deadline, |session| {
        let rows = match external_id {
            Some(external_id) => session.query(FIND, &[&after, limit, external_id])?,
            None => session.query(LIST, &[&after, limit])?,
        };
        Ok(rows.iter().map(user).collect())
    })
}

fn user(row: &postgres::Row) -> User {
    from_row!(row => User { balance, external_id; user_id: row.get("id") })
}
