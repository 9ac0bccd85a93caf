//! The operator's metrics for Prometheus.
//!
//! - [`Metrics`]: the recorded work of both controllers, by the uid of the rule.
//! - [`exposition`]: the metrics of a scrape. A scrape counts nodes from the evaluations, so these metrics are
//!   exact and cost nothing between scrapes.
//! - [`serve`]: over HTTP, or over HTTPS to authorized users.
//!
//! Label values are names of rules, condition types of specs, and fixed words of this module, and no other
//! text. A series ends with its rule, and a rule that is created again under the same name starts over.

mod certificates;
mod exposition;
mod gate;
mod record;
mod series;
mod serve;
#[cfg(test)]
mod tests;

pub(crate) use exposition::exposition;
pub(crate) use record::{Metrics, NewlyUnmet, newly_unmet};
pub use serve::ServeError;
pub(crate) use serve::serve;
