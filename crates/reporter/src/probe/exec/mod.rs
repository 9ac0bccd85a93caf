//! The `exec` probe: a program that exits with 0.
//!
//! It runs in the reporter's container, as the reporter's user and with its environment, which
//! holds nothing secret. No shell is added. Its input is empty, and its output goes nowhere: it is
//! never shown, so it is not read, can be as long as it likes, and nobody who holds it open is
//! waited for.
//!
//! The program and whatever it starts are one process group. It is killed as a whole when the
//! program ends, when the probe is cut, and when the reporter stops ([`children`]). A program that
//! a disk holds fast outlives even that. So that not every probe adds one, the next waits for its
//! end.

mod children;

use std::{io, process::Command, time::Duration};

use tokio::sync::Mutex;

pub use self::children::reap_orphans;
use self::children::{Child, End};
use super::{Outcome, fault::Fault};

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecCheck {
    /// The program, by its path or by a name to be found in `PATH`.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// A prepared command.
#[derive(Debug)]
pub struct ExecProber {
    check: ExecCheck,
    /// What the latest probe started, unless it is known to have ended.
    latest: Mutex<Option<Child>>,
    /// The program without its arguments, which can be secrets.
    subject: String,
}

impl ExecProber {
    pub(super) fn new(check: ExecCheck) -> Self {
        let subject = format!("exec {}", check.program);
        Self { check, latest: Mutex::default(), subject }
    }

    pub(super) async fn probe(&self) -> Outcome {
        let found = self.run().await.map(|()| "exit status 0".into());
        Outcome::of_pod_probe(&self.subject, found)
    }

    pub(super) fn timed_out(&self, timeout: Duration) -> Outcome {
        Outcome::of_pod_probe(&self.subject, Err(Fault::TimedOut("not ended", timeout)))
    }

    async fn run(&self) -> Result<(), Fault> {
        let mut latest = self.latest.lock().await;
        if let Some(cut) = latest.as_mut() {
            cut.ended().await.map_err(|_| Fault::Other)?;
        }
        *latest = None;
        let mut command = Command::new(&self.check.program);
        command.args(&self.check.arguments);
        let child = latest.insert(Child::start(command).map_err(|error| not_started(&error))?);
        // A cut ends this function here. The child is then killed, and kept until it has ended.
        let running = KilledOnDrop(child);
        let end = running.0.ended().await.map_err(|_| Fault::Other)?;
        drop(running);
        *latest = None;
        match end {
            End::Status(0) => Ok(()),
            End::Status(status) => Err(Fault::Exit(status)),
            End::Signal => Err(Fault::Signal),
        }
    }
}

/// A child that does not outlive the probe which waits for it.
struct KilledOnDrop<'a>(&'a mut Child);

impl Drop for KilledOnDrop<'_> {
    fn drop(&mut self) {
        self.0.kill();
    }
}

fn not_started(error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::NotFound => Fault::NoSuchProgram,
        // EACCES: no permission to run it, or a directory. ENOEXEC: neither a binary nor a script.
        _ if matches!(error.raw_os_error(), Some(nix::libc::EACCES | nix::libc::ENOEXEC)) => {
            Fault::NotExecutable
        }
        _ => Fault::NotStarted,
    }
}
