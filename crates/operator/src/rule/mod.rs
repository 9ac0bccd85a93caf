//! The rule controller, the only writer of finalizers and rules' status.
//!
//! It reconciles a rule in two steps: finalize, and report the status from caches.

mod context;
mod controller;
mod error;
mod finalizer;
mod rate_limiter;
mod reconcile;
mod status;

pub(crate) use controller::RuleController;
