//! Changes of a Node that an attacker would try, as functions of the Node's JSON.
//!
//! Each is idempotent. So the server's answer shows whether it took effect: it did if doing it again changes
//! nothing.
//! effect: it did if doing it to the answer changes nothing.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Scene;

/// A key without a meaning.
const FOREIGN: &str = "example.org/forged";

/// One character longer than the policies permit.
const TOO_LONG: usize = 1025;

/// A change of a node's JSON.
pub(super) type Change = fn(&mut Value, &Scene);

pub(super) fn label(node: &mut Value, _: &Scene) {
    node["metadata"]["labels"][FOREIGN] = json!("true");
}

/// Administrators label nodes like this to keep pods with secrets on them (see the NodeRestriction admission
/// plugin).
pub(super) fn reserved_label(node: &mut Value, _: &Scene) {
    node["metadata"]["labels"]["node-restriction.kubernetes.io/forged"] = json!("true");
}

pub(super) fn annotation(node: &mut Value, _: &Scene) {
    node["metadata"]["annotations"][FOREIGN] = json!("true");
}

/// States that a rule, which need not exist, is done with the node.
pub(super) fn record(node: &mut Value, _: &Scene) {
    node["metadata"]["annotations"]["readiness.k8s.io/bootstrap-completed-forged"] =
        json!(r#"{"rule-name":"forged"}"#);
}

pub(super) fn no_record(node: &mut Value, _: &Scene) {
    if let Some(annotations) = node["metadata"]["annotations"].as_object_mut() {
        annotations.remove("readiness.k8s.io/rules");
    }
}

/// A Node with a finalizer cannot be deleted.
pub(super) fn finalizer(node: &mut Value, _: &Scene) {
    node["metadata"]["finalizers"] = json!([FOREIGN]);
}

/// The garbage collector deletes objects with a missing owner.
pub(super) fn owner(node: &mut Value, _: &Scene) {
    node["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Node", "name": "forged", "uid": "forged"}]);
}

/// A manager that applies the object without a field that it owns removes the field (server-side apply).
pub(super) fn managers(node: &mut Value, _: &Scene) {
    let managed = node["metadata"]["managedFields"].as_array_mut();
    for entry in managed.into_iter().flatten().filter(|entry| entry.get("subresource").is_none()) {
        entry["manager"] = json!(FOREIGN);
    }
}

pub(super) fn no_taints(node: &mut Value, _: &Scene) {
    if let Some(spec) = node["spec"].as_object_mut() {
        spec.remove("taints");
    }
}

pub(super) fn unschedulable(node: &mut Value, _: &Scene) {
    node["spec"]["unschedulable"] = json!(true);
}

pub(super) fn capacity(node: &mut Value, _: &Scene) {
    node["status"]["capacity"][FOREIGN] = json!("1");
}

pub(super) fn allocatable(node: &mut Value, _: &Scene) {
    node["status"]["allocatable"][FOREIGN] = json!("1");
}

/// The API server connects to nodes at their addresses.
pub(super) fn addresses(node: &mut Value, _: &Scene) {
    node["status"]["addresses"] = json!([{"type": "InternalIP", "address": "192.0.2.1"}]);
}

pub(super) fn node_info(node: &mut Value, _: &Scene) {
    node["status"]["nodeInfo"]["kubeletVersion"] = json!("v9.9.9");
}

/// The scheduler and the node lifecycle controller depend on it.
pub(super) fn ready(node: &mut Value, _: &Scene) {
    set_condition(node, "Ready");
}

/// Removes one of kubelet's conditions.
pub(super) fn no_memory_pressure(node: &mut Value, _: &Scene) {
    if let Some(conditions) = node["status"]["conditions"].as_array_mut() {
        conditions.retain(|condition| condition["type"] != "MemoryPressure");
    }
}

pub(super) fn unprobed_condition(node: &mut Value, _: &Scene) {
    set_condition(node, "example.org/Unprobed");
}

pub(super) fn other_rules_condition(node: &mut Value, scene: &Scene) {
    if let Some(type_) = &scene.other_rules_condition {
        set_condition(node, type_);
    }
}

pub(super) fn condition_twice(node: &mut Value, scene: &Scene) {
    let Some(conditions) = node["status"]["conditions"].as_array_mut() else { return };
    let own: Vec<_> =
        conditions.iter().filter(|c| c["type"] == scene.own_condition).cloned().collect();
    if let [only] = &own[..] {
        conditions.push(only.clone());
    }
}

pub(super) fn long_message(node: &mut Value, scene: &Scene) {
    set_condition_with(node, &scene.own_condition, "message", &"m".repeat(TOO_LONG));
}

pub(super) fn long_reason(node: &mut Value, scene: &Scene) {
    set_condition_with(node, &scene.own_condition, "reason", &"R".repeat(TOO_LONG));
}

pub(super) fn invalid_status(node: &mut Value, scene: &Scene) {
    set_condition_with(node, &scene.own_condition, "status", "Forged");
}

/// No change: then the write itself is refused.
pub(super) fn nothing(_: &mut Value, _: &Scene) {}

/// A reporter's own work: the heartbeat of its condition, which must exist.
pub(super) fn heartbeat(node: &mut Value, scene: &Scene) {
    let Some(conditions) = node["status"]["conditions"].as_array_mut() else { return };
    for condition in conditions.iter_mut().filter(|c| c["type"] == scene.own_condition) {
        // metav1.Time has whole seconds.
        condition["lastHeartbeatTime"] = json!(format!("{:.0}", scene.now));
    }
}

fn set_condition(node: &mut Value, type_: &str) {
    set_condition_with(node, type_, "message", "forged");
}

/// Sets a condition, with one of its fields so.
fn set_condition_with(node: &mut Value, type_: &str, field: &str, value: &str) {
    let mut condition = json!({
        "type": type_,
        "status": "True",
        "reason": "Forged",
        "message": "forged",
        "lastHeartbeatTime": format!("{:.0}", Timestamp::UNIX_EPOCH),
        "lastTransitionTime": format!("{:.0}", Timestamp::UNIX_EPOCH),
    });
    condition[field] = json!(value);
    let Some(conditions) = node["status"]["conditions"].as_array_mut() else { return };
    match conditions.iter_mut().find(|c| c["type"] == type_) {
        Some(there) => *there = condition,
        None => conditions.push(condition),
    }
}
