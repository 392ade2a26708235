//! What `DATABASE_URL` says about TLS; the options mean what they mean to libpq.

use postgres::config::SslMode;

use super::words::Words;

/// What the TLS options of the URL ask for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Demand {
    /// Whether to encrypt.
    pub(super) mode: SslMode,
    /// What to verify, and with which file of authorities; None to verify nothing.
    pub(super) check: Option<(Check, String)>,
}

/// How much of the server's certificate is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// That one of the authorities has issued it.
    Chain,
    /// The same, and that it names the host.
    ChainAndName,
}

const PUBLIC: &str = "sslrootcert=/etc/ssl/certs/ca-certificates.crt";

impl Demand {
    /// What the options ask for together, or the rule that they break.
    pub(super) fn of(words: &Words) -> Result<Demand, String> {
        if words.get("sslcert").or(words.get("sslkey")).is_some() {
            let rule = "given no sslcert or sslkey: certificates of clients are not supported, \
                        a password is";
            return Err(rule.to_owned());
        }
        let mode = words.get("sslmode").unwrap_or("prefer");
        let root_file = words.get("sslrootcert").filter(|file| !file.is_empty());
        let (ssl_mode, check) = match (mode, root_file) {
            ("disable", _) => return Ok(Demand { mode: SslMode::Disable, check: None }),
            ("allow" | "prefer", None) => (SslMode::Prefer, None),
            ("require", None) => (SslMode::Require, None),
            ("verify-ca" | "verify-full", None) => {
                return Err(format!(
                    "given sslrootcert=FILE for sslmode={mode}: a PEM file of the authorities to \
                     trust, such as {PUBLIC} for the public ones"
                ));
            }
            ("allow" | "prefer", Some(_)) => {
                return Err(format!(
                    "given sslmode=verify-full or verify-ca for its sslrootcert: \
                     sslmode={mode} verifies nothing"
                ));
            }
            ("require" | "verify-ca" | "verify-full", Some("system")) => {
                return Err(format!("given a file as sslrootcert, not `system`: such as {PUBLIC}"));
            }
            ("require" | "verify-ca", Some(file)) => (SslMode::Require, Some((Check::Chain, file))),
            ("verify-full", Some(file)) => (SslMode::Require, Some((Check::ChainAndName, file))),
            _ => {
                let rule = "given one of sslmode=disable, allow, prefer, require, verify-ca and \
                            verify-full";
                return Err(rule.to_owned());
            }
        };
        Ok(Demand { mode: ssl_mode, check: check.map(|(check, file)| (check, file.to_owned())) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(text: &str) -> Demand {
        let demand = Words::take(text).and_then(|words| Demand::of(&words));
        demand.unwrap_or_else(|rule| panic!("{text}: {rule}"))
    }

    fn refusal(text: &str) -> String {
        Words::take(text).and_then(|words| Demand::of(&words)).expect_err(text)
    }

    #[test]
    fn each_mode_means_what_it_means_to_libpq() {
        let plain = |mode| Demand { mode, check: None };
        let verified =
            |check| Demand { mode: SslMode::Require, check: Some((check, "/ca.pem".to_owned())) };
        for (words, expected) in [
            ("", plain(SslMode::Prefer)),
            ("sslmode=allow", plain(SslMode::Prefer)),
            ("sslmode=prefer sslrootcert=''", plain(SslMode::Prefer)),
            ("sslmode=disable sslrootcert=/ca.pem", plain(SslMode::Disable)),
            ("sslmode=require", plain(SslMode::Require)),
            ("sslmode=require sslrootcert=/ca.pem", verified(Check::Chain)),
            ("sslmode=verify-ca sslrootcert=/ca.pem", verified(Check::Chain)),
            ("sslmode=verify-full sslrootcert=/ca.pem", verified(Check::ChainAndName)),
        ] {
            assert_eq!(demand(words), expected, "{words}");
        }
    }

    #[test]
    fn what_cannot_be_kept_is_refused_with_what_to_do() {
        for (words, rule) in [
            ("sslmode=verify-ca", "sslrootcert=/etc/ssl/certs/ca-certificates.crt"),
            ("sslmode=verify-full", "given sslrootcert=FILE for sslmode=verify-full"),
            ("sslrootcert=/ca.pem", "sslmode=prefer verifies nothing"),
            ("sslmode=allow sslrootcert=/ca.pem", "sslmode=allow verifies nothing"),
            ("sslmode=verify-full sslrootcert=system", "not `system`"),
            ("sslmode=VERIFY-FULL sslrootcert=/ca.pem", "given one of sslmode=disable"),
            ("postgresql://db/x?sslmode=verify-full&sslrootcert=/a@b.pem", "'@' in its query"),
            ("postgresql://db?sslmode=verify-full&sslrootcert=a@b.pem", "'@' in its query"),
            ("postgresql://me@db/x?a=b@c&sslmode=verify-ca", "given sslrootcert=FILE"),
            ("sslmode=''", "given one of sslmode=disable"),
            ("sslmode=require sslcert=/me.pem sslkey=/me.key", "given no sslcert or sslkey"),
        ] {
            assert!(refusal(words).contains(rule), "{words}: {}", refusal(words));
        }
    }
}
