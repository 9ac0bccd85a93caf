//! The `unixSocket` probe: connects to a socket of the node and hangs up.
//!
//! The node's directories are below a root directory in the container. An absolute symbolic link
//! that the node has there is followed in the container, where it leads nowhere as a rule: a socket
//! must be named by a path without such links.
//!
//! A listener whose backlog is full makes the probe wait, and time out, as it would make any client
//! wait.

use std::{
    fs, io,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{net::UnixStream, time};

use super::{Outcome, blocking::BlockingCalls, error::ProbeError, host_path::HostPath};

/// Wait between two attempts at a socket whose backlog is full. The kernel refuses to say when
/// there is room (connect(2), `EAGAIN`).
const BACKLOG_PAUSE: Duration = Duration::from_millis(50);

/// Which socket to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixCheck {
    /// Where the node's root directory is.
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
        // A path on a file system that hangs would hang the process in connect(2) as well. So the
        // path is tried first where that holds up nobody else.
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
