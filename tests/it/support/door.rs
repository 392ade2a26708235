use std::fs::{File, read_to_string, remove_file, write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::sockets::{LISTENS, TIME_WAIT, sockets};
use super::{get, program, until};

/// HAProxy with the settings of `deploy/`, in front of some replicas; ended with the test.
pub(crate) struct Door {
    pub(crate) addr: SocketAddr,
    /// Where it is watched.
    pub(crate) status: SocketAddr,
    child: Child,
    files: [PathBuf; 2],
}

/// Below the ports that the kernel hands out to outgoing connections, and apart from those of the
/// smoke test.
const PORTS: std::ops::Range<u32> = 12_000..20_000;

/// An address that nothing listens at, for a server that must come back to the same one.
pub(crate) fn free_addr() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id() * 101;
    loop {
        let number = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS.len() as u32;
        let port = u16::try_from(PORTS.start + number).expect("a port");
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(addr).is_ok() {
            return addr;
        }
    }
}

impl Door {
    /// Starts one, and waits until it lets requests through; none where HAProxy is missing.
    pub(crate) fn start(replicas: &[SocketAddr]) -> Option<Door> {
        Door::start_with(replicas, &[])
    }

    /// The same, with these variables.
    pub(crate) fn start_with(replicas: &[SocketAddr], variables: &[(&str, &str)]) -> Option<Door> {
        let program = program("haproxy")?;
        let (addr, status) = (free_addr(), free_addr());
        let file = |ending: &str| {
            let name = format!("balanced-door-{}-{}.{ending}", std::process::id(), addr.port());
            std::env::temp_dir().join(name)
        };
        let files = [file("cfg"), file("log")];
        let (mut servers, mut short, mut long) = (String::new(), String::new(), String::new());
        for (index, replica) in replicas.iter().enumerate() {
            let server = format!("    server replica-{index} {replica}");
            servers.push_str(&format!("{server}\n"));
            let tracking = format!("{server} no-check track replicas/replica-{index} maxconn");
            short.push_str(&format!("{tracking} 32\n"));
            long.push_str(&format!("{tracking} 8\n"));
        }
        let servers = format!(
            "backend replicas from whole-requests\n{servers}\
             backend short-answers from reads\n{short}\
             backend long-answers from reads\n{long}"
        );
        write(&files[0], servers).expect("a file of servers");
        let child = Command::new(program)
            .arg("-db")
            .args(["-f", concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/haproxy.cfg"), "-f"])
            .arg(&files[0])
            .env_remove("DOOR_LISTEN")
            .env("PROXY_ADDR", "") // must be the default, and not all addresses
            .env("PROXY_PORT", addr.port().to_string())
            .envs([("DOOR_STATUS", status.to_string().as_str()), ("DOOR_CERTIFICATE", "")])
            .env("DOOR_MAXCONN", "19000")
            // Slow clients are cut off within the time that the suite has.
            .envs([("DOOR_REQUEST_SECONDS", "5"), ("DOOR_CLIENT_SECONDS", "60")])
            // A crowd may wait for a machine that runs other tests.
            .envs([("DOOR_QUEUE_SECONDS", "120"), ("DOOR_SERVER_SECONDS", "125")])
            .env("DOOR_READ_MS", "60000")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(File::create(&files[1]).expect("a log"))
            .stderr(Stdio::null())
            .spawn()
            .expect("HAProxy");
        let door = Door { addr, status, child, files };
        until("the door is open", Duration::from_secs(20), || {
            TcpStream::connect(status).is_ok() && get(status, "/health/ready").status == 200
        });
        Some(door)
    }

    /// How many clients' connections it has, or keeps after its client has gone.
    pub(crate) fn clients(&self) -> usize {
        let port = format!(":{:04X}", self.addr.port());
        let rows = sockets("self", "tcp").expect("the connections");
        let clients = rows.iter().filter(|row| row[1].ends_with(&port));
        clients.filter(|row| ![LISTENS, TIME_WAIT].contains(&row[3].as_str())).count()
    }

    /// Its log: one line for each request that did not go well.
    pub(crate) fn log(&self) -> String {
        read_to_string(&self.files[1]).expect("the door's log")
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let last: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("the door's last words, newest first:\n{}", last.join("\n"));
        }
        self.files.iter().for_each(|file| drop(remove_file(file)));
    }
}
