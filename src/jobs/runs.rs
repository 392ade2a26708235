//! A job that reads the history of runs.

use super::Pace;
use crate::cron::Failure;

const SUMMARY: &str = "\
select count(*) as runs,
    count(*) filter (where outcome = 'succeeded') as succeeded,
    count(*) filter (where outcome = 'failed') as failed,
    count(*) filter (where outcome = 'cancelled') as cancelled,
    count(*) filter (where outcome = 'abandoned') as abandoned,
    count(distinct server) as servers
from cron_runs where finished_at > now() - interval '24 hours'";

/// Counts the runs of the last 24 hours, by outcome and on how many replicas.
pub(super) fn summarize(pace: &Pace<'_>) -> Result<String, Failure> {
    let rows = pace.context.step(|session| session.query(SUMMARY, &[]))?;
    let count = |column: &str| -> i64 { rows[0].get(column) };
    Ok(format!(
        "{} runs in 24 hours on {} servers: {} succeeded, {} failed, {} cancelled, {} abandoned",
        count("runs"),
        count("servers"),
        count("succeeded"),
        count("failed"),
        count("cancelled"),
        count("abandoned"),
    ))
}
