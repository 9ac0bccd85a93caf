//! Checks whether an existing object with a generated name is a generated one.
//!
//! A foreign object may already have the name. The operator never writes it.

use kube::{Resource, ResourceExt};
use node_readiness_api::{MANAGED_BY, MANAGED_BY_LABEL, REPORTER_SET_LABEL};

use super::error::ApplyError;

/// Fails if an object belongs to somebody else. An object of a set has the set's labels or one of its owners, because
/// either may have been edited.
pub(crate) fn check<K>(there: &impl Resource, wanted: &K) -> Result<(), ApplyError>
where
    K: Resource<DynamicType = ()>,
{
    // Objects of no set have fixed names that belong to the operator.
    let Some(set) = wanted.labels().get(REPORTER_SET_LABEL) else { return Ok(()) };
    let manager = there.labels().get(MANAGED_BY_LABEL).map(String::as_str);
    if manager == Some(MANAGED_BY) && there.labels().get(REPORTER_SET_LABEL) == Some(set) {
        return Ok(());
    }
    let owners = wanted.owner_references();
    let is_shared = |uid: &str| owners.iter().any(|owner| owner.uid == uid);
    if there.owner_references().iter().any(|owner| is_shared(&owner.uid)) {
        return Ok(());
    }
    let name = match there.namespace() {
        Some(namespace) => format!("{namespace}/{}", there.name_any()),
        None => there.name_any(),
    };
    Err(ApplyError::Taken { kind: K::kind(&()).into_owned(), name, whose: whose(there) })
}

/// Describes the owner of an object, as far as the object shows it.
fn whose(there: &impl Resource) -> String {
    if let Some(owner) = there.owner_references().first() {
        return format!("owned by {} {}", owner.kind, owner.name);
    }
    match there.labels().get(MANAGED_BY_LABEL) {
        Some(manager) => format!("managed by {manager}"),
        None => "not one of this operator's".to_owned(),
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
            "name": "reporter", "namespace": "r", "labels": labels, "ownerReferences": owners,
        });
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    fn owner(kind: &str, name: &str, uid: &str) -> Value {
        json!([{"apiVersion": "v1", "kind": kind, "name": name, "uid": uid}])
    }

    fn checked(labels: &Value, owners: &Value) -> Result<(), String> {
        let own = json!({REPORTER_SET_LABEL: "reporter", MANAGED_BY_LABEL: MANAGED_BY});
        let wanted = map(&own, &owner("NodeReadinessRule", "cni", "u1"));
        check(&map(labels, owners), &wanted).map_err(|error| error.to_string())
    }

    #[test]
    fn a_labelled_or_owned_object_belongs_to_the_set() {
        let labels = json!({REPORTER_SET_LABEL: "reporter", MANAGED_BY_LABEL: MANAGED_BY});
        checked(&labels, &json!([])).unwrap();
        checked(&json!({}), &owner("NodeReadinessRule", "cni", "u1")).unwrap();
        // It was restored from a backup, and its rule is another one now.
        checked(&labels, &owner("NodeReadinessRule", "cni", "u0")).unwrap();
    }

    #[test]
    fn a_foreign_object_is_named_with_its_owner_and_the_remedy() {
        let refused = checked(&json!({}), &owner("Deployment", "web", "u2")).unwrap_err();
        assert!(
            refused.starts_with("ConfigMap r/reporter is owned by Deployment web"),
            "{refused}"
        );
        assert!(refused.contains("delete or rename it"), "{refused}");
        for manager in ["Helm", MANAGED_BY] {
            let labels = json!({MANAGED_BY_LABEL: manager});
            let refused = checked(&labels, &json!([])).unwrap_err();
            assert!(refused.contains(&format!("managed by {manager}")), "{refused}");
        }
        assert!(checked(&json!({}), &json!([])).unwrap_err().contains("not one of"));
    }
}
