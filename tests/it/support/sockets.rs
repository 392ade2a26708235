use std::{fs, io};

/// In the kernel's table of connections, one that listens.
pub(crate) const LISTENS: &str = "0A";
/// One that has ended, and whose address the kernel keeps for a while.
pub(crate) const TIME_WAIT: &str = "06";

/// The kernel's table of a kind of sockets (`tcp`, `tcp6`, `unix`), as that process sees it, by
/// rows of words.
pub(crate) fn sockets(process: &str, kind: &str) -> io::Result<Vec<Vec<String>>> {
    let table = fs::read(format!("/proc/{process}/net/{kind}"))?;
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    Ok(String::from_utf8_lossy(&table).lines().skip(1).map(words).collect())
}
