//! The init process of a node or of a pod's sandbox. It keeps the namespaces alive and reaps orphans, which only the
//! first process of a process namespace can do.

use std::io;

use rustix::process::{WaitOptions, waitpid};
use tokio::signal::unix::{SignalKind, signal};

/// Waits for SIGTERM or SIGINT.
pub(crate) async fn run() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut child_ended = signal(SignalKind::child())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = child_ended.recv() => collect_children(),
        }
    }
}

/// Reaps all children that have ended. Simultaneous signals arrive as one, so one signal can be for several children.
fn collect_children() {
    while let Ok(Some(_)) = waitpid(None, WaitOptions::NOHANG) {}
}
