//! What the operating system grants this process and what the process has used of it.

use std::fs;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeValLike;

use crate::client::Target;
use crate::report::grouped;

/// Descriptors beyond the connections: the three standard streams, the poll and its waker, a
/// connection for single calls, and what the runtime opens for a moment.
const DESCRIPTORS_BESIDE: u64 = 16;

/// Raises the soft limit of open files to the hard one and checks that it suffices for
/// `connections` at once.
///
/// # Errors
/// It does not: a sentence with both figures.
pub(crate) fn claim_descriptors(connections: usize) -> Result<(), String> {
    let unknown = |error| format!("the limit of open files cannot be changed: {error}");
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(unknown)?;
    let needed = connections as u64 + DESCRIPTORS_BESIDE;
    if hard < needed {
        return Err(format!(
            "{} connections need {} open files, and this process may have {} at most: raise the \
             hard limit (`ulimit -Hn`; `--ulimit nofile=` of a container) or ask for fewer \
             --connections",
            grouped(connections as u64),
            grouped(needed),
            grouped(hard),
        ));
    }
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(unknown)?;
    }
    Ok(())
}

/// Checks that the machine has a local port for each of `connections`, spread over `targets`.
///
/// # Errors
/// It has not: a sentence with both figures. Where the range is unknown nothing is refused.
pub(crate) fn check_local_ports(connections: usize, targets: &[Target]) -> Result<(), String> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut bounds = range.split_whitespace().filter_map(|bound| bound.parse::<usize>().ok());
    let (Some(first), Some(last)) = (bounds.next(), bounds.next()) else {
        return Ok(());
    };
    let ports = (last + 1).saturating_sub(first);
    // Two targets at one address share its ports.
    let mut addresses: Vec<_> = targets.iter().map(Target::address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let needed = connections.div_ceil(addresses.len().max(1));
    if needed <= ports {
        return Ok(());
    }
    Err(format!(
        "{} connections to one address need as many local ports, and this machine has {} \
         (net.ipv4.ip_local_port_range): name more --targets or ask for fewer --connections",
        grouped(needed as u64),
        grouped(ports as u64),
    ))
}

/// CPU time this process has used so far, in seconds, its own and the kernel's on its behalf.
/// Zero where the system does not tell.
pub(crate) fn cpu_seconds() -> f64 {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return 0.0;
    };
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    micros as f64 / 1e6
}
