-- Distributes the users over a Citus cluster. To be run ONCE, on the coordinator, while no replica runs:
--
--     DATABASE_URL=$coordinator balanced migrate
--     psql --single-transaction -v ON_ERROR_STOP=1 "$coordinator" -f deploy/citus.sql
--
-- Before that: `create extension citus` on each node, citus_set_coordinator_host, citus_add_node. After
-- it: the replicas, with the same DATABASE_URL. They find the functions below and call them, if these belong
-- to the owner of the table users.
--
-- Tried with Citus 13.2.2 on PostgreSQL 15, one coordinator and two workers, all on a machine with two
-- cores: a burst of 10,000 over three replicas (5,000 succeed, 5,000 are refused, 4 s), changes of one user
-- and of a thousand with and without keys, creations with keys and external ids, sets, and the jobs.
--
-- * A change is one function, carried out as a whole where its user is. It takes twice as long there as
--   a bare update of a distributed table, and with a key nearly four times as long. The plain statements do
--   not work: Citus refuses a function such as clock_timestamp() in an UPDATE.
-- * The tables of the jobs are on the coordinator alone: so replicas connect to it, and to nothing else.
-- * A set of changes is the one operation that crosses shards: it locks and changes its users one by one.
--   A set of two takes five times as long as a single change (4 ms instead of 0.7 to 1.9, by a client).
-- * The commits of sets and of creations concern several nodes and are in two phases. When a worker dies
--   between them, what was acknowledged is safe, but not to be seen, and its users are locked, until Citus
--   looks after it: citus.recover_2pc_interval, one minute. (This is from its source, not tried.) Between
--   the second phases a reader of all shards can see a part of a set.
-- * Keys of creations and external ids are distributed by themselves. To find a user by its external id
--   asks every shard of users.
-- * The day's totals add up shards that were each read at an instant of their own.
-- * No migration works on distributed tables, and Citus brings none back that has an identity column. To
--   upgrade a cluster, dump its rows (pg_dump), restore them into a plain database of the same build, migrate
--   that one, and distribute it by this file. (Not tried.)
--
-- The tables of the jobs, the totals and the migrations stay plain tables of the coordinator: jobs are
-- claimed there, by one row, and the trigger of cron_jobs writes to cron_runs. None is joined with users.

-- For the functions at the end.
set local citus.multi_shard_modify_mode to 'sequential';

-- No trigger may stand on a distributed table. This one is for replicas of a build before the numbers.
drop trigger if exists number_the_change on balance_changes;

select create_distributed_table('users', 'id');
select create_distributed_table('balance_changes', 'user_id', colocate_with => 'users');
select create_distributed_table('idempotency_keys', 'user_id', colocate_with => 'users');
select create_distributed_table('creation_keys', 'key', colocate_with => 'none');
select create_distributed_table('set_keys', 'key', colocate_with => 'none');
select create_distributed_table('external_ids', 'external_id', colocate_with => 'none');

-- The rows have been copied to the shards; these are what is left of them here.
select truncate_local_data_after_distributing_table('users');
select truncate_local_data_after_distributing_table('balance_changes');
select truncate_local_data_after_distributing_table('idempotency_keys');
select truncate_local_data_after_distributing_table('creation_keys');
select truncate_local_data_after_distributing_table('set_keys');
select truncate_local_data_after_distributing_table('external_ids');

-- What the statements CHANGE and CHANGE_LOCKED of src/balance.rs do, with the same columns.
create function change_balance(
    of_user bigint, by_amount bigint, with_reference text, by_actor text,
    out after bigint, out number bigint, out before bigint
) returns setof record language plpgsql as $$
declare
    instant timestamptz;
begin
    select balance, changes + 1, greatest(clock_timestamp(), changed_at) into before, number, instant
    from users where id = of_user for no key update;
    if not found then
        return;
    end if;
    if before + least(by_amount, 0) >= 0 and before <= 9223372036854775807 - greatest(by_amount, 0) then
        after := before + by_amount;
        update users set balance = after, changes = number, changed_at = instant where id = of_user;
        insert into balance_changes (user_id, id, amount, balance_after, created_at, reference, actor)
        values (of_user, number, by_amount, after, instant, with_reference, by_actor);
    else
        number := null;
    end if;
    return next;
end
$$;

