//! The operator: watches rules and nodes, and is the only writer of taints, reporters and rule
//! status.
//!
//! Data flows one way:
//!
//! ```text
//! watch nodes ─► node store ─┐
//! watch rules ─► rule set   ─┴► plan ─► patch node ─► ledger ─► events
//! watch rules, owned objects ─► generate ─► apply ─► fold(ledger) ─► patch status
//! ```
//!
//! - [`watches`]: what is watched, and how rules become a [`RuleSet`](node_readiness_engine::RuleSet).
//! - [`nodes`]: the node path, the only writer of nodes.
//! - [`rules`]: the rule path, the only writer of rules' status and of reporters.
//! - [`ledger`]: what the first tells the second.
//! - `guard`: the policies around whoever acts as a node, which are there before reporters are.
//! - [`metrics`]: what both did, for Prometheus.

mod applied;
mod applier;
mod args;
mod clock;
mod compat;
mod election;
mod events;
mod guard;
mod go_flags;
mod health;
mod identity;
mod impersonation;
mod leadership;
pub mod ledger;
pub mod logging;
pub mod metrics;
mod news;
pub mod nodes;
mod ownership;
mod refusal;
mod reporter_args;
mod retries;
mod rewrites;
pub mod rules;
mod run;
mod settling;
pub mod termination;
pub mod watches;

pub use args::{Args, LogFormat};
pub use compat::Compat;
pub use election::Lost;
pub use reporter_args::{GuardArg, ReporterArgs};
pub use run::{Fatal, run};
