-- What people say of a job besides its function and its schedule, tries of the same slot, pauses, the log
-- of a run, and who changed what.
--
-- Replicas of earlier builds go on beside those of this one. They run jobs by function and schedule alone:
-- what is added here counts once the last of them has ended.

alter table cron_jobs
    -- A JSON object for the function, written in one way: without blanks, its names sorted.
    add column arguments text collate "C" not null default '{}',
    add column description text,
    add column owner text,
    -- The longest that a run may take; none: no limit.
    add column max_seconds integer check (max_seconds > 0),
    -- How often a run that failed or took too long is tried again for the same slot.
    add column retries integer not null default 0 check (retries between 0 and 20),
    add column retry_after_seconds integer not null default 10 check (retry_after_seconds > 0),
    -- A slot that is later than this is not run; none: it is run, however late.
    add column start_within_seconds integer check (start_within_seconds > 0),
    -- Whether one run makes up for slots that were missed.
    add column catch_up text not null default 'one' check (catch_up in ('one', 'none')),
    -- Jobs of one group never run at the same time.
    add column job_group text collate "C",
    -- The slot, or the request, that the next two columns are about. Where it is another one than the
    -- job's, as earlier builds leave it, they count for nothing.
    add column tried_at timestamptz,
    -- Which try runs, or waits to be run: 1 for the first.
    add column attempt integer not null default 0 check (attempt >= 0),
    -- Where a run of this slot can go on: the JSON that its function has kept.
    add column checkpoint text,
    -- The run that somebody wants stopped.
    add column stop_run bigint;

create unique index one_run_a_group on cron_jobs (job_group)
    where holder is not null and job_group is not null;
create index cron_jobs_by_group on cron_jobs (job_group, locked_until, id)
    where enabled and offered_at is null and job_group is not null;
create index cron_jobs_offered_of_a_group on cron_jobs (job_group)
    where offered_at is not null and job_group is not null;
-- So that those which wait for their group are not read to find others.
create index cron_jobs_due_alone on cron_jobs (locked_until)
    where enabled and offered_at is null and (job_group is null or holder is not null);
-- So that thousands of due jobs are not read to find the leases that have run out.
create index cron_jobs_over on cron_jobs (locked_until)
    where holder is not null and (not enabled or offered_at is null);

alter table cron_runs
    add column attempt integer not null default 1,
    -- How long it may take, as its job said when it began; none: no limit.
    add column max_seconds integer,
    -- How long the checkpoint is that the run has kept, in bytes.
    add column checkpoint_bytes integer,
    drop constraint cron_runs_outcome_check,
    -- A slot that was missed has a row, too: its server is empty.
    add constraint cron_runs_outcome_check check (outcome in
        ('succeeded', 'failed', 'cancelled', 'abandoned', 'timed_out', 'stopped', 'missed'))
        -- The rows that are there fulfil the narrower one: nobody waits until they are read.
        not valid;

-- What functions say while they run. A run that is deleted takes its lines along, whoever deletes it:
-- replicas of earlier builds prune the history, too, and know nothing of lines.
create table cron_run_lines (
    run_id bigint not null references cron_runs on delete cascade,
    -- 1, 2, 3 and so on. Where the first ones are missing, they were too many.
    number integer not null,
    said_at timestamptz not null,
    line text not null,
    primary key (run_id, number)
);

-- While this row is there and its end has not come, nobody claims a job.
create table cron_pause (
    is_only boolean primary key default true check (is_only),
    reason text not null,
    since timestamptz not null default clock_timestamp(),
    until timestamptz,
    paused_by text
);

-- Who changed what of a job: its settings as JSON, none before it was created or after it was deleted.
create table cron_job_changes (
    id bigint generated always as identity primary key,
    job text not null,
    changed_at timestamptz not null default clock_timestamp(),
    changed_by text,
    request_id text,
    before text,
    after text
);
create index cron_job_changes_by_job on cron_job_changes (job, id);
create index cron_job_changes_by_age on cron_job_changes (changed_at);

-- The settings, as they are read and compared.
create function job_settings(job cron_jobs) returns jsonb language sql stable as $$
    select jsonb_build_object(
        'function', job.function, 'arguments', job.arguments::jsonb, 'schedule', job.schedule,
        'enabled', job.enabled, 'description', job.description, 'owner', job.owner,
        'maxSeconds', job.max_seconds, 'retries', job.retries,
        'retryAfterSeconds', job.retry_after_seconds,
        'startWithinSeconds', job.start_within_seconds, 'catchUp', job.catch_up,
        'group', job.job_group)
$$;
create or replace function settings_tag(job cron_jobs) returns text language sql stable as $$
    select to_hex(hashtextextended(row(
        job.id, job.enabled, job.function, job.schedule, job.arguments, job.description, job.owner,
        job.max_seconds, job.retries, job.retry_after_seconds, job.start_within_seconds,
        job.catch_up, job.job_group
    )::text, 0))
$$;

-- Two sample jobs called one function in the same way. They differ by an argument from now on.
update cron_jobs set arguments = '{"below":600000}'
where name = 'sample-more-primes' and function = 'count-primes';
