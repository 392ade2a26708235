//! From a call to a reply: the route, the typed command, the one thing it asks of the database,
//! and the words for what became of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use log::{debug, error, warn};
use serde::Serialize;

use super::call::Call;
use super::denials::Denials;
use super::input::Fields;
use super::page::{self, DOCUMENT};
use super::problem::Problem;
use super::reply::Reply;
use super::route::{NoRoute, Route};
use crate::balance::{Answer, Balances, Change, IdempotencyKey, Outcome};
use crate::config::Token;
use crate::cron::{Functions, History, Jobs, StatusReader};
use crate::db::{self, Attempt, Db, Lack, Pulse, Stage};
use crate::metrics::{self, CONTENT_TYPE, Metrics, Readings};
use crate::shutdown::Signal;
use crate::users::{User, Users};

pub(super) const PAGE_DEFAULT: i64 = 100;
pub(super) const PAGE_MAX: i64 = 1_000;

/// As long as the first connection may take before requests count as not served.
const OPENING_MAX: Duration = Duration::from_secs(2);

/// What the handlers need, shared by all workers.
pub struct Api {
    balances: Balances,
    pub(super) users: Users,
    pub(super) jobs: Jobs,
    pub(super) status: StatusReader,
    pub(super) history: History,
    token: Option<Token>,
    denials: Denials,
    readiness: Arc<Readiness>,
    db: Arc<Db>,
    metrics: Arc<Metrics>,
}

/// Whether this replica should get requests; known without asking anybody.
pub struct Readiness {
    pulse: Arc<Pulse>,
    migrated: AtomicBool,
    shutdown: Signal,
}

impl Readiness {
    /// Not ready before [`Readiness::migrated`].
    pub fn new(pulse: Arc<Pulse>, shutdown: Signal) -> Readiness {
        Readiness { pulse, migrated: AtomicBool::new(false), shutdown }
    }

    /// The schema is as the program needs it.
    pub fn migrated(&self) {
        self.migrated.store(true, Ordering::Release);
    }

    /// Requests are served; whether jobs are run, too.
    fn of_both(&self) -> Health {
        let (jobs, detail) = match self.pulse.can_jobs_be_claimed() {
            None => ("off", None),
            Some(Ok(())) => ("ready", None),
            Some(Err(reason)) => ("not_ready", Some(reason)),
        };
        Health { jobs: Some(jobs), detail, ..Health::of("ready") }
    }

    fn check(&self) -> Result<(), String> {
        if self.shutdown.has_begun() {
            return Err("this replica is shutting down".to_owned());
        }
        self.pulse.check()?;
        match self.migrated.load(Ordering::Acquire) {
            true => Ok(()),
            false => Err("the migrations are not applied yet".to_owned()),
        }
    }
}

impl Api {
    /// The handlers of the replica of this name, whose build has these functions.
    pub fn new(
        db: &Arc<Db>,
        token: Option<Token>,
        readiness: Arc<Readiness>,
        replica_name: &str,
        functions: &Functions,
        metrics: &Arc<Metrics>,
    ) -> Api {
        Api {
            balances: Balances::new(Arc::clone(db)),
            users: Users::new(Arc::clone(db)),
            jobs: Jobs::new(Arc::clone(db), Arc::clone(metrics)),
            status: StatusReader::new(Arc::clone(db), replica_name, functions),
            history: History::new(Arc::clone(db)),
            token,
            denials: Denials::default(),
            readiness,
            db: Arc::clone(db),
            metrics: Arc::clone(metrics),
        }
    }

    /// Answers a call. Blocks for the database at most until the attempt is over.
    pub fn answer(&self, call: &Call, attempt: &Arc<Attempt>) -> Reply {
        self.handle(call, attempt).unwrap_or_else(Reply::from)
    }

