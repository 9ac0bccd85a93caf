//! What the operator reports about itself: log, events, metrics, health, and why it ended.

mod events;
pub(crate) mod health;
pub mod logging;
pub mod metrics;
pub mod termination;

pub(crate) use events::Events;
use metrics::Metrics;

/// Where controllers report what they did. Clones share it.
#[derive(Clone)]
pub(crate) struct Telemetry {
    pub events: Events,
    pub metrics: Metrics,
}
