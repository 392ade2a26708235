//! The change of a balance: one command, one statement, one round trip, one outcome.
//!
//! Two statements exist for it. The plain one updates the row under its guard and writes the
//! ledger row. The keyed one locks the row first, stores the decision under the key, and applies
//! it only when the key was new. The plain one's refusal reads the balance from the statement's
//! snapshot, which is older than a row it had to wait for: a refusal that its own figure
//! contradicts is decided again under the lock.

mod key;

use std::sync::Arc;

use postgres::Row;

use crate::db::{Db, Deadline, Error, Session};
pub use key::{IdempotencyKey, KeyFault};

/// A signed amount to add to a user's balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    user_id: i64,
    amount: i64,
    key: Option<IdempotencyKey>,
}

/// Zero changes nothing and is refused.
#[derive(Debug, PartialEq, Eq)]
pub struct ZeroAmount;

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Applied and durable; the balance after it.
    Changed {
        /// The balance after the change.
        balance: i64,
    },
    /// Refused: the balance would have become negative.
    InsufficientFunds {
        /// The balance that does not cover the amount.
        balance: i64,
    },
    /// Refused: the balance would leave 64 bits.
    OutOfRange,
    /// Refused: nobody has this id.
    NoSuchUser,
    /// Refused: the key stands for another amount.
    KeyReused,
}

/// An outcome, and whether it is the stored one of an earlier request with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What became of the change.
    pub outcome: Decision,
    /// Whether this request changed nothing because an earlier one with its key had.
    pub replayed: bool,
}

impl Change {
    /// A change without a key: sent twice, it is applied twice.
    ///
    /// # Errors
    /// [`ZeroAmount`].
    pub fn new(user_id: i64, amount: i64) -> Result<Change, ZeroAmount> {
        if amount == 0 {
            return Err(ZeroAmount);
        }
        Ok(Change { user_id, amount, key: None })
    }

    /// The same under a key: sent again, it gives the first result again.
    pub fn with_key(self, key: Option<IdempotencyKey>) -> Change {
        Change { key, ..self }
    }

    /// Whose balance.
    pub fn user_id(&self) -> i64 {
        self.user_id
    }

    /// The name it was given, if any.
    pub fn key(&self) -> Option<&IdempotencyKey> {
        self.key.as_ref()
    }

    /// The amount, never zero.
    pub fn amount(&self) -> i64 {
        self.amount
    }

    fn is_covered_by(&self, balance: i64) -> bool {
        balance.checked_add(self.amount).is_some_and(|after| after >= 0)
    }
}

/// Changes balances.
pub struct Balances {
    db: Arc<Db>,
}

/// The guards cannot overflow: a balance is at least 0, so adding what is at most 0 to it, or
/// taking what is at least 0 from the largest number, stays in 64 bits.
const CHANGE: &str = "\
with changed as (
    update users set balance = balance + $2::bigint
    where id = $1
        and balance + least($2::bigint, 0) >= 0
        and balance <= 9223372036854775807 - greatest($2::bigint, 0)
    returning balance
), recorded as (
    insert into balance_changes (user_id, amount, balance_after)
    select $1, $2::bigint, balance from changed
)
select changed.balance as after, users.balance as before
from users left join changed on true
where users.id = $1";

/// Decides from the locked row, which is always the newest one.
const CHANGE_LOCKED: &str = "\
with locked as materialized (
    select balance from users where id = $1 for no key update
), decided as materialized (
    select balance, balance + least($2::bigint, 0) >= 0 as covered,
        balance <= 9223372036854775807 - greatest($2::bigint, 0) as in_range
    from locked
), changed as (
    update users set balance = decided.balance + $2::bigint
    from decided where users.id = $1 and covered and in_range
    returning users.balance
), recorded as (
    insert into balance_changes (user_id, amount, balance_after)
    select $1, $2::bigint, balance from changed
)
select changed.balance as after, decided.balance as before
from decided left join changed on true";

