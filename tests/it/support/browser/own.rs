use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::SOON;
use crate::support::{Child, until};

/// A browser's processes and the folder of whatever they write: both end with the test.
pub(super) struct Own {
    process: Child,
    folder: PathBuf,
}

impl Own {
    /// Starts the program, told of its folder, and waits until it listens.
    pub(super) fn start(addr: SocketAddr, program: impl FnOnce(&Path) -> Command) -> Own {
        let folder = std::env::temp_dir().join(format!("balanced-browser-{}", addr.port()));
        fs::create_dir_all(&folder).expect("a folder");
        let mut command = program(&folder);
        command.env("TMPDIR", &folder).stdout(Stdio::null()).process_group(0);
        let own = Own { process: Child::spawn(&mut command), folder };
        until("the browser listens", SOON, || TcpStream::connect(addr).is_ok());
        own
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // The first process alone would leave the browser's many others.
        self.process.signal_group("-KILL");
        let gone = || fs::remove_dir_all(&self.folder).is_ok() || !self.folder.exists();
        until("nobody writes into the browser's folder", SOON, gone);
    }
}
