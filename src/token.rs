//! `balanced token NAME SCOPE…`: makes a token, and shows it this once.

use std::process::ExitCode;

use balanced::config::{Scope, new_token};
use balanced::random;

use super::USAGE;

/// Makes a token with this name and these scopes, the words behind `token`.
///
/// What a script needs goes to standard output, what a person needs besides to the other one.
pub(crate) fn make(words: &[&str]) -> ExitCode {
    let (name, scopes) = words.split_first().unwrap_or((&"", &[]));
    let Some(secret) = random::secret() else {
        eprintln!("balanced: the system has no random numbers to give");
        return ExitCode::FAILURE;
    };
    match new_token(name, scopes, &secret) {
        Ok((token, line)) => {
            println!("token: {token}\nline: {line}");
            eprintln!(
                "The token is shown this once: give it to its user alone. The text after `line: ` \
                 belongs in the file of API_TOKENS_FILE; then send SIGHUP to each replica."
            );
            ExitCode::SUCCESS
        }
        Err(rule) => {
            let scopes = Scope::ALL.map(Scope::name).join(", ");
            eprintln!("balanced token NAME SCOPE…: must be given {rule}. The scopes: {scopes}");
            ExitCode::from(USAGE)
        }
    }
}
