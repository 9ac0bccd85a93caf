//! Why the operator ends.

use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

use crate::leader::Lost;
use crate::telemetry::metrics;

/// Why the operator cannot run.
#[derive(Debug, Error)]
pub enum Fatal {
    /// The kubeconfig cannot be used.
    #[error("--kubeconfig {}: {cause}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// No API server is configured.
    #[error("no cluster to work with: {0}; run in a pod, or name a kubeconfig with --kubeconfig")]
    NoCluster(String),
    /// The client cannot be created.
    #[error("cannot make a client for the API server: {0}")]
    Client(String),
    /// The namespace of the Lease is not known.
    #[error(
        "--leader-elect needs a namespace, and this process is not in a pod that has one ({0}): set \
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
        /// Why.
        cause: std::io::Error,
    },
    /// Metrics cannot be served.
    #[error(transparent)]
    Metrics(#[from] metrics::ServeError),
}
