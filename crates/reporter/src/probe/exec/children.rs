//! The processes that probes start, and orphans.
//!
//! A probe's process leads a group of its own. Whoever started it kills and reaps it, in this order: as long as
//! a process is not reaped, its id and its group's id belong to nobody else.
//!
//! An orphan becomes a child of the container's first process, the reporter. [`reap_orphans`] reaps orphans, so
//! that no zombies accumulate. It does not reap processes that somebody waits for, nor those that ended after
//! such a process until that one is reaped. So whoever waits must wait until the end. A process that leaves its
//! group as a daemon is reaped and not killed.
//!
//! Starting a program can block for ever on a disk that hangs. So no lock is held meanwhile, and orphans are
//! still reaped, except those that could be the program that is being started.

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
    unistd::{Pid, getpgid, getpgrp},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
};

/// The children that somebody waits for. Children belong to the process, so this is a static.
static AWAITED: Mutex<Awaited> = Mutex::new(Awaited { starting: 0, started: BTreeSet::new() });

/// Wakes [`reap_orphans`] when a child is no longer waited for, or when its id is known.
static LEFT: Notify = Notify::const_new();

struct Awaited {
    /// The number of starting children, whose ids are not known yet.
    starting: usize,
    started: BTreeSet<Pid>,
}

impl Awaited {
    fn is_empty(&self) -> bool {
        self.starting == 0 && self.started.is_empty()
    }

    fn may_have(&self, child: Pid) -> bool {
        self.started.contains(&child) || self.starting > 0 && may_be_starting(child)
    }
}

/// Returns whether a child may be a program that is being started: it is in the reporter's own group until it
/// leads one.
fn may_be_starting(child: Pid) -> bool {
    getpgid(Some(child)).map_or(true, |group| group == child || group == getpgrp())
}

fn awaited() -> MutexGuard<'static, Awaited> {
    AWAITED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A start in progress.
struct Starting;

impl Starting {
    fn new() -> Self {
        awaited().starting += 1;
        Self
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        awaited().starting -= 1;
        LEFT.notify_one();
    }
}

/// Finds a child that has ended, without reaping it.
fn peek() -> WaitPidFlag {
    WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It exited with this status.
    Status(i32),
    /// A signal ended it.
    Signal,
}

/// A child with its process group, which are killed on drop.
#[derive(Debug)]
pub(super) struct Child {
    process: process::Child,
    pid: Pid,
    /// Receives the end of every child.
    ends: tokio::signal::unix::Signal,
}

impl Child {
    /// Starts a command as a process group of its own, without input and output. `spawn`, which is
    /// [`Command::spawn`], may block for any time.
    pub(super) fn start(
        mut command: Command,
        spawn: impl FnOnce(&mut Command) -> io::Result<process::Child>,
    ) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let ends = signal(SignalKind::child())?;
        // Until the child is in the list, so that it is never taken for an orphan.
        let _starting = Starting::new();
        let process = spawn(&mut command)?;
        let pid = Pid::from_raw(process.id().cast_signed());
        awaited().started.insert(pid);
        Ok(Self { process, pid, ends })
    }

    /// Waits until the process has ended, without reaping it.
    pub(super) async fn ended(&mut self) -> io::Result<End> {
        loop {
            match waitid(Id::Pid(self.pid), peek()) {
                Ok(WaitStatus::StillAlive) => {}
                Ok(WaitStatus::Exited(_, status)) => return Ok(End::Status(status)),
                // Real-time signals have no name and are an invalid value.
                Ok(_) | Err(Errno::EINVAL) => return Ok(End::Signal),
                Err(error) => return Err(error.into()),
            }
            self.ends.recv().await;
        }
    }

    /// Kills the whole group. Its id is valid until its leader is reaped.
    pub(super) fn kill(&self) {
        // This fails if the whole group has ended.
        let _ = killpg(self.pid, Signal::SIGKILL);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
        // After the reap, its id may be that of the next child, which must not be removed.
        let mut awaited = awaited();
        // `reap_orphans` reaps one that has not ended yet.
        let _ = self.process.try_wait();
        awaited.started.remove(&self.pid);
        LEFT.notify_one();
    }
}

/// Reaps orphans for ever. Only the process that runs probes may call it, because it treats every child as a
/// probe's.
///
/// # Errors
///
/// When the operating system does not deliver signals for children.
pub async fn reap_orphans() -> io::Result<()> {
    // In a container orphans come to the first process anyway. Elsewhere the process must ask for them.
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

/// Reaps an orphan if it is the first child that has ended.
fn reap_one() -> bool {
    let awaited = awaited();
    let ended = match waitid(Id::All, peek()) {
        Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) => pid,
        // A signal without a name ended a child. Only a reap shows which one.
        Err(Errno::EINVAL) if awaited.is_empty() => Pid::from_raw(-1),
        _ => return false,
    };
    // Whoever waits for it will reap it.
    !awaited.may_have(ended)
        && !matches!(
            waitpid(ended, Some(WaitPidFlag::WNOHANG)),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD)
        )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use std::{sync::mpsc, time::Duration};

    use tokio::{sync::oneshot, task, time};

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn while_one_start_hangs_the_orphans_of_other_programs_are_reaped() {
        let reaping = tokio::spawn(reap_orphans());
        let (begun, is_begun) = oneshot::channel();
        let (release, hanging) = mpsc::channel::<()>();
        let start = task::spawn_blocking(move || {
            Child::start(shell("exit 4"), |command| {
                begun.send(()).unwrap();
                // Until the test ends it.
                let _ = hanging.recv();
                command.spawn()
            })
        });
        is_begun.await.unwrap();

        let mut other = Child::start(shell("sleep 1000 & exit 3"), Command::spawn).unwrap();
        assert_eq!(other.ended().await.unwrap(), End::Status(3));
        let group = other.pid;
        drop(other);
        let gone = async {
            while killpg(group, None) != Err(Errno::ESRCH) {
                time::sleep(Duration::from_millis(5)).await;
            }
        };
        time::timeout(Duration::from_secs(20), gone).await.expect("the orphan is still there");

        release.send(()).unwrap();
        let mut late = start.await.unwrap().unwrap();
        assert_eq!(late.ended().await.unwrap(), End::Status(4));
        assert!(!reaping.is_finished());
    }

    #[tokio::test]
    async fn a_program_that_ends_before_its_start_returns_is_no_orphan() {
        let mut child = Child::start(shell("exit 5"), |command| {
            let process = command.spawn()?;
            let id = Id::Pid(Pid::from_raw(process.id().cast_signed()));
            waitid(id, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)?;
            while reap_one() {}
            Ok(process)
        })
        .unwrap();
        assert_eq!(child.ended().await.unwrap(), End::Status(5));
    }
}
