//! Jobs that read users and balance changes. Each step is one statement, and so reads one instant.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Pace, Params};
use crate::cron::Failure;

const USERS_A_STEP: i64 = 200;
const CHANGES_A_STEP: i64 = 5_000;
/// A user with more changes than this is summed in separate steps: a step reads about 20,000.
const CHANGES_SUMMED_AT_ONCE: i64 = 100;
/// The pause between two steps over many rows, so that requests come first.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);
const RANKS: usize = 10;

const LAST_USER: &str = "select coalesce(max(id), 0) from users";

/// Sums up a page of users. It ends with the first user that has more changes than `$3`, whose sum
/// is not looked at.
const RECONCILE: &str = "\
with page as (
    select max(id) as last from (
        select id from users where id > $1 order by id limit $2
    ) as ids
), summed as (
    select users.id, balance, users.changes, count(amount) as rows,
        coalesce(sum(amount), 0) as total
    from users left join lateral (
        select amount from balance_changes where user_id = users.id order by id limit $3::bigint + 1
    ) as ledger on true
    where users.id > $1 and users.id <= (select last from page)
    group by users.id, balance, users.changes
), judged as (
    select id, rows > $3 as is_long, rows <= $3 and (balance <> total or changes <> rows) as wrong
    from summed
    where id <= (select coalesce(min(id) filter (where rows > $3), max(id)) from summed)
)
select max(id) as last, count(*) as users, bool_or(is_long) as is_long,
    count(*) filter (where wrong) as wrong, min(id) filter (where wrong) as first_wrong
from judged";

/// A user's balance and the number of its last change, both at one instant.
const LONG: &str = "select balance, changes from users where id = $1";
const SUM: &str = "\
select max(id) as last, coalesce(sum(amount), 0)::text as total, count(*) as rows from (
    select id, amount from balance_changes
    where user_id = $1 and id > $2 and id <= $3 order by id limit $4
) as part";

/// A user's balance and numbers start at 0; `$2` is the number of the last change of the page
/// before, and `$3` the balance after it. Where a number is left out, a row was lost.
const AUDIT: &str = "\
with page as (
    select user_id, id, amount, balance_after from balance_changes
    where (user_id, id) > ($1, $2) order by user_id, id limit $4
), followed as (
    select user_id, id, balance_after,
        balance_after <> amount + coalesce(
            lag(balance_after) over (partition by user_id order by id),
            case when user_id = $1 then $3::bigint else 0 end
        ) or id <> 1 + coalesce(
            lag(id) over (partition by user_id order by id),
            case when user_id = $1 then $2::bigint else 0 end
        ) as wrong
    from page
)
select user_id, id, balance_after, count(*) over () as changes,
    count(*) filter (where wrong) over () as wrong
from followed order by user_id desc, id desc limit 1";

/// One statement, so that all totals are of one instant. It takes about a second for ten million
/// users, and the database ends it if it takes longer than a step may.
const SNAPSHOT: &str = "\
insert into daily_totals (day, users, balance, taken_at)
select (now() at time zone 'UTC')::date, count(*), coalesce(sum(balance), 0), now() from users
on conflict (day) do update
set users = excluded.users, balance = excluded.balance, taken_at = excluded.taken_at
returning format('users on %s: %s, with %s in all', day, users, balance)";

const LARGEST: &str = "\
with page as (
    select id, balance from users where id > $1 order by id limit $2
)
select id, balance, max(id) over () as last from page order by balance desc, id limit $3";

/// How far a reconciliation is, and what it has found.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reconciled {
    /// The last user that was looked at.
    user_id: i64,
    users: i64,
    wrong: i64,
    first_wrong: Option<i64>,
    /// That user's sum so far, if it has many changes and not all of them are summed.
    part: Option<Part>,
}

/// The sum of the first changes of a user.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    /// The user's balance, and the number of its last change, at the instant at which it began. The
    /// changes of one user are committed one after the other: those up to `last` are all visible.
    balance: i64,
    last: i64,
    /// The number of the last change that is in the sum.
    number: i64,
    rows: i64,
    total: i128,
}

/// How far an audit is, and what it has found.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Audited {
    /// The last change that was looked at, and the balance after it.
    user_id: i64,
    number: i64,
    balance: i64,
    changes: i64,
    wrong: i64,
    /// The last user and change of the page before the first one with a wrong change.
    before_wrong: Option<(i64, i64)>,
}

/// Fails if the balance of any user is not the sum of its changes, or if one of these is missing.
pub(super) fn reconcile(pace: &Pace<'_>) -> Result<String, Failure> {
    let last_user = last_user(pace)?;
    let (mut at, went_on) = begin(pace, |at: &Reconciled| format!("user {}", at.user_id));
    let mut users_a_step = USERS_A_STEP;
    loop {
        sum_the_rest(pace, &mut at)?;
        let params: Params<'_> = &[&at.user_id, &users_a_step, &CHANGES_SUMMED_AT_ONCE];
        let page = pace.context.step(|session| session.query_one(RECONCILE, params))?;
        let Some(last) = page.get("last") else { break };
        at.user_id = last;
        at.users += page.get::<_, i64>("users");
        at.wrong += page.get::<_, i64>("wrong");
        at.first_wrong = at.first_wrong.or(page.get("first_wrong"));
        // Where each user has many changes, all but the first one of a page would be read in vain.
        if page.get("is_long") {
            at.part = begin_part(pace, last)?;
            users_a_step = (users_a_step / 2).max(1);
        } else {
            users_a_step = (users_a_step * 2).min(USERS_A_STEP);
        }
        pace.context.checkpoint(&at)?;
        pause(pace, last, last_user)?;
    }
    let Reconciled { users, wrong, first_wrong, .. } = at;
    match first_wrong {
        None => Ok(format!("balances that are the sums of their changes: {users}{went_on}")),
        Some(first) => fail(
            pace,
            format!(
                "balances that are not the sums of their changes: {wrong} of {users}; the first is \
                 user {first}'s{went_on}"
            ),
        ),
    }
}

