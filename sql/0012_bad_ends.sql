-- The runs that make a job failing or missed, which are few: so that the state of ten thousand jobs is
-- counted without reading the last run of each.
create index cron_runs_bad_ends on cron_runs (job_id)
    where outcome in ('failed', 'timed_out', 'missed');