/// The row of the key is written with the decision in it, or found; only the attempt that wrote
/// it goes on to change the balance. Waiting for the user's lock first, twins with one key come
/// one after the other, and the second finds what the first has committed.
const CHANGE_ONCE: &str = "\
with locked as materialized (
    select balance, gen_random_uuid() as attempt from users where id = $1 for no key update
), decided as materialized (
    select balance, attempt, case
        when balance + least($2::bigint, 0) < 0 then 'insufficient_funds'
        when balance > 9223372036854775807 - greatest($2::bigint, 0) then 'out_of_range'
        else 'changed' end as outcome
    from locked
), kept as (
    insert into idempotency_keys as stored (user_id, key, amount, outcome, balance, attempt)
    select $1, $3, $2::bigint, outcome,
        case outcome when 'changed' then balance + $2::bigint else balance end, attempt
    from decided
    on conflict (user_id, key) do update set key = excluded.key
    returning amount, outcome, balance, attempt
), changed as (
    update users set balance = kept.balance
    from kept join decided using (attempt)
    where users.id = $1 and kept.outcome = 'changed'
    returning users.balance
), recorded as (
    insert into balance_changes (user_id, amount, balance_after)
    select $1, $2::bigint, balance from changed
)
select kept.amount, kept.outcome, kept.balance, kept.attempt <> decided.attempt as replayed
from kept cross join decided";

impl Balances {
    /// Balances kept in this database.
    pub fn new(db: Arc<Db>) -> Balances {
        Balances { db }
    }

    /// Applies the change, or says why not. Returns when the result is durable.
    ///
    /// # Errors
    /// A fault of the database, with what is known of the change.
    pub fn change(&self, deadline: &Deadline, change: &Change) -> Result<Answer, Error> {
        self.db.run(deadline, |session| apply(session, change))
    }
}

/// One statement, or two: see the module's page.
fn apply(session: &mut Session, change: &Change) -> Result<Answer, postgres::Error> {
    if let Some(key) = &change.key {
        return change_once(session, change, key);
    }
    let mut outcome = change_with(session, CHANGE, change)?;
    if contradicts_itself(change, outcome) {
        outcome = change_with(session, CHANGE_LOCKED, change)?;
    }
    Ok(Answer { outcome, replayed: false })
}

fn contradicts_itself(change: &Change, outcome: Decision) -> bool {
    matches!(outcome, Decision::InsufficientFunds { balance } if change.is_covered_by(balance))
}

fn change_with(
    session: &mut Session,
    sql: &'static str,
    change: &Change,
) -> Result<Decision, postgres::Error> {
    let row = session.query_opt(sql, &[&change.user_id, &change.amount])?;
    Ok(row.map_or(Decision::NoSuchUser, |row| match (row.get("after"), row.get("before")) {
        (Some(balance), _) => Decision::Changed { balance },
        (None, balance) if change.amount < 0 => Decision::InsufficientFunds { balance },
        (None, _) => Decision::OutOfRange,
    }))
}

fn change_once(
    session: &mut Session,
    change: &Change,
    key: &IdempotencyKey,
) -> Result<Answer, postgres::Error> {
    let params: [&(dyn postgres::types::ToSql + Sync); 3] =
        [&change.user_id, &change.amount, &key.as_str()];
    let row = session.query_opt(CHANGE_ONCE, &params)?;
    Ok(row.map_or(Answer { outcome: Decision::NoSuchUser, replayed: false }, |row| Answer {
        outcome: stored_outcome(change, &row),
        replayed: row.get("replayed"),
    }))
}

fn stored_outcome(change: &Change, row: &Row) -> Decision {
    let balance = row.get("balance");
    match row.get("outcome") {
        _ if row.get::<_, i64>("amount") != change.amount => Decision::KeyReused,
        "changed" => Decision::Changed { balance },
        "insufficient_funds" => Decision::InsufficientFunds { balance },
        _ => Decision::OutOfRange,
    }
}
