//! Every decision of the operator, as pure functions over values.
//!
//! No function here calls a server, waits, or reads a clock. A function that depends on the time takes `now` as
//! an argument. So each decision can be read, tested and measured by itself.
//!
//! - [`Rule`] and [`RuleSet`]: rules, compiled once for each change.
//! - [`Node`]: the part of a node that decisions depend on.
//! - [`plan`]: the desired taints and records of one node, as one conditional patch.
//! - [`Evaluations`] and [`status`]: evaluations of nodes, and the rule status that they are folded into.
//! - [`lease`]: leader election among several operators.
//! - [`signals`]: what rules require besides conditions, as observed in other objects than the Node.
//! - [`reporter`]: the objects that run a rule's probes.
//! - [`admission`]: policies that limit every client that acts as a node.
//! - [`rbac`]: the permissions of the operator and its reporters, as typed values.

pub mod admission;
mod bootstrap;
mod claims;
mod containers;
mod decision;
mod digest;
mod drift;
mod evaluation;
mod evaluations;
mod heartbeats;
mod interned;
mod labels;
pub mod lease;
mod max_unavailable;
mod met_since;
mod node;
mod patch;
mod plan;
mod quantity;
pub mod rbac;
mod reboot;
pub mod reporter;
mod rule;
pub mod signals;
pub mod status;
mod taints;

pub use claims::has_record_of;
pub use decision::{NodeState, PlanContext};
pub use drift::{contains, differences};
pub use evaluation::{Delay, Evaluation, Found, SignalState};
pub use evaluations::{Entry, Evaluations, Failure};
pub use heartbeats::Heartbeats;
pub use interned::Interned;
pub use labels::Labels;
pub use max_unavailable::{CoveredNodes, RegressedNodes};
pub use met_since::MetSince;
pub use node::{Node, NodeCondition, Taint};
pub use plan::{EndedHold, NodePlan, RuleResult, TaintState, plan};
pub use rule::{Rejection, Rule, RuleSet, Unreadable};
pub use taints::{Change, ChangeKind};
