//! The guard: policies for every client that acts as a node.
//!
//! Constrained impersonation (KEP-5284) permits a reporter to act as its Node on the status of that Node. Such
//! a request can change more than conditions: labels, annotations, capacity. RBAC cannot limit this, so a policy
//! does.

use std::collections::BTreeSet;

use node_readiness_api::TAINT_PREFIX;

use super::{BoundPolicy, Terms, expressions, metadata};

/// How strict the guard is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strength {
    /// A node may not change the operator's records on it. A kubelet never does.
    #[default]
    Records,
    /// In addition, an impersonated node may change only conditions that rules probe. Authentication
    /// distinguishes it from a kubelet: a client certificate adds an identifier of the credential (since
    /// Kubernetes 1.32), and impersonation adds nothing. A kubelet that authenticates in another way, such as
    /// through a webhook or proxy, may look impersonated.
    Strict,
}

/// Returns the policies of the guard. `types` are the conditions that reporters write as their nodes.
pub fn guard(strength: Strength, types: &BTreeSet<String>) -> Vec<BoundPolicy> {
    match strength {
        Strength::Records => vec![records()],
        Strength::Strict => vec![records(), impersonated(types)],
    }
}

/// Matches every client that acts as a node, impersonated or not.
const IS_NODE: (&str, &str) = ("is-node", "'system:nodes' in request.userInfo.groups");

fn records() -> BoundPolicy {
    let annotations = |object: &str| {
        format!(
            "{object} != null && has({object}.metadata.annotations) ? {object}.metadata.annotations : {{}}"
        )
    };
    let records = |map: &str| format!("variables.{map}.filter(k, k.startsWith('{TAINT_PREFIX}'))");
    let (new, old) = ("annotations", "oldAnnotations");
    let (recorded, was_recorded) = (records(new), records(old));
    Terms {
        operations: &["CREATE", "UPDATE"],
        whose: vec![(IS_NODE.0, IS_NODE.1.to_owned())],
        variables: vec![(new, annotations("object")), (old, annotations("oldObject"))],
        validations: vec![(
            format!(
                "{recorded}.all(k, k in variables.{old} && variables.{new}[k] == variables.{old}[k]) && \
                 {was_recorded}.all(k, k in variables.{new})"
            ),
            format!(
                "annotations under {TAINT_PREFIX} are the node readiness operator's records: a node may not change them"
            ),
        )],
    }
    .bind(metadata("nrr-guard-records"))
}

fn impersonated(types: &BTreeSet<String>) -> BoundPolicy {
    let without_credential = "!has(request.userInfo.extra) || size(request.userInfo.extra) == 0";
    Terms {
        operations: &["UPDATE"],
        whose: vec![
            (IS_NODE.0, IS_NODE.1.to_owned()),
            ("is-impersonated", without_credential.to_owned()),
        ],
        variables: expressions::variables(types.iter().map(String::as_str)),
        validations: expressions::own_conditions_only("an impersonated node"),
    }
    .bind(metadata("nrr-guard-impersonated"))
}
