//! What is wrong with a setting, said so that it can be corrected, and without any secret.

use std::error::Error;
use std::fmt;

use super::tokens::PREFIX;

/// One setting that breaks its rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The name of the environment variable.
    pub name: &'static str,
    /// Its value, without secrets; empty when it is not set.
    pub value: String,
    /// What the value must be: it completes the sentence "must be …".
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

impl Error for Faults {}

const HIDDEN: &str = "****";

/// The value as it may be shown: a token is hidden, a database address loses its password.
pub(super) fn without_secret(name: &str, value: &str) -> String {
    match name {
        "API_TOKEN" => HIDDEN.to_owned(),
        // Somebody may have written a token where its file belongs.
        "API_TOKENS_FILE" if value.starts_with(PREFIX) => HIDDEN.to_owned(),
        "DATABASE_URL" => without_password(value),
        _ => value.to_owned(),
    }
}

/// The parser's reason for refusing a value; hides a quotation that `shown` does not contain.
pub(super) fn reason_without_secret(reason: &str, shown: &str) -> String {
    let quoted = reason.split_once('`').and_then(|(_, rest)| rest.rsplit_once('`'));
    match reason.split_once('`') {
        Some((before, _)) if quoted.is_none_or(|(quoted, _)| !shown.contains(quoted)) => {
            format!("{before}{HIDDEN}")
        }
        _ => reason.to_owned(),
    }
}

/// An error with its sources, outermost first, on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

fn without_password(address: &str) -> String {
    let shown = match address.split_once("://") {
        Some((scheme @ ("postgres" | "postgresql"), rest)) => {
            format!("{scheme}://{}", url_without_password(rest))
        }
        _ if address.contains('@') => HIDDEN.to_owned(),
        _ => harmless_options(address, char::is_whitespace, " "),
    };
    match shown.to_ascii_lowercase().find("password") {
        Some(start) => format!("{}password={HIDDEN}", &shown[..start]),
        None => shown,
    }
}

fn url_without_password(url: &str) -> String {
    // The last '@' ends the user part, because a password may contain an unescaped one.
    let (user_part, place) = url.rsplit_once('@').unwrap_or(("", url));
    let user = user_part.split([':', '/', '?', '=', '&']).next().unwrap_or_default();
    let mut shown = match user_part.len() {
        0 => String::new(),
        length if length == user.len() => format!("{user}@"),
        // That '@' may also be part of a password in the query, so only the user is shown.
        _ if user_part.contains(['/', '?']) => return format!("{user}:{HIDDEN}"),
        _ => format!("{user}:{HIDDEN}@"),
    };
    let (place, query) = place.split_once('?').unwrap_or((place, ""));
    let hosts = place.split('/').next().unwrap_or_default();
    if place.contains(['=', '&']) || !hosts.split(',').all(has_a_plain_port) {
        // If the host or the question mark was forgotten, the password stands here.
        let host = hosts.split([':', '=', '&']).next().unwrap_or_default();
        return format!("{shown}{host}:{HIDDEN}");
    }
    shown += place;
    if !query.is_empty() {
        shown += "?";
        shown += &harmless_options(query, |c| c == '&', "&");
    }
    shown
}

fn has_a_plain_port(host: &str) -> bool {
    let after = match host.strip_prefix('[').and_then(|address| address.split_once(']')) {
        Some((_, after)) => after,
        None => host.find(':').map_or("", |at| &host[at..]),
    };
    let port = after.strip_prefix(':').unwrap_or(after);
    port.bytes().all(|byte| byte.is_ascii_digit())
}

/// Options whose values are no secrets.
const HARMLESS: &str = "\
    application_name channel_binding client_encoding connect_timeout dbname gssencmode host \
    hostaddr keepalives keepalives_count keepalives_idle keepalives_interval \
    keepalives_retries load_balance_hosts port sslmode sslnegotiation sslrootcert sslsni \
    target_session_attrs tcp_user_timeout user";

/// The options before the first that may be a password, even with a misspelled or escaped name: the
/// text after it may be the end of that password. Quoted values are not understood here.
fn harmless_options(text: &str, ends: fn(char) -> bool, joint: &str) -> String {
    let mut shown = Vec::new();
    let mut rest = text.trim_matches(ends);
    while !rest.is_empty() {
        let (key, behind) = rest.split_once('=').unwrap_or_default();
        let (key, behind) = (key.trim(), behind.trim_start());
        let (value, next) = behind.split_at(behind.find(ends).unwrap_or(behind.len()));
        if !HARMLESS.split(' ').any(|harmless| harmless == key)
            || value.contains(['\'', '\\', '=', '?'])
        {
            let is_word = |c: char| c.is_ascii_lowercase() || c == '_';
            let is_name = !key.is_empty() && key.chars().all(is_word);
            shown.push(if is_name { format!("{key}={HIDDEN}") } else { HIDDEN.to_owned() });
            break;
        }
        shown.push(format!("{key}={value}"));
        rest = next.trim_start_matches(ends);
    }
    shown.join(joint)
}

#[cfg(test)]
mod properties;

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
            "postgresql://me:s3cret/x",
            "postgresql://me:s3cret]/x",
            "postgresql://db/x&pass=s3cret",
            "postgresql://db:5432/x?password=a@s3cret",
            "postgresql://db/x?user=me&pass=s3cret",
            "postgresql://db/x?user=me&p%61ssword=s3cret",
            "host=db user=me pwd=s3cret",
            "host=db&pass=s3cret",
            "postgress//me:s3cret",
        ] {
            let shown = without_secret("DATABASE_URL", url);
            assert!(!shown.contains("s3cret"), "{url} -> {shown}");
        }
    }
    #[test]
    fn a_reason_does_not_quote_the_end_of_a_password() {
        let reason = "unknown option `s3cret`";
        assert_eq!(reason_without_secret(reason, "host=db password=****"), "unknown option ****");
        assert_eq!(
            reason_without_secret("unknown option `usr`", "usr=****"),
            "unknown option `usr`"
        );
        assert_eq!(reason_without_secret("invalid port", "db:****"), "invalid port");
    }
}
