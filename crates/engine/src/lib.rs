//! Every decision of the operator, as pure functions over values.
//!
//! Nothing here talks to a server, waits, or reads a clock: whatever depends on the time takes
//! `now` as an argument. So each decision can be read, tested and measured by itself.
//!
//! - [`Rule`] and [`RuleSet`]: rules, compiled once, as often as they change.
//! - [`Node`]: what is kept of a node.
//! - [`plan`]: what one node's taints and records should be, as one conditional patch.
//! - [`Ledger`] and [`status`]: what was found and done, folded into a rule's status.
//! - [`lease`]: who of several operators may write.
//! - [`reporter`]: the objects that run a rule's probes.
//! - [`admission`]: what nobody may do who acts as a node, as policies.
//! - [`rbac`]: what the operator and its reporters may do, as typed values.

pub mod admission;
mod claims;
mod completion;
mod decision;
mod drift;
mod evaluation;
mod heartbeats;
mod labels;
pub mod lease;
mod ledger;
mod node;
mod patch;
mod plan;
mod quantity;
pub mod rbac;
mod reboot;
mod regressions;
pub mod reporter;
mod rule;
mod shared;
pub mod status;
mod taints;

pub use claims::carries_trace;
pub use decision::{Situation, Standing};
pub use drift::{contains, differences};
pub use evaluation::{Evaluation, Found};
pub use heartbeats::Heartbeats;
pub use labels::Labels;
pub use ledger::{Entry, Failure, Ledger};
pub use node::{Node, NodeCondition, Taint};
pub use plan::{Finding, Grip, NodePlan, plan};
pub use regressions::{Coverage, Regressions};
pub use rule::{Rejection, Rule, RuleSet, Unreadable};
pub use shared::Shared;
pub use taints::{Change, ChangeKind};