/// None when the user is gone.
fn begin_part(pace: &Pace<'_>, user_id: i64) -> Result<Option<Part>, Failure> {
    let user = pace.context.step(|session| session.query_opt(LONG, &[&user_id]))?;
    Ok(user.map(|user| Part {
        balance: user.get("balance"),
        last: user.get("changes"),
        number: 0,
        rows: 0,
        total: 0,
    }))
}

/// Sums the changes of a user that has many, part by part.
fn sum_the_rest(pace: &Pace<'_>, at: &mut Reconciled) -> Result<(), Failure> {
    while let Some(part) = &mut at.part {
        let params: Params<'_> = &[&at.user_id, &part.number, &part.last, &CHANGES_A_STEP];
        let row = pace.context.step(|session| session.query_one(SUM, params))?;
        if let Some(read) = row.get("last") {
            part.number = read;
            part.rows += row.get::<_, i64>("rows");
            // The sum of one step: at most `CHANGES_A_STEP` 64-bit numbers, which fits.
            part.total += row.get::<_, &str>("total").parse::<i128>().unwrap_or(0);
        } else {
            if part.total != i128::from(part.balance) || part.rows != part.last {
                at.wrong += 1;
                at.first_wrong = at.first_wrong.or(Some(at.user_id));
            }
            at.part = None;
        }
        pace.context.checkpoint(at)?;
        pace.context.wait(PAUSE)?;
    }
    Ok(())
}

/// Fails if a change does not follow from the one before it, in its number and its balance.
pub(super) fn audit(pace: &Pace<'_>) -> Result<String, Failure> {
    let last_user = last_user(pace)?;
    let place = |at: &Audited| format!("user {}, change {}", at.user_id, at.number);
    let (mut at, went_on) = begin(pace, place);
    loop {
        let params: Params<'_> = &[&at.user_id, &at.number, &at.balance, &CHANGES_A_STEP];
        let page = pace.context.step(|session| session.query_opt(AUDIT, params))?;
        let Some(page) = page else { break };
        let wrong: i64 = page.get("wrong");
        at.before_wrong = at.before_wrong.or((wrong > 0).then_some((at.user_id, at.number)));
        (at.user_id, at.number) = (page.get("user_id"), page.get("id"));
        at.balance = page.get("balance_after");
        at.changes += page.get::<_, i64>("changes");
        at.wrong += wrong;
        pace.context.checkpoint(&at)?;
        pause(pace, at.user_id, last_user)?;
    }
    let Audited { changes, wrong, before_wrong, .. } = at;
    match before_wrong {
        None => Ok(format!("changes that follow from one another: {changes}{went_on}")),
        Some((user_id, number)) => fail(
            pace,
            format!(
                "changes that do not follow from the one before: {wrong} of {changes}; the first \
                 comes after user {user_id}, change {number}{went_on}"
            ),
        ),
    }
}

/// Where the work begins, and what its result has to say of that: it goes on from the checkpoint of
/// an earlier run of the same slot, if there is one.
fn begin<T: Default + DeserializeOwned>(
    pace: &Pace<'_>,
    place: impl Fn(&T) -> String,
) -> (T, String) {
    let Some(at) = pace.context.last_checkpoint() else { return (T::default(), String::new()) };
    let place = place(&at);
    pace.context.say(&format!("this run goes on after {place}"));
    (at, format!("; this run went on after {place}"))
}

/// Fails, and lets another try of the same slot look at everything anew.
fn fail(pace: &Pace<'_>, text: String) -> Result<String, Failure> {
    pace.context.checkpoint(&())?;
    Err(Failure::Failed(text))
}

/// Writes the totals of the current day, in UTC.
pub(super) fn snapshot(pace: &Pace<'_>) -> Result<String, Failure> {
    pace.context.step(|session| Ok(session.query_one(SNAPSHOT, &[])?.get(0)))
}

/// Finds the `RANKS` largest balances, page by page.
pub(super) fn rank(pace: &Pace<'_>) -> Result<String, Failure> {
    let last_user = last_user(pace)?;
    let mut after = 0_i64;
    let mut largest: Vec<(i64, i64)> = Vec::new();
    loop {
        let limit = RANKS as i64;
        let rows = pace
            .context
            .step(|session| session.query(LARGEST, &[&after, &CHANGES_A_STEP, &limit]))?;
        let Some(first) = rows.first() else { break };
        after = first.get("last");
        largest.extend(rows.iter().map(|row| (row.get("balance"), row.get("id"))));
        largest.sort_by_key(|(balance, id)| (std::cmp::Reverse(*balance), *id));
        largest.truncate(RANKS);
        pause(pace, after, last_user)?;
    }
    let ranks: Vec<String> =
        largest.iter().map(|(balance, id)| format!("user {id} has {balance}")).collect();
    Ok(if ranks.is_empty() { "there are no users".to_owned() } else { ranks.join(", ") })
}

fn last_user(pace: &Pace<'_>) -> Result<i64, Failure> {
    pace.context.step(|session| Ok(session.query_one(LAST_USER, &[])?.get(0)))
}

/// Reports that the users up to the id `at` are done, and lets requests come first.
fn pause(pace: &Pace<'_>, at: i64, last: i64) -> Result<(), Failure> {
    pace.report(at as f64 / last as f64);
    pace.context.wait(PAUSE)
}
