//! What the operator counts and measures, for Prometheus to scrape.
//!
//! - [`Metrics`]: where both paths record what they did, by the uid of the rule.
//! - [`exposition`]: what is shown, which is put together for each scrape. What the evaluations knows is
//!   counted then, so that it is exact and costs nothing in between.
//! - [`serve`]: over HTTP, or over HTTPS to whom the cluster allows it.
//!
//! The values of labels are names of rules, condition types of rules' specs, and the fixed words of
//! this module: never text that somebody else makes up. A series ends with its rule: nothing is
//! shown of a rule that does not exist, and one that is made anew under the same name starts over.

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
