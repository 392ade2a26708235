//! Who may ask for what: tokens and their scopes, and pages of other sites.

use std::sync::Arc;
use std::time::Instant;

use log::warn;
use parking_lot::Mutex;

use super::call::Call;
use super::problem::Problem;
use super::route::Route;
use crate::config::{Config, Origin, Scope, Tokens};
use crate::logger::Seldom;
use crate::shutdown::say;

/// Who may ask for what. Without tokens everybody may ask for everything.
#[derive(Default)]
pub struct Access {
    tokens: Arc<Tokens>,
    open_reads: bool,
    trusted: Vec<Origin>,
    pub(super) record_actor: bool,
    denials: Mutex<Seldom>,
}

impl Access {
    /// As the settings say.
    pub fn of(config: &Config) -> Access {
        Access {
            tokens: Arc::clone(&config.tokens),
            open_reads: config.open_reads,
            trusted: config.trusted_origins.clone(),
            record_actor: config.record_actor,
            denials: Mutex::default(),
        }
    }

    /// Whether the request may be made; the name of its token, where it needs one.
    pub(super) fn check(&self, route: &Route, call: &Call) -> Result<Option<Arc<str>>, Problem> {
        let needed = route.scope.filter(|scope| self.is_guarded(*scope));
        let decides = route.changes_something() || needed.is_some();
        if let Some(field) = call.contradiction.filter(|_| decides) {
            let rule = format!("`{field}` is given twice, with two values");
            return Err(Problem::invalid_request(field, rule));
        }
        if route.changes_something() && call.is_cross_site(&self.trusted) {
            self.log_denial(call, "its page is of another site, not in TRUSTED_ORIGINS", None);
            return Err(Problem::cross_site_request());
        }
        needed.map(|scope| self.authorize(scope, call)).transpose()
    }

    fn is_guarded(&self, scope: Scope) -> bool {
        let is_open = self.open_reads && scope == Scope::Read;
        !is_open && !self.tokens.is_empty()
    }

    /// The name of the request's token, which must have this scope.
    fn authorize(&self, scope: Scope, call: &Call) -> Result<Arc<str>, Problem> {
        let given = call.authorization.as_deref().and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        match given.and_then(|given| self.tokens.find(given)) {
            Some(token) if token.allows(scope) => Ok(Arc::clone(token.name())),
            Some(token) => {
                self.log_denial(call, "its token lacks the scope", Some(token.name()));
                Err(Problem::forbidden(scope))
            }
            None => {
                let (reason, why) = match (given, &call.authorization) {
                    (Some(_), _) => {
                        ("no known token", "the token that was sent is not known here: ")
                    }
                    (None, None) => ("no token", ""),
                    (None, Some(_)) => (
                        "no bearer token",
                        "the header `Authorization` that was sent has another form: ",
                    ),
                };
                self.log_denial(call, reason, None);
                Err(Problem::unauthorized(scope, why))
            }
        }
    }

    /// Logs a request that was denied, or only counts it.
    fn log_denial(&self, call: &Call, reason: &'static str, actor: Option<&Arc<str>>) {
        let Some(denied) = self.denials.lock().count(Instant::now()) else { return };
        let call = Call { actor: actor.cloned(), ..call.clone() };
        // Others wait meanwhile, and whoever reads the log may have stopped reading.
        say(move || {
            let (Call { method, target, request_id, .. }, by) = (&call, call.by());
            warn!(
                "event=request_denied request_id={request_id}{by} method={method:?} \
                 path={target:?} reason={reason:?} denied={denied}"
            );
        });
    }
}
