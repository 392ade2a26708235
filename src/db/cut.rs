//! Connections ended from outside of the driver: it offers no way to end one that waits for a
//! server that is frozen, whose kernel goes on acknowledging what is sent.
//!
//! A descriptor's number is of use only as long as nobody closes it. So it is asked where it leads
//! just before; in the instant between the two another connection could get the number, if this one
//! ended just then. What could happen to that one is that it ends early.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use nix::sys::socket::{Shutdown, SockaddrLike, SockaddrStorage, getpeername, shutdown};

/// Where the system shows a process its own descriptors, by number.
const DESCRIPTORS: &str = "/dev/fd";

/// Where a connection leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Address(IpAddr, u16),
    /// Of a socket in a folder.
    File(PathBuf),
}

impl Place {
    /// The server and its clients may name a socket's folder by different links.
    pub(super) fn of_file(path: &Path) -> Place {
        Place::File(path.canonicalize().unwrap_or_else(|_| path.to_owned()))
    }
}

/// Ends every connection of this process to such a place: whoever waits on it is told at once that
/// it has ended. False where the system does not let us look, as without a free descriptor.
pub(super) fn all_connections_to(is_left: impl Fn(&Place) -> bool) -> bool {
    let Ok(entries) = fs::read_dir(DESCRIPTORS) else { return false };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(descriptor) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        let place = getpeername(descriptor).ok().and_then(place);
        if place.is_some_and(|place| is_left(&place)) {
            // Fails only when the connection has just ended by itself.
            let _ = shutdown(descriptor, Shutdown::Both);
        }
    }
    true
}

fn place(storage: SockaddrStorage) -> Option<Place> {
    storage.family()?;
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(Place::Address(v4.ip().into(), v4.port()));
    }
    if let Some(v6) = storage.as_sockaddr_in6() {
        return Some(Place::Address(v6.ip().into(), v6.port()));
    }
    storage.as_unix_addr()?.path().map(Place::of_file)
}
