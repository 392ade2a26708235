//! The change of a balance: one command, one statement, one round trip, one outcome. The changes of
//! several balances together are a command of their own ([`ChangeSet`]), and one statement, too.
//!
//! There are two kinds of statement for one balance. The plain one updates the row if its guards
//! hold, and writes the ledger row. The keyed one locks the row first, stores the decision under
//! the key, and applies it only if the key is new. If the plain one refuses, it reads the balance
//! from its snapshot, which may be older than the row that it waited for. If that balance would
//! have covered the amount, the change is decided again on the locked row.

mod key;
mod ledger;
mod set;

use postgres::Row;

use crate::db::{Db, Deadline, Error, Session};
pub use key::{IdempotencyKey, KeyFault, is_printable};
pub use ledger::{
    AsOf, BalanceAsOf, Reading, RecordedChange, RecordedChanges, Selection, list, read_as_of,
};
pub use set::{AppliedChange, ChangeSet, SET_CHANGES, SetDecision, SetFault, apply_all};

/// A signed amount to add to a user's balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    user_id: i64,
    amount: i64,
    key: Option<IdempotencyKey>,
    reference: Option<String>,
}

/// The result of a change: it was applied, or why it was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The change was applied, and is durable.
    Changed {
        /// The balance after the change.
        balance: i64,
        /// Which of its user's changes it is, from 1 on, in the order of the commits; None for a
        /// replay of what an earlier build stored.
        number: Option<i64>,
    },
    /// Refused: the balance would have become negative.
    InsufficientFunds {
        /// The balance that does not cover the amount.
        balance: i64,
    },
    /// Refused: the balance would be too large for 64 bits.
    OutOfRange,
    /// Refused: no user has this id.
    NoSuchUser,
    /// Refused: an earlier request used the key with another amount or reference.
    KeyReused,
}

/// A decision, and whether it is the stored one of an earlier request with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<D = Decision> {
    /// The decision on the change or the set; if replayed, that of the earlier request.
    pub outcome: D,
    /// Whether this request changed nothing, because an earlier one with its key was decided.
    pub replayed: bool,
}

impl Change {
    /// None if `amount` is zero, which would change nothing. A change that is sent twice gets the
    /// first result again under a key, and is applied twice without one. The ledger keeps the
    /// `reference`, the client's word for what the change is for: 1 to 255 printable characters.
    pub fn new(
        user_id: i64,
        amount: i64,
        key: Option<IdempotencyKey>,
        reference: Option<String>,
    ) -> Option<Change> {
        (amount != 0).then_some(Change { user_id, amount, key, reference })
    }

    /// The id of the user whose balance is changed.
    pub fn user_id(&self) -> i64 {
        self.user_id
    }

    /// The amount that is added: negative to lower the balance, never zero.
    pub fn amount(&self) -> i64 {
        self.amount
    }
}

/// The guards cannot overflow 64 bits: a balance is at least 0, and the first guard only lowers it,
/// while the second only lowers the largest number.
const CHANGE: &str = "\
with changed as (
    update users set balance = balance + $2::bigint,
        changes = changes + 1, changed_at = greatest(clock_timestamp(), changed_at)
    where id = $1
        and balance + least($2::bigint, 0) >= 0
        and balance <= 9223372036854775807 - greatest($2::bigint, 0)
    returning balance, changes, changed_at
), recorded as (
    insert into balance_changes
        (user_id, id, amount, balance_after, created_at, reference, actor)
    select $1, changes, $2::bigint, balance, changed_at, $3::text, $4::text from changed
)
select changed.balance as after, changed.changes as number, users.balance as before
from users left join changed on true
where users.id = $1";

/// Decides on the locked row, which is always the newest version.
const CHANGE_LOCKED: &str = "\
with locked as materialized (
    select balance from users where id = $1 for no key update
), decided as materialized (
    select balance, balance + least($2::bigint, 0) >= 0 as covered,
        balance <= 9223372036854775807 - greatest($2::bigint, 0) as in_range
    from locked
), changed as (
    update users set balance = decided.balance + $2::bigint,
        changes = users.changes + 1, changed_at = greatest(clock_timestamp(), users.changed_at)
    from decided where users.id = $1 and covered and in_range
    returning users.balance, users.changes, users.changed_at
), recorded as (
    insert into balance_changes
        (user_id, id, amount, balance_after, created_at, reference, actor)
    select $1, changes, $2::bigint, balance, changed_at, $3::text, $4::text from changed
)
select changed.balance as after, changed.changes as number, decided.balance as before
from decided left join changed on true";

