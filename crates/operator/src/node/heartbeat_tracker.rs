//! Heartbeats of conditions, and the nodes that wait for one.

use std::collections::HashSet;
use std::time::Duration;

use node_readiness_engine::{Heartbeats, Node, NodePlan, NodeState, RuleResult};

/// The heartbeats of every node. Times are the operator's uptime.
#[derive(Default)]
pub(super) struct HeartbeatTracker {
    heartbeats: Heartbeats,
    /// Nodes whose next heartbeat can change a decision. Other heartbeats cause no work.
    awaiting: HashSet<String>,
}

impl HeartbeatTracker {
    /// The heartbeats, for a plan.
    pub(super) fn heartbeats(&self) -> &Heartbeats {
        &self.heartbeats
    }

    /// Stops counting silence, because the watch is interrupted.
    pub(super) fn watch_interrupted(&mut self, uptime: Duration) {
        self.heartbeats.interrupt(uptime);
    }

    /// Counts silence again, because the watch delivers events.
    pub(super) fn watch_resumed(&mut self, uptime: Duration) {
        self.heartbeats.resume(uptime);
    }

    /// Records a node's heartbeats. Returns whether the node awaited one of them and has to be requeued.
    pub(super) fn observe(&mut self, node: &Node, uptime: Duration) -> bool {
        self.heartbeats.observe(node, uptime) && self.awaiting.remove(node.name())
    }

    /// Records whether the node awaits a heartbeat.
    pub(super) fn planned(&mut self, node: &str, plan: &NodePlan) {
        let awaits = |result: &RuleResult| {
            result.state == NodeState::Pending || result.evaluation.awaits_heartbeat()
        };
        if plan.results.iter().any(awaits) {
            self.awaiting.insert(node.to_owned());
        } else {
            self.awaiting.remove(node);
        }
    }

    /// Removes a deleted node.
    pub(super) fn node_deleted(&mut self, node: &str) {
        self.heartbeats.forget(node);
        self.awaiting.remove(node);
    }

    /// Removes every node that is not named.
    pub(super) fn retain(&mut self, names: &HashSet<&str>) {
        self.heartbeats.retain(names);
        self.awaiting.retain(|node| names.contains(node.as_str()));
    }
}
