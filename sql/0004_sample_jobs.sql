-- The ten sample jobs, all due at once, and what they need.

-- One row a day, refreshed by each run.
create table daily_totals (
    day date primary key,
    users bigint not null,
    balance numeric not null,
    taken_at timestamptz not null
);

-- The keys to prune are the oldest ones.
create index idempotency_keys_by_age on idempotency_keys (created_at);

insert into cron_jobs (name, function, schedule, slot, locked_until)
select name, function, schedule, now(), now()
from (values
    ('reconcile-balances', 'reconcile-balances', 'every 5m'),
    ('audit-ledger', 'audit-ledger', 'every 10m'),
    ('snapshot-daily-totals', 'snapshot-daily-totals', 'every 15m'),
    ('prune-idempotency-keys', 'prune-idempotency-keys', 'every 10m'),
    ('prune-run-history', 'prune-run-history', 'every 10m'),
    ('summarize-runs', 'summarize-runs', 'every 5m'),
    ('rank-balances', 'rank-balances', 'every 6m'),
    ('sample-primes', 'count-primes', 'every 4m'),
    ('sample-more-primes', 'count-primes', 'every 7m'),
    ('sample-pi', 'estimate-pi', 'every 3m')
) as job (name, function, schedule);
