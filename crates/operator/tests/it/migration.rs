//! The upgrade from version 0.1, whose operator generated reporters for each rule.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use node_readiness_api::{NodeReadinessRule, REPORTER_SET_LABEL, RULE_UID_LABEL};
use serde_json::{Value, json};

use crate::harness::{REPORTERS, eventually, gone, poll};
use crate::restarts::{self, Environment};

/// The objects of one rule, as version 0.1 generated them.
fn objects(uid: &str) -> [Value; 7] {
    let metadata = |name: &str| {
        json!({
            "name": name,
            "labels": {
                "app.kubernetes.io/managed-by": "node-readiness-operator",
                "app.kubernetes.io/name": "node-readiness-reporter",
                RULE_UID_LABEL: uid,
            },
            "annotations": {"readiness.k8s.io/rule-name": "cni", "readiness.k8s.io/digest": "0"},
            "ownerReferences": [{
                "apiVersion": "readiness.node.x-k8s.io/v1alpha1", "kind": "NodeReadinessRule",
                "name": "cni", "uid": uid, "controller": true,
            }],
        })
    };
    let role = |name: &str, rules: Value| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": metadata(name), "rules": rules,
        })
    };
    let binding = |name: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": metadata(name),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": "reporter-cni", "namespace": REPORTERS}],
        })
    };
    let config = json!({"rule": "cni", "heartbeatSeconds": 300, "probes": [
        {"conditionType": "example.com/Ready", "tcpSocket": {"port": 9}},
    ]});
    let labels =
        json!({"app.kubernetes.io/managed-by": "node-readiness-operator", RULE_UID_LABEL: uid});
    [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata("reporter-cni")}),
        role(
            IMPERSONATOR,
            json!([{"apiGroups": ["authentication.k8s.io"], "resources": ["nodes"],
            "verbs": ["impersonate:associated-node"]}]),
        ),
        role(
            UPDATER,
            json!([
                {"apiGroups": [""], "resources": ["nodes"], "verbs": ["impersonate-on:associated-node:get"]},
                {"apiGroups": [""], "resources": ["nodes/status"],
                 "verbs": ["impersonate-on:associated-node:update"]},
            ]),
        ),
        binding(IMPERSONATOR),
        binding(UPDATER),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("reporter-cni"),
            "data": {"config.json": config.to_string()},
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata("reporter-cni"),
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {
                    "serviceAccountName": "reporter-cni",
                    "tolerations": [{"operator": "Exists"}],
                    "containers": [{"name": "reporter", "image": "reporter:0.1.0"}],
                }},
            },
        }),
    ]
}

const IMPERSONATOR: &str = "nrr-reporter-cni-impersonator";
const UPDATER: &str = "nrr-reporter-cni-status-updater";

/// Creates a node that can take pods and that a reporter of version 0.1 has reported on.
async fn node(environment: &Environment, name: &str) {
    environment.node(name).await;
    let amounts = json!({"cpu": "1", "memory": "1Gi", "pods": "110"});
    let condition = json!({"type": "example.com/Ready", "status": "True",
        "lastHeartbeatTime": "2026-01-01T00:00:00Z"});
    let patch = json!({"status":
        {"capacity": amounts, "allocatable": amounts, "conditions": [condition]}});
    let patch = Patch::Strategic(patch);
    environment.nodes().patch_status(name, &PatchParams::default(), &patch).await.unwrap();
}

/// Waits for a pod with this label on a node, and makes it ready, as kubelet does.
async fn make_ready(environment: &Environment, label: &str, node: &str) {
    let pods: Api<Pod> = Api::namespaced(environment.client.clone(), REPORTERS);
    let pod = poll(async || {
        let pods = pods.list(&ListParams::default().labels(label)).await.unwrap();
        let is_there = |pod: &Pod| pod.spec.as_ref().unwrap().node_name.as_deref() == Some(node);
        pods.items.into_iter().find(is_there)
    });
    let name = pod.await.expect(label).name_any();
    let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    pods.patch_status(&name, &PatchParams::default(), &Patch::Strategic(status)).await.unwrap();
}

fn ready(number: i32) -> impl Fn(&NodeReadinessRule) -> bool {
    move |rule| {
        let reporter = rule.status.as_ref().and_then(|status| status.reporter.as_ref());
        reporter.is_some_and(|reporter| (reporter.desired, reporter.ready) == (2, number))
    }
}

#[tokio::test]
async fn reporters_of_version_0_1_stay_until_those_of_the_set_run_on_the_same_nodes() {
    let environment = Environment::new("migration", 25).await;
    for name in ["a", "b"] {
        node(&environment, name).await;
    }
    let mut rule = restarts::rule("cni", "continuous");
    rule["spec"]["probes"] =
        json!([{"conditionType": "example.com/Ready", "tcpSocket": {"port": 9}}]);
    let uid = environment.apply(&rule).await.metadata.uid.unwrap();
    for object in objects(&uid) {
        environment.apply_to_reporters(&object);
    }
    for name in ["a", "b"] {
        make_ready(&environment, &format!("{RULE_UID_LABEL}={uid}"), name).await;
    }

    let _operator = environment.operator();
    let set = format!("{REPORTER_SET_LABEL}=reporter");
    make_ready(&environment, &set, "a").await;
    eventually(&environment.rules(), "cni", ready(1)).await;
    let daemon_sets: Api<DaemonSet> = Api::namespaced(environment.client.clone(), REPORTERS);
    assert!(daemon_sets.get_opt("reporter-cni").await.unwrap().is_some(), "node b has no other");
    let before = environment.versions().await;
    make_ready(&environment, &set, "b").await;
    gone(&daemon_sets, "reporter-cni").await;
    gone(&Api::<ConfigMap>::namespaced(environment.client.clone(), REPORTERS), "reporter-cni")
        .await;
    gone(&Api::<ServiceAccount>::namespaced(environment.client.clone(), REPORTERS), "reporter-cni")
        .await;
    for name in [IMPERSONATOR, UPDATER] {
        gone(&Api::<ClusterRoleBinding>::all(environment.client.clone()), name).await;
        gone(&Api::<ClusterRole>::all(environment.client.clone()), name).await;
    }
    eventually(&environment.rules(), "cni", ready(2)).await;
    // Neither a condition nor a taint changed.
    assert_eq!(environment.versions().await, before);
}