-- What CHANGE_ONCE does, with the same columns: whoever has locked the user finds the keys of all before.
create function change_balance_once(
    of_user bigint, by_amount bigint, with_reference text, by_actor text, with_key text,
    out amount bigint, out reference text, out outcome text, out balance bigint, out number bigint,
    out replayed boolean
) returns setof record language plpgsql as $$
declare
    made record;
begin
    perform from users where id = of_user for no key update;
    if not found then
        return;
    end if;
    select kept.amount, kept.reference, kept.outcome, kept.balance, kept.number
    into amount, reference, outcome, balance, number
    from idempotency_keys as kept where kept.user_id = of_user and kept.key = with_key;
    replayed := found;
    if not replayed then
        select * into made from change_balance(of_user, by_amount, with_reference, by_actor);
        amount := by_amount;
        reference := with_reference;
        outcome := case
            when made.after is not null then 'changed'
            when by_amount < 0 then 'insufficient_funds'
            else 'out_of_range'
        end;
        balance := coalesce(made.after, made.before);
        number := made.number;
        insert into idempotency_keys (user_id, key, amount, reference, outcome, balance, number)
        values (of_user, with_key, by_amount, with_reference, outcome, balance, number);
    end if;
    return next;
end
$$;

-- What CHANGE_ALL of src/balance/set.rs does, with the same columns. It is distributed to nobody, since its
-- users are on several shards. What finds a shard is a plain variable: with an element of an array in its
-- place, Citus 13.2.2 crashed.
create function change_balances(
    of_users bigint[], by_amounts bigint[], with_reference text, by_actor text, with_key text,
    out same boolean, out set_id text, out balances bigint[], out numbers bigint[], out refused bigint,
    out replayed boolean
) returns setof record language plpgsql as $$
declare
    own_id constant uuid := gen_random_uuid();
    held record;
    place integer;
    whose bigint;
    added bigint;
    after bigint;
    number bigint;
    instant timestamptz;
    instants timestamptz[];
begin
    -- As in the statement. Citus hands on SET LOCAL to the machines on which the call waits, but no
    -- set_config. (This is from its source, not tried.)
    set local citus.propagate_set_commands to 'local';
    set local lock_timeout to 1000;
    -- In the order of their ids, as every set does: so no two wait for each other.
    for place in select n from generate_subscripts(of_users, 1) as n order by of_users[n] loop
        whose := of_users[place];
        select balance, changes + 1 as number, greatest(clock_timestamp(), changed_at) as instant into held
        from users where id = whose for no key update;
        balances[place] := held.balance;
        numbers[place] := held.number;
        instants[place] := held.instant;
        if held.balance + least(by_amounts[place], 0) < 0
            or held.balance > 9223372036854775807 - greatest(by_amounts[place], 0) then
            refused := least(refused, place);
        end if;
    end loop;
    same := true;
    set_id := own_id;
    replayed := false;
    if with_key is not null and array_position(balances, null) is null then
        insert into set_keys as stored
            (key, user_ids, amounts, reference, set_id, balances, numbers, refused)
        values (with_key, of_users, by_amounts, with_reference, own_id, balances, numbers, refused)
        on conflict (key) do update set created_at = stored.created_at
        returning user_ids = of_users and amounts = by_amounts
                and stored.reference is not distinct from with_reference,
            stored.set_id, stored.balances, stored.numbers, stored.refused
        into same, set_id, balances, numbers, refused;
        replayed := set_id <> own_id::text;
    end if;
    if not replayed and refused is null and array_position(balances, null) is null then
        for place in 1 .. array_length(of_users, 1) loop
            whose := of_users[place];
            added := by_amounts[place];
            after := balances[place] + added;
            number := numbers[place];
            instant := instants[place];
            update users set balance = after, changes = number, changed_at = instant where id = whose;
            insert into balance_changes
                (user_id, id, amount, balance_after, created_at, reference, set_id, actor)
            values (whose, number, added, after, instant, with_reference, own_id, by_actor);
        end loop;
    end if;
    return next;
end
$$;

-- So each of the first two runs where its user's shard is.
select create_distributed_function(
    'change_balance(bigint, bigint, text, text)', 'of_user', colocate_with => 'users');
select create_distributed_function(
    'change_balance_once(bigint, bigint, text, text, text)', 'of_user', colocate_with => 'users');
