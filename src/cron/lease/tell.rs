//! Writes what an open run tells of itself: its progress, the length of its checkpoint, its lines.

use std::collections::BTreeSet;
use std::time::Instant;

use super::{Claimed, FromDatabase, Leases};
use crate::cron::said::Line;
use crate::db::{Params, Session};

/// What the history of a run lacks.
#[derive(Clone, Debug)]
pub(in crate::cron) struct News {
    /// From 0 to 1.
    pub(in crate::cron) progress: f64,
    /// None if the run has kept no checkpoint.
    pub(in crate::cron) checkpoint_bytes: Option<i32>,
    /// The number of the oldest line that is kept: those before it are dropped.
    pub(in crate::cron) first_line: i32,
    pub(in crate::cron) lines: Vec<Line>,
}

/// Writes only where the run is open and the job is still this holder's, and skips a run that
/// somebody has locked. It is not part of the renewal, so that a rule that somebody has added to
/// the history's tables cannot cost a lease.
const TELL: &str = "\
with told as (
    select * from unnest(
        $1::bigint[], $2::bigint[], $3::text[], $4::float8[], $5::integer[], $6::integer[]
    ) as told (run_id, token, holder, done, checkpoint_bytes, first_line)
), open as (
    select told.* from cron_runs join told on id = run_id and cron_runs.token = told.token
    where finished_at is null and exists (
        select from cron_jobs
        where cron_jobs.id = job_id and cron_jobs.token = told.token
            and cron_jobs.holder = told.holder
    )
    for update of cron_runs skip locked
), written as (
    update cron_runs
    set progress = done,
        checkpoint_bytes = coalesce(open.checkpoint_bytes, cron_runs.checkpoint_bytes)
    from open where cron_runs.id = run_id
        and (progress, cron_runs.checkpoint_bytes)
            is distinct from (done, coalesce(open.checkpoint_bytes, cron_runs.checkpoint_bytes))
), dropped as (
    delete from cron_run_lines line using open
    where line.run_id = open.run_id and line.number < first_line
), said as (
    insert into cron_run_lines (run_id, number, said_at, line)
    select said.run_id, said.number, clock_timestamp() - make_interval(secs => age), said.line
    from unnest($7::bigint[], $8::integer[], $9::float8[], $10::text[])
        as said (run_id, number, age, line)
    join open on open.run_id = said.run_id
    on conflict do nothing
)
select run_id from open";

impl Leases {
    /// Writes this news. Returns the ids of the runs that it was written for.
    pub(in crate::cron) fn tell(
        session: &mut Session,
        all: &[(&Claimed, &News)],
    ) -> FromDatabase<BTreeSet<i64>> {
        let now = Instant::now();
        let runs: Vec<i64> = all.iter().map(|(run, _)| run.run_id).collect();
        let tokens: Vec<i64> = all.iter().map(|(run, _)| run.token).collect();
        let holders: Vec<&str> = all.iter().map(|(run, _)| run.holder.as_str()).collect();
        let done: Vec<f64> = all.iter().map(|(_, news)| news.progress).collect();
        let bytes: Vec<Option<i32>> = all.iter().map(|(_, news)| news.checkpoint_bytes).collect();
        let first: Vec<i32> = all.iter().map(|(_, news)| news.first_line).collect();
        let lines = all.iter().flat_map(|(run, news)| {
            let of = |line| (run.run_id, line);
            news.lines.iter().map(of)
        });
        let said = |(run, line): (i64, &'_ Line)| {
            let age = now.saturating_duration_since(line.at).as_secs_f64();
            (run, line.number, age, line.text.clone())
        };
        let (sayers, numbers, ages, texts): (Vec<_>, Vec<_>, Vec<_>, Vec<_>) =
            lines.map(said).collect();
        let params: Params<'_> =
            &[&runs, &tokens, &holders, &done, &bytes, &first, &sayers, &numbers, &ages, &texts];
        let rows = session.query(TELL, params)?;
        Ok(rows.iter().map(|row| row.get("run_id")).collect())
    }
}
