//! The demo's view of a cluster, and the differences between two views, in words.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod};
use node_readiness_api::{CLAIMS_ANNOTATION, ClaimState, Claims};

/// The names in `examples/cni-readiness/rule.yaml`.
pub(super) const RULE: &str = "cni";
pub(super) const CONDITION: &str = "projectcalico.org/CalicoReady";
pub(super) const TAINT: &str = "readiness.k8s.io/NetworkReady";

/// A node in the demo's view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NodeView {
    /// The status of the condition, if the node has it.
    pub(super) condition: Option<String>,
    /// Whether it carries the taint.
    pub(super) tainted: bool,
    /// Whether the rule's claim states that it is held.
    pub(super) held: bool,
}

impl NodeView {
    pub(super) fn of(node: &Node) -> Self {
        let condition = node
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten())
            .find(|condition| condition.type_ == CONDITION)
            .map(|condition| condition.status.clone());
        let tainted = node
            .spec
            .iter()
            .flat_map(|spec| spec.taints.iter().flatten())
            .any(|taint| taint.key == TAINT);
        let claims =
            node.metadata.annotations.as_ref().and_then(|annotations| {
                serde_json::from_str(annotations.get(CLAIMS_ANNOTATION)?).ok()
            });
        let held = claims
            .and_then(|claims: Claims| Some(claims.get(RULE)?.state == ClaimState::Held))
            .unwrap_or_default();
        Self { condition, tainted, held }
    }

    /// Returns whether the rule holds the node because the condition is False.
    pub(super) fn is_gated(&self) -> bool {
        self.condition.as_deref() == Some("False") && self.tainted && self.held
    }

    /// Returns whether the rule has released the node because the condition is True.
    pub(super) fn is_open(&self) -> bool {
        self.condition.as_deref() == Some("True") && !self.tainted && !self.held
    }

    fn changes(&self, before: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        if self.condition != before.condition {
            let status = |view: &Self| view.condition.clone().unwrap_or_else(|| "none".to_owned());
            changes.push(format!("condition {CONDITION}: {} -> {}", status(before), status(self)));
        }
        match (before.tainted, self.tainted) {
            (false, true) => changes.push(format!("taint {TAINT} is added")),
            (true, false) => changes.push(format!("taint {TAINT} is removed")),
            // The rule adopts the taint that kubelet registered with.
            _ if self.held && !before.held => {
                changes.push(format!("taint {TAINT} is adopted by rule {RULE}"));
            }
            _ => {}
        }
        changes
    }
}

/// A pod in the demo's view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PodView {
    /// The node it is bound to.
    pub(super) node: Option<String>,
    /// Whether the scheduler has found no node for it.
    pub(super) unschedulable: bool,
    /// Whether it is Ready.
    pub(super) ready: bool,
    /// Whether it is being deleted.
    pub(super) ending: bool,
}

impl PodView {
    pub(super) fn of(pod: &Pod) -> Self {
        let has = |type_: &str, status: &str| {
            pod.status
                .iter()
                .flat_map(|pod| pod.conditions.iter().flatten())
                .any(|condition| condition.type_ == type_ && condition.status == status)
        };
        Self {
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            unschedulable: has("PodScheduled", "False"),
            ready: has("Ready", "True"),
            ending: pod.metadata.deletion_timestamp.is_some(),
        }
    }

    /// Returns whether it runs and is Ready on this node.
    pub(super) fn runs_on(&self, node: &str) -> bool {
        self.ready && !self.ending && self.node.as_deref() == Some(node)
    }

    fn change(&self, before: Option<&Self>) -> Option<String> {
        let is_new = |what: fn(&Self) -> bool| what(self) && !before.is_some_and(what);
        if is_new(|pod| pod.ending) {
            Some("is terminating".to_owned())
        } else if is_new(|pod| pod.unschedulable) {
            Some("is Pending: no node fits".to_owned())
        } else if is_new(|pod| pod.ready && !pod.ending) {
            Some(format!("runs on {}", self.node.as_deref().unwrap_or("no node")))
        } else {
            None
        }
    }
}

/// The demo's view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct View {
    /// Nodes by name.
    pub(super) nodes: BTreeMap<String, NodeView>,
    /// The demo's own pods and the reporters, by name.
    pub(super) pods: BTreeMap<String, PodView>,
}

impl View {
    /// Updates a node and returns what changed.
    pub(super) fn see_node(&mut self, node: &Node) -> Vec<String> {
        let name = node.metadata.name.clone().unwrap_or_default();
        let now = NodeView::of(node);
        let first = !self.nodes.contains_key(&name);
        let before = self.nodes.insert(name.clone(), now.clone()).unwrap_or_default();
        if first {
            return Vec::new();
        }
        now.changes(&before).into_iter().map(|change| format!("{name}  {change}")).collect()
    }

