//! Causes why Kubernetes does not create or place the pods of reporters.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams, PostParams};
use node_readiness_api::NodeReadinessRule;
use serde_json::{Value, json};

use crate::harness::{Fixture, REPORTERS, eventually, poll};
use crate::restarts::Environment;

/// A rule with a probe for the nodes of [`World::node`].
fn probing(name: &str) -> Value {
    json!({
        "apiVersion": "readiness.node.x-k8s.io/v1alpha1",
        "kind": "NodeReadinessRule",
        "metadata": {"name": name},
        "spec": {
            "nodeSelector": {"matchLabels": {"test": "restart"}},
            "conditions": [{"type": format!("example.com/{name}"), "requiredStatus": "True"}],
            "enforcementMode": "continuous",
            "taint": {"key": format!("readiness.k8s.io/{name}"), "effect": "NoSchedule"},
            "probes": [{"conditionType": format!("example.com/{name}"), "tcpSocket": {"port": 9}}],
            // A set of its own.
            "reporter": {"podLabels": {"test": name}},
        },
    })
}

/// Returns the message of a condition, if the rule has the condition.
fn message<'a>(rule: &'a NodeReadinessRule, type_: &str) -> Option<&'a str> {
    let conditions = &rule.status.as_ref()?.conditions;
    Some(&conditions.iter().find(|condition| condition.type_ == type_)?.message)
}

async fn await_message(environment: &Environment, rule: &str, words: &str) {
    let says = |rule: &NodeReadinessRule| {
        message(rule, "ReporterReady").is_some_and(|message| message.contains(words))
    };
    eventually(&environment.rules(), rule, says).await;
}

/// Returns the node selector of the first pod of a DaemonSet.
async fn node_selector(environment: &Environment, namespace: &str, prefix: &str) -> Value {
    let pods: Api<Pod> = Api::namespaced(environment.client.clone(), namespace);
    let pod = poll(async || {
        let pods = pods.list(&ListParams::default()).await.unwrap().items;
        pods.into_iter().find(|pod| pod.name_any().starts_with(prefix))
    });
    serde_json::to_value(pod.await.expect(prefix).spec.unwrap().node_selector).unwrap()
}

#[tokio::test]
async fn pods_get_no_default_node_selector_and_the_status_reports_why_pods_are_refused() {
    let environment =
        Environment::with_default_node_selector(Some("pool=workers"), "no-pods", 24).await;
    let _operator = environment.operator();
    environment.node("n").await;

    environment.apply(&probing("placed")).await;
    let selector = node_selector(&environment, REPORTERS, "reporter-").await;
    assert_eq!(selector, json!({"kubernetes.io/os": "linux"}));
    // Pods in other namespaces get the default node selector.
    environment.kubectl(&["run", "elsewhere", "--image=pause"]);
    let selector = node_selector(&environment, "default", "elsewhere").await;
    assert_eq!(selector, json!({"pool": "workers"}));

    let quota = ["create", "quota", "cpu", "--hard=limits.cpu=1", "-n", REPORTERS];
    environment.kubectl(&quota);
    environment.apply(&probing("quota")).await;
    await_message(&environment, "quota", "must specify limits.cpu").await;
    environment.kubectl(&["delete", "quota", "cpu", "-n", REPORTERS]);

    let enforce = "pod-security.kubernetes.io/enforce=restricted";
    environment.kubectl(&["label", "namespace", REPORTERS, "--overwrite", enforce]);
    environment.apply(&probing("security")).await;
    await_message(&environment, "security", "violates PodSecurity \"restricted:latest\"").await;
    environment.kubectl(&["label", "namespace", REPORTERS, "pod-security.kubernetes.io/enforce-"]);

    environment.apply_to_reporters(&json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "cpu"},
        "spec": {"limits": [{"type": "Container", "min": {"cpu": "50m"}}]},
    }));
    environment.apply(&probing("limit")).await;
    await_message(&environment, "limit", "minimum cpu usage per Container is 50m").await;
}

#[tokio::test]
async fn nodes_on_which_no_reporter_can_run_are_excluded_and_named() {
    let t = Fixture::new("unsupported").await;
    for (suffix, labels) in [
        ("linux", json!({"kubernetes.io/os": "linux"})),
        ("windows", json!({"kubernetes.io/os": "windows"})),
        ("virtual", json!({"kubernetes.io/os": "linux", "type": "virtual-kubelet"})),
    ] {
        let mut labels = labels;
        labels["test"] = json!("unsupported");
        let node = json!({"metadata": {"name": t.named(suffix), "labels": labels}});
        let node = serde_json::from_value(node).unwrap();
        t.nodes().create(&PostParams::default(), &node).await.unwrap();
    }
    t.apply(&t.probing_rule()).await;
    let is_reported = |rule: &NodeReadinessRule| {
        message(rule, "ReporterReady").is_some_and(|message| {
            message.starts_with("no reporter can run on 2 of the rule's nodes: ")
                && message.contains("unsupported-windows (kubernetes.io/os is windows)")
                && message.contains("unsupported-virtual (type is virtual-kubelet)")
                && message.contains("of 1 reporters of this rule are ready")
        })
    };
    let rule = eventually(&t.rules(), "unsupported", is_reported).await;
    let status = rule.status.unwrap();
    assert_eq!(status.nodes.unwrap().matched, 3);
    assert_eq!(status.reporter.unwrap().desired, 1);
}