    fn handle(&self, call: &Call, attempt: &Arc<Attempt>) -> Result<Reply, Problem> {
        let route = Route::parse(&call.method, call.path()).map_err(|refusal| match refusal {
            NoRoute::NotFound => Problem::not_found(),
            NoRoute::MethodNotAllowed(allowed) => Problem::method_not_allowed(allowed),
        })?;
        if route.changes_something() {
            if let Some(field) = call.contradiction {
                let rule = format!("`{field}` is given twice, with two values");
                return Err(Problem::invalid_request(field, rule));
            }
            if call.is_cross_site() {
                self.denials.tell(call, "a browser sent it for a page of another site");
                return Err(Problem::cross_site_request());
            }
            self.authorize(call)?;
        }
        if !route.is_in_memory() && !self.readiness.migrated.load(Ordering::Acquire) {
            return Err(Problem::database_unavailable(db::Outcome::NotApplied));
        }
        match route {
            Route::Live => Ok(Reply::json(200, &Health::of("live"))),
            Route::Ready => match self.check() {
                Ok(()) => Ok(Reply::json(200, &self.readiness.of_both())),
                Err(reason) => Err(Problem::not_ready(&reason)),
            },
            Route::ChangeBalance | Route::CreateUser if call.has_precondition() => {
                let detail = "nothing here has an ETag: send it without If-Match and If-None-Match";
                Err(Problem::precondition_failed(detail))
            }
            Route::ChangeBalance => self.change_balance(call, attempt),
            Route::CreateUser => self.create_user(call, attempt),
            Route::ListUsers => self.list_users(call, attempt),
            Route::ReadUser(user_id) => self.read_user(call, attempt, user_id),
            Route::ListChanges(user_id) => self.list_changes(call, attempt, user_id),
            Route::CronStatus => self.cron_status(call, attempt),
            Route::CronHistory => self.cron_history(call, attempt),
            Route::ReadJob(name) => self.read_job(call, attempt, &name),
            Route::PutJob(name) => self.put_job(call, attempt, &name),
            Route::PatchJob(name) => self.patch_job(call, attempt, &name),
            Route::DeleteJob(name) => self.delete_job(call, attempt, &name),
            Route::RunJob(name) => self.run_job(call, attempt, &name),
            Route::Dashboard => Ok(page::DASHBOARD.reply()),
            Route::Documentation => Ok(page::DOCUMENTATION.reply()),
            Route::Document => Ok(Reply::constant("application/json", DOCUMENT)),
            Route::Metrics => self.metrics_text(call),
        }
    }

    /// Whether requests are served.
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

    fn authorize(&self, call: &Call) -> Result<(), Problem> {
        let Some(token) = &self.token else {
            return Ok(());
        };
        let given = call.authorization.as_deref().and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        match given.is_some_and(|given| token.matches(given)) {
            true => Ok(()),
            false => {
                let sent = call.authorization.is_some();
                self.denials.tell(call, if sent { "not the token" } else { "no token" });
                Err(Problem::unauthorized())
            }
        }
    }

    fn metrics_text(&self, call: &Call) -> Result<Reply, Problem> {
        let (pool, pulse) = (self.db.pool_state(), self.db.pulse());
        let readings = Readings {
            database_up: pulse.check().is_ok(),
            ready: self.check().is_ok(),
            jobs_ready: pulse.can_jobs_be_claimed().map(|answer| answer.is_ok()),
            clock_skew_seconds: pulse.clock_skew_seconds(),
            database_durable: pulse.is_durable(),
            pool_in_use: pool.in_use,
            pool_idle: pool.idle,
            pool_max: pool.max,
            pool_waiting: pool.waiting,
        };
        let text = self.metrics.text(&readings).map_err(|error| {
            let (request_id, reason) = (&call.request_id, error.to_string());
            error!("event=metrics_not_written request_id={request_id} reason={reason:?}");
            Problem::internal()
        })?;
        Ok(Reply::text(CONTENT_TYPE, text))
    }

