//! The end of the process: signals and the termination log.

use std::error::Error;
use std::fs;
use std::path::Path;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// The termination log of a container, which `kubectl describe pod` shows.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Returns a token that is cancelled on SIGTERM or SIGINT.
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
            info!("received a termination signal");
            cancelled.cancel();
        }
    });
    token
}

/// Writes the error that ends the process to standard error and to the termination log.
pub fn report(error: &dyn Error) {
    eprintln!("{error}");
    // The file exists only in a container, where kubelet creates it.
    if Path::new(TERMINATION_LOG).exists()
        && let Err(cause) = fs::write(TERMINATION_LOG, error.to_string())
    {
        eprintln!("cannot write {TERMINATION_LOG}: {cause}");
    }
}
