//! Probes: one observation of the node, made again and again.
//!
//! A probe kind is a variant of [`Check`], what to look at, and of [`Prober`], the ready-made means
//! to look. [`Prober::probe`] does I/O and returns an [`Outcome`]; it neither counts nor remembers,
//! and it may be dropped at any await, which is how its deadline is enforced.

mod dialect;
mod fault;
mod http;
mod schedule;
mod trust;

use std::time::Duration;

pub use dialect::Dialect;
pub use http::HttpCheck;
pub use schedule::{run, start_jitter};
pub(crate) use trust::install_crypto;
pub use trust::{Roots, TrustError};

/// What is probed, as settings say it.
#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    /// An HTTP GET.
    Http(HttpCheck),
}

/// What one probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it counts as a success.
    pub healthy: bool,
    /// The condition's reason: `CamelCase`, one of few.
    pub reason: &'static str,
    /// The condition's message. It stays the same while the same thing happens, since every change
    /// of it is a write to the API server, and it never holds anything that the probed side sent.
    pub message: String,
}

/// The means to make one probe.
#[derive(Debug)]
pub enum Prober {
    /// An HTTP GET.
    Http(http::HttpProber),
}

impl Prober {
    /// Prepares a probe.
    ///
    /// # Errors
    /// When the certificates that an endpoint is to be verified against cannot be used.
    pub fn new(check: Check) -> Result<Self, TrustError> {
        match check {
            Check::Http(check) => http::HttpProber::new(check).map(Self::Http),
        }
    }

    /// Probes once.
    pub async fn probe(&self) -> Outcome {
        match self {
            Self::Http(prober) => prober.probe().await,
        }
    }

    /// The outcome of a probe that was cut after `timeout`.
    pub fn timed_out(&self, timeout: Duration) -> Outcome {
        match self {
            Self::Http(prober) => prober.timed_out(timeout),
        }
    }
}
