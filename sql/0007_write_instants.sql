-- When `locked_until` was written. It tells how long a lease was to hold; and where it is in the
-- future, the database's clock was set back since.
alter table cron_jobs add column written_at timestamptz not null default now();
alter table cron_jobs alter column written_at set default clock_timestamp();

-- A trigger, so that it is written whoever writes: a replica of an earlier build, or a person.
create function note_the_write() returns trigger language plpgsql as $$
begin
    new.written_at = clock_timestamp();
    return new;
end
$$;
create trigger note_the_write before update of locked_until on cron_jobs
    for each row when (old.locked_until is distinct from new.locked_until)
    execute function note_the_write();

-- For how long the lease of a job that has a holder was to hold when it was last written, in seconds.
create function lease_seconds(job cron_jobs) returns double precision language sql immutable as $$
    select extract(epoch from job.locked_until - job.written_at)::double precision
$$;
