-- What the interleavings of the changes of a balance begin with, and what must be so at their end.
-- The user is number 1, the neighbour number 2. Changes without a key are of 60, with a key of 61. Sets
-- are of the user and the partner, number 3; a set of others, numbers 4 and 5, has the key of one of them.

create schema trial;

create function trial.opens(balance bigint) returns void language plpgsql as $$
begin
    delete from idempotency_keys;
    delete from set_keys;
    delete from balance_changes;
    delete from users;
    insert into users (id, balance, changes)
    values (1, opens.balance, 1), (2, 100, 1), (3, 100, 1), (4, 100, 1), (5, 100, 1);
    insert into balance_changes (user_id, id, amount, balance_after)
    select users.id, 1, users.balance, users.balance from users;
end
$$;

create function trial.begin() returns void language sql as '';

-- Each row is a sentence about what must not be.
create view trial.broken as
    select 'a balance is not the sum of its changes' as what
    from users where balance <> (
        select coalesce(sum(amount), 0) from balance_changes where user_id = users.id)
union all
    select 'a balance is negative' from users where balance < 0
union all
    select 'a change does not stand on the one before it'
    from (
        select balance_after, sum(amount) over (partition by user_id order by id) as balance
        from balance_changes
    ) as change
    where balance_after <> balance
union all
    select 'the changes of a user are not numbered 1, 2, 3'
    from users where array[changes, changes] <> (
        select array[count(*), coalesce(max(id), 0)]
        from balance_changes where user_id = users.id)
union all
    select 'a later change has an earlier instant'
    from (
        select created_at, lag(created_at) over (partition by user_id order by id) as before
        from balance_changes
    ) as change
    where created_at < before
union all
    select 'the key and its change do not agree'
    from idempotency_keys kept full join (
        select * from balance_changes where abs(amount) = 61 and set_id is null
    ) as change
        on kept.user_id = change.user_id and kept.amount = change.amount
        and kept.balance = change.balance_after and kept.number = change.id
    where (kept.outcome is distinct from 'changed') <> (change.id is null)
union all
    select 'a set is neither whole nor absent'
    from balance_changes where set_id is not null
    group by set_id having count(*) <> 2 or sum(amount) <> 0
union all
    select 'the key of a set and its changes do not agree'
    from set_keys kept full join (
        select set_id, array_agg(id) as numbers
        from balance_changes where set_id is not null and abs(amount) = 61 group by set_id
    ) as set on kept.set_id = set.set_id
    where (kept.refused is null) <> (set.numbers is not null)
        or kept.refused is null and array(select unnest(kept.numbers) order by 1)
            <> array(select unnest(set.numbers) order by 1)
union all
    select 'a set was refused although all balances cover it'
    from set_keys where balances[refused] + amounts[refused] between 0 and 9223372036854775807
union all
    select 'the neighbour has no change of the two'
    from users where id = 2 and balance not in (100, 40);

-- In PL/pgSQL, as all that is called again and again: a session plans it once.
create function trial.judge() returns setof text language plpgsql as $$
begin
    return query select 'broken: ' || what from trial.broken;
end
$$;
