//! Whose an object is that bears the name of a generated one.
//!
//! Names follow from the rule's name, so somebody else may have taken one before. What is not the
//! rule's own is never written; that holds for the objects of an earlier rule of the same name as
//! well, which the garbage collector is about to remove.

use kube::{Resource, ResourceExt};
use node_readiness_api::{MANAGED_BY_LABEL, RULE_UID_LABEL};

use crate::applier::ApplyError;

/// Whether an object that is there is the one that is wanted: it is owned by the same rule, or, since
/// either may have been edited, labelled with its uid.
pub(crate) fn check<K>(there: &impl Resource, wanted: &K) -> Result<(), ApplyError>
where
    K: Resource<DynamicType = ()>,
{
    // What is no rule's has a fixed name that is the operator's alone.
    let Some(uid) = wanted.labels().get(RULE_UID_LABEL) else { return Ok(()) };
    let owned = there.owner_references().iter().any(|owner| owner.uid == *uid);
    let label = there.labels().get(RULE_UID_LABEL);
    if owned || label == Some(uid) {
        return Ok(());
    }
    let kind = K::kind(&()).into_owned();
    let name = match there.namespace() {
        Some(namespace) => format!("{namespace}/{}", there.name_any()),
        None => there.name_any(),
    };
    Err(match label {
        Some(_) => ApplyError::Left { kind, name },
        None => ApplyError::Taken { kind, name, whose: whose(there) },
    })
}

/// Whose an object is, as far as it says.
fn whose(there: &impl Resource) -> String {
    if let Some(owner) = there.owner_references().first() {
        return format!("owned by {} {}", owner.kind, owner.name);
    }
    match there.labels().get(MANAGED_BY_LABEL) {
        Some(manager) => format!("managed by {manager}"),
        None => "not of this NodeReadinessRule".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::{Value, json};

    use super::*;

    fn map(labels: &Value, owners: &Value) -> ConfigMap {
        let metadata = json!({
            "name": "reporter-cni", "namespace": "r", "labels": labels, "ownerReferences": owners,
        });
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    fn owner(kind: &str, name: &str, uid: &str) -> Value {
        json!([{"apiVersion": "v1", "kind": kind, "name": name, "uid": uid}])
    }

    fn checked(labels: &Value, owners: &Value) -> Result<(), String> {
        let wanted = map(&json!({RULE_UID_LABEL: "u1"}), &owner("NodeReadinessRule", "cni", "u1"));
        check(&map(labels, owners), &wanted).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_labelled_or_owned_by_the_rule_is_its_own() {
        assert_eq!(checked(&json!({RULE_UID_LABEL: "u1"}), &json!([])), Ok(()));
        assert_eq!(checked(&json!({}), &owner("NodeReadinessRule", "cni", "u1")), Ok(()));
    }

    #[test]
    fn what_is_somebody_elses_is_named_with_whose_it_is_and_the_remedy() {
        let refused = checked(&json!({}), &owner("Deployment", "web", "u2")).unwrap_err();
        assert!(refused.starts_with("ConfigMap r/reporter-cni is owned by Deployment web"));
        assert!(refused.contains("delete it, or give the NodeReadinessRule another name"));
        let refused = checked(&json!({MANAGED_BY_LABEL: "Helm"}), &json!([])).unwrap_err();
        assert!(refused.contains("managed by Helm"), "{refused}");
        assert!(checked(&json!({}), &json!([])).unwrap_err().contains("not of this"));
    }

    #[test]
    fn what_an_earlier_rule_left_is_waited_for() {
        let owner = owner("NodeReadinessRule", "cni", "u0");
        let refused = checked(&json!({RULE_UID_LABEL: "u0"}), &owner).unwrap_err();
        assert!(refused.contains("garbage collector removes it"), "{refused}");
    }
}
