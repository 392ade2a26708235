//! What `DATABASE_URL` says of TLS, with libpq's meanings. The driver's parser knows neither
//! `verify-ca`, `verify-full` nor `sslrootcert`: they are taken out of the text before it reads it.

use percent_encoding::percent_decode_str;
use postgres::config::SslMode;

/// The words on TLS, and the text without them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    /// What is left for the driver's parser.
    pub(super) rest: String,
    mode: Option<String>,
    root_file: Option<String>,
    has_client_certificate: bool,
    is_ambiguous: bool,
}

/// What the words ask for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Demand {
    /// Whether to encrypt.
    pub(super) mode: SslMode,
    /// What to verify, and with which file of authorities.
    pub(super) check: Option<(Check, String)>,
}

/// How much of the server's certificate is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// Who has signed it.
    Chain,
    /// And that it names the host.
    ChainAndName,
}

const PUBLIC: &str = "sslrootcert=/etc/ssl/certs/ca-certificates.crt";

impl Words {
    /// Takes them out of a URL or a key=value string. Where the text is malformed it is left as it
    /// is, for the driver to refuse.
    pub(super) fn take(text: &str) -> Words {
        match ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme)) {
            true => Words::take_from_url(text),
            false => Words::take_from_pairs(text),
        }
    }

    fn take_from_url(url: &str) -> Words {
        // The driver takes all before the first '@' for user and password, a '?' in it included.
        let host = url.find('@').map_or(0, |at| at + 1);
        let is_word = |part: &str| part.starts_with("sslmode=") || part.starts_with("sslrootcert=");
        let is_ambiguous = url[..host].split(['?', '&']).skip(1).any(is_word);
        let mut words = Words { is_ambiguous, ..Words::default() };
        let Some(query) = url[host..].find('?').map(|at| host + at) else {
            return Words { rest: url.to_owned(), ..words };
        };
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let is_kept = |parameter: &&str| match parameter.split_once('=') {
            Some((key, value)) => !words.accept(&decoded(key), decoded(value)),
            None => true,
        };
        let kept: Vec<&str> = url[query + 1..].split('&').filter(is_kept).collect();
        let mark = if kept.is_empty() { "" } else { "?" };
        words.rest = format!("{}{mark}{}", &url[..query], kept.join("&"));
        words
    }

    fn take_from_pairs(text: &str) -> Words {
        let mut words = Words::default();
        let mut unread = text.trim_start();
        while let Some((key, value, after)) = pair(unread) {
            if !words.accept(key, value) {
                words.rest.push_str(&unread[..unread.len() - after.len()]);
                words.rest.push(' ');
            }
            unread = after.trim_start();
        }
        words.rest.push_str(unread);
        words
    }

    /// Whether it was one of these words. The last of several counts, as in libpq.
    fn accept(&mut self, key: &str, value: String) -> bool {
        match key {
            "sslmode" => self.mode = Some(value),
            "sslrootcert" => self.root_file = Some(value).filter(|file| !file.is_empty()),
            "sslcert" | "sslkey" => self.has_client_certificate = true,
            _ => return false,
        }
        true
    }

    /// What they ask for together, or the rule they break.
    pub(super) fn demand(&self) -> Result<Demand, String> {
        if self.is_ambiguous {
            // An '@' in the query would otherwise turn the demand for TLS into a user's name.
            let rule = "given with %3F for every '?' of the password, and %40 for every '@' of \
                        the query";
            return Err(rule.to_owned());
        }
        if self.has_client_certificate {
            let rule = "given no sslcert or sslkey: certificates of clients are not supported, \
                        a password is";
            return Err(rule.to_owned());
        }
        let mode = self.mode.as_deref().unwrap_or("prefer");
        let (ssl_mode, check) = match (mode, self.root_file.as_deref()) {
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

/// The first key, its value without quotes and escapes, and what follows, read as the driver does.
fn pair(text: &str) -> Option<(&str, String, &str)> {
    let (key, after) = text.split_at(text.find(|c: char| c.is_whitespace() || c == '=')?);
    let value = after.trim_start().strip_prefix('=')?.trim_start();
    let (is_quoted, value) = match value.strip_prefix('\'') {
        Some(quoted) => (true, quoted),
        None => (false, value),
    };
    let mut plain = String::new();
    let mut characters = value.char_indices();
    loop {
        match characters.next() {
            Some((at, '\'')) if is_quoted => return Some((key, plain, &value[at + 1..])),
            Some((at, c)) if !is_quoted && c.is_whitespace() => {
                return Some((key, plain, &value[at..]));
            }
            Some((_, '\\')) => plain.extend(characters.next().map(|(_, c)| c)),
            Some((_, c)) => plain.push(c),
            None => return (!is_quoted).then_some((key, plain, "")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(text: &str) -> Demand {
        Words::take(text).demand().unwrap_or_else(|rule| panic!("{text}: {rule}"))
    }

    fn refusal(text: &str) -> String {
        Words::take(text).demand().expect_err(text)
    }

    #[test]
    fn the_words_are_taken_out_of_both_forms() {
        for (text, rest, mode, file) in [
            ("postgresql://me@db/x", "postgresql://me@db/x", None, None),
            (
                "postgres://me:p%3F@db/x?sslmode=verify-full&sslrootcert=%2Fa%20b.pem",
                "postgres://me:p%3F@db/x",
                Some("verify-full"),
                Some("/a b.pem"),
            ),
            (
                "postgresql://me:a?b@db/x?a=b&ssl%6dode=verify-ca&c=d",
                "postgresql://me:a?b@db/x?a=b&c=d",
                Some("verify-ca"),
                None,
            ),
            ("postgresql:///x?host=/s&", "postgresql:///x?host=/s&", None, None),
            (
                r"host=db  password='it\'s sslmode=disable' sslmode = 'verify-ca' user=me",
                r"host=db password='it\'s sslmode=disable' user=me ",
                Some("verify-ca"),
                None,
            ),
            (r"sslrootcert=/a\ b.pem host=db", "host=db ", None, Some("/a b.pem")),
            ("host=db sslmode=allow sslmode=require", "host=db ", Some("require"), None),
            ("host=db sslmode='verify-full", "host=db sslmode='verify-full", None, None),
            ("host=db sslmode", "host=db sslmode", None, None),
        ] {
            let words = Words::take(text);
            assert_eq!(words.rest, rest, "{text}");
            assert_eq!(words.mode.as_deref(), mode, "{text}");
            assert_eq!(words.root_file.as_deref(), file, "{text}");
        }
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
            ("postgresql://db/x?sslmode=verify-full&sslrootcert=/a@b.pem", "%40 for every '@'"),
            ("postgresql://me@db/x?a=b@c&sslmode=verify-ca", "given sslrootcert=FILE"),
            ("sslmode=''", "given one of sslmode=disable"),
            ("sslmode=require sslcert=/me.pem sslkey=/me.key", "given no sslcert or sslkey"),
        ] {
            assert!(refusal(words).contains(rule), "{words}: {}", refusal(words));
        }
    }
}
