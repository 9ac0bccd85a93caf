//! Finds the field manager that changed the operator's fields of a Node, from `metadata.managedFields`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
use kube::core::ObjectMeta;
use node_readiness_api::{CLAIMS_ANNOTATION, CONTROLLER_NAME};

/// Returns the field manager, other than the operator, that last set taints or the record of a node. A removed
/// field has no owner, so a removal cannot be attributed.
pub(super) fn last_of(metadata: &ObjectMeta) -> Option<&str> {
    let others = metadata.managed_fields.iter().flatten().filter(|entry| {
        entry.subresource.is_none() && entry.manager.as_deref() != Some(CONTROLLER_NAME)
    });
    let time = |entry: &&ManagedFieldsEntry| entry.time.as_ref().map(|time| time.0);
    others.filter(|entry| owns_ours(entry)).max_by_key(time)?.manager.as_deref()
}

fn owns_ours(entry: &ManagedFieldsEntry) -> bool {
    let Some(FieldsV1(fields)) = &entry.fields_v1 else { return false };
    let record = format!("f:{CLAIMS_ANNOTATION}");
    !fields["f:spec"]["f:taints"].is_null()
        || !fields["f:metadata"]["f:annotations"][record.as_str()].is_null()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use serde_json::{Value, json};

    use super::*;

    fn metadata(entries: &[(&str, &str, Value)]) -> ObjectMeta {
        let entry = |(manager, time, fields): &(&str, &str, Value)| {
            json!({"manager": manager, "operation": "Update", "time": time,
                "fieldsType": "FieldsV1", "fieldsV1": fields})
        };
        let entries: Vec<_> = entries.iter().map(entry).collect();
        serde_json::from_value(json!({"managedFields": entries})).unwrap()
    }

    #[test]
    fn the_last_owner_of_taints_is_returned_and_none_for_a_removed_field() {
        let taints = json!({"f:spec": {"f:taints": {}}});
        let labels = json!({"f:metadata": {"f:labels": {"f:a": {}}}});
        let owned = metadata(&[
            ("cloud-provider", "2026-01-01T00:00:00Z", taints.clone()),
            ("kubectl-label", "2026-01-01T00:00:01Z", labels.clone()),
            (CONTROLLER_NAME, "2026-01-01T00:00:02Z", taints),
        ]);
        assert_eq!(last_of(&owned), Some("cloud-provider"));
        let removed = metadata(&[("kubelet", "2026-01-01T00:00:00Z", labels)]);
        assert_eq!(last_of(&removed), None);
        assert_eq!(last_of(&metadata(&[])), None);
    }
}
