//! Changes of a Node that an attacker would try, as functions of the Node's JSON.
//!
//! Each change is idempotent. So the server's answer shows whether a change took effect: applying it to the answer
//! again then changes nothing.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Scene;

/// A key that has no meaning in Kubernetes.
const FOREIGN: &str = "example.org/forged";

/// One character more than the policies permit.
const TOO_LONG: usize = 1025;

/// A change of a node's JSON.
pub(super) type Change = fn(&mut Value, &Scene);

pub(super) fn label(node: &mut Value, _: &Scene) {
    node["metadata"]["labels"][FOREIGN] = json!("true");
}

/// Sets a label with which administrators reserve nodes for pods with secrets (see the NodeRestriction admission
/// plugin).
pub(super) fn reserved_label(node: &mut Value, _: &Scene) {
    node["metadata"]["labels"]["node-restriction.kubernetes.io/forged"] = json!("true");
}

pub(super) fn annotation(node: &mut Value, _: &Scene) {
    node["metadata"]["annotations"][FOREIGN] = json!("true");
}

/// Adds a claim that a rule, which need not exist, has released the node.
pub(super) fn record(node: &mut Value, _: &Scene) {
    node["metadata"]["annotations"]["readiness.k8s.io/bootstrap-completed-forged"] =
        json!(r#"{"rule-name":"forged"}"#);
}

pub(super) fn no_record(node: &mut Value, _: &Scene) {
    if let Some(annotations) = node["metadata"]["annotations"].as_object_mut() {
        annotations.remove("readiness.k8s.io/rules");
    }
}

/// Sets a finalizer, with which the Node cannot be deleted.
pub(super) fn finalizer(node: &mut Value, _: &Scene) {
    node["metadata"]["finalizers"] = json!([FOREIGN]);
}

/// Sets a missing owner, so that the garbage collector deletes the Node.
pub(super) fn owner(node: &mut Value, _: &Scene) {
    node["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Node", "name": "forged", "uid": "forged"}]);
}

/// Changes the managed fields. With server-side apply, a manager that no longer applies a field that it owns removes
/// the field.
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

/// Changes the addresses, at which the API server connects to the node.
pub(super) fn addresses(node: &mut Value, _: &Scene) {
    node["status"]["addresses"] = json!([{"type": "InternalIP", "address": "192.0.2.1"}]);
}

pub(super) fn node_info(node: &mut Value, _: &Scene) {
    node["status"]["nodeInfo"]["kubeletVersion"] = json!("v9.9.9");
}

/// Writes the condition `Ready`, on which the scheduler and the node lifecycle controller depend.
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

/// Changes nothing, so a refusal concerns the write itself.
pub(super) fn nothing(_: &mut Value, _: &Scene) {}

/// Renews the heartbeat of the reporter's condition, which must exist. This is a reporter's own work.
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

/// Sets a condition, with this value of one field.
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
