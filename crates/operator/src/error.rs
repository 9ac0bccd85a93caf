//! The errors that end the operator.

use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

use crate::leader::Lost;
use crate::telemetry::metrics;

/// The reason why the operator cannot run.
#[derive(Debug, Error)]
pub enum Fatal {
    /// The kubeconfig cannot be used.
    #[error("--kubeconfig {}: {cause}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: String,
    },
    /// No API server is configured.
    #[error("no cluster is configured: {0}; run in a pod, or set --kubeconfig")]
    NoCluster(String),
    /// The client cannot be created.
    #[error("cannot create a client for the API server: {0}")]
    Client(String),
    /// The namespace of the Lease is not known.
    #[error(
        "--leader-elect needs a namespace, and this process does not run in a pod ({0}): set \
         --leader-election-namespace"
    )]
    NoNamespace(std::io::Error),
    /// This process lost its leadership.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The health address cannot be used.
    #[error("--health-probe-bind-address {address}: {cause}")]
    Health {
        /// The address.
        address: SocketAddr,
        /// The cause.
        cause: std::io::Error,
    },
    /// Metrics cannot be served.
    #[error(transparent)]
    Metrics(#[from] metrics::ServeError),
}
