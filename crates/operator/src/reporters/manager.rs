//! The state and tools to apply a rule's reporters.

use kube::Client;
use node_readiness_engine::reporter::{ConstrainedImpersonation, Settings};
use tokio::sync::watch;

use super::applier::Applier;
use super::apply_backoff::ApplyBackoff;
use super::creation_failures::CreationFailures;
use super::guard::Guard;
use super::propagation::PropagationDelay;

/// Applies reporters, and tracks what they wait for.
pub(crate) struct ReporterManager {
    /// The settings from the operator's flags.
    pub settings: Settings,
    pub applier: Applier,
    pub guard: Guard,
    /// Whether the API server supports constrained impersonation (KEP-5284).
    pub impersonation: watch::Receiver<ConstrainedImpersonation>,
    pub propagation: PropagationDelay,
    pub backoff: ApplyBackoff,
    pub creation_failures: CreationFailures,
}

impl ReporterManager {
    pub(crate) fn new(
        client: Client,
        settings: Settings,
        applier: Applier,
        guard: Guard,
        impersonation: watch::Receiver<ConstrainedImpersonation>,
    ) -> Self {
        let creation_failures = CreationFailures::new(client, &settings.namespace);
        Self {
            settings,
            applier,
            guard,
            impersonation,
            propagation: PropagationDelay::default(),
            backoff: ApplyBackoff::default(),
            creation_failures,
        }
    }
}
