//! What is wrong with a setting, said so that it can be mended and without giving a secret away.

use std::fmt;

/// One setting that breaks its rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The variable.
    pub name: &'static str,
    /// Its value, without secrets; empty when it is not set.
    pub value: String,
    /// What it must be.
    pub rule: String,
}

/// Every fault found, in the order of the settings.
#[derive(Debug)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value.as_str() {
            "" => write!(f, "{} is not set: {}", self.name, self.rule),
            value => write!(f, "{}={value}: must be {}", self.name, self.rule),
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "{count} setting{} cannot be used:", if count == 1 { "" } else { "s" })?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for Faults {}

const HIDDEN: &str = "****";

/// The value as it may be shown: a token not at all, a database address without its password.
pub(super) fn without_secret(name: &str, value: &str) -> String {
    match name {
        "API_TOKEN" => HIDDEN.to_owned(),
        "DATABASE_URL" => without_password(value),
        _ => value.to_owned(),
    }
}

fn without_password(url: &str) -> String {
    let shown = match url.split_once("://") {
        Some((scheme @ ("postgres" | "postgresql"), rest)) => {
            // The last '@' ends the user part: a password may hold an unescaped one.
            let hidden = rest.rsplit_once('@').and_then(|(user_part, host_part)| {
                let (user, _) = user_part.split_once(':')?;
                Some(format!("{scheme}://{user}:{HIDDEN}@{host_part}"))
            });
            hidden.unwrap_or_else(|| match names_hosts(rest) {
                true => url.to_owned(),
                false => format!("{scheme}://{HIDDEN}"),
            })
        }
        _ if url.contains('@') => HIDDEN.to_owned(),
        _ => url.to_owned(),
    };
    match shown.to_ascii_lowercase().find("password") {
        // A key=value password may be quoted and hold spaces: nothing behind it is shown.
        Some(start) => format!("{}password={HIDDEN}", &shown[..start]),
        None => shown,
    }
}

/// Whether what stands before the path is hosts with ports. Else it may be a user with a password,
/// of an address whose end was lost.
fn names_hosts(rest: &str) -> bool {
    let hosts = rest.split(['/', '?']).next().unwrap_or_default();
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    hosts.split(',').all(|host| host.rsplit_once(':').is_none_or(|(_, port)| is_port(port)))
}

/// The driver's reason without the option it does not know: that may be the end of a password
/// that holds a space and is not quoted.
pub(super) fn without_option(reason: &str) -> &str {
    let known = "unknown option";
    reason.find(known).map_or(reason, |start| &reason[..start + known.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        for url in [
            "postgresql://me:s3cret@db/x",
            "postgres://me:a@s3cret@db:99999/x",
            "postgresql://db/x?user=me&password=s3cret",
            "host=db user=me password='a s3cret' port=zz",
            "host=db PASSWORD = s3cret",
            "me:s3cret@db://",
            "postgresql://me:s3cret",
            "postgresql://me:a/s3cret",
        ] {
            let shown = without_secret("DATABASE_URL", url);
            assert!(!shown.contains("s3cret"), "{url} -> {shown}");
        }
    }

    #[test]
    fn hosts_and_ports_are_shown() {
        for url in ["postgresql://a:1,b:2/x", "postgresql:///x?host=/run", "postgresql://[::1]:1"] {
            assert_eq!(without_secret("DATABASE_URL", url), url);
        }
    }

    /// Found with a password that holds a space and is not quoted.
    #[test]
    fn the_drivers_reason_does_not_quote_the_rest_of_a_password() {
        let parsed = "host=db password=a s3cret=b".parse::<postgres::Config>();
        let reason = super::super::chain(&parsed.unwrap_err());
        assert!(reason.contains("s3cret"), "{reason}");
        assert!(!without_option(&reason).contains("s3cret"), "{reason}");
    }
}
