//! The init process of a node or of a pod's sandbox. It keeps the namespaces alive and reaps orphans, which only the
//! first process of a process namespace can do.

use nix::{
    sys::{
        signal::{SigSet, Signal},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
///
/// When the system does not deliver signals.
pub fn run() -> nix::Result<()> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD]);
    signals.thread_block()?;
    while signals.wait()? == Signal::SIGCHLD {
        collect_children();
    }
    Ok(())
}

/// Reaps all children that have ended. Simultaneous signals arrive as one, so one signal can be for several children.
fn collect_children() {
    let any = None::<Pid>;
    while waitpid(any, Some(WaitPidFlag::WNOHANG))
        .is_ok_and(|status| status != WaitStatus::StillAlive)
    {}
}
