-- Distributes the users over a Citus cluster. To be run ONCE, on the coordinator, while no replica runs:
--
--     DATABASE_URL=$coordinator balanced migrate
--     psql --single-transaction -v ON_ERROR_STOP=1 "$coordinator" -f deploy/citus.sql
--
-- Before that: `create extension citus` on each node, citus_set_coordinator_host, citus_add_node. After
-- it: the replicas, with the same DATABASE_URL.
--
-- Tried with Citus 13.2.2 on PostgreSQL 15, one coordinator and two workers, all on a machine with two
-- cores: a burst of 10,000 over three replicas (5,000 succeed, 5,000 are refused), changes of a thousand
-- users with and without keys, a worker crashed meanwhile (each balance is the sum of its changes), and
-- the sample jobs.
--
-- * Every request works as it is. But Citus hands no INSERT within a WITH to a shard, so it carries out a
--   change step by step, in one transaction: as exact as ever (the row stays locked from the first step
--   on), and slower: 5.6 ms instead of 0.25 ms. The same as a PL/pgSQL function, distributed by
--   its first argument, took 0.8 ms. Measure before you move: one larger machine may do.
-- * Ids come from the sequences of the node a session is connected to, and each node has a range of its
--   own. A user's changes are to be in the order of their ids: so replicas connect to the
--   coordinator, and to nothing else.
-- * Commits are in two phases. When a worker dies between them, what was acknowledged is safe, but not
--   to be seen, and its user is locked, until Citus looks after it: citus.recover_2pc_interval, one
--   minute. (This is from its source, not tried.)
-- * Keys of creations, a table that came later, are distributed by key. Creating users under a key is not
--   tried on a cluster.
-- * The day's totals add up shards that were each read at an instant of their own.
--
-- The tables of the jobs, the totals and the migrations stay plain tables of the coordinator: jobs are
-- claimed there, by one row, and the trigger of cron_jobs writes to cron_runs. Nobody joins them with users.

select create_distributed_table('users', 'id');
select create_distributed_table('balance_changes', 'user_id', colocate_with => 'users');
select create_distributed_table('idempotency_keys', 'user_id', colocate_with => 'users');
select create_distributed_table('creation_keys', 'key', colocate_with => 'none');

-- The rows have been copied to the shards; these are what is left of them here.
select truncate_local_data_after_distributing_table('users');
select truncate_local_data_after_distributing_table('balance_changes');
select truncate_local_data_after_distributing_table('idempotency_keys');
select truncate_local_data_after_distributing_table('creation_keys');