/// Stores the decision in a new row for the key, or finds the row of an earlier request; the
/// balance changes only if the row is new: the stored number is then the next one of the user.
/// Requests with one key run one after the other, because each first locks the user's row. So the
/// second finds what the first has committed.
const CHANGE_ONCE: &str = "\
with decided as materialized (
    select balance, changes + 1 as next, clock_timestamp() as instant, case
        when balance + least($2::bigint, 0) < 0 then 'insufficient_funds'
        when balance > 9223372036854775807 - greatest($2::bigint, 0) then 'out_of_range'
        else 'changed' end as outcome
    from users where id = $1 for no key update
), kept as (
    insert into idempotency_keys as stored
        (user_id, key, amount, reference, outcome, balance, number, created_at)
    select $1, $5, $2::bigint, $3::text, outcome,
        case outcome when 'changed' then balance + $2::bigint else balance end,
        case outcome when 'changed' then next end, instant
    from decided
    on conflict (user_id, key) do update set key = excluded.key
    returning amount, reference, outcome, balance, number, created_at
), changed as (
    update users set balance = kept.balance, changes = kept.number,
        changed_at = greatest(kept.created_at, users.changed_at)
    from kept cross join decided
    where users.id = $1 and kept.number = decided.next
    returning users.balance, users.changes, users.changed_at
), recorded as (
    insert into balance_changes
        (user_id, id, amount, balance_after, created_at, reference, actor)
    select $1, changes, $2::bigint, balance, changed_at, $3::text, $4::text from changed
)
select kept.amount, kept.reference, kept.outcome, kept.balance, kept.number,
    kept.created_at <> decided.instant as replayed
from kept cross join decided";

/// Whether the database has the functions that `deploy/citus.sql` makes where users are distributed
/// over several machines. Only those of the owner of the tables count, because other roles may be
/// free to create some in the same schema.
const HAS_FUNCTIONS: &str = "\
select count(*) = 3 from pg_proc
where oid in (
        to_regprocedure('change_balance(bigint, bigint, text, text)'),
        to_regprocedure('change_balance_once(bigint, bigint, text, text, text)'),
        to_regprocedure('change_balances(bigint[], bigint[], text, text, text)'))
    and proowner = (select relowner from pg_class where oid = 'users'::regclass)";
/// Each call is carried out as a whole where its user is, and gives the columns of the statement
/// that it stands for. The types choose the function of the owner among others of its name.
const CALL: &str = "\
select after, number, before
from change_balance($1::bigint, $2::bigint, $3::text, $4::text)";
const CALL_ONCE: &str = "\
select amount, reference, outcome, balance, number, replayed
from change_balance_once($1::bigint, $2::bigint, $3::text, $4::text, $5::text)";

/// Applies the change, or says why it is refused. Returns when the result is durable. The ledger
/// names the `actor`, if there is one.
///
/// # Errors
/// Those of the database; [`Error::effect`] says whether the change may have been applied.
pub fn apply(
    db: &Db,
    deadline: &Deadline,
    change: &Change,
    actor: Option<&str>,
) -> Result<Answer, Error> {
    db.run(deadline, |session| match &change.key {
        Some(key) => change_once(session, change, key, actor),
        None => change_plainly(session, change, actor),
    })
}

/// Runs one statement, or a second if the first contradicts itself: see the top of this file.
fn change_plainly(
    session: &mut Session,
    change: &Change,
    actor: Option<&str>,
) -> Result<Answer, postgres::Error> {
    let sql = if has_functions(session)? { CALL } else { CHANGE };
    let outcome = match change_with(session, sql, change, actor)? {
        // What is refused for want of funds lowers the balance, so this sum cannot overflow.
        Decision::InsufficientFunds { balance } if balance + change.amount >= 0 => {
            change_with(session, CHANGE_LOCKED, change, actor)?
        }
        decided => decided,
    };
    Ok(Answer { outcome, replayed: false })
}

/// The one place that asks, since a session knows a statement by the place of its text in memory.
fn has_functions(session: &mut Session) -> Result<bool, postgres::Error> {
    session.ask_once(HAS_FUNCTIONS)
}

fn change_with(
    session: &mut Session,
    sql: &'static str,
    change: &Change,
    actor: Option<&str>,
) -> Result<Decision, postgres::Error> {
    let row =
        session.query_opt(sql, &[&change.user_id, &change.amount, &change.reference, &actor])?;
    Ok(row.map_or(Decision::NoSuchUser, |row| match (row.get("after"), row.get("before")) {
        (Some(balance), _) => Decision::Changed { balance, number: row.get("number") },
        (None, balance) if change.amount < 0 => Decision::InsufficientFunds { balance },
        (None, _) => Decision::OutOfRange,
    }))
}

fn change_once(
    session: &mut Session,
    change: &Change,
    key: &IdempotencyKey,
    actor: Option<&str>,
) -> Result<Answer, postgres::Error> {
    let Change { user_id, amount, reference, .. } = change;
    let sql = if has_functions(session)? { CALL_ONCE } else { CHANGE_ONCE };
    let row = session.query_opt(sql, &[user_id, amount, reference, &actor, &key.as_str()])?;
    let Some(row) = row else {
        return Ok(Answer { outcome: Decision::NoSuchUser, replayed: false });
    };
    let outcome = stored_outcome(change, &row);
    let replayed = row.get("replayed") && outcome != Decision::KeyReused;
    Ok(Answer { outcome, replayed })
}

fn stored_outcome(change: &Change, row: &Row) -> Decision {
    let balance = row.get("balance");
    match row.get("outcome") {
        _ if row.get::<_, i64>("amount") != change.amount => Decision::KeyReused,
        _ if row.get::<_, Option<&str>>("reference") != change.reference.as_deref() => {
            Decision::KeyReused
        }
        "changed" => Decision::Changed { balance, number: row.get("number") },
        "insufficient_funds" => Decision::InsufficientFunds { balance },
        _ => Decision::OutOfRange,
    }
}
