//! The handlers about users and the lists of their changes.

use std::sync::Arc;

use serde::Serialize;

use super::call::Call;
use super::handlers::{Api, PAGE_DEFAULT, PAGE_MAX, next_page, read_key, replayed, unavailable};
use super::input::{Fields, Query};
use super::problem::Problem;
use super::reply::Reply;
use crate::db::Attempt;
use crate::users::{Creation, Page, RecordedChange, User};

#[derive(Serialize)]
struct UserList {
    users: Vec<User>,
    next: Option<i64>,
}

#[derive(Serialize)]
struct ChangeList {
    changes: Vec<RecordedChange>,
    next: Option<i64>,
}

impl Api {
    /// With a key the first answer is given again: its user, with the opening balance.
    pub(super) fn create_user(
        &self,
        call: &Call,
        attempt: &Arc<Attempt>,
    ) -> Result<Reply, Problem> {
        let mut fields = Fields::parse(call)?;
        let balance = fields.take_integer("balance")?;
        fields.end()?;
        if balance < 0 {
            return Err(Problem::invalid_request("balance", "`balance` must not be negative"));
        }
        let creation = match read_key(call)? {
            Some(key) => self.users.create_once(attempt, balance, key.as_str()),
            None => self.users.create(attempt, balance).map(Creation::Created),
        };
        let created = |user: User| {
            let location = format!("/api/users/{}", user.user_id);
            Reply::json(201, &user).with_header("Location", location)
        };
        match creation.map_err(|error| unavailable(call, &error))? {
            Creation::Created(user) => Ok(created(user)),
            Creation::Replayed(user) => Ok(replayed(created(user))),
            Creation::KeyReused => Err(Problem::key_reused("a user of another opening balance")),
        }
    }

    pub(super) fn read_user(
        &self,
        call: &Call,
        attempt: &Arc<Attempt>,
        user_id: i64,
    ) -> Result<Reply, Problem> {
        Query::parse(call.query()).end()?;
        let user = self.users.read(attempt, user_id).map_err(|error| unavailable(call, &error))?;
        user.map(|user| Reply::json(200, &user)).ok_or_else(|| Problem::user_not_found(user_id))
    }

    pub(super) fn list_users(&self, call: &Call, attempt: &Arc<Attempt>) -> Result<Reply, Problem> {
        let page = read_page(call, "after")?;
        let users = self.users.list(attempt, page).map_err(|error| unavailable(call, &error))?;
        let next = next_page(&users, page.limit, |user| user.user_id);
        Ok(Reply::json(200, &UserList { users, next }))
    }

    pub(super) fn list_changes(
        &self,
        call: &Call,
        attempt: &Arc<Attempt>,
        user_id: i64,
    ) -> Result<Reply, Problem> {
        let page = read_page(call, "before")?;
        let changes = self
            .users
            .changes(attempt, user_id, page)
            .map_err(|error| unavailable(call, &error))?
            .ok_or_else(|| Problem::user_not_found(user_id))?;
        let next = next_page(&changes, page.limit, |change| change.id);
        Ok(Reply::json(200, &ChangeList { changes, next }))
    }
}

fn read_page(call: &Call, from: &'static str) -> Result<Page, Problem> {
    let mut query = Query::parse(call.query());
    let from = query.take_integer(from, 0..=i64::MAX)?;
    let limit = query.take_integer("limit", 1..=PAGE_MAX)?.unwrap_or(PAGE_DEFAULT);
    query.end()?;
    Ok(Page { from, limit })
}
