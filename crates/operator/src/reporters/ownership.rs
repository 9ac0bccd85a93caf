//! Checks whether an existing object with a generated name belongs to the rule.
//!
//! Names are derived from the rule's name, so a foreign object may already have one. The operator never writes
//! a foreign object. It waits for the garbage collector to delete the objects of an earlier rule of the same
//! name, and replaces those that the garbage collector will not delete.

use std::collections::BTreeMap;

use kube::{Resource, ResourceExt};
use node_readiness_api::{MANAGED_BY, MANAGED_BY_LABEL, RULE_NAME_ANNOTATION, RULE_UID_LABEL};

use super::error::ApplyError;

/// The relation of an existing object to the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// The rule owns it.
    Own,
    /// It was generated for an earlier rule of this name and has no owner: it was restored from a backup, or
    /// orphaned with `--cascade=orphan`. The garbage collector does not delete it.
    Abandoned,
}

/// Returns the relation of an existing object to the rule of the desired one. The rule owns an object with its
/// owner reference or with the label of its uid, because either may have been edited.
///
/// Fails for a foreign object, and for one that the garbage collector will delete.
pub(crate) fn check<K>(there: &impl Resource, wanted: &K) -> Result<Ownership, ApplyError>
where
    K: Resource<DynamicType = ()>,
{
    // Objects of no rule have fixed names that belong to the operator.
    let Some(uid) = wanted.labels().get(RULE_UID_LABEL) else { return Ok(Ownership::Own) };
    let owned = there.owner_references().iter().any(|owner| owner.uid == *uid);
    let label = there.labels().get(RULE_UID_LABEL);
    if owned || label == Some(uid) {
        return Ok(Ownership::Own);
    }
    if label.is_some() && is_abandoned(there, wanted) {
        return Ok(Ownership::Abandoned);
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

fn is_abandoned(there: &impl Resource, wanted: &impl Resource) -> bool {
    let manager = there.labels().get(MANAGED_BY_LABEL).map(String::as_str);
    let rule = |object: &BTreeMap<String, String>| object.get(RULE_NAME_ANNOTATION).cloned();
    there.owner_references().is_empty()
        && manager == Some(MANAGED_BY)
        && rule(there.annotations()) == rule(wanted.annotations())
}

/// Describes the owner of an object, as far as the object shows it.
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

    fn checked(labels: &Value, owners: &Value) -> Result<Ownership, String> {
        let wanted = map(&json!({RULE_UID_LABEL: "u1"}), &owner("NodeReadinessRule", "cni", "u1"));
        check(&map(labels, owners), &wanted).map_err(|error| error.to_string())
    }

    #[test]
    fn a_labelled_or_owned_object_belongs_to_the_rule() {
        let own = Ok(Ownership::Own);
        assert_eq!(checked(&json!({RULE_UID_LABEL: "u1"}), &json!([])), own);
        assert_eq!(checked(&json!({}), &owner("NodeReadinessRule", "cni", "u1")), own);
    }

    #[test]
    fn an_unowned_object_of_an_earlier_rule_is_abandoned() {
        let labels = json!({RULE_UID_LABEL: "u0", MANAGED_BY_LABEL: MANAGED_BY});
        assert_eq!(checked(&labels, &json!([])), Ok(Ownership::Abandoned));
        for (labels, owners) in [
            (labels.clone(), owner("NodeReadinessRule", "cni", "u0")),
            (labels, owner("Deployment", "web", "u2")),
            (json!({RULE_UID_LABEL: "u0", MANAGED_BY_LABEL: "Helm"}), json!([])),
            (json!({MANAGED_BY_LABEL: MANAGED_BY}), json!([])),
        ] {
            checked(&labels, &owners).unwrap_err();
        }
        let of_another = |rule: &str| {
            let annotations = BTreeMap::from([(RULE_NAME_ANNOTATION.to_owned(), rule.to_owned())]);
            let mut map =
                map(&json!({RULE_UID_LABEL: "u0", MANAGED_BY_LABEL: MANAGED_BY}), &json!([]));
            map.metadata.annotations = Some(annotations);
            map
        };
        let mut wanted = of_another("cni");
        wanted.metadata.labels.as_mut().unwrap().insert(RULE_UID_LABEL.to_owned(), "u1".to_owned());
        assert!(matches!(check(&of_another("cni"), &wanted), Ok(Ownership::Abandoned)));
        check(&of_another("csi"), &wanted).unwrap_err();
    }

    #[test]
    fn a_foreign_object_is_named_with_its_owner_and_the_remedy() {
        let refused = checked(&json!({}), &owner("Deployment", "web", "u2")).unwrap_err();
        assert!(refused.starts_with("ConfigMap r/reporter-cni is owned by Deployment web"));
        assert!(refused.contains("delete it, or give the NodeReadinessRule another name"));
        let refused = checked(&json!({MANAGED_BY_LABEL: "Helm"}), &json!([])).unwrap_err();
        assert!(refused.contains("managed by Helm"), "{refused}");
        assert!(checked(&json!({}), &json!([])).unwrap_err().contains("not of this"));
    }

    #[test]
    fn an_owned_object_of_an_earlier_rule_is_awaited() {
        let owner = owner("NodeReadinessRule", "cni", "u0");
        let refused = checked(&json!({RULE_UID_LABEL: "u0"}), &owner).unwrap_err();
        assert!(refused.contains("garbage collector deletes it"), "{refused}");
    }
}
