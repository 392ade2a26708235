//! How many connections this process can serve: computed here from its limits on threads, memory
//! maps and file descriptors.
//!
//! The server library gives each connection a thread and two descriptors, and has no limit. A
//! thread takes four memory maps. If none is left, the standard library panics inside the new
//! thread, which aborts the process and its jobs. If no descriptor is left, the library's accept
//! loop ends, and it sometimes drops the connection that it has just accepted.
//!
//! So no connection is accepted above a number that leaves room for those that come before `room`
//! notices. The system enforces the limit of descriptors in addition.

use std::fs;
use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// How many connections a process can serve, and how many descriptors that takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// With so many open connections no more are accepted; the clients' kernels keep trying.
    pub connections: usize,
    /// The soft limit of file descriptors, which [`Capacity::take`] sets.
    pub descriptors: usize,
    /// How many of those descriptors stay free for the database, the log and the listener.
    pub spare: usize,
}

/// A thread's stack and its signal stack, each with a guard page.
const MAPS_PER_THREAD: u64 = 4;
/// Linux' default of `vm.max_map_count`, for when it cannot be read.
const MAPS_DEFAULT: u64 = 65_530;
/// The library duplicates each socket: it reads from one descriptor and writes to the other.
const DESCRIPTORS_PER_CONNECTION: u64 = 2;
/// For everything but connections. The database driver takes four for each session.
const DESCRIPTORS_BESIDE: u64 = 256;
/// The share of all possible threads that open connections may have. The rest is for threads whose
/// connection has just ended, for runs of jobs, for workers and for `aside`.
const CONNECTIONS_OF_THREADS: (u64, u64) = (5, 8);
/// How many connections can still come after `room` has noticed: the backlog, and what the accept
/// loop takes between two looks, at most 25 in a millisecond.
const COMING: u64 = super::accept::BACKLOG as u64 + 2_000;

impl Capacity {
    /// Computes what this machine's limits allow, and sets the limit of descriptors to it.
    ///
    /// # Errors
    /// The system's error if that limit cannot be read or set.
    pub fn take() -> io::Result<Capacity> {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let maps = number("/proc/sys/vm/max_map_count").unwrap_or(MAPS_DEFAULT);
        let capacity = Capacity::of(maps, threads_max(), hard);
        setrlimit(Resource::RLIMIT_NOFILE, capacity.descriptors as u64, hard)?;
        Ok(capacity)
    }

    fn of(maps: u64, threads: Option<u64>, descriptors: u64) -> Capacity {
        let threads = threads.unwrap_or(u64::MAX).min(maps / MAPS_PER_THREAD);
        let (part, of) = CONNECTIONS_OF_THREADS;
        let borne = threads / of * part * DESCRIPTORS_PER_CONNECTION + DESCRIPTORS_BESIDE;
        let descriptors = borne.min(descriptors);
        let beside = DESCRIPTORS_BESIDE.min(descriptors * 2 / 3);
        let most = (descriptors - beside) / DESCRIPTORS_PER_CONNECTION;
        let connections = most - COMING.min(most / 3);
        let whole = |number| usize::try_from(number).unwrap_or(usize::MAX);
        Capacity {
            connections: whole(connections),
            descriptors: whole(descriptors),
            spare: whole(beside / 4),
        }
    }
}

/// The limit of our own control group (version 2), which systemd and containers set. Those of the
/// groups above it, of the user and of the machine count other processes, too, and are not known
/// here.
fn threads_max() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    number(&format!("/sys/fs/cgroup{group}/pids.max"))
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The number of open descriptors of this process. Linux tells it since 6.2; elsewhere it is
/// estimated from the number of threads, which follows the connections with a delay.
pub(super) fn descriptors() -> usize {
    let known = fs::metadata("/proc/self/fd").map_or(0, |folder| folder.len());
    let known = if known > 0 { known } else { threads() * 2 };
    usize::try_from(known).unwrap_or(usize::MAX)
}

/// The number of threads of this process; 0 if the system does not show it as a link count.
#[cfg(target_os = "linux")]
pub(super) fn threads() -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self/task").map_or(0, |folder| folder.nlink())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn threads() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(maps: u64, threads: Option<u64>, descriptors: u64) -> (usize, usize, usize) {
        let Capacity { connections, descriptors, spare } = Capacity::of(maps, threads, descriptors);
        (connections, descriptors, spare)
    }

    #[test]
    fn whichever_runs_out_first_decides() {
        assert_eq!(of(MAPS_DEFAULT, None, 1_000_000), (7_211, 20_726, 64), "maps");
        assert_eq!(of(MAPS_DEFAULT, None, 20_000), (6_848, 20_000, 64), "descriptors");
        assert_eq!(of(MAPS_DEFAULT, Some(512), 8_192), (214, 896, 64), "a container's processes");
        assert_eq!(of(MAPS_DEFAULT, None, 120), (14, 120, 20), "hardly any");
    }
}
