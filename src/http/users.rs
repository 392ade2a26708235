//! Handlers for users.

use super::Asked;
use super::handlers::{Api, Replied, marked, page};
use super::problem::Problem;
use super::reply::Reply;
use crate::users::{self, Creation, NewUser, Selection, User};

impl Api {
    /// A repeated key gets the first answer again: the same user, with the opening balance.
    pub(super) fn create_user(&self, asked: &Asked<'_>, user: &NewUser) -> Replied {
        let created = |user: User| {
            let location = format!("/api/users/{}", user.user_id);
            Reply::json(201, &user).with_header("Location", location)
        };
        match users::create(&self.db, asked.deadline, user, self.recorded_actor(asked.call))? {
            Creation::Created(user) => Ok(created(user)),
            Creation::Replayed(user) => Ok(marked(created(user), true)),
            Creation::KeyReused => {
                Err(Problem::key_reused("another opening balance or external id").into())
            }
            Creation::Taken { user_id } => Err(Problem::external_id_taken(user_id).into()),
        }
    }

    pub(super) fn read_user(&self, asked: &Asked<'_>, user_id: i64) -> Replied {
        let user = users::read(&self.db, asked.deadline, user_id)?;
        Ok(Reply::json(200, &user.ok_or_else(|| Problem::user_not_found(user_id))?))
    }

    pub(super) fn list_users(&self, asked: &Asked<'_>, selection: &Selection) -> Replied {
        let users = users::list(&self.db, asked.deadline, selection)?;
        Ok(page("users", users, selection.limit, |user| user.user_id))
    }
}
