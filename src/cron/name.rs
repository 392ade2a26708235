//! The names of jobs and of functions.

/// A job's or a function's name: 1 to 63 small letters, digits and hyphens, no hyphen first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

/// The text breaks the rule of [`Name`].
#[derive(Debug, PartialEq, Eq)]
pub struct NameFault;

impl Name {
    /// Takes the text as it is: nothing is trimmed or put into small letters.
    ///
    /// # Errors
    /// [`NameFault`] when the text breaks the rule of [`Name`].
    pub fn parse(text: &str) -> Result<Name, NameFault> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let fine =
            (1..=63).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('-');
        if fine { Ok(Name(text.to_owned())) } else { Err(NameFault) }
    }

    /// The text that was parsed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        for fine in ["a", "0", "reconcile-balances", "a-", &"x".repeat(63)] {
            assert_eq!(Name::parse(fine).unwrap().as_str(), fine);
        }
        for wrong in ["", "-a", "A", "a_b", "a b", "ä", "a/b", &"x".repeat(64)] {
            assert_eq!(Name::parse(wrong), Err(NameFault), "{wrong}");
        }
    }
}
