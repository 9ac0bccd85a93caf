//! The identity of a process. The kernel reuses process ids, but the process id, start time and boot id together are
//! unique. So a program can end exactly the process that another program started and recorded.

use std::{fs, io, path::PathBuf, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    files,
};

/// The timeout of the end of a killed process. Only a process that hangs in the kernel takes longer than milliseconds.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// A process of this machine, running or past.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// The process id.
    pub pid: i32,
    /// The start time, in clock ticks since boot (field 22 of `/proc/<pid>/stat`, see proc(5)).
    pub start_time: u64,
    /// The boot from which `start_time` counts.
    pub boot_id: String,
    /// The program, for people who read the record.
    pub executable: PathBuf,
}

impl ProcessIdentity {
    /// Returns the identity of a running process.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn of(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).map_err(io::Error::other)?;
        Ok(Self {
            pid,
            start_time: start_time(pid)?,
            boot_id: boot_id()?,
            executable: fs::read_link(format!("/proc/{pid}/exe"))?,
        })
    }

    /// Returns the only child of a process.
    pub(crate) fn only_child_of(pid: u32) -> Result<Self> {
        let path = PathBuf::from(format!("/proc/{pid}/task/{pid}/children"));
        let children = files::read(&path)?;
        let child = children.trim().parse().map_err(|_| Error::Unexpected {
            path: path.clone(),
            reason: format!("it must contain one process id, not `{children}`"),
        })?;
        Self::of(child).map_err(files::failed("read the process in", &path))
    }

    /// Kills this process and waits until it has ended. Does nothing if it has ended already, even if another process
    /// now has its id.
    ///
    /// # Errors
    /// When the system does not allow it, or the process does not end.
    pub fn kill(&self) -> io::Result<()> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(()) };
        // The descriptor refers to one process. If the start time matches after it was opened, the signal cannot reach
        // another process.
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(()),
            other => other?,
        };
        if !self.is_running() {
            return Ok(());
        }
        match pidfd_send_signal(&process, Signal::KILL) {
            Err(Errno::SRCH) => return Ok(()),
            other => other?,
        }
        let timeout = Timespec::try_from(GONE_WITHIN).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&timeout))? {
            0 => Err(io::Error::from(io::ErrorKind::TimedOut)),
            _ => Ok(()),
        }
    }

    /// Returns whether this process still exists. A zombie exists.
    pub fn is_running(&self) -> bool {
        let same_boot = boot_id().is_ok_and(|boot_id| boot_id == self.boot_id);
        same_boot && start_time(self.pid).is_ok_and(|start_time| start_time == self.start_time)
    }
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

fn start_time(pid: i32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_start_time(&stat)
        .ok_or_else(|| io::Error::other(format!("unexpected /proc/{pid}/stat: {stat}")))
}

/// Returns field 22 of a stat line. Field 2, the program's name, may contain spaces and parentheses, so it counts
/// fields after the last parenthesis.
fn parse_start_time(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(22 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A process that runs until its input is closed.
    fn sleeper() -> Child {
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn the_start_time_is_parsed_after_a_program_name_with_parentheses() {
        let stat =
            "42 (a) b (c 1 2) S 1 42 42 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 987654 1000 10";
        assert_eq!(parse_start_time(stat), Some(987_654));
    }

    #[test]
    fn a_killed_process_has_ended_and_a_second_kill_is_no_error() {
        let mut child = sleeper();
        let identity = ProcessIdentity::of(child.id()).unwrap();
        assert!(identity.is_running());

        identity.kill().unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(!identity.is_running());
        identity.kill().unwrap();
    }

    #[test]
    fn another_process_with_the_same_id_is_not_killed() {
        let mut child = sleeper();
        let identity = ProcessIdentity::of(child.id()).unwrap();
        let earlier = ProcessIdentity { start_time: identity.start_time - 1, ..identity.clone() };
        let before_reboot =
            ProcessIdentity { boot_id: "another boot".to_owned(), ..identity.clone() };

        earlier.kill().unwrap();
        before_reboot.kill().unwrap();
        assert!(child.try_wait().unwrap().is_none());

        identity.kill().unwrap();
        child.wait().unwrap();
    }
}
