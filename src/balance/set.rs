//! Changes of several users' balances that are made together: all of them, or none.

use serde::Serialize;

use super::{Answer, IdempotencyKey, has_functions};
use crate::db::{Db, Deadline, Error};

/// Signed amounts to add to the balances of as many users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeSet {
    user_ids: Vec<i64>,
    amounts: Vec<i64>,
    key: Option<IdempotencyKey>,
    reference: Option<String>,
}

/// Why changes are no set; a place counts from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetFault {
    /// They are too few or too many.
    Count,
    /// The amount at this place is 0, which would change nothing.
    ZeroAmount(usize),
    /// The user at this place has a change before.
    UserTwice(usize),
    /// They are to add up to 0, and add up to this.
    Unbalanced(i128),
}

/// The result of a set: all its changes were applied, or why none was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetDecision {
    /// All were applied, and are durable.
    Changed {
        /// What the ledger keeps with each of them, a UUID.
        set_id: String,
        /// In the order of the set.
        changes: Vec<AppliedChange>,
    },
    /// Refused: the balance of this user would have become negative.
    InsufficientFunds {
        /// The first in the set whose change is refused.
        user_id: i64,
        /// The balance that does not cover the amount.
        balance: i64,
        /// The amount that was to be added.
        amount: i64,
    },
    /// Refused: the balance of this user would be too large for 64 bits.
    OutOfRange {
        /// The first in the set whose change is refused.
        user_id: i64,
        /// The amount that was to be added.
        amount: i64,
    },
    /// Refused: no user has this id.
    NoSuchUser {
        /// The first such id in the set.
        user_id: i64,
    },
    /// Refused: an earlier request used the key with other changes or another reference.
    KeyReused,
}

/// One change of a set that was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AppliedChange {
    /// Whose balance was changed.
    pub user_id: i64,
    /// The balance after the change.
    pub balance: i64,
    /// Which of its user's changes it is, from 1 on, in the order of the commits.
    pub number: i64,
}

/// How many changes a set may have.
pub const SET_CHANGES: std::ops::RangeInclusive<usize> = 2..=100;

impl ChangeSet {
    /// Of changes, each a user's id and an amount. If `balanced`, they must add up to 0. The key
    /// and the reference are as those of a [`super::Change`]; the key belongs to no user.
    ///
    /// # Errors
    /// [`SetFault`].
    pub fn new(
        changes: Vec<(i64, i64)>,
        balanced: bool,
        key: Option<IdempotencyKey>,
        reference: Option<String>,
    ) -> Result<ChangeSet, SetFault> {
        if !SET_CHANGES.contains(&changes.len()) {
            return Err(SetFault::Count);
        }
        let (user_ids, amounts): (Vec<i64>, Vec<i64>) = changes.into_iter().unzip();
        for place in 0..user_ids.len() {
            if amounts[place] == 0 {
                return Err(SetFault::ZeroAmount(place));
            }
            if user_ids[..place].contains(&user_ids[place]) {
                return Err(SetFault::UserTwice(place));
            }
        }
        match amounts.iter().map(|amount| i128::from(*amount)).sum() {
            0 => {}
            sum if balanced => return Err(SetFault::Unbalanced(sum)),
            _ => {}
        }
        Ok(ChangeSet { user_ids, amounts, key, reference })
    }
}

