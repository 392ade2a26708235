//! Handlers: each does what a command asks for, and makes a reply of the result.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, error, warn};
use serde::Serialize;

use super::access::Access;
use super::call::Call;
use super::command::Command;
use super::problem::Problem;
use super::readiness::{HealthBody, Readiness};
use super::reply::Reply;
use super::route::{Reach, Route};
use super::{Application, Asked};
use crate::balance::{self, Answer, Change, Decision};
use crate::cron::{Functions, Jobs};
use crate::db::{self, Db, Lack, Stage};
use crate::metrics::{CONTENT_TYPE, Metrics, Readings};

/// Outcome, for the metrics, of a change that an earlier request with the same key had made.
pub(super) const REPLAYED: &str = "replayed";
/// The replica is not ready if requests wait longer than this for a first database connection.
const OPENING_MAX: Duration = Duration::from_secs(2);

/// The application that a replica serves. All workers share it.
pub struct Api {
    pub(super) jobs: Jobs,
    access: Access,
    readiness: Arc<Readiness>,
    pub(super) db: Arc<Db>,
    metrics: Arc<Metrics>,
}

impl Api {
    /// `functions` are those of this build.
    pub fn new(
        db: &Arc<Db>,
        access: Access,
        readiness: Arc<Readiness>,
        replica_name: &str,
        functions: &Functions,
        metrics: &Arc<Metrics>,
    ) -> Api {
        Api {
            jobs: Jobs::new(db, replica_name, functions, metrics),
            access,
            readiness,
            db: Arc::clone(db),
            metrics: Arc::clone(metrics),
        }
    }

    /// The name that the ledger keeps with what this request changes: that of its token, where
    /// `RECORD_ACTOR` is set.
    pub(super) fn recorded_actor<'a>(&self, call: &'a Call) -> Option<&'a str> {
        call.actor.as_deref().filter(|_| self.access.record_actor)
    }

    fn run(&self, asked: &Asked<'_>) -> Replied {
        match asked.command {
            Command::Live => Ok(Reply::json(200, &HealthBody::of("live"))),
            Command::Ready => match self.check() {
                Ok(()) => Ok(Reply::json(200, &self.readiness.of_both())),
                Err(reason) => Err(Problem::not_ready(&reason).into()),
            },
            Command::Metrics => self.metrics_text(asked.call),
            Command::Page(page) => Ok(page.reply(asked.call)),
            Command::ChangeBalance(change) => self.change_balance(asked, change),
            Command::ChangeAll(set) => self.change_all(asked, set),
            Command::CreateUser(user) => self.create_user(asked, user),
            Command::ListUsers(selection) => self.list_users(asked, selection),
            Command::ReadUser(user_id) => self.read_user(asked, *user_id),
            Command::ListChanges(selection, media) => self.list_changes(asked, selection, *media),
            Command::ReadBalance(user_id, as_of) => self.read_balance(asked, *user_id, *as_of),
            Command::ListFunctions => Ok(self.list_functions()),
            Command::CronStatus(filter) => self.cron_status(asked, filter),
            Command::CronHistory(filter) => self.cron_history(asked, filter),
            Command::ReadRun(run_id) => self.read_run(asked, *run_id),
            Command::ReadLog { run_id, after, limit } => {
                self.read_log(asked, *run_id, *after, *limit)
            }
            Command::ReadJob(name) => self.read_job(asked, name),
            Command::JobChanges(name, before, limit) => {
                self.job_changes(asked, name, *before, *limit)
            }
            Command::ReadNext(name, count) => self.read_next(asked, name, *count),
            Command::CheckSchedule(schedule) => self.check_schedule(asked, schedule),
            Command::JobsHealth => self.jobs_health(asked),
            Command::SteerJob(name, action, demand) => self.steer_job(asked, name, action, demand),
            Command::Pause(new) => self.pause(asked, new),
            Command::Resume => self.resume(asked),
            Command::ReadPause => self.read_pause(asked),
            Command::ApplyJobs(set) => self.apply_jobs(asked, set),
        }
    }

    /// Whether requests are served; the error says why not.
    fn check(&self) -> Result<(), String> {
        self.readiness.check()?;
        match self.db.lack() {
            Some(Lack::Refused(reason)) => Err(format!("requests get no connection: {reason}")),
            Some(Lack::UnderWay(time)) if time > OPENING_MAX => {
                Err(format!("requests have had no connection for {:.1} s", time.as_secs_f32()))
            }
            Some(Lack::UnderWay(_)) | None => Ok(()),
        }
    }

    fn metrics_text(&self, call: &Call) -> Replied {
        let (pool, health) = (self.db.pool_state(), self.db.health());
        let observed = health.observed();
        let oldest = observed.and_then(|observed| observed.oldest);
        let readings = Readings {
            database_up: health.check().is_ok(),
            ready: self.check().is_ok(),
            jobs_ready: health.claimable().map(|answer| answer.is_ok()),
            clock_skew_seconds: observed.map(|observed| observed.clock_skew_seconds),
            database_durable: observed.map(|observed| observed.durable),
            oldest_snapshot: oldest.map(|oldest| (oldest.behind, oldest.age_seconds())),
            pool_in_use: pool.in_use,
            pool_idle: pool.idle,
            pool_max: pool.max,
            pool_waiting: pool.waiting,
        };
        let text = self.metrics.text(&readings).map_err(|error| {
            let (request_id, by, reason) = (&call.request_id, call.by(), error.to_string());
            error!("event=metrics_not_written request_id={request_id}{by} reason={reason:?}");
            Problem::internal()
        })?;
        Ok(Reply::text(CONTENT_TYPE, text))
    }

    fn change_balance(&self, asked: &Asked<'_>, change: &Change) -> Replied {
        let answer =
            balance::apply(&self.db, asked.deadline, change, self.recorded_actor(asked.call))?;
        Ok(marked(balance_reply(change.user_id(), change.amount(), answer), answer.replayed))
    }
}

