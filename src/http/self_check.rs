//! `balanced health`: asks a running replica whether it is ready, for a container's health check.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(3);

/// The address to connect to from this machine: loopback, if `addr` is the unspecified address.
pub(super) fn from_here(mut addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() {
        addr.set_ip(match addr {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    addr
}

/// Asks the replica that listens at `addr` whether it is ready; returns the body of its answer.
/// Waits three seconds for the connection, and as long for each read.
///
/// # Errors
/// One line that says why the replica is not ready, or why it did not answer.
pub fn self_check(addr: SocketAddr) -> Result<String, String> {
    let addr = from_here(addr);
    let answer = ask(addr).map_err(|error| format!("no replica answers at {addr}: {error}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(format!("the replica at {addr} is not ready: {body}")),
    }
}

fn ask(addr: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /health/ready HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
