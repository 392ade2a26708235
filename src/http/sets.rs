//! Sets of changes: what `POST /api/changes` asks for, and its answers.

use serde::Serialize;

use super::Asked;
use super::call::Call;
use super::command::read_key;
use super::handlers::{Api, Replied, marked};
use super::input::Fields;
use super::problem::Problem;
use super::reply::Reply;
use crate::balance::{self, AppliedChange, ChangeSet, SET_CHANGES, SetDecision, SetFault};

/// The answer to a set that was applied.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ChangedAll {
    set_id: String,
    changes: Vec<AppliedChange>,
}

/// What `POST /api/changes` asks for. Pure.
///
/// # Errors
/// A [`Problem`] of status 400, which names the field where the body is JSON, or of status 422.
pub fn read_set(call: &Call) -> Result<ChangeSet, Problem> {
    let mut fields = Fields::parse(call)?;
    let changes = fields.take_objects("changes")?.into_iter().enumerate();
    let changes = changes.map(|(place, change)| {
        read_one(change).map_err(|problem| problem.within(&format!("changes[{place}]")))
    });
    let changes = changes.collect::<Result<Vec<(i64, i64)>, Problem>>()?;
    let reference = fields.take_label("reference")?;
    let balanced = fields.take_flag("balanced")?.unwrap_or_default();
    fields.end()?;
    let key = read_key(call)?;
    ChangeSet::new(changes, balanced, key, reference).map_err(|fault| match fault {
        SetFault::Count => {
            let (least, most) = (SET_CHANGES.start(), SET_CHANGES.end());
            Problem::must("changes", format!("have {least} to {most} changes"))
        }
        SetFault::ZeroAmount(place) => {
            Problem::invalid_request(&format!("changes[{place}].amount"), "`amount` must not be 0")
        }
        SetFault::UserTwice(place) => {
            let rule = "a set has one change of each user, and this user has one before";
            Problem::invalid_request(&format!("changes[{place}].userId"), rule)
        }
        SetFault::Unbalanced(sum) => Problem::unbalanced(sum),
    })
}

fn read_one(mut fields: Fields) -> Result<(i64, i64), Problem> {
    let user_id = fields.take_integer("userId")?;
    let amount = fields.take_integer("amount")?;
    fields.end().map(|()| (user_id, amount))
}

impl Api {
    pub(super) fn change_all(&self, asked: &Asked<'_>, set: &ChangeSet) -> Replied {
        let answer =
            balance::apply_all(&self.db, asked.deadline, set, self.recorded_actor(asked.call))?;
        Ok(marked(reply(answer.outcome), answer.replayed))
    }
}

fn reply(outcome: SetDecision) -> Reply {
    match outcome {
        SetDecision::Changed { set_id, changes } => {
            let changed = ChangedAll { set_id, changes };
            Reply::json(200, &changed).with_outcome("changed")
        }
        SetDecision::InsufficientFunds { user_id, balance, amount } => {
            Problem::insufficient_funds(balance, amount).of_user(user_id).into()
        }
        SetDecision::OutOfRange { user_id, amount } => {
            Problem::amount_out_of_range(amount).of_user(user_id).into()
        }
        SetDecision::NoSuchUser { user_id } => Problem::user_not_found(user_id).into(),
        SetDecision::KeyReused => Problem::key_reused("other changes or another reference").into(),
    }
}
