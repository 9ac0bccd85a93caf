//! Probes: observations of the node that are repeated.
//!
//! A kind of probe is a file, and a variant of [`Check`], the settings, and of [`Prober`], the prepared probe.
//! [`Prober::probe`] does I/O and returns an [`Outcome`]. It keeps no state, and may be dropped at any await,
//! which enforces its timeout.
//!
//! Nothing here blocks the reporter's one thread. Sockets are asynchronous, and blocking calls run on other
//! threads, one for each probe (`blocking`). So a hanging probe delays no other.

mod blocking;
mod error;
mod exec;
mod file;
mod grpc;
mod host_path;
mod http;
mod outcome;
mod reason_style;
mod resolve;
mod schedule;
mod tcp;
mod trust;
mod unix;

use std::time::Duration;

pub use exec::{ExecCheck, reap_orphans};
pub use file::{FileCheck, FilePattern};
pub use grpc::GrpcCheck;
pub use host_path::HostPath;
pub use http::{BodyPattern, HttpCheck};
pub use outcome::Outcome;
pub use reason_style::ReasonStyle;
pub(crate) use resolve::{LOCALHOST, authority};
pub use schedule::{Jitter, run};
pub use tcp::TcpCheck;
pub(crate) use trust::install_crypto;
pub use trust::{Roots, TrustError};
pub use unix::UnixCheck;

/// The settings of a probe.
#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    /// An HTTP GET.
    Http(HttpCheck),
    /// A TCP connection.
    Tcp(TcpCheck),
    /// A call of the gRPC health service.
    Grpc(GrpcCheck),
    /// A command.
    Exec(ExecCheck),
    /// A connection to a Unix socket.
    Unix(UnixCheck),
    /// A search for files.
    File(FileCheck),
}

impl Check {
    /// Returns the path of the node that it needs, which may be a pattern.
    pub fn host_path(&self) -> Option<&str> {
        match self {
            Self::Unix(check) => Some(check.path.as_str()),
            Self::File(check) => Some(check.path.as_str()),
            Self::Http(_) | Self::Tcp(_) | Self::Grpc(_) | Self::Exec(_) => None,
        }
    }
}

/// A prepared probe.
#[derive(Debug)]
pub enum Prober {
    /// An HTTP GET.
    Http(Box<http::HttpProber>),
    /// A TCP connection.
    Tcp(tcp::TcpProber),
    /// A call of the gRPC health service.
    Grpc(grpc::GrpcProber),
    /// A command.
    Exec(exec::ExecProber),
    /// A connection to a Unix socket.
    Unix(unix::UnixProber),
    /// A search for files.
    File(file::FileProber),
}

impl Prober {
    /// Prepares a probe.
    ///
    /// # Errors
    ///
    /// When the certificates for an endpoint cannot be used.
    pub fn new(check: Check) -> Result<Self, TrustError> {
        Ok(match check {
            Check::Http(check) => Self::Http(Box::new(http::HttpProber::new(check)?)),
            Check::Tcp(check) => Self::Tcp(tcp::TcpProber::new(check)),
            Check::Grpc(check) => Self::Grpc(grpc::GrpcProber::new(check)),
            Check::Exec(check) => Self::Exec(exec::ExecProber::new(check)),
            Check::Unix(check) => Self::Unix(unix::UnixProber::new(&check)),
            Check::File(check) => Self::File(file::FileProber::new(check)),
        })
    }

    /// Probes once.
    pub async fn probe(&self) -> Outcome {
        match self {
            Self::Http(prober) => prober.probe().await,
            Self::Tcp(prober) => prober.probe().await,
            Self::Grpc(prober) => prober.probe().await,
            Self::Exec(prober) => prober.probe().await,
            Self::Unix(prober) => prober.probe().await,
            Self::File(prober) => prober.probe().await,
        }
    }

    /// Returns the outcome of a probe that timed out after `timeout`.
    pub fn timed_out(&self, timeout: Duration) -> Outcome {
        match self {
            Self::Http(prober) => prober.timed_out(timeout),
            Self::Tcp(prober) => prober.timed_out(timeout),
            Self::Grpc(prober) => prober.timed_out(timeout),
            Self::Exec(prober) => prober.timed_out(timeout),
            Self::Unix(prober) => prober.timed_out(timeout),
            Self::File(prober) => prober.timed_out(timeout),
        }
    }
}
