//! The node controller, the only writer of nodes.
//!
//! It plans each node over all rules when the node or a rule changes, and writes it in one patch if it has
//! to change.

mod concurrency;
mod controller;
mod disruption_budget;
mod field_managers;
mod heartbeat_tracker;
mod latency;
mod planner;
mod writer;

pub(crate) use controller::NodeController;
pub(crate) use planner::Planner;
