//! A job that reads the history of runs.

use super::Pace;
use crate::cron::Failure;

const SUMMARY: &str = "\
select format(
    'in 24 hours: %s succeeded, %s failed, %s timed out, %s stopped, %s cancelled, '
        '%s abandoned, %s missed; runs in all: %s, servers: %s',
    count(*) filter (where outcome = 'succeeded'),
    count(*) filter (where outcome = 'failed'),
    count(*) filter (where outcome = 'timed_out'),
    count(*) filter (where outcome = 'stopped'),
    count(*) filter (where outcome = 'cancelled'),
    count(*) filter (where outcome = 'abandoned'),
    count(*) filter (where outcome = 'missed'),
    count(*),
    count(distinct nullif(server, ''))
)
from cron_runs where finished_at > now() - interval '24 hours'";

/// Counts the runs of the last 24 hours, by outcome and on how many replicas.
pub(super) fn summarize(pace: &Pace<'_>) -> Result<String, Failure> {
    pace.context.step(|session| Ok(session.query_one(SUMMARY, &[])?.get(0)))
}