impl Application for Api {
    fn check(&self, route: &Route, call: &Call) -> Result<Option<Arc<str>>, Problem> {
        let actor = self.access.check(route, call)?;
        if route.reach != Reach::Memory && !self.readiness.is_migrated() {
            return Err(Problem::database_unavailable(db::Effect::NotApplied));
        }
        Ok(actor)
    }

    fn answer(&self, asked: &Asked<'_>) -> Reply {
        self.run(asked).unwrap_or_else(|fault| match fault {
            Fault::Problem(problem) => problem.into(),
            Fault::Database(error) => unavailable(asked.call, &error).into(),
        })
    }
}

/// What a handler returns.
pub(super) type Replied = Result<Reply, Fault>;

/// Why a handler could not do what was asked.
pub(super) enum Fault {
    /// The client gets this answer.
    Problem(Problem),
    /// A statement failed; [`unavailable`] makes the answer.
    Database(db::Error),
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Fault {
        Fault::Problem(problem)
    }
}

impl From<db::Error> for Fault {
    fn from(error: db::Error) -> Fault {
        Fault::Database(error)
    }
}

#[derive(Serialize)]
struct Page<T> {
    #[serde(flatten)]
    rows: BTreeMap<&'static str, Vec<T>>,
    next: Option<i64>,
}

/// The answer to a change that was applied.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Changed {
    user_id: i64,
    balance: i64,
    number: Option<i64>,
}

/// The answer, marked if it is that of an earlier request, so that clients can tell it from the
/// first one.
pub(super) fn marked(reply: Reply, is_replay: bool) -> Reply {
    match is_replay {
        true => reply.with_header("Idempotency-Replayed", "true").with_outcome(REPLAYED),
        false => reply,
    }
}

fn balance_reply(user_id: i64, amount: i64, answer: Answer) -> Reply {
    match answer.outcome {
        Decision::Changed { balance, number } => {
            Reply::json(200, &Changed { user_id, balance, number }).with_outcome("changed")
        }
        Decision::InsufficientFunds { balance } => {
            Problem::insufficient_funds(balance, amount).into()
        }
        Decision::OutOfRange => Problem::amount_out_of_range(amount).into(),
        Decision::NoSuchUser => Problem::user_not_found(user_id).into(),
        Decision::KeyReused => Problem::key_reused("another amount or reference").into(),
    }
}

/// A page of a list, under the name of what is in it.
pub(super) fn page<T: Serialize>(
    name: &'static str,
    mut rows: Vec<T>,
    limit: i64,
    id: impl Fn(&T) -> i64,
) -> Reply {
    let next = next_page(&mut rows, limit, id);
    Reply::json(200, &Page { rows: BTreeMap::from([(name, rows)]), next })
}

/// Takes away the row that is one more than the page has room for, and then returns the last id or
/// name of the page, after which the next one begins; `None` if this is the last page.
pub(super) fn next_page<T, I>(rows: &mut Vec<T>, limit: i64, id: impl Fn(&T) -> I) -> Option<I> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let goes_on = rows.len() > limit;
    rows.truncate(limit);
    rows.last().filter(|_| goes_on).map(id)
}

/// Logs the failed statement of a request and makes the answer. The probe logs the outage, once.
pub(super) fn unavailable(call: &Call, error: &db::Error) -> Problem {
    let (Call { method, target, request_id, .. }, by) = (call, call.by());
    let reason = error.reason();
    match error.stage() {
        Stage::Unsent => debug!(
            "event=request_unsent request_id={request_id}{by} method={method:?} \
             path={target:?} reason={reason:?}"
        ),
        Stage::Refused if error.is_passing() => warn!(
            "event=request_refused request_id={request_id}{by} method={method:?} \
             path={target:?} reason={reason:?}"
        ),
        Stage::Refused => {
            error!(
                "event=request_refused request_id={request_id}{by} method={method:?} \
                 path={target:?} reason={reason:?} hint=\"the database will refuse it again\""
            );
            return Problem::refused_for_good();
        }
        Stage::Unanswered => error!(
            "event=request_unanswered request_id={request_id}{by} method={method:?} \
             path={target:?} reason={reason:?} hint=\"nobody knows whether it was done\""
        ),
    }
    Problem::database_unavailable(error.effect())
}
