//! What is asked of runs and their logs, and the answers.

use super::Asked;
use super::call::Call;
use super::command::{Command, read_id, take_limit};
use super::handlers::{Api, Replied, page};
use super::input::Query;
use super::ledger::take_span;
use super::problem::Problem;
use super::reply::Reply;
use crate::cron::{Filter, Outcome};

impl Command {
    pub(super) fn cron_history(call: &Call, _: &str) -> Result<Command, Problem> {
        read_run_filter(call).map(Command::CronHistory)
    }

    pub(super) fn read_run(call: &Call, id: &str) -> Result<Command, Problem> {
        Query::parse(call.query()).end()?;
        read_id(id).map(Command::ReadRun)
    }

    pub(super) fn read_log(call: &Call, id: &str) -> Result<Command, Problem> {
        let mut query = Query::parse(call.query());
        let after = query.take_integer("after", 0..=i64::from(i32::MAX))?.unwrap_or(0);
        let limit = take_limit(&mut query)?;
        query.end()?;
        // The range has just been checked.
        let after = i32::try_from(after).unwrap_or(i32::MAX);
        Ok(Command::ReadLog { run_id: read_id(id)?, after, limit })
    }
}

/// Which runs `GET /api/cron/history` asks for. Pure.
///
/// # Errors
/// A [`Problem`] of status 400 that names the parameter.
pub fn read_run_filter(call: &Call) -> Result<Filter, Problem> {
    let mut query = Query::parse(call.query());
    let (from, to) = take_span(&mut query)?;
    let filter = Filter {
        job: query.take_text("job")?,
        server: query.take_text("server")?,
        outcome: query.take_text("outcome")?,
        from,
        to,
        before: query.take_integer("before", 0..=i64::MAX)?,
        limit: take_limit(&mut query)?,
    };
    query.end()?;
    let outcomes = Outcome::ALL.map(Outcome::name);
    if filter.outcome.as_deref().is_some_and(|outcome| !outcomes.contains(&outcome)) {
        return Err(Problem::must("outcome", format!("be one of {}", outcomes.join(", "))));
    }
    Ok(filter)
}

impl Api {
    pub(super) fn cron_history(&self, asked: &Asked<'_>, filter: &Filter) -> Replied {
        let runs = self.jobs.runs(asked.deadline, filter)?;
        Ok(page("runs", runs, filter.limit, |run| run.end.run_id))
    }

    pub(super) fn read_run(&self, asked: &Asked<'_>, run_id: i64) -> Replied {
        let run = self.jobs.run(asked.deadline, run_id)?;
        let run = run.ok_or_else(|| Problem::run_not_found(run_id))?;
        Ok(Reply::json(200, &run))
    }

    pub(super) fn read_log(
        &self,
        asked: &Asked<'_>,
        run_id: i64,
        after: i32,
        limit: i64,
    ) -> Replied {
        let log = self.jobs.log(asked.deadline, run_id, after, limit)?;
        let log = log.ok_or_else(|| Problem::run_not_found(run_id))?;
        Ok(Reply::json(200, &log))
    }
}
