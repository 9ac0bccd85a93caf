//! The operator: watches rules and nodes, and is the only writer of taints, reporters and rule status.
//!
//! Data flows one way:
//!
//! ```text
//! cache: watch nodes ─► node store ─┐
//! cache: watch rules ─► rule set   ─┴► node: plan ─► patch node ─► evaluations ─► events
//! cache: watch rules, owned objects ─► rule: generate ─► reporters: apply ─► rule: patch status
//! ```
//!
//! - `cli`: flags.
//! - `cache`: the watches and their stores, and the compiled [`RuleSet`](node_readiness_engine::RuleSet).
//! - `node`: the node controller, the only writer of nodes.
//! - `rule`: the rule controller, the only writer of rules' status and of reporters.
//! - `reporters`: applies generated objects, and the guard policies that limit writes made as a node.
//! - `evaluations`: the results of rules on nodes, which the node controller records for the rule controller.
//! - `leader`: leader election.
//! - [`telemetry`]: log, events, metrics and health.

mod api_error;
mod backoff;
mod cache;
mod cli;
mod client;
mod clock;
mod error;
mod evaluations;
mod identity;
mod leader;
mod node;
mod notifications;
mod reporters;
mod rule;
mod run;
pub mod telemetry;
mod write_backoff;

pub use cli::{Args, GoFlags, GuardArg, LogFormat, MetricsArgs, ReporterArgs};
pub use error::Fatal;
pub use leader::Lost;
pub use run::run;
