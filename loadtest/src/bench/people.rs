//! The users of a bench: found, made where missing, given money where they have little.

use std::collections::VecDeque;
use std::time::Instant;

use super::Options;
use super::traffic::{self, Free, Next, Script};
use crate::client::{Answer, Caller, Request, Target};
use crate::outcome::{Failure, User, describe};
use crate::progress::Progress;
use crate::report::grouped;

/// A user has enough for this many withdrawals when a bench begins, or gets twice as much.
const WITHDRAWALS_MIN: i64 = 500_000;
/// Enough to share the database's flushes, few enough not to be a test of their own.
const CONNECTIONS_MAX: usize = 64;
const HOT_USER_ID: i64 = 1;

/// Who takes part.
pub(super) struct People {
    /// At least one.
    pub(super) ids: Vec<i64>,
    /// Made for this.
    pub(super) created: usize,
    /// Given money for this.
    pub(super) topped_up: usize,
}

/// One thing to do before the bench.
#[derive(Clone, Copy)]
enum Errand {
    Create,
    TopUp { user_id: i64, amount: i64 },
}

/// Runs the errands.
struct Errands<'a> {
    create: Vec<Request>,
    change: Vec<Request>,
    left: VecDeque<Errand>,
    /// By connection.
    under_way: Vec<Errand>,
    opening_balance: i64,
    people: &'a mut People,
    /// The first thing that went wrong; then no more is sent.
    fault: Option<String>,
}

impl People {
    /// Finds or makes as many users as asked for.
    ///
    /// # Errors
    /// A sentence on the first thing that went wrong.
    pub(super) fn prepare(
        options: &Options,
        targets: &[Target],
        progress: &mut Progress,
    ) -> Result<People, String> {
        let token = options.token.as_deref();
        let caller = Caller::new(&targets[0], token);
        let found = match options.users {
            1 => vec![User { user_id: HOT_USER_ID, balance: caller.balance(HOT_USER_ID)? }],
            count => caller.users(count)?,
        };
        // Deposits alone need no money; where they alternate with withdrawals, 1 is withdrawn.
        let least = options.amount.unwrap_or(-1).min(0).saturating_neg() * WITHDRAWALS_MIN;
        let poor = found.iter().filter(|user| user.balance < least);
        let mut left: VecDeque<_> = poor
            .map(|user| Errand::TopUp { user_id: user.user_id, amount: 2 * least - user.balance })
            .collect();
        left.extend((found.len()..options.users).map(|_| Errand::Create));
        let ids = found.iter().map(|user| user.user_id).collect();
        let mut people = People { ids, created: 0, topped_up: 0 };
        let connections = left.len().min(CONNECTIONS_MAX).min(options.connections);
        let requests = |path| -> Vec<_> {
            targets.iter().map(|target| Request::new(target, token, "POST", path)).collect()
        };
        let mut errands = Errands {
            create: requests("/api/users"),
            change: requests("/api/balance"),
            left,
            under_way: vec![Errand::Create; connections],
            opening_balance: 2 * least,
            people: &mut people,
            fault: None,
        };
        traffic::run(targets, connections, options.timeout, &mut errands, progress)?;
        match errands.fault {
            Some(fault) => Err(fault),
            None => Ok(people),
        }
    }
}

impl Script for Errands<'_> {
    fn next(&mut self, number: usize, free: Free, request: &mut Vec<u8>) -> Next {
        let Some(errand) = self.left.pop_front().filter(|_| self.fault.is_none()) else {
            return Next::End;
        };
        self.under_way[number] = errand;
        let of_target = number % self.create.len();
        match errand {
            Errand::Create => {
                let balance = self.opening_balance;
                let body = format_args!(r#"{{"balance":{balance}}}"#);
                self.create[of_target].write(request, b"", body);
            }
            Errand::TopUp { user_id, amount } => {
                self.change[of_target].write_change(request, b"", user_id, amount);
            }
        }
        Next::Send(free.now)
    }

    fn ended(
        &mut self,
        number: usize,
        _due: Instant,
        _now: Instant,
        result: Result<&Answer<'_>, Failure>,
    ) {
        let answer = match result {
            Ok(answer) => answer,
            Err(failure) => {
                self.fault = Some(format!("preparing the users failed: {failure}"));
                return;
            }
        };
        let user = serde_json::from_slice::<User>(answer.body);
        match (self.under_way[number], answer.status, user) {
            (Errand::Create, 201, Ok(user)) => {
                self.people.ids.push(user.user_id);
                self.people.created += 1;
            }
            (Errand::TopUp { user_id, .. }, 200, Ok(user)) if user.user_id == user_id => {
                self.people.topped_up += 1;
            }
            _ => self.fault = Some(format!("preparing the users failed: {}", describe(answer))),
        }
    }

    fn so_far(&self) -> String {
        format!("preparing the users: {} to go", grouped(self.left.len() as u64))
    }
}