    /// Updates a pod and returns what changed.
    pub(super) fn see_pod(&mut self, pod: &Pod) -> Option<String> {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let now = PodView::of(pod);
        let before = self.pods.insert(name.clone(), now.clone());
        now.change(before.as_ref()).map(|change| format!("pod {name} {change}"))
    }

    /// Removes a deleted pod.
    pub(super) fn lose_pod(&mut self, pod: &Pod) -> Option<String> {
        let name = pod.metadata.name.as_deref()?;
        self.pods.remove(name).map(|_| format!("pod {name} is deleted"))
    }

    /// Returns a node by name.
    pub(super) fn node(&self, name: &str) -> NodeView {
        self.nodes.get(name).cloned().unwrap_or_default()
    }

    /// Returns whether the scheduler has found no node for this pod.
    pub(super) fn waits(&self, pod: &str) -> bool {
        self.pods.get(pod).is_some_and(|pod| pod.unschedulable)
    }

    /// Returns whether this pod runs and is Ready on this node.
    pub(super) fn runs_on(&self, pod: &str, node: &str) -> bool {
        self.pods.get(pod).is_some_and(|pod| pod.runs_on(node))
    }

    /// Returns whether a pod with this name prefix runs on this node.
    pub(super) fn any_runs_on(&self, prefix: &str, node: &str) -> bool {
        self.pods.iter().any(|(name, pod)| name.starts_with(prefix) && pod.runs_on(node))
    }

    /// Describes the last state in a few lines, for an error message.
    pub(super) fn describe(&self) -> String {
        let nodes = self.nodes.iter().map(|(name, node)| {
            let condition = node.condition.as_deref().unwrap_or("none");
            let taint = if node.tainted { "on" } else { "off" };
            let held = if node.held { "yes" } else { "no" };
            format!("{name}: condition {condition}, taint {taint}, held by the rule: {held}")
        });
        let pods = self.pods.iter().map(|(name, pod)| {
            let node = pod.node.as_deref().unwrap_or("no node");
            let ready = if pod.ready { "ready" } else { "not ready" };
            format!("pod {name}: on {node}, {ready}")
        });
        nodes.chain(pods).map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use serde_json::{Value, json};

    use super::*;

    fn node(status: &str, taints: &Value, state: &str) -> Node {
        let taint = json!({"key": TAINT, "value": "pending", "effect": "NoSchedule"});
        let claims =
            json!({RULE: {"taint": taint, "state": state, "since": "2026-11-24T08:00:00Z"}});
        serde_json::from_value(json!({
            "metadata": {"name": "node-a", "annotations": {CLAIMS_ANNOTATION: claims.to_string()}},
            "spec": {"taints": taints},
            "status": {"conditions": [{"type": CONDITION, "status": status}]},
        }))
        .unwrap()
    }

    #[test]
    fn the_release_of_a_node_is_shown_once() {
        let mut view = View::default();
        let gated = node("False", &json!([{"key": TAINT, "effect": "NoSchedule"}]), "held");
        assert!(view.see_node(&gated).is_empty());
        assert!(view.node("node-a").is_gated());

        let open = node("True", &json!([]), "released");
        let reported = view.see_node(&open);
        assert_eq!(reported.len(), 2, "{reported:?}");
        assert!(reported[0].ends_with("CalicoReady: False -> True"), "{reported:?}");
        assert!(reported[1].ends_with("NetworkReady is removed"), "{reported:?}");
        assert!(view.node("node-a").is_open());
        assert!(view.see_node(&open).is_empty());
    }

    #[test]
    fn each_change_of_a_pod_is_shown_once() {
        let pod = |ending: Value, node: Value, conditions: Value| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": "app", "deletionTimestamp": ending},
                "spec": {"nodeName": node, "containers": []},
                "status": {"conditions": conditions},
            }))
            .unwrap()
        };
        let waits = json!([{"type": "PodScheduled", "status": "False"}]);
        let starts = json!([{"type": "PodScheduled", "status": "True"}]);
        let ready = json!([{"type": "Ready", "status": "True"}]);
        let (never, now) = (json!(null), json!("2026-11-24T08:00:00Z"));
        let mut view = View::default();
        let mut reported = vec![
            view.see_pod(&pod(never.clone(), json!(null), json!([]))),
            view.see_pod(&pod(never.clone(), json!(null), waits.clone())),
            view.see_pod(&pod(never.clone(), json!(null), waits)),
            view.see_pod(&pod(never.clone(), json!("node-a"), starts)),
            view.see_pod(&pod(never, json!("node-a"), ready.clone())),
        ];
        assert!(view.runs_on("app", "node-a"));
        let last = pod(now, json!("node-a"), ready);
        reported.push(view.see_pod(&last));
        assert!(!view.runs_on("app", "node-a"));
        reported.push(view.lose_pod(&last));
        let reported: Vec<_> = reported.into_iter().flatten().collect();
        assert_eq!(
            reported,
            [
                "pod app is Pending: no node fits",
                "pod app runs on node-a",
                "pod app is terminating",
                "pod app is deleted"
            ]
        );
    }
}
