use std::fs::{DirEntry, File, read_dir, read_to_string};
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::until;

const SOON: Duration = Duration::from_secs(20);

/// A process with a log, killed at the end of the test.
pub(crate) struct Child {
    child: process::Child,
    log: PathBuf,
}

impl Child {
    pub(crate) fn spawn(command: &mut Command) -> Child {
        static COUNTER: AtomicUsize = AtomicUsize::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("balanced-test-{}-{number}.log", process::id());
        let log = std::env::temp_dir().join(name);
        let file = File::create(&log).expect("a log file");
        let child = command.stdin(Stdio::null()).stderr(file).spawn().expect("a process");
        Child { child, log }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        read_to_string(&self.log).expect("the log")
    }

    /// After `-STOP` it stands still when this returns.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().expect("kill");
        assert!(sent.success(), "kill {signal}");
        if signal == "-STOP" {
            stand_still(&pid);
        }
    }

    /// To every process of its group, which must be its own.
    pub(crate) fn signal_group(&self, signal: &str) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args([signal, "--", &group]).output().expect("kill");
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        until("the process ends", limit, || !self.is_alive());
        self.child.wait().unwrap()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the log of process {}:\n{}", self.child.id(), self.log());
        }
        let _ = std::fs::remove_file(&self.log);
    }
}

/// Waits until no thread of a process that was told to stop runs any more, or it has ended. On a
/// busy machine one may still answer after the signal was sent.
pub(super) fn stand_still(pid: &str) {
    let stands = |task: DirEntry| {
        let stat = read_to_string(task.path().join("stat"));
        let rest = stat.as_ref().ok().and_then(|stat| stat.rsplit_once(") "));
        rest.is_none_or(|(_, rest)| rest.starts_with(['T', 'Z', 'X']))
    };
    until("every thread stands still", SOON, || {
        read_dir(format!("/proc/{pid}/task"))
            .is_ok_and(|mut tasks| tasks.all(|it| it.is_ok_and(stands)))
            || !Path::new("/proc").join(pid).exists()
    });
}