    fn change_balance(&self, call: &Call, attempt: &Arc<Attempt>) -> Result<Reply, Problem> {
        let change = read_change(call)?;
        let answer =
            self.balances.change(attempt, &change).map_err(|error| unavailable(call, &error))?;
        let reply = balance_reply(change.user_id(), change.amount(), answer);
        Ok(match answer.replayed && answer.outcome != Outcome::KeyReused {
            true => replayed(reply).counted_as(Some(metrics::Change::Replayed)),
            false => reply,
        })
    }
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    jobs: Option<&'static str>,
    /// Why no job is claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl Health {
    fn of(status: &'static str) -> Health {
        Health { status, jobs: None, detail: None }
    }
}

/// What `POST /api/balance` asks for. Pure.
///
/// # Errors
/// A [`Problem`] of status 400, which names the field where the body is JSON.
pub fn read_change(call: &Call) -> Result<Change, Problem> {
    let mut fields = Fields::parse(call)?;
    let user_id = fields.take_integer("userId")?;
    let amount = fields.take_integer("amount")?;
    fields.end()?;
    let key = read_key(call)?;
    let change = Change::new(user_id, amount)
        .map_err(|_| Problem::invalid_request("amount", "`amount` must not be 0"))?;
    Ok(change.with_key(key))
}

pub(super) fn read_key(call: &Call) -> Result<Option<IdempotencyKey>, Problem> {
    let key = call.idempotency_key.as_deref().map(IdempotencyKey::parse).transpose();
    key.map_err(|_| {
        let rule = "`Idempotency-Key` must be 1 to 255 printable characters, quoted or bare";
        Problem::invalid_request("Idempotency-Key", rule)
    })
}

/// The answer to an earlier request with the same key, told apart from the first one.
pub(super) fn replayed(reply: Reply) -> Reply {
    reply.with_header("Idempotency-Replayed", "true")
}

fn balance_reply(user_id: i64, amount: i64, answer: Answer) -> Reply {
    match answer.outcome {
        Outcome::Changed { balance } => {
            Reply::json(200, &User { user_id, balance }).counted_as(Some(metrics::Change::Changed))
        }
        Outcome::InsufficientFunds { balance } => {
            Problem::insufficient_funds(balance, amount).into()
        }
        Outcome::OutOfRange => Problem::amount_out_of_range(amount).into(),
        Outcome::NoSuchUser => Problem::user_not_found(user_id).into(),
        Outcome::KeyReused => Problem::key_reused("a change of another amount").into(),
    }
}

/// A full page may have a next one; a page that is not full is the last.
pub(super) fn next_page<T>(rows: &[T], limit: i64, id: impl Fn(&T) -> i64) -> Option<i64> {
    let full = usize::try_from(limit).is_ok_and(|limit| rows.len() >= limit);
    rows.last().filter(|_| full).map(id)
}

/// An outage is logged once, by the probe; here each request whose statement failed.
pub(super) fn unavailable(call: &Call, error: &db::Error) -> Problem {
    let Call { method, target, request_id, .. } = call;
    let reason = error.reason();
    match error.stage() {
        Stage::Unsent => debug!(
            "event=request_unsent request_id={request_id} method={method:?} path={target:?} \
             reason={reason:?}"
        ),
        Stage::Refused if error.is_passing() => warn!(
            "event=request_refused request_id={request_id} method={method:?} path={target:?} \
             reason={reason:?}"
        ),
        Stage::Refused => {
            error!(
                "event=request_refused request_id={request_id} method={method:?} path={target:?} \
                 reason={reason:?} hint=\"the database will refuse it again\""
            );
            return Problem::refused_for_good();
        }
        Stage::Unanswered => error!(
            "event=request_unanswered request_id={request_id} method={method:?} path={target:?} \
             reason={reason:?} hint=\"nobody knows whether it was done\""
        ),
    }
    Problem::database_unavailable(error.outcome())
}
