//! The `exec` probe: a program that exits with 0.
//!
//! The program runs in the reporter's container, as the reporter's user and with its environment, which has no
//! secrets. There is no shell. Its input is empty, and its output is discarded, so it is never shown and never
//! blocks.
//!
//! The program and its children are one process group. The whole group is killed when the program ends, when
//! the probe times out, and when the reporter stops ([`children`]). A program that a disk blocks outlives even
//! that. So its [`life`] is a task of its own, and the next probe waits for its end.

mod children;

use std::{
    io,
    process::{self, Command},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    task,
};
use tokio_util::sync::CancellationToken;

pub use self::children::reap_orphans;
use self::children::{Child, End};
use super::{Outcome, blocking::joined, error::ProbeError};

/// The command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecCheck {
    /// The program, by its path or by a name in `PATH`.
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
        let found = self.run(Command::spawn).await.map(|()| "exit status 0".into());
        Outcome::of_pod_probe(&self.subject, found)
    }

    pub(super) fn timed_out(&self, timeout: Duration) -> Outcome {
        Outcome::of_pod_probe(&self.subject, Err(ProbeError::TimedOut("not ended", timeout)))
    }

    async fn run(
        &self,
        spawn: impl FnOnce(&mut Command) -> io::Result<process::Child> + Send + 'static,
    ) -> Result<(), ProbeError> {
        let alone = Arc::clone(&self.alone).lock_owned().await;
        let mut command = Command::new(&self.check.program);
        command.args(&self.check.arguments);
        let start = move || Child::start(command, spawn);
        let cut = CancellationToken::new();
        // When the probe times out, this function is dropped at an await, and this with it.
        let _cut = cut.clone().drop_guard();
        match joined(task::spawn(life(start, cut, alone))).await? {
            End::Status(0) => Ok(()),
            End::Status(status) => Err(ProbeError::Exit(status)),
            End::Signal => Err(ProbeError::Signal),
        }
    }
}

/// A program from before its start until after its end, which may be later than its probe's. After a timeout it
/// is killed as soon as it has started, and then waited for.
async fn life(
    start: impl FnOnce() -> io::Result<Child> + Send + 'static,
    cut: CancellationToken,
    _alone: OwnedMutexGuard<()>,
) -> Result<End, ProbeError> {
    let started = joined(task::spawn_blocking(start)).await;
    let mut child = started.map_err(|error| not_started(&error))?;
    let end = tokio::select! {
        biased;
        end = child.ended() => end,
        () = cut.cancelled() => {
            child.kill();
            child.ended().await
        }
    };
    end.map_err(|_| ProbeError::Other)
}

fn not_started(error: &io::Error) -> ProbeError {
    match error.kind() {
        io::ErrorKind::NotFound => ProbeError::NoSuchProgram,
        // EACCES: no permission to run it, or a directory. ENOEXEC: neither a binary nor a script.
        _ if matches!(error.raw_os_error(), Some(nix::libc::EACCES | nix::libc::ENOEXEC)) => {
            ProbeError::NotExecutable
        }
        _ => ProbeError::NotStarted,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use std::{
        future::{self, Future as _},
        pin::pin,
        sync::mpsc,
        task::Poll,
    };

    use nix::{errno::Errno, sys::signal::kill, unistd::Pid};
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_start_that_hangs_can_be_cut_and_what_it_starts_late_is_killed_before_the_next() {
        let (program, arguments) = ("sleep".to_owned(), vec!["1000".to_owned()]);
        let prober = ExecProber::new(ExecCheck { program, arguments });
        let (begun, is_begun) = oneshot::channel();
        let (release, hanging) = mpsc::channel::<()>();
        let (started, has_started) = mpsc::channel();
        let first = prober.run(move |command| {
            begun.send(()).unwrap();
            hanging.recv_timeout(Duration::from_secs(20)).expect("the test is held up");
            let process = command.spawn()?;
            started.send(Pid::from_raw(process.id().cast_signed())).unwrap();
            Ok(process)
        });
        tokio::select! {
            _ = first => unreachable!("it hangs"),
            begun = is_begun => begun.unwrap(),
        }

        let mut second = pin!(prober.run(move |_| {
            let late = has_started.try_recv().expect("it waits for the first");
            assert_eq!(kill(late, None), Err(Errno::ESRCH), "it has been killed and reaped");
            Err(io::ErrorKind::NotFound.into())
        }));
        let waits = future::poll_fn(|cx| Poll::Ready(second.as_mut().poll(cx).is_pending())).await;
        assert!(waits);
        release.send(()).unwrap();
        let found = tokio::time::timeout(Duration::from_secs(20), second).await;
        assert_eq!(found.unwrap(), Err(ProbeError::NoSuchProgram));
    }
}
