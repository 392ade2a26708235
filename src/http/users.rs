//! Handlers for users and the lists of their changes.

use serde::Serialize;

use super::Asked;
use super::handlers::{Api, Fault, next_page, replayed};
use super::problem::Problem;
use super::reply::Reply;
use crate::balance::IdempotencyKey;
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
    /// A repeated key gets the first answer again: the same user, with the opening balance.
    pub(super) fn create_user(
        &self,
        asked: &Asked<'_>,
        balance: i64,
        key: Option<&IdempotencyKey>,
    ) -> Result<Reply, Fault> {
        let creation = match key {
            Some(key) => self.users.create_once(asked.deadline, balance, key.as_str()),
            None => self.users.create(asked.deadline, balance).map(Creation::Created),
        };
        let created = |user: User| {
            let location = format!("/api/users/{}", user.user_id);
            Reply::json(201, &user).with_header("Location", location)
        };
        match creation? {
            Creation::Created(user) => Ok(created(user)),
            Creation::Replayed(user) => Ok(replayed(created(user))),
            Creation::KeyReused => {
                Err(Problem::key_reused("a user of another opening balance").into())
            }
        }
    }

    pub(super) fn read_user(&self, asked: &Asked<'_>, user_id: i64) -> Result<Reply, Fault> {
        match self.users.read(asked.deadline, user_id)? {
            Some(user) => Ok(Reply::json(200, &user)),
            None => Err(Problem::user_not_found(user_id).into()),
        }
    }

    pub(super) fn list_users(&self, asked: &Asked<'_>, page: Page) -> Result<Reply, Fault> {
        let users = self.users.list(asked.deadline, page)?;
        let next = next_page(&users, page.limit, |user| user.user_id);
        Ok(Reply::json(200, &UserList { users, next }))
    }

    pub(super) fn list_changes(
        &self,
        asked: &Asked<'_>,
        user_id: i64,
        page: Page,
    ) -> Result<Reply, Fault> {
        let changes = self.users.changes(asked.deadline, user_id, page)?;
        let changes = changes.ok_or_else(|| Problem::user_not_found(user_id))?;
        let next = next_page(&changes, page.limit, |change| change.id);
        Ok(Reply::json(200, &ChangeList { changes, next }))
    }
}
