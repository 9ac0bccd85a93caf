//! The `unixSocket` probe: connects to a socket of the node and closes the connection.
//!
//! The node's directories are below a root directory in the container. An absolute symbolic link is followed in
//! the container, where its target usually does not exist. So the path of a socket must have no such links.
//!
//! A listener with a full backlog makes the probe wait and time out, like any client.

use std::{
    fs, io,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{net::UnixStream, time};

use super::{Outcome, blocking::BlockingCalls, error::ProbeError, host_path::HostPath};

/// The wait between two attempts at a socket with a full backlog. The kernel does not report when there is room
/// (connect(2), `EAGAIN`).
const BACKLOG_PAUSE: Duration = Duration::from_millis(50);

/// The socket to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixCheck {
    /// The node's root directory in the container.
    pub root: PathBuf,
    /// The socket on the node.
    pub path: HostPath,
}

/// A prepared Unix socket probe.
#[derive(Debug)]
pub struct UnixProber {
    path: PathBuf,
    calls: BlockingCalls,
    subject: String,
}

impl UnixProber {
    pub(super) fn new(check: &UnixCheck) -> Self {
        Self {
            path: check.path.below(&check.root),
            calls: BlockingCalls::new(),
            subject: format!("unixSocket {}", check.path),
        }
    }

    pub(super) async fn probe(&self) -> Outcome {
        Outcome::of_pod_probe(&self.subject, self.connect().await.map(|()| "connected".into()))
    }

    pub(super) fn timed_out(&self, timeout: Duration) -> Outcome {
        Outcome::of_pod_probe(&self.subject, Err(ProbeError::TimedOut("no connection", timeout)))
    }

    async fn connect(&self) -> Result<(), ProbeError> {
        // A path on a hanging file system would block the process in connect(2). So the path is checked first
        // on another thread.
        let path = self.path.clone();
        self.calls.run(move |_| look(&path)).await?;
        loop {
            match UnixStream::connect(&self.path).await {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    time::sleep(BACKLOG_PAUSE).await;
                }
                Err(error) => return Err(ProbeError::from(&error)),
            }
        }
    }
}

fn look(path: &Path) -> Result<(), ProbeError> {
    let metadata = fs::metadata(path).map_err(|error| ProbeError::of_file(&error))?;
    if metadata.file_type().is_socket() { Ok(()) } else { Err(ProbeError::NotASocket) }
}
