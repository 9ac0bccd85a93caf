//! Reporters that are deployed by hand and configured by environment variables, as in the Go project. They probe
//! over HTTP, over HTTPS with a CA, and over HTTPS without it, and write as their ServiceAccount. The test of the
//! guide covers a reporter with constrained impersonation.

use serde_json::{Value, json};

use crate::harness::{Exclusive, image};
use crate::reporters::{Report, await_reports, forget, type_of};
use crate::shell::apply;
use crate::test_servers::TestServers;

const NODE: &str = "node-a";
const NAME: &str = "env-reporter";

/// Containers of one pod: name, condition, endpoint, and whether it has the CA.
const REPORTERS: [(&str, &str, &str, bool); 3] = [
    ("plain", "EnvPlain", "http://localhost:9181/", false),
    ("verified", "EnvVerified", "https://localhost:9182/", true),
    ("unverified", "EnvUnverified", "https://localhost:9182/", false),
];

#[test]
fn manifests_that_configure_reporters_by_environment_work() {
    let mut exclusive = Exclusive::with_operator();
    let test_servers = TestServers::start(&mut exclusive, NODE);
    let types = REPORTERS.map(|(_, condition, ..)| type_of(condition));
    forget(NODE, &types.each_ref().map(String::as_str));
    exclusive.remove_at_the_end(&["configmap", NAME]);
    apply(&json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME},
        "data": {"ca.crt": test_servers.certificate()},
    }));
    grant(&mut exclusive);
    exclusive.remove_at_the_end(&["daemonset", NAME]);
    apply(&daemon_set());

    let [plain, verified, unverified] = REPORTERS;
    await_reports(
        NODE,
        &[
            report(plain, "EndpointOK", "status 200"),
            report(verified, "EndpointOK", "status 200"),
            report(unverified, "EndpointConnectionError", "TLS certificate not accepted"),
        ],
    );
    test_servers.be(&[("http", "failing"), ("https", "gone")]);
    await_reports(
        NODE,
        &[
            report(plain, "EndpointNotReady", "status 503"),
            report(verified, "EndpointConnectionError", "connection refused"),
        ],
    );
    test_servers.be(&[("http", "ready"), ("https", "ready")]);
    await_reports(
        NODE,
        &[report(plain, "EndpointOK", "status 200"), report(verified, "EndpointOK", "status 200")],
    );
}

/// Returns the expected condition of one reporter.
fn report(
    (_, condition, url, _): (&str, &'static str, &str, bool),
    reason: &'static str,
    found: &str,
) -> (&'static str, Report) {
    let status = if reason == "EndpointOK" { "True" } else { "False" };
    (condition, (status, reason, format!("httpGet {url}: {found}")))
}

/// Grants the permission that a reporter needs to act as its ServiceAccount: the status of every node.
fn grant(exclusive: &mut Exclusive) {
    let metadata = json!({"name": NAME});
    let rules = json!([
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["update", "patch"]},
    ]);
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": metadata, "rules": rules,
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NAME},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": "default"}],
    });
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata});
    for kind in ["serviceaccount", "clusterrole", "clusterrolebinding"] {
        exclusive.remove_at_the_end(&[kind, NAME]);
    }
    for object in [account, role, binding] {
        apply(&object);
    }
}

fn daemon_set() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": NAME},
        "spec": {
            "selector": {"matchLabels": {"app": NAME}},
            "template": {
                "metadata": {"labels": {"app": NAME}},
                "spec": {
                    "serviceAccountName": NAME,
                    "nodeSelector": {"kubernetes.io/hostname": NODE},
                    "hostNetwork": true,
                    "tolerations": [{"operator": "Exists"}],
                    "securityContext": {
                        "runAsNonRoot": true,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": REPORTERS.map(container),
                    "volumes": [{"name": "ca", "configMap": {"name": NAME}}],
                },
            },
        },
    })
}

fn container((name, condition, endpoint, reported): (&str, &str, &str, bool)) -> Value {
    // An empty variable counts as not set.
    let ca = if reported { "/etc/ca/ca.crt" } else { "" };
    json!({
        "name": name,
        "image": image("reporter"),
        "env": [
            {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "CONDITION_TYPE", "value": type_of(condition)},
            {"name": "CHECK_ENDPOINT", "value": endpoint},
            {"name": "CHECK_INTERVAL", "value": "1s"},
            {"name": "CHECK_CA_FILE", "value": ca},
            // All three containers share the node's network.
            {"name": "METRICS_BIND_ADDRESS", "value": "0"},
        ],
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "ca", "mountPath": "/etc/ca", "readOnly": true}],
    })
}
