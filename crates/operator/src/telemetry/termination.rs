//! How the process ends: when it is asked to, and what it leaves to be read.

use std::error::Error;
use std::fs;
use std::path::Path;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Where a container's last words go; `kubectl describe pod` shows them.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// A token that is cancelled when the process is asked to end, by SIGTERM or SIGINT.
pub fn requested() -> CancellationToken {
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        let asked = async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            std::io::Result::Ok(())
        };
        if asked.await.is_ok() {
            info!("ending, as asked");
            cancelled.cancel();
        }
    });
    token
}

/// Says in one line why the process ends, also where `kubectl describe pod` shows it.
pub fn report(error: &dyn Error) {
    eprintln!("{error}");
    // The file is there in a container only, and kubelet made it: it is never created here.
    if Path::new(TERMINATION_LOG).exists()
        && let Err(cause) = fs::write(TERMINATION_LOG, error.to_string())
    {
        eprintln!("cannot write {TERMINATION_LOG}: {cause}");
    }
}
