-- Names the settings of a job: another one once a setting is changed or the job is made anew, and
-- the same however often it runs. A function and no column: to add one, the table would be locked.

create function settings_tag(job cron_jobs) returns text language sql stable as $$
    select to_hex(
        hashtextextended(concat_ws(' ', job.id, job.enabled, job.function, job.schedule), 0)
    )
$$;
