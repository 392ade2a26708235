use std::fs;

/// In the kernel's table of connections: it listens; only the kernel still has it.
pub(crate) const LISTENS: &str = "0A";
pub(crate) const WAITS: &str = "06";

/// The kernel's table of a kind of sockets (`tcp`, `tcp6`, `unix`), as that process sees it, by
/// rows of words; none of what the machine has not.
pub(crate) fn sockets(process: &str, kind: &str) -> Vec<Vec<String>> {
    let table = fs::read(format!("/proc/{process}/net/{kind}")).unwrap_or_default();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    String::from_utf8_lossy(&table).lines().skip(1).map(words).collect()
}
