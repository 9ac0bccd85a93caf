//! The telemetry of the operator: log, events, metrics, health, and the reason why it ended.

mod events;
pub(crate) mod health;
pub mod logging;
pub mod metrics;
pub mod termination;

pub(crate) use events::Events;
use metrics::Metrics;

/// The events and metrics that controllers report to. Clones share them.
#[derive(Clone)]
pub(crate) struct Telemetry {
    pub events: Events,
    pub metrics: Metrics,
}
