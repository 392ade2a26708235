-- The first result under each key of a user, stored in the transaction of the change itself.

create table idempotency_keys (
    user_id bigint not null,
    key text not null check (length(key) between 1 and 255),
    amount bigint not null,
    outcome text not null check (outcome in ('changed', 'insufficient_funds', 'out_of_range')),
    -- After the change, or the one that refused it.
    balance bigint not null check (balance >= 0),
    -- Tells the attempt that stored the row from those that find it.
    attempt uuid not null,
    created_at timestamptz not null default clock_timestamp(),
    primary key (user_id, key)
);
