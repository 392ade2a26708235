//! The options of `DATABASE_URL` that the driver's parser does not know, or understands differently
//! from libpq: they are taken out of the text before that parser reads it.

use std::collections::BTreeMap;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use postgres::config::TargetSessionAttrs;

const TAKEN: &str = "\
    client_encoding gssencmode keepalives_count sslcert sslkey sslmode sslrootcert sslsni \
    target_session_attrs tcp_user_timeout";

const ENCODED: &str = "given without a bare '@', '/' or '?' in its user's name or password, or '@' \
                       in its query: percent-encode it (%40, %2F, %3F)";

/// The options that were taken out, and the text without them.
#[derive(Debug, Default)]
pub(super) struct Words {
    /// The text that is left for the driver's parser.
    pub(super) rest: String,
    taken: BTreeMap<String, String>,
}

fn is_taken(key: &str) -> bool {
    TAKEN.split(' ').any(|taken| taken == key)
}

/// If the text is no URL, it is a key=value string.
pub(super) fn is_url(text: &str) -> bool {
    ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme))
}

impl Words {
    /// Takes the options out of a URL or a key=value string. A malformed text is left as it is, for
    /// the driver to refuse; but a URL that two parsers may read differently breaks a rule.
    pub(super) fn take(text: &str) -> Result<Words, String> {
        if is_url(text) { Words::take_from_url(text) } else { Ok(Words::take_from_pairs(text)) }
    }

    fn take_from_url(url: &str) -> Result<Words, String> {
        let start = url.find("://").map_or(0, |at| at + 3);
        // The driver reads all before the first '@' as user and password. To libpq a '/' ends them
        // earlier; and an '@' in the query would turn a demand for TLS into a user's name.
        let host = url[start..].find('@').map_or(start, |at| start + at + 1);
        let query = url[host..].find('?').map_or(url.len(), |at| host + at);
        let (login, place) = (&url[start..host], &url[host..query]);
        let is_word = |part: &str| {
            let key = part.split_once('=').map(|(key, _)| key);
            key.is_some_and(|key| key == "password" || is_taken(key))
        };
        let holds_words = login.split(['?', '&']).skip(1).any(is_word);
        if holds_words || login.contains('/') || place.contains('@') {
            return Err(ENCODED.to_owned());
        }
        let mut words = Words::default();
        let Some(parameters) = url.get(query + 1..) else {
            return Ok(Words { rest: url.to_owned(), ..words });
        };
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let is_kept = |parameter: &&str| match parameter.split_once('=') {
            Some((key, value)) => !words.accept(&decoded(key), decoded(value)),
            None => true,
        };
        let kept: Vec<&str> = parameters.split('&').filter(is_kept).collect();
        let mark = if kept.is_empty() { "" } else { "?" };
        words.rest = format!("{}{mark}{}", &url[..query], kept.join("&"));
        Ok(words)
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

    /// Takes the option if it is one of these; the last of several counts, as in libpq.
    fn accept(&mut self, key: &str, value: String) -> bool {
        if is_taken(key) {
            self.taken.insert(key.to_owned(), value);
        }
        is_taken(key)
    }

    pub(super) fn get(&self, word: &str) -> Option<&str> {
        self.taken.get(word).map(String::as_str)
    }

    /// Passes the options that are not about TLS to the driver, in the driver's names and units.
    /// The error is the rule that is broken.
    pub(super) fn apply(&self, parameters: &mut postgres::Config) -> Result<(), String> {
        let refused = |rule: &str| Err(rule.to_owned());
        if !matches!(self.get("gssencmode"), None | Some("disable" | "prefer")) {
            return refused(
                "given gssencmode=disable or prefer: encryption by GSS is not supported, TLS is",
            );
        }
        if !matches!(self.get("sslsni"), None | Some("1")) {
            return refused("given sslsni=1: with TLS the name of the host is always sent");
        }
        if !self.get("client_encoding").is_none_or(is_utf8) {
            return refused("given client_encoding=UTF8 or auto: all texts here are UTF-8");
        }
        match self.get("target_session_attrs") {
            None | Some("any") => {}
            Some("read-write") => {
                parameters.target_session_attrs(TargetSessionAttrs::ReadWrite);
            }
            Some(_) => {
                return refused(
                    "given target_session_attrs=any or read-write: this program changes something",
                );
            }
        }
        if let Some(text) = self.get("tcp_user_timeout") {
            let Ok(milliseconds) = text.trim().parse::<i32>() else {
                return refused("given tcp_user_timeout in whole milliseconds, 0 for the system's");
            };
            // A zero is passed on, too: it means the system's limit, which is not our default.
            let limit = u64::try_from(milliseconds).unwrap_or_default();
            parameters.tcp_user_timeout(Duration::from_millis(limit));
        }
        if let Some(text) = self.get("keepalives_count") {
            match text.trim().parse() {
                Ok(count @ 1..=127) => parameters.keepalives_retries(count),
                _ => return refused("given a keepalives_count from 1 to 127"),
            };
        }
        Ok(())
    }
}

/// Whether the encoding is UTF-8 in any spelling of PostgreSQL, or is left to the locale (`auto`)
/// or to the server (empty).
fn is_utf8(encoding: &str) -> bool {
    let letters = encoding.chars().filter(char::is_ascii_alphanumeric);
    let name = letters.collect::<String>().to_ascii_lowercase();
    ["utf8", "unicode"].contains(&&*name) || ["auto", ""].contains(&encoding)
}

/// The first key, its value without quotes and escapes, and the rest, read as the driver does.
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
            let words = Words::take(text).unwrap_or_else(|rule| panic!("{text}: {rule}"));
            assert_eq!(words.rest, rest, "{text}");
            assert_eq!(words.get("sslmode"), mode, "{text}");
            assert_eq!(words.get("sslrootcert"), file, "{text}");
        }
    }
}
