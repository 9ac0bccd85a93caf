//! The processes that probes start, and those that are left behind.
//!
//! A probe's process leads a group of its own. It is killed and its end is taken note of ("reaped")
//! by whoever started it; the order matters: as long as a process has not been reaped, its id and
//! its group's mean nobody else.
//!
//! A process whose parent has ended becomes a child of the container's first process, which is the
//! reporter: a pod has no other init. [`reap_orphans`] reaps those, so that no zombies gather. It
//! leaves those that somebody waits for alone, and those that ended after one of them until that one
//! is reaped: so whoever waits must do so until the end. A process that makes itself a daemon,
//! leaving its group, is reaped in the end but not killed.

use std::{
    collections::BTreeSet,
    io,
    os::unix::process::CommandExt as _,
    process::{self, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{Signal, killpg},
        wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    },
    unistd::Pid,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
};

/// The children that somebody waits for. Children belong to a process, and so does this list.
static AWAITED: Mutex<BTreeSet<Pid>> = Mutex::new(BTreeSet::new());

/// Wakes [`reap_orphans`] when a child is no longer waited for.
static LEFT: Notify = Notify::const_new();

fn awaited() -> MutexGuard<'static, BTreeSet<Pid>> {
    AWAITED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks for a child that has ended, and does not reap it.
fn peek() -> WaitPidFlag {
    WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By itself, with this status.
    Status(i32),
    /// By a signal.
    Signal,
}

/// A child and its process group, which are killed when this is dropped.
#[derive(Debug)]
pub(super) struct Child {
    process: process::Child,
    pid: Pid,
    /// Hears of every child that ends.
    ends: tokio::signal::unix::Signal,
}

impl Child {
    /// Starts a command as a process group of its own, without input and output.
    pub(super) fn start(mut command: Command) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let ends = signal(SignalKind::child())?;
        // Held until the child is in the list, so that it is never taken for an orphan.
        let mut awaited = awaited();
        let process = command.spawn()?;
        let pid = Pid::from_raw(process.id().cast_signed());
        awaited.insert(pid);
        Ok(Self { process, pid, ends })
    }

    /// Waits until the process has ended, and leaves it to be reaped.
    pub(super) async fn ended(&mut self) -> io::Result<End> {
        loop {
            match waitid(Id::Pid(self.pid), peek()) {
                Ok(WaitStatus::StillAlive) => {}
                Ok(WaitStatus::Exited(_, status)) => return Ok(End::Status(status)),
                // Signals without a name, those for real time, are an invalid value.
                Ok(_) | Err(Errno::EINVAL) => return Ok(End::Signal),
                Err(error) => return Err(error.into()),
            }
            self.ends.recv().await;
        }
    }

    /// Kills the whole group. As long as its leader has not been reaped, the group's id is its own.
    pub(super) fn kill(&self) {
        // It fails if all of the group has ended, which is just as well.
        let _ = killpg(self.pid, Signal::SIGKILL);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
        // One that has not ended yet is left to `reap_orphans`.
        let _ = self.process.try_wait();
        awaited().remove(&self.pid);
        LEFT.notify_one();
    }
}

/// Reaps for ever what nobody waits for. It is for the process to call that runs probes and nothing
/// else, since it takes every child for the probes'.
///
/// # Errors
/// When the operating system does not let the process hear of its children.
pub async fn reap_orphans() -> io::Result<()> {
    // In a container orphans come to its first process anyway; elsewhere they have to be asked for.
    prctl::set_child_subreaper(true)?;
    let mut ends = signal(SignalKind::child())?;
    loop {
        while reap_one() {}
        tokio::select! {
            _ = ends.recv() => {}
            () = LEFT.notified() => {}
        }
    }
}

/// Reaps an orphan that has ended, if the first child that has ended is one.
fn reap_one() -> bool {
    let awaited = awaited();
    let ended = match waitid(Id::All, peek()) {
        Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) => pid,
        // A child was ended by a signal without a name. Which one is known only by reaping it.
        Err(Errno::EINVAL) if awaited.is_empty() => Pid::from_raw(-1),
        _ => return false,
    };
    // Whoever waits for it will reap it, and say so.
    !awaited.contains(&ended)
        && !matches!(
            waitpid(ended, Some(WaitPidFlag::WNOHANG)),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD)
        )
}
