//! The context of a rule's reconcile.

use std::sync::Arc;

use kube::Client;
use tokio::sync::watch;

use super::status::StatusWriter;
use crate::backoff::Backoff;
use crate::cache::{Caches, SignalFailures};
use crate::evaluations::EvaluationStore;
use crate::leader::Leadership;
use crate::reporters::{CreationFailures, ReporterStates};
use crate::telemetry::Telemetry;

/// The context of a rule's reconcile. Its steps read caches, evaluations and the state of reporters, and write the
/// finalizer and the status.
pub(super) struct Context {
    pub(super) caches: Caches,
    pub(super) evaluations: Arc<EvaluationStore>,
    pub(super) reporters: watch::Receiver<ReporterStates>,
    pub(super) creation_failures: CreationFailures,
    pub(super) signal_failures: watch::Receiver<SignalFailures>,
    /// For the finalizer.
    pub(super) client: Client,
    pub(super) status: StatusWriter,
    pub(super) telemetry: Telemetry,
    pub(super) leadership: Leadership,
    pub(super) backoff: Backoff,
}
