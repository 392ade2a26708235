//! Statements of the build before the numbers (its last migration is 0007), word for word: replicas
//! of that build run them beside those of this one during a deploy.

pub(super) const CHANGE: &str = "\
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
pub(super) const CHANGE_ONCE: &str = "\
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
pub(super) const CREATE: &str = "\
with created as (
    insert into users (balance) values ($1) returning id, balance
), recorded as (
    insert into balance_changes (user_id, amount, balance_after)
    select id, balance, balance from created where balance <> 0
)
select id, balance from created";
pub(super) const CREATE_ONCE: &str = "\
with found as (
    select user_id, balance from creation_keys where key = $2
), created as (
    insert into users (balance) select $1::bigint where not exists (select from found)
    returning id, balance
), recorded as (
    insert into balance_changes (user_id, amount, balance_after)
    select id, balance, balance from created where balance <> 0
), kept as (
    insert into creation_keys (key, user_id, balance) select $2, id, balance from created
)
select user_id as id, balance, true as replayed from found
union all
select id, balance, false from created";
pub(super) const CHANGES: &str = "\
select page.id, page.amount, page.balance_after, page.created_at
from users left join lateral (
    select id, amount, balance_after, created_at from balance_changes
    where user_id = $1 and id < $2
    order by id desc limit $3
) page on true
where users.id = $1
order by page.id desc";
pub(super) const HOLD: &str = "\
select locked_until > clock_timestamp() as is_alive from cron_jobs
where id = $1 and token = $2 and holder = $3
for key share";
pub(super) const RECONCILE: &str = "\
with page as (
    select max(id) as last from (
        select id from users where id > $1 order by id limit $2
    ) as ids
), summed as (
    select users.id, balance, count(amount) as changes, coalesce(sum(amount), 0) as total
    from users left join lateral (
        select amount from balance_changes where user_id = users.id order by id limit $3::bigint + 1
    ) as ledger on true
    where users.id > $1 and users.id <= (select last from page)
    group by users.id, balance
)
select max(id) as last, count(*) as users,
    coalesce(array_agg(id) filter (where changes <= $3 and balance <> total), '{}') as wrong,
    coalesce(array_agg(id) filter (where changes > $3), '{}') as long
from summed";
pub(super) const LONG: &str = "\
select balance, (select max(id) from balance_changes where user_id = $1) as last
from users where id = $1";
pub(super) const SUM: &str = "\
select max(id) as last, coalesce(sum(amount), 0)::text as total from (
    select id, amount from balance_changes
    where user_id = $1 and id > $2 and id <= $3 order by id limit $4
) as part";
pub(super) const AUDIT: &str = "\
with page as (
    select user_id, id, amount, balance_after from balance_changes
    where (user_id, id) > ($1, $2) order by user_id, id limit $4
), followed as (
    select user_id, id, balance_after,
        balance_after <> amount + coalesce(
            lag(balance_after) over (partition by user_id order by id),
            case when user_id = $1 then $3::bigint else 0 end
        ) as wrong
    from page
)
select user_id, id, balance_after, count(*) over () as changes,
    count(*) filter (where wrong) over () as wrong
from followed order by user_id desc, id desc limit 1";
