-- What the interleavings of the statements of a lease begin with, and what must be so at their end.
-- The job is number 1; its last run, number 1, has the token 7 and the holder `old#1`.

create schema trial;

alter sequence cron_runs_id_seq restart with 100;

-- How the job was, and the tag by which the settings were read, before the statements began.
create table trial.before (
    slot timestamptz, schedule text, tag text, written_at timestamptz, stop_run bigint
);

-- By how much a session's clock is ahead. The sessions find these functions before the system's.
create table trial.ahead (session int, by interval);

create function trial.ahead() returns interval language plpgsql as $$
begin
    return coalesce((
        select max(by) from trial.ahead where session = current_setting('trial.session')::int
    ), '0');
end
$$;
create function trial.now() returns timestamptz language plpgsql stable as
    'begin return pg_catalog.now() + trial.ahead(); end';
create function trial.clock_timestamp() returns timestamptz language plpgsql as
    'begin return pg_catalog.clock_timestamp() + trial.ahead(); end';

-- What the steps of the old run have done. A line that it says is judged like a step.
create table trial.steps (token bigint not null);

-- The order in which transactions have ended.
create table trial.ends (
    id bigint generated always as identity,
    what text not null check (what in ('step', 'open', 'closed')),
    token bigint not null
);

create function trial.tag() returns text language sql as 'select tag from trial.before';
create function trial.slot() returns timestamptz language sql as 'select slot from trial.before';
create function trial.written_at() returns timestamptz language sql as
    'select written_at from trial.before';

-- A deferred trigger is called when its transaction commits.
create function trial.note() returns trigger language plpgsql as $$
begin
    if tg_table_name = 'steps' then
        insert into trial.ends (what, token) values ('step', new.token);
    elsif tg_table_name = 'cron_run_lines' then
        insert into trial.ends (what, token) select 'step', token from cron_runs where id = new.run_id;
    elsif new.job_id = 1 then
        insert into trial.ends (what, token)
        values (case when new.finished_at is null then 'open' else 'closed' end, new.token);
    end if;
    return null;
end
$$;
create constraint trigger note after insert on trial.steps
    deferrable initially deferred for each row execute function trial.note();
create constraint trigger note after insert on cron_run_lines
    deferrable initially deferred for each row execute function trial.note();
create constraint trigger note after insert or update on cron_runs
    deferrable initially deferred for each row execute function trial.note();

create function trial.clear() returns void language plpgsql as $$
begin
    delete from cron_jobs;
    delete from cron_job_changes;
    delete from cron_runs;
    delete from trial.steps;
    delete from trial.before;
    delete from trial.ahead;
end
$$;

-- After the set-up's own transaction, so that what it has noted is gone too.
create function trial.begin() returns void language plpgsql as $$
begin
    insert into trial.before
    select slot, schedule, settings_tag(cron_jobs), written_at, stop_run from cron_jobs;
    delete from trial.ends;
end
$$;

-- The job waits for `slot`, offered a while ago if it is due; its last run has ended.
create function trial.waits(slot interval) returns void language plpgsql as $$
begin
    perform trial.clear();
    insert into cron_jobs (id, name, function, schedule, slot, locked_until, offered_at, token)
    overriding system value
    values (1, 'job', 'quick', 'every 1h', now() + slot, now() + slot,
        case when slot < '0' then now() - interval '2 min' end, 7);
    insert into cron_runs (id, job_id, job, function, token, server, scheduled_at, started_at,
        finished_at, outcome)
    values (1, 1, 'job', 'quick', 7, 'old', now() - interval '1 h', now() - interval '1 h',
        now() - interval '59 min', 'succeeded');
end
$$;

-- The job runs, and its lease ends `lease` from now; offered anew if it has ended.
create function trial.runs(enabled boolean, lease interval) returns void language plpgsql as $$
begin
    perform trial.clear();
    insert into cron_jobs (id, name, function, schedule, enabled, slot, locked_until, offered_at,
        token, holder, run_id)
    overriding system value
    values (1, 'job', 'quick', 'every 1h', enabled, now() - interval '3 min', now() + lease,
        case when enabled and lease < '0' then now() - interval '90 s' end, 7, 'old#1', 1);
    insert into cron_runs (id, job_id, job, function, token, server, scheduled_at, started_at)
    values (1, 1, 'job', 'quick', 7, 'old', now() - interval '3 min', now() - interval '3 min');
