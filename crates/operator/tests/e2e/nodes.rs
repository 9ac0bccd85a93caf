//! The effects of the two examples on nodes, and functions that undo them.

use k8s_openapi::api::core::v1::Node;
use node_readiness_api::TAINT_PREFIX;
use serde_json::json;

use crate::harness::eventually;
use crate::shell::{get, kubectl};

/// The nodes of the local cluster.
pub const NODES: [&str; 2] = ["node-a", "node-b"];

/// The condition that the reporters of both examples write.
pub const CONDITION: &str = "projectcalico.org/CalicoReady";

/// The key of the taint with which nodes register, and which the rules of both examples manage.
const TAINT: &str = "readiness.k8s.io/NetworkReady";

/// Waits until a node's condition has a status, and the node has the taint or does not.
pub fn await_node(name: &str, status: &str, held: bool) -> Node {
    let what = format!("{CONDITION}={status} on {name}, and the taint is there: {held}");
    eventually(&what, || {
        let node: Node = get(&["node", name]);
        (condition(&node).as_deref() == Some(status) && is_held(&node) == held).then_some(node)
    })
}

/// Restores the nodes to their state after registration, with the taint and without the condition. No rule may exist,
/// because it would change the nodes again.
pub fn reset() {
    let no_condition = json!({"status": {"conditions": [{"type": CONDITION, "$patch": "delete"}]}});
    for node in NODES {
        kubectl(&["patch", "node", node, "--subresource=status", "-p", &no_condition.to_string()]);
        kubectl(&["taint", "node", node, &format!("{TAINT}=pending:NoSchedule"), "--overwrite"]);
    }
}

/// Returns a node's address, which this machine can reach.
pub fn address(name: &str) -> String {
    let path = "jsonpath={.status.addresses[?(@.type==\"InternalIP\")].address}";
    kubectl(&["get", "node", name, "-o", path])
}

pub fn is_held(node: &Node) -> bool {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.into_iter().any(|taint| taint.key == TAINT)
}

/// Returns the keys of this project's annotations on a node.
pub fn records(node: &Node) -> Vec<&String> {
    let annotations = node.metadata.annotations.iter().flatten();
    annotations.map(|(key, _)| key).filter(|key| key.starts_with(TAINT_PREFIX)).collect()
}

fn condition(node: &Node) -> Option<String> {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().find(|c| c.type_ == CONDITION).map(|c| c.status.clone())
}
