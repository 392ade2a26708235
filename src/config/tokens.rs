//! Who may do what: tokens, each with a name and scopes. A token is known by its SHA-256 alone, so
//! whoever reads the file learns none.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use sha2::{Digest, Sha256};

use super::fault::{Fault, Faults, without_secret};

/// The name of the token in the variable `API_TOKEN`, and that of the variable.
const OWN: &str = "API_TOKEN";
const FILE: &str = "API_TOKENS_FILE";
/// Room for 1,000 tokens and more. It limits them, because each request is compared with every one.
const FILE_BYTES_MAX: u64 = 1 << 18;
const NAME_BYTES_MAX: usize = 100;
/// What a new token begins with: programs that look for leaked secrets can find it, and it is never
/// taken for a checksum.
pub(super) const PREFIX: &str = "balanced_";

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// To read users, changes, jobs, runs and metrics.
    Read,
    /// To change balances, and to create users.
    Balance,
    /// To make, change and delete jobs.
    Jobs,
    /// To run a job now.
    Run,
}

impl Scope {
    /// Every scope there is.
    pub const ALL: [Scope; 4] = [Scope::Read, Scope::Balance, Scope::Jobs, Scope::Run];

    /// Its name in the file and in answers.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Balance => "balance",
            Scope::Jobs => "jobs",
            Scope::Run => "run",
        }
    }

    fn parse(name: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// A token as it is known here: without its text.
pub struct Token {
    name: Arc<str>,
    scopes: Vec<Scope>,
    digest: [u8; 32],
}

impl Token {
    /// Its name: the log and the ledger have it in place of the token.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether it has this scope.
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// The token of `API_TOKEN`, which allows everything.
    pub(super) fn own(text: &str) -> Token {
        Token { name: OWN.into(), scopes: Scope::ALL.to_vec(), digest: digest(text) }
    }

    /// Reads a line of the file, of which a comment and the blanks around it are cut off.
    fn parse(line: &str) -> Result<Token, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[name, scopes, digest] = words.as_slice() else {
            return Err("a name, scopes and a SHA-256, with blanks between them".to_owned());
        };
        let token = Token::named(name, scopes.split(','))?;
        let digest = read_hex(digest).ok_or("a SHA-256 of 64 hexadecimal digits, at the end")?;
        Ok(Token { digest, ..token })
    }

    /// One whose digest is not known yet.
    fn named<'a>(name: &str, scopes: impl Iterator<Item = &'a str>) -> Result<Token, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._:-".contains(c);
        let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        // A name is shown: somebody may have written the token where its name belongs.
        let is_taken = name == OWN || name.starts_with(PREFIX);
        if !begins || name.len() > NAME_BYTES_MAX || !name.chars().all(plain) || is_taken {
            return Err(format!(
                "a name of 1 to {NAME_BYTES_MAX} letters, digits, dots, colons, hyphens or \
                 underscores that begins with a letter or a digit, is not {OWN} and does not begin \
                 with {PREFIX}, as tokens do"
            ));
        }
        let scopes: Option<Vec<Scope>> = scopes.map(Scope::parse).collect();
        let scopes = scopes.filter(|scopes| !scopes.is_empty()).ok_or_else(|| {
            format!("scopes, one or more of {}", Scope::ALL.map(Scope::name).join(", "))
        })?;
        Ok(Token { name: name.into(), scopes, digest: [0; 32] })
    }
}

/// A new token, from these random bytes: its text, and its line for the file.
///
/// # Errors
/// What the name or the scopes must be.
pub fn new_token(name: &str, scopes: &[&str], random: &[u8]) -> Result<(String, String), String> {
    let Token { scopes, .. } = Token::named(name, scopes.iter().flat_map(|one| one.split(',')))?;
    let scopes = scopes.into_iter().map(Scope::name).collect::<Vec<_>>().join(",");
    let text = format!("{PREFIX}{}", hex(random));
    let line = format!("{name} {scopes} {}", hex(&digest(&text)));
    Ok((text, line))
}

/// All tokens that count now.
#[derive(Default)]
pub struct Tokens {
    own: Option<Arc<Token>>,
    file: Option<PathBuf>,
    known: RwLock<Vec<Arc<Token>>>,
}

