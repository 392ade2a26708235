//! The balance before a burst, set through the API like any other client would.

use std::thread;
use std::time::{Duration, Instant};

use super::Options;
use crate::client::{Caller, Target};

/// The balance is set by reading it and adding the difference: others may be faster, this often.
const ATTEMPTS_MAX: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// Sets the balance through the first target and sees it through all of them: targets that do
/// not share a database are found before anything is sent.
pub(super) fn set_balance(options: &Options, targets: &[Target]) -> Result<(), String> {
    let (user_id, token) = (options.user_id, options.token.as_deref());
    let first = Caller::new(&targets[0], token);
    let mut balance = first.balance(user_id)?;
    for _ in 0..ATTEMPTS_MAX {
        if balance == options.reset {
            break;
        }
        if first.change(user_id, options.reset - balance)? != Some(options.reset) {
            thread::sleep(PAUSE);
        }
        balance = first.balance(user_id)?;
    }
    if balance != options.reset {
        return Err(format!(
            "user {user_id} could not be set to balance {}: after {ATTEMPTS_MAX} attempts it is \
             {balance}; does somebody else change it?",
            options.reset,
        ));
    }
    let end = Instant::now() + PAUSE * ATTEMPTS_MAX;
    for target in targets {
        let seen = Caller::new(target, token);
        let mut balance = seen.balance(user_id)?;
        while balance != options.reset && Instant::now() < end {
            thread::sleep(PAUSE);
            balance = seen.balance(user_id)?;
        }
        if balance != options.reset {
            return Err(format!(
                "{} shows balance {balance} where {} was set through {}: is it another database?",
                target.url(),
                options.reset,
                targets[0].url(),
            ));
        }
    }
    Ok(())
}