end
$$;

-- The lease has ended of a run that somebody had asked to stop.
create function trial.was_stopped() returns void language plpgsql as $$
begin
    perform trial.runs(true, '-1 min');
    update cron_jobs set stop_run = 1;
end
$$;

-- The job runs, and its row was written by a clock that was an hour ahead of today's.
create function trial.was_set_back() returns void language plpgsql as $$
begin
    perform trial.runs(true, '75 min');
    update cron_jobs set written_at = now() + interval '1 h';
end
$$;

-- The same of a job that waits for a slot of that clock.
create function trial.waits_set_back() returns void language plpgsql as $$
begin
    perform trial.waits('75 min');
    update cron_jobs set written_at = now() + interval '1 h';
end
$$;

-- The lease ends before this session acts, and not before the other one does.
create function trial.ends_for(session int, enabled boolean) returns void language plpgsql as $$
begin
    perform trial.runs(enabled, '15 min');
    update cron_jobs set offered_at = now() - interval '90 s' where cron_jobs.enabled;
    insert into trial.ahead values (session, '30 min');
end
$$;

-- Each row is a sentence about what must not be.
create view trial.broken as
    select 'two runs of a job are open' as what
    from cron_runs where finished_at is null group by job_id having count(*) > 1
union all
    select 'an open run is not the one that its job has'
    from cron_runs run left join cron_jobs job on job.id = run.job_id
    where run.finished_at is null
        and (job.run_id, job.token) is distinct from (run.id, run.token)
union all
    select 'a job has a run that is not open'
    from cron_jobs job where job.run_id is not null
        and not exists (select from cron_runs where id = job.run_id and finished_at is null)
union all
    select 'the token is not one more with each claim'
    from cron_jobs job where job.id = 1
        and job.token <> 7 + (select count(*) from cron_runs where job_id = 1 and token > 7)
union all
    select 'a job is offered that is not due'
    from cron_jobs where offered_at is not null
        and locked_until > clock_timestamp() + coalesce((select max(by) from trial.ahead), '0')
union all
    select 'a slot was passed over without a run'
    from cron_jobs job join trial.before using (schedule)
    where job.id = 1 and job.slot <> before.slot and not exists (
        select from cron_runs run
        where run.job_id = 1 and run.scheduled_at = before.slot
            and run.outcome in ('succeeded', 'stopped'))
union all
    select 'a run that was to be stopped is followed by another of its slot'
    from trial.before join cron_runs run on scheduled_at = slot
    where stop_run = 1 and token > 7
union all
    select 'a slot that was run is due again'
    from cron_jobs job join trial.before using (schedule, slot)
    where job.id = 1 and exists (
        select from cron_runs run
        where run.job_id = 1 and run.scheduled_at = before.slot
            and run.outcome in ('succeeded', 'stopped'))
union all
    select 'a job waits for a slot of the schedule that it had'
    from cron_jobs job join trial.before using (slot)
    where job.id = 1 and job.schedule <> before.schedule and job.locked_until = slot
union all
    select 'a job that was asked for waits for its slot'
    from cron_jobs where slot > requested_at and locked_until = slot
union all
    select 'a job is asked for whose run goes on'
    from cron_jobs where requested_at is not null and holder = 'old#1'
union all
    select 'the settings are others than the last change says'
    from cron_jobs job cross join trial.before
    where settings_tag(job) <> before.tag and job_settings(job)::text is distinct from (
        select after from cron_job_changes order by id desc limit 1)
union all
    select 'a run was closed twice'
    from trial.ends where what = 'closed' group by token having count(*) > 1
union all
    select 'a step was done after its run had ended'
    from trial.ends step join cron_runs run using (token)
    left join trial.ends closed on closed.what = 'closed' and closed.token = step.token
    where step.what = 'step' and run.finished_at is not null
        and (closed.id is null or closed.id < step.id)
union all
    select 'a step of an old run was done after a new one was open'
    from trial.ends step join trial.ends run on run.what = 'open' and run.token > step.token
    where step.what = 'step' and run.id < step.id;

-- In PL/pgSQL, as all that is called again and again: a session plans it once.
create function trial.judge() returns setof text language plpgsql as $$
begin
    return query select 'broken: ' || what from trial.broken;
end
$$;
