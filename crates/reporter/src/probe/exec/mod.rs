//! The `exec` probe: a program that exits with 0.
//!
//! It runs in the reporter's container, as the reporter's user and with its environment, which
//! holds nothing secret. No shell is added. Its input is empty, and its output goes nowhere: it is
//! never shown, so it is not read, can be as long as it likes, and nobody who holds it open is
//! waited for.
//!
//! The program and whatever it starts are one process group. It is killed as a whole when the
//! program ends, when the probe is cut, and when the reporter stops ([`children`]). A program that
//! a disk holds fast outlives even that. So its [`life`] is a task of its own, and so that not every
//! probe adds one, the next waits for its end.

mod children;

use std::{io, process::Command, sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    task,
};
use tokio_util::sync::CancellationToken;

pub use self::children::reap_orphans;
use self::children::{Child, End};
use super::{Outcome, blocking::joined, fault::Fault};

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
    /// Held from before a program starts until it has ended.
    alone: Arc<Mutex<()>>,
    /// The program without its arguments, which can be secrets.
    subject: String,
}

impl ExecProber {
    pub(super) fn new(check: ExecCheck) -> Self {
        let subject = format!("exec {}", check.program);
        Self { check, alone: Arc::default(), subject }
    }

    pub(super) async fn probe(&self) -> Outcome {
        let found = self.run().await.map(|()| "exit status 0".into());
        Outcome::of_pod_probe(&self.subject, found)
    }

    pub(super) fn timed_out(&self, timeout: Duration) -> Outcome {
        Outcome::of_pod_probe(&self.subject, Err(Fault::TimedOut("not ended", timeout)))
    }

    async fn run(&self) -> Result<(), Fault> {
        let alone = Arc::clone(&self.alone).lock_owned().await;
        let mut command = Command::new(&self.check.program);
        command.args(&self.check.arguments);
        let cut = CancellationToken::new();
        // Where the probe is cut, this function ends at an await, and drops this.
        let _cut = cut.clone().drop_guard();
        match joined(task::spawn(life(command, cut, alone))).await? {
            End::Status(0) => Ok(()),
            End::Status(status) => Err(Fault::Exit(status)),
            End::Signal => Err(Fault::Signal),
        }
    }
}

/// A program from before its start until after its end, which may come later than its probe's: one
/// that is cut is killed, and then waited for.
async fn life(
    command: Command,
    cut: CancellationToken,
    _alone: OwnedMutexGuard<()>,
) -> Result<End, Fault> {
    let mut child = Child::start(command).map_err(|error| not_started(&error))?;
    let end = tokio::select! {
        biased;
        end = child.ended() => end,
        () = cut.cancelled() => {
            child.kill();
            child.ended().await
        }
    };
    end.map_err(|_| Fault::Other)
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
