-- The user created under each key, so that a creation that is sent again creates no second one.
-- The key of a creation belongs to nobody yet, so it cannot stand in idempotency_keys.

create table creation_keys (
    key text primary key check (length(key) between 1 and 255),
    user_id bigint not null,
    -- The opening one.
    balance bigint not null check (balance >= 0),
    created_at timestamptz not null default clock_timestamp()
);

-- The keys to prune are the oldest ones.
create index creation_keys_by_age on creation_keys (created_at);
