//! Jobs that read users and balance changes. Each step is one statement, and so reads one instant.

use super::Pace;
use crate::cron::Failure;

const USERS_A_STEP: i64 = 200;
const CHANGES_A_STEP: i64 = 5_000;
/// A user with more changes than this is summed in separate steps: a step reads about 20,000.
const CHANGES_SUMMED_AT_ONCE: i64 = 100;
/// The pause between two steps over many rows, so that requests come first.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);
const RANKS: usize = 10;

type Params<'a> = &'a [&'a (dyn postgres::types::ToSql + Sync)];

const LAST_USER: &str = "select coalesce(max(id), 0) from users";

/// Sums up a page of users. One with more changes than `$3` is only listed, as `long`.
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
)
select max(id) as last, count(*) as users,
    coalesce(array_agg(id) filter (
        where rows <= $3 and (balance <> total or changes <> rows)), '{}') as wrong,
    coalesce(array_agg(id) filter (where rows > $3), '{}') as long
from summed";

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
returning format('%s: %s users with %s in all', day, users, balance)";

const LARGEST: &str = "\
with page as (
    select id, balance from users where id > $1 order by id limit $2
)
select id, balance, max(id) over () as last from page order by balance desc, id limit $3";

/// Fails if the balance of any user is not the sum of its changes, or if one of these is missing.
pub(super) fn reconcile(pace: &Pace<'_>) -> Result<String, Failure> {
    let last_user = last_user(pace)?;
    let (mut after, mut users) = (0_i64, 0);
    let mut wrong: Vec<i64> = Vec::new();
    loop {
        let params: Params<'_> = &[&after, &USERS_A_STEP, &CHANGES_SUMMED_AT_ONCE];
        let rows = pace.context.step(|session| session.query(RECONCILE, params))?;
        let Some(last) = rows[0].get("last") else {
            break;
        };
        after = last;
        users += rows[0].get::<_, i64>("users");
        wrong.extend(rows[0].get::<_, Vec<i64>>("wrong"));
        for user_id in rows[0].get::<_, Vec<i64>>("long") {
            if !is_sum_of_many(pace, user_id)? {
                wrong.push(user_id);
            }
        }
        pause(pace, after, last_user)?;
    }
    match wrong.iter().min() {
        None => Ok(format!("{users} balances are the sums of their changes")),
        Some(first) => Err(Failure::Failed(format!(
            "{} of {users} balances are not the sums of their changes; the first is user {first}'s",
            wrong.len()
        ))),
    }
}

/// Checks a user with many changes, part by part. The changes of one user are committed one after
/// the other, so those up to `last` are all visible.
fn is_sum_of_many(pace: &Pace<'_>, user_id: i64) -> Result<bool, Failure> {
    let user = pace.context.step(|session| session.query_opt(LONG, &[&user_id]))?;
    let Some(user) = user else {
        return Ok(true);
    };
    let (balance, last): (i64, i64) = (user.get("balance"), user.get("changes"));
    let (mut after, mut total, mut rows) = (0_i64, 0_i128, 0_i64);
    loop {
        let params: Params<'_> = &[&user_id, &after, &last, &CHANGES_A_STEP];
        let part = pace.context.step(|session| session.query_one(SUM, params))?;
        let Some(read) = part.get("last") else {
            return Ok(total == i128::from(balance) && rows == last);
        };
        after = read;
        // The sum of one step: at most `CHANGES_A_STEP` 64-bit numbers, which fits.
        total += part.get::<_, &str>("total").parse::<i128>().unwrap_or(0);
        rows += part.get::<_, i64>("rows");
        pace.context.wait(PAUSE)?;
    }
}

/// Fails if a change does not follow from the one before it, in its number and its balance.
pub(super) fn audit(pace: &Pace<'_>) -> Result<String, Failure> {
    let last_user = last_user(pace)?;
    let (mut user_id, mut id, mut balance) = (0_i64, 0_i64, 0_i64);
    let (mut changes, mut wrong) = (0_i64, 0_i64);
    let mut page_of_wrong = None;
    loop {
        let row = pace.context.step(|session| {
            session.query_opt(AUDIT, &[&user_id, &id, &balance, &CHANGES_A_STEP])
        })?;
        let Some(row) = row else {
            break;
        };
        let wrong_here: i64 = row.get("wrong");
        if wrong_here > 0 {
            page_of_wrong = page_of_wrong.or(Some((user_id, id)));
        }
        (user_id, id) = (row.get("user_id"), row.get("id"));
        balance = row.get("balance_after");
        changes += row.get::<_, i64>("changes");
        wrong += wrong_here;
        pause(pace, user_id, last_user)?;
    }
    match page_of_wrong {
        None => Ok(format!("{changes} changes follow from one another")),
        Some((user_id, id)) => Err(Failure::Failed(format!(
            "{wrong} of {changes} changes do not follow from the one before; the first comes after \
             user {user_id}, change {id}"
        ))),
    }
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
        let Some(first) = rows.first() else {
            break;
        };
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
