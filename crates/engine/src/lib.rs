//! Every decision of the operator, as pure functions over values.
//!
//! Nothing here talks to a server, waits, or reads a clock: whatever depends on the time takes
//! `now` as an argument. So each decision can be read, tested and measured by itself.
//!
//! - [`Rule`] and [`RuleSet`]: rules, compiled once, as often as they change.
//! - [`Node`]: what is kept of a node.
//! - [`plan`]: what one node's taints and records should be, as one conditional patch.
//! - [`Evaluations`] and [`status`]: what was found and done, folded into a rule's status.
//! - [`lease`]: who of several operators may write.
//! - [`reporter`]: the objects that run a rule's probes.
//! - [`admission`]: what nobody may do who acts as a node, as policies.
//! - [`rbac`]: what the operator and its reporters may do, as typed values.

pub mod admission;
mod bootstrap;
mod claims;
mod decision;
mod drift;
mod evaluation;
mod evaluations;
mod heartbeats;
mod interned;
mod labels;
pub mod lease;
mod max_unavailable;
mod node;
mod patch;
mod plan;
mod quantity;
pub mod rbac;
mod reboot;
pub mod reporter;
mod rule;
pub mod status;
mod taints;

pub use claims::has_record_of;
pub use decision::{NodeState, PlanContext};
pub use drift::{contains, differences};
pub use evaluation::{Evaluation, Found};
pub use evaluations::{Entry, Evaluations, Failure};
pub use heartbeats::Heartbeats;
pub use interned::Interned;
pub use labels::Labels;
pub use max_unavailable::{CoveredNodes, RegressedNodes};
pub use node::{Node, NodeCondition, Taint};
pub use plan::{NodePlan, RuleResult, TaintState, plan};
pub use rule::{Rejection, Rule, RuleSet, Unreadable};
pub use taints::{Change, ChangeKind};