impl Tokens {
    /// Those of the variable and of the file, if they are given.
    ///
    /// # Errors
    /// Every fault of the file.
    pub(super) fn read(own: Option<Token>, file: Option<PathBuf>) -> Result<Tokens, Faults> {
        let tokens = Tokens { own: own.map(Arc::new), file, known: RwLock::default() };
        tokens.read_again()?;
        Ok(tokens)
    }

    /// Reads the file again, and returns how many tokens count from now on.
    ///
    /// # Errors
    /// Every fault of the file; then the tokens are those from before.
    pub fn read_again(&self) -> Result<usize, Faults> {
        let mut known = Vec::from_iter(self.own.clone());
        if let Some(path) = &self.file {
            let text = read_file(path).map_err(|error| {
                let rule = format!("a file of tokens that can be read: {error}");
                fault(path.display().to_string(), rule)
            })?;
            read_lines(path, &text, &mut known)?;
        }
        let count = known.len();
        *self.known.write() = known;
        Ok(count)
    }

    /// Whether there is a file that can be read again.
    pub fn have_a_file(&self) -> bool {
        self.file.is_some()
    }

    /// Whether there is none, so that nobody is asked for one.
    pub fn is_empty(&self) -> bool {
        self.known.read().is_empty()
    }

    /// The token of this text, if it is one. Every checksum is compared, wherever the right one
    /// stands; and where two checksums differ has nothing to do with where their texts differ. So
    /// the time that this takes tells nothing.
    pub fn find(&self, text: &str) -> Option<Arc<Token>> {
        let digest = digest(text);
        let known = self.known.read();
        let found = known.iter().fold(None, |found, token| match token.digest == digest {
            true => Some(token),
            false => found,
        });
        found.cloned()
    }
}

/// Adds the token of each line. A fault never quotes its line: somebody may have written a token
/// where its checksum belongs.
fn read_lines(path: &Path, text: &str, known: &mut Vec<Arc<Token>>) -> Result<(), Faults> {
    let (mut faults, before) = (Vec::new(), known.len());
    for (line, number) in text.lines().zip(1..) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let token = Token::parse(line).and_then(|token| {
            let twice =
                |other: &Arc<Token>| other.name == token.name || other.digest == token.digest;
            match known.iter().any(twice) {
                true => Err("a name and a checksum that no token before it has".to_owned()),
                false => Ok(token),
            }
        });
        match token {
            Ok(token) => known.push(Arc::new(token)),
            Err(rule) => faults.extend(fault(format!("{}, line {number}", path.display()), rule).0),
        }
    }
    if faults.is_empty() && known.len() == before {
        // Not "everybody may do everything", which a file that is being written would mean.
        let rule = "a file with at least one token: a line of name, scopes and SHA-256 each";
        return Err(fault(path.display().to_string(), rule.to_owned()));
    }
    if faults.is_empty() { Ok(()) } else { Err(Faults(faults)) }
}

/// Reads a text of at most so many bytes.
///
/// # Errors
/// Those of the source; or it has more, or is not UTF-8.
pub fn read_text(source: impl Read, bytes_max: u64) -> io::Result<String> {
    let mut text = String::new();
    source.take(bytes_max + 1).read_to_string(&mut text)?;
    match text.len() as u64 > bytes_max {
        true => Err(io::Error::other(format!("it has more than {bytes_max} bytes"))),
        false => Ok(text),
    }
}

fn read_file(path: &Path) -> io::Result<String> {
    // To open a pipe would wait for whoever writes to it.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    read_text(File::open(path)?, FILE_BYTES_MAX)
}

fn fault(value: String, rule: String) -> Faults {
    Faults(vec![Fault { name: FILE, value: without_secret(FILE, &value), rule }])
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_hex(text: &str) -> Option<[u8; 32]> {
    let digit = |c: char| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let digits: Vec<u8> = text.chars().map(digit).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] * 16 + pair[1]).collect();
    bytes.try_into().ok().filter(|_| text.len() == 64)
}

#[cfg(test)]
mod tests;
