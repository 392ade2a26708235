//! What is wrong with a job, in SQL: written once, for the list of jobs and for their health.

/// Joins, to a row `job` of `cron_jobs` at the instant `clock.now`, what is wrong with it:
///
/// - `overdue`: its run goes on 5 s after its time was over. A run needs some time to return, or
///   each that ends in time would be told of.
/// - `retrying`: it runs another try of its slot, or waits for it.
/// - `missed`: its last slot was not run. `failing`: the last run that says something of the
///   function did not succeed. Of runs that say nothing, such as one of a replica that was shut
///   down, 100 at most are read. Both are null where no run is kept that could make them true: an
///   index tells, so that of ten thousand healthy jobs no run is read.
macro_rules! conditions_of_a_job {
    () => {
        "\
cross join lateral (
    select job.attempt > 1 and job.tried_at = coalesce(job.requested_at, job.slot)
            and (job.enabled or job.holder is not null) as retrying,
        job.holder is not null and exists (
            select from cron_runs run where run.id = job.run_id
                and clock.now - run.started_at > make_interval(secs => run.max_seconds + 5.0)
        ) as overdue
) now_and_next
left join lateral (
    select last.outcome = 'missed' as missed,
        last.outcome in ('failed', 'timed_out') or last.outcome <> 'succeeded' and (
            select outcome <> 'succeeded' from (
                select outcome from cron_runs
                where job_id = job.id and finished_at is not null order by token desc limit 100
            ) recent
            where outcome in ('succeeded', 'failed', 'timed_out') limit 1
        ) as failing
    from (
        select (
            select outcome from cron_runs
            where job_id = job.id and finished_at is not null order by token desc limit 1
        ) as outcome
        from cron_runs
        where job_id = job.id and outcome in ('failed', 'timed_out', 'missed') limit 1
    ) last
) ends on true"
    };
}

pub(super) use conditions_of_a_job;
