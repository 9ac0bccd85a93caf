//! Errors of reconciling a rule.

use node_readiness_api::FINALIZER;
use thiserror::Error;

/// A failed reconcile of a rule. The controller retries it.
#[derive(Debug, Error)]
pub enum RuleError {
    /// The status could not be written.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// The finalizer could not be added or removed.
    #[error(transparent)]
    Finalizer(#[from] FinalizerError),
}

impl RuleError {
    /// Returns the failed action, as named in events.
    pub(super) fn action(&self) -> &'static str {
        match self {
            Self::Status(_) => "ReportStatus",
            Self::Finalizer(_) => "CleanUp",
        }
    }
}

/// A status could not be written.
#[derive(Debug, Error)]
#[error("status of NodeReadinessRule {rule} could not be written: {cause}")]
pub struct StatusError {
    pub(super) rule: String,
    pub(super) cause: String,
}

/// The finalizer could not be added or removed.
#[derive(Debug, Error)]
#[error("finalizer {FINALIZER} of NodeReadinessRule {rule} could not be written: {cause}")]
pub struct FinalizerError {
    pub(super) rule: String,
    pub(super) cause: String,
}
