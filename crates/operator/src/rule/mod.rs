//! The rule controller, the only writer of reporters, finalizers and rules' status.
//!
//! It reconciles a rule in four steps: finalize, generate, apply, report status. Generating reads caches
//! only.

mod context;
mod controller;
mod error;
mod finalizer;
mod rate_limiter;
mod reconcile;
mod status;

pub(crate) use controller::RuleController;
