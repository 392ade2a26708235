//! The idempotency key: a client names a change with it, and can then safely send it again.

/// The name of a change: 1 to 255 printable ASCII characters, without the header's quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

/// The header is no key: it is empty, too long, unprintable, or has quotes that do not match.
#[derive(Debug, PartialEq, Eq)]
pub struct KeyFault;

const LENGTH_MAX: usize = 255;

impl IdempotencyKey {
    /// Reads the header's value, quoted (a string of RFC 9651) or bare: `"a"` and `a` are the same
    /// key.
    ///
    /// # Errors
    /// [`KeyFault`] if it is no key.
    pub fn parse(header: &str) -> Result<IdempotencyKey, KeyFault> {
        let header = header.trim_matches([' ', '\t']);
        let key = match header.strip_prefix('"') {
            Some(rest) => unquoted(rest.strip_suffix('"').ok_or(KeyFault)?)?,
            None => header.to_owned(),
        };
        if is_printable(&key) { Ok(IdempotencyKey(key)) } else { Err(KeyFault) }
    }

    /// The key without the header's quotes and escapes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether the text may be a key, or another name that a client gives: 1 to 255 printable ASCII
/// characters, which every encoding of a database has.
pub fn is_printable(text: &str) -> bool {
    (1..=LENGTH_MAX).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// Reads the text between the quotes: only a quote and a backslash may, and must, be escaped.
fn unquoted(text: &str) -> Result<String, KeyFault> {
    let mut key = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => return Err(KeyFault),
            '\\' => match characters.next() {
                Some(escaped @ ('"' | '\\')) => key.push(escaped),
                _ => return Err(KeyFault),
            },
            other => key.push(other),
        }
    }
    Ok(key)
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_and_bare_are_the_same_key() {
        let key = |text| IdempotencyKey::parse(text).map(|key| key.0);
        assert_eq!(key("a-1"), Ok("a-1".to_owned()));
        assert_eq!(key(" \"a-1\" "), Ok("a-1".to_owned()));
        assert_eq!(key(r#""a\"b\\c""#), Ok(r#"a"b\c"#.to_owned()));
        assert_eq!(key(&"k".repeat(255)).unwrap().len(), 255);
    }

    #[test]
    fn what_is_not_a_key_is_refused() {
        let long = "k".repeat(256);
        for text in ["", "  ", "\"\"", "\"a", "\"a\"b\"", r#""a\b""#, "a\u{7f}", "é", "a\tb", &long]
        {
            assert_eq!(IdempotencyKey::parse(text), Err(KeyFault), "{text:?}");
        }
    }
}
