//! The init process of a node or of a pod's sandbox. It holds the namespaces and reaps orphans, which only the
//! first process of a process namespace can.

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

/// Reaps all children that have ended, because simultaneous signals arrive as one.
fn collect_children() {
    while let Ok(Some(_)) = waitpid(None, WaitOptions::NOHANG) {}
}