/// Never part of a deadlock: whoever changes balances first locks users, in the order of their ids,
/// then at most one key, and then waits for nobody. That order is the Sort's below LockRows. The
/// rows in `locked` are the newest versions; what is decided, updated and told is computed from
/// them alone. An unknown user has a null among the balances, and then no key is stored.
///
/// While a set waits for one user it keeps those that it has locked, and their changes wait in
/// workers' hands. So it waits for a lock at most 1 s, far longer than a change takes and shorter
/// than the session's limit. The database sets this before the first lock, and only until the end
/// of the statement's transaction.
const CHANGE_ALL: &str = "\
with locked as materialized (
    select id, balance, changes from users where id = any($1::bigint[])
        and (select set_config('lock_timeout', '1000', true)) is not null
    order by id for no key update
), asked as materialized (
    select place, user_id, amount, balance, changes, balance + least(amount, 0) >= 0
        and balance <= 9223372036854775807 - greatest(amount, 0) as fits
    from unnest($1, $2::bigint[]) with ordinality as asked (user_id, amount, place)
    left join locked on locked.id = user_id
), decided as materialized (
    select gen_random_uuid() as set_id, count(balance) = count(*) as known,
        array_agg(balance order by place) as balances,
        array_agg(changes + 1 order by place) as numbers,
        min(place) filter (where not fits) as refused
    from asked
), kept as (
    insert into set_keys as stored
        (key, user_ids, amounts, reference, set_id, balances, numbers, refused)
    select $5::text, $1, $2, $3::text, set_id, balances, numbers, refused
    from decided where known and $5 is not null
    on conflict (key) do update set key = excluded.key
    returning user_ids, amounts, reference, set_id, balances, numbers, refused
), told as materialized (
    select user_ids = $1 and amounts = $2 and reference is not distinct from $3 as same,
        set_id, balances, numbers, refused from kept
    union all
    select true, set_id, balances, numbers, refused from decided where not known or $5 is null
), changed as (
    update users set balance = asked.balance + asked.amount, changes = asked.changes + 1,
        changed_at = greatest(clock_timestamp(), users.changed_at)
    from asked cross join told join decided using (set_id)
    where users.id = asked.user_id and decided.known and decided.refused is null
    returning users.id, users.balance, users.changes, users.changed_at, asked.amount, set_id
), recorded as (
    insert into balance_changes
        (user_id, id, amount, balance_after, created_at, reference, set_id, actor)
    select id, changes, amount, balance, changed_at, $3, set_id, $4::text from changed
)
select told.same, told.set_id::text, told.balances, told.numbers, told.refused,
    told.set_id <> decided.set_id as replayed
from told cross join decided";

/// Calls the function of `deploy/citus.sql`, for users who are distributed over several machines.
const CALL_ALL: &str = "\
select same, set_id, balances, numbers, refused, replayed
from change_balances($1::bigint[], $2::bigint[], $3::text, $4::text, $5::text)";

/// Applies all changes of the set, or says why none is. Returns when the result is durable. The
/// ledger names the `actor`, if there is one.
///
/// # Errors
/// Those of the database; [`Error::effect`] says whether the set may have been applied.
pub fn apply_all(
    db: &Db,
    deadline: &Deadline,
    set: &ChangeSet,
    actor: Option<&str>,
) -> Result<Answer<SetDecision>, Error> {
    let ChangeSet { user_ids, amounts, key, reference } = set;
    let key = key.as_ref().map(IdempotencyKey::as_str);
    db.run(deadline, |session| {
        let sql = if has_functions(session)? { CALL_ALL } else { CHANGE_ALL };
        let row = session.query_one(sql, &[user_ids, amounts, reference, &actor, &key])?;
        let outcome = decision(set, &row);
        let replayed = row.get("replayed") && outcome != SetDecision::KeyReused;
        Ok(Answer { outcome, replayed })
    })
}

fn decision(set: &ChangeSet, row: &postgres::Row) -> SetDecision {
    if !row.get::<_, bool>("same") {
        return SetDecision::KeyReused;
    }
    let balances: Vec<Option<i64>> = row.get("balances");
    if let Some(place) = balances.iter().position(Option::is_none) {
        return SetDecision::NoSuchUser { user_id: set.user_ids[place] };
    }
    let balances = balances.into_iter().flatten();
    let before = set.user_ids.iter().zip(&set.amounts).zip(balances);
    let mut before = before.map(|((user_id, amount), balance)| (*user_id, *amount, balance));
    let refused = row.get::<_, Option<i64>>("refused").and_then(|place| place.checked_sub(1));
    match refused.and_then(|place| before.nth(usize::try_from(place).ok()?)) {
        Some((user_id, amount, balance)) if amount < 0 => {
            SetDecision::InsufficientFunds { user_id, balance, amount }
        }
        Some((user_id, amount, _)) => SetDecision::OutOfRange { user_id, amount },
        None => {
            let numbers: Vec<i64> = row.get("numbers");
            let changes = before.zip(numbers).map(|((user_id, amount, balance), number)| {
                AppliedChange { user_id, balance: balance + amount, number }
            });
            SetDecision::Changed { set_id: row.get("set_id"), changes: changes.collect() }
        }
    }
}
