//! Ends connections from outside of the driver, which cannot end one that waits for a frozen
//! server: the kernel of such a server still acknowledges what is sent, so TCP sees no fault.
//!
//! The number of a closed descriptor is used again. So the server's address is checked just before
//! the connection is ended. If the connection closes by itself between the two, another one may get
//! its number and be ended early; nothing worse can happen.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use nix::sys::socket::{Shutdown, SockaddrLike, SockaddrStorage, getpeername, shutdown};

/// The folder in which the system lists a process's own descriptors, by number.
const DESCRIPTORS: &str = "/dev/fd";

/// The address of a server, to which a connection leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Address(IpAddr, u16),
    /// The path of a Unix socket.
    File(PathBuf),
}

impl Place {
    /// Resolves links, because the server and its clients may name the folder by different ones.
    pub(super) fn of_file(path: &Path) -> Place {
        Place::File(path.canonicalize().unwrap_or_else(|_| path.to_owned()))
    }
}

/// Ends every connection of this process to a place that `is_left` selects; a thread that waits on
/// one gets an error at once. False if the descriptors cannot be listed, as when none is free.
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
