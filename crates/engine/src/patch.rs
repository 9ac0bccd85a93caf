//! The patch of a node. It changes taints and records together or not at all.
//!
//! The JSON Patch (RFC 6902) first tests the state that it was made from. A concurrent change of
//! taints or records makes the whole patch fail. A heartbeat does not, because it changes neither. A merge
//! patch would overwrite other controllers' taints.

use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, TestOperation, jsonptr};
use jsonptr::PointerBuf;
use node_readiness_api::{BOOT_ID_ANNOTATION, CLAIMS_ANNOTATION};
use serde_json::{Map, Value, json};

use crate::{Node, Taint};

/// The records to change on a node in addition to its taints.
pub(crate) struct Records<'n> {
    /// The change of the record of claims.
    pub claims: Record,
    /// Bootstrap annotations to set, as key and value.
    pub completed: Vec<(String, String)>,
    /// Keys of bootstrap annotations to remove.
    pub obsolete: Vec<&'n str>,
    /// The change of the recorded boot.
    pub boot_id: Record,
}

/// The change of a record.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum Record {
    /// Keep it.
    Keep,
    /// Write this text.
    Write(String),
    /// Remove it.
    Remove,
}

/// Returns the patch that changes `node` to these taints and records, or `None` if nothing changes.
pub(crate) fn conditional(node: &Node, taints: &[Taint], records: &Records<'_>) -> Option<Patch> {
    let changes: Vec<_> =
        taint_change(node, taints).into_iter().chain(record_changes(node, records)).collect();
    if changes.is_empty() {
        return None;
    }
    let mut operations = preconditions(node);
    operations.extend(changes);
    Some(Patch(operations))
}

/// Returns operations that test the state that the plan was made from.
fn preconditions(node: &Node) -> Vec<PatchOperation> {
    // In Kubernetes' JSON Patch a missing member equals null, so null tests for absence.
    let current = if node.taints().is_empty() { Value::Null } else { to_value(node.taints()) };
    let mut tests = vec![test(["spec", "taints"], current)];
    if let Some(uid) = &node.metadata.uid {
        // A node that was deleted and created again under the same name has another uid.
        tests.insert(0, test(["metadata", "uid"], json!(uid)));
    }
    if node.has_annotations() {
        let record = json!(node.annotation(CLAIMS_ANNOTATION));
        tests.push(test(["metadata", "annotations", CLAIMS_ANNOTATION], record));
    } else {
        tests.push(test(["metadata", "annotations"], Value::Null));
    }
    tests
}

fn taint_change(node: &Node, taints: &[Taint]) -> Option<PatchOperation> {
    let path = ["spec", "taints"];
    if taints == node.taints() {
        None
    } else if taints.is_empty() {
        Some(remove(path))
    } else {
        Some(add(path, to_value(taints)))
    }
}

fn record_changes(node: &Node, records: &Records<'_>) -> Vec<PatchOperation> {
    let mut set: Vec<(&str, &str)> =
        records.completed.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let mut unset = records.obsolete.clone();
    for (key, record) in
        [(CLAIMS_ANNOTATION, &records.claims), (BOOT_ID_ANNOTATION, &records.boot_id)]
    {
        match record {
            Record::Keep => {}
            Record::Write(next) => set.push((key, next)),
            Record::Remove => unset.push(key),
        }
    }
    if !node.has_annotations() && !set.is_empty() {
        let all: Map<_, _> = set.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
        return vec![add(["metadata", "annotations"], Value::Object(all))];
    }
    let path = |key| ["metadata", "annotations", key];
    let set = set.into_iter().map(|(key, value)| add(path(key), json!(value)));
    let unset = unset.into_iter().map(|key| remove(path(key)));
    set.chain(unset).collect()
}

fn test<const N: usize>(path: [&str; N], value: Value) -> PatchOperation {
    PatchOperation::Test(TestOperation { path: pointer(path), value })
}

fn add<const N: usize>(path: [&str; N], value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation { path: pointer(path), value })
}

fn remove<const N: usize>(path: [&str; N]) -> PatchOperation {
    PatchOperation::Remove(RemoveOperation { path: pointer(path) })
}

/// Returns a JSON Pointer (RFC 6901) of these members, with escaped slashes.
fn pointer<const N: usize>(path: [&str; N]) -> PointerBuf {
    PointerBuf::from_tokens(path)
}

fn to_value(taints: &[Taint]) -> Value {
    serde_json::to_value(taints).expect("a taint is strings and JSON values")
}
