-- Numbers, references and sets for changes, and ids of their own for users.
--
-- A change gets a number of its user, from 1 on, in the order of the commits: `id` is that number from
-- here on. Changes and what reads them wait while the rows that are there are numbered anew. The column
-- keeps its name, because replicas of earlier builds go on beside those of this one.
--
-- What clients write is compared byte by byte (collate "C"): an index whose order is that of the system's
-- language is broken by an upgrade of that system.

-- Such a replica may be at these jobs, which go through the changes page by page in the order of the ids.
-- Its run is ended, and the same slot is run again from the first change on. The rows stay locked, so that
-- nobody takes the jobs meanwhile; as each step of a run does, this locks the job before the users.
with job as materialized (
    select id, run_id from cron_jobs where function in ('audit-ledger', 'reconcile-balances') for update
), freed as (
    update cron_jobs
    set token = token + 1, holder = null, run_id = null, offered_at = null, locked_until = clock_timestamp()
    from job where cron_jobs.id = job.id and job.run_id is not null
)
update cron_runs
set outcome = 'cancelled', finished_at = clock_timestamp(), detail = 'the changes are numbered anew'
from job where cron_runs.id = job.run_id;

-- In the order in which creations under a key lock them, or the two would wait for each other.
lock table creation_keys, users, balance_changes in access exclusive mode;

alter table users
    -- How many changes there have been: the number of the last one.
    add column changes bigint not null default 0,
    -- The instant of the last one, so that the next one is never earlier, whatever the clock does.
    add column changed_at timestamptz,
    -- What another system calls this user; that it is unique is kept in external_ids.
    add column external_id text collate "C";

alter table balance_changes
    -- What the change was for, in the client's words.
    add column reference text collate "C" check (length(reference) between 1 and 255),
    -- The same in all changes that were made together.
    add column set_id uuid,
    -- The name of the token that the client had, where RECORD_ACTOR is true.
    add column actor text,
    alter column id drop identity,
    drop constraint balance_changes_pkey;

-- Where the clock was set back between two changes, the later one gets the instant of the earlier one.
update balance_changes set id = numbered.number, created_at = numbered.instant
from (
    select user_id, id, row_number() over own as number, max(created_at) over own as instant
    from balance_changes
    window own as (partition by user_id order by id)
) as numbered
where balance_changes.user_id = numbered.user_id and balance_changes.id = numbered.id
    and (balance_changes.id, balance_changes.created_at) is distinct from (number, instant);

alter table balance_changes add primary key (user_id, id);

update users set changes = made.changes, changed_at = made.changed_at
from (
    select user_id, count(*) as changes, max(created_at) as changed_at
    from balance_changes group by user_id
) as made
where users.id = made.user_id;

create index balance_changes_by_reference on balance_changes (user_id, reference, id)
    where reference is not null;

-- Numbers the change that an earlier build writes, in the statement that has locked the user.
create function number_the_change() returns trigger language plpgsql as $$
begin
    update users
    set changes = changes + 1, changed_at = greatest(clock_timestamp(), changed_at)
    where id = new.user_id
    returning changes, changed_at into new.id, new.created_at;
    return new;
end
$$;
create trigger number_the_change before insert on balance_changes
    for each row when (new.id is null)
    execute function number_the_change();

alter table idempotency_keys
    -- The number of the change; none if it was refused, or stored by an earlier build.
    add column number bigint,
    add column reference text collate "C";

-- The user that has each external id. The id belongs to nobody before that, so it cannot begin a key of
-- users.
create table external_ids (
    external_id text collate "C" primary key check (length(external_id) between 1 and 255),
    user_id bigint not null
);

alter table creation_keys add column external_id text collate "C";

-- The first result under each key of a set of changes. A set has several users, so its key belongs to none.
create table set_keys (
    key text collate "C" primary key check (length(key) between 1 and 255),
    -- As they were asked for, in this order.
    user_ids bigint[] not null,
    amounts bigint[] not null,
    reference text collate "C",
    set_id uuid not null,
    -- Before the changes.
    balances bigint[] not null,
    -- Those that the changes have, or would have had.
    numbers bigint[] not null,
    -- The place of the first change that was refused, from 1 on; none if the set was applied.
    refused bigint,
    created_at timestamptz not null default clock_timestamp()
);

-- The keys to prune are the oldest ones.
create index set_keys_by_age on set_keys (created_at);
