//! What the operator and its reporters may do, as typed values.
//!
//! The operator's own roles in `config/` are generated from here, and so is what a reporter is
//! granted, so that neither can drift from what the code needs.

use k8s_openapi::api::rbac::v1::PolicyRule;
use node_readiness_api::{GROUP, LEASE_NAME};

/// Where the operator serves its metrics, and the non-resource URL that a reader needs to `get`.
pub const METRICS_PATH: &str = "/metrics";

/// Lets a reporter impersonate the node that its pod runs on, and no other.
///
/// KEP-5284: the API server takes the node from the token, which is bound to the pod.
pub fn impersonate_own_node() -> Vec<PolicyRule> {
    vec![rule("authentication.k8s.io", "nodes", &["impersonate:associated-node"])]
}

/// What a reporter may do as its node: read it, and update its status.
///
/// KEP-5284: an action is allowed only where both this and the node's own permissions allow it.
pub fn update_own_status() -> Vec<PolicyRule> {
    vec![
        rule("", "nodes", &["impersonate-on:associated-node:get"]),
        rule("", "nodes/status", &["impersonate-on:associated-node:update"]),
    ]
}

/// What a reporter may do as its ServiceAccount where nodes cannot be impersonated: read nodes, and
/// update their status. A [policy](crate::admission::own_conditions) limits that to its own node.
pub fn update_any_status() -> Vec<PolicyRule> {
    vec![rule("", "nodes", &["get"]), rule("", "nodes/status", &["update"])]
}

/// What the operator needs in the whole cluster.
pub fn operator_cluster_rules() -> Vec<PolicyRule> {
    let mut rules = vec![
        rule(GROUP, "nodereadinessrules", &["list", "watch", "patch"]),
        rule(GROUP, "nodereadinessrules/status", &["patch"]),
        rule("", "nodes", &["list", "watch", "patch"]),
        rule("events.k8s.io", "events", &["create", "patch"]),
    ];
    for (group, resource) in [
        ("rbac.authorization.k8s.io", "clusterroles"),
        ("rbac.authorization.k8s.io", "clusterrolebindings"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
    ] {
        let verbs = ["get", "list", "watch", "create", "patch", "delete"];
        rules.push(rule(group, resource, &verbs));
    }
    // The API server lets nobody grant what they do not hold, so the operator holds exactly what
    // it grants to reporters. Without the verb escalate it can grant nothing wider.
    rules.extend(impersonate_own_node());
    rules.extend(update_own_status());
    rules.extend(update_any_status());
    rules
}

/// What the operator needs in the reporters' namespace.
pub fn operator_reporters_rules() -> Vec<PolicyRule> {
    let verbs = ["get", "list", "watch", "create", "patch", "delete"];
    vec![
        rule("", "serviceaccounts", &verbs),
        rule("", "configmaps", &verbs),
        rule("apps", "daemonsets", &verbs),
        // What keeps reporters from running, for the status.
        rule("", "pods", &["list", "watch"]),
        rule("", "events", &["list"]),
    ]
}

/// What the operator needs to tell who may read its metrics: whose a token is, and what they may do.
pub fn metrics_auth_rules() -> Vec<PolicyRule> {
    vec![
        rule("authentication.k8s.io", "tokenreviews", &["create"]),
        rule("authorization.k8s.io", "subjectaccessreviews", &["create"]),
    ]
}

/// What it takes to read the operator's metrics over HTTPS.
pub fn metrics_reader_rules() -> Vec<PolicyRule> {
    vec![PolicyRule {
        non_resource_urls: Some(vec![METRICS_PATH.to_owned()]),
        verbs: vec!["get".to_owned()],
        ..PolicyRule::default()
    }]
}

/// What the operator needs in its own namespace: the one Lease. What does not exist has no name
/// that creating could be limited to.
pub fn operator_lease_rules() -> Vec<PolicyRule> {
    let leases = |verbs: &[&str]| rule("coordination.k8s.io", "leases", verbs);
    let held = PolicyRule {
        resource_names: Some(vec![LEASE_NAME.to_owned()]),
        ..leases(&["get", "update"])
    };
    vec![leases(&["create"]), held]
}

fn rule(group: &str, resource: &str, verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    }
}
