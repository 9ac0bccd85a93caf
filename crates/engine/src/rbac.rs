//! The permissions of the operator and its reporters, as typed values.
//!
//! The operator's own roles in `config/` and the permissions of reporters are generated from here, so they
//! cannot drift from the code.

use k8s_openapi::api::rbac::v1::PolicyRule;
use node_readiness_api::{GROUP, LEASE_NAME};

/// The path of the operator's metrics, and the non-resource URL that a reader needs to `get`.
pub const METRICS_PATH: &str = "/metrics";

/// Permits a reporter to impersonate the node of its pod, and no other.
///
/// KEP-5284: the API server reads the node from the token, which is bound to the pod.
pub fn impersonate_own_node() -> Vec<PolicyRule> {
    vec![rule("authentication.k8s.io", "nodes", &["impersonate:associated-node"])]
}

/// The permissions of a reporter as its node: read it, watch its labels, and update its status.
///
/// KEP-5284: an action needs this permission and the node's own permission. The Node authorizer permits a node to
/// watch only itself.
pub fn update_own_status() -> Vec<PolicyRule> {
    vec![
        rule(
            "",
            "nodes",
            &["impersonate-on:associated-node:get", "impersonate-on:associated-node:watch"],
        ),
        rule("", "nodes/status", &["impersonate-on:associated-node:update"]),
    ]
}

/// The permissions of a reporter as its ServiceAccount, if nodes cannot be impersonated: read nodes, and update their
/// status. A [policy](crate::admission::own_conditions) limits the updates to its own node. Nothing could limit a watch
/// to its own node, so it reads its labels now and then.
pub fn update_any_status() -> Vec<PolicyRule> {
    vec![rule("", "nodes", &["get"]), rule("", "nodes/status", &["update"])]
}

/// The permission of a reporter to follow the configuration of its set: one ConfigMap by its name. It cannot list.
pub fn follow_config(config_map: &str) -> Vec<PolicyRule> {
    vec![PolicyRule {
        resource_names: Some(vec![config_map.to_owned()]),
        ..rule("", "configmaps", &["watch"])
    }]
}

/// The operator's permissions in the whole cluster.
pub fn operator_cluster_rules() -> Vec<PolicyRule> {
    let mut rules = vec![
        rule(GROUP, "nodereadinessrules", &["list", "watch", "patch"]),
        rule(GROUP, "nodereadinessrules/status", &["patch"]),
        rule("", "nodes", &["list", "watch", "patch"]),
        rule("events.k8s.io", "events", &["create", "patch"]),
        rule("storage.k8s.io", "csinodes", &["list", "watch"]),
        rule("resource.k8s.io", "resourceslices", &["list", "watch"]),
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
    // The API server refuses a grant of permissions that the granter does not hold, so the operator holds exactly
    // the permissions that it grants to reporters. Without the verb escalate it cannot grant more.
    rules.extend(impersonate_own_node());
    rules.extend(update_own_status());
    rules.extend(update_any_status());
    rules
}

/// The operator's permission to watch the pods that rules require, in any namespace. A role by itself, because
/// `config/no-pods` leaves it out.
pub fn pod_watcher_rules() -> Vec<PolicyRule> {
    vec![rule("", "pods", &["list", "watch"])]
}

/// The operator's permissions in the reporters' namespace.
pub fn operator_reporters_rules() -> Vec<PolicyRule> {
    let verbs = ["get", "list", "watch", "create", "patch", "delete"];
    vec![
        rule("", "serviceaccounts", &verbs),
        rule("", "configmaps", &verbs),
        rule("apps", "daemonsets", &verbs),
        rule("rbac.authorization.k8s.io", "roles", &verbs),
        rule("rbac.authorization.k8s.io", "rolebindings", &verbs),
        // For the status, which reports why reporters do not run.
        rule("", "pods", &["list", "watch"]),
        rule("", "events", &["list"]),
    ]
}

/// The operator's permissions to check readers of its metrics.
pub fn metrics_auth_rules() -> Vec<PolicyRule> {
    vec![
        rule("authentication.k8s.io", "tokenreviews", &["create"]),
        rule("authorization.k8s.io", "subjectaccessreviews", &["create"]),
    ]
}

/// The permission to read the operator's metrics over HTTPS.
pub fn metrics_reader_rules() -> Vec<PolicyRule> {
    vec![PolicyRule {
        non_resource_urls: Some(vec![METRICS_PATH.to_owned()]),
        verbs: vec!["get".to_owned()],
        ..PolicyRule::default()
    }]
}

/// The operator's permissions in its own namespace: the one Lease. A create cannot be limited to a name.
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
