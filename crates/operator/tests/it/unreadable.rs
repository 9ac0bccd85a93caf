//! Stored objects that the operator cannot read. They do not affect other objects.

use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::harness::{eventually, poll};
use crate::restarts::Environment;

const KEY: &str = "readiness.k8s.io/readable";

fn rule(name: &str, mode: &str) -> Value {
    json!({
        "apiVersion": "readiness.node.x-k8s.io/v1alpha1",
        "kind": "NodeReadinessRule",
        "metadata": {"name": name},
        "spec": {
            "nodeSelector": {"matchLabels": {"test": "unreadable"}},
            "conditions": [{"type": "example.com/Ready", "requiredStatus": "True"}],
            "enforcementMode": mode,
            "taint": {"key": KEY, "value": "", "effect": "NoSchedule"},
        },
    })
}

fn taints(node: &Node) -> usize {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    taints.into_iter().flatten().filter(|taint| taint.key == KEY).count()
}

fn node(name: &str) -> Node {
    let node = json!({"metadata": {"name": name, "labels": {"test": "unreadable"}}});
    serde_json::from_value(node).unwrap()
}

/// A rule's author can write the times in its managed fields, and a holder of a node's credentials those in its
/// conditions. The API server accepts times in both that the operator's library cannot parse.
#[tokio::test]
async fn an_unreadable_time_affects_no_other_object() {
    let environment = Environment::new("odd-times", 8).await;
    let end_of_days = "9999-12-31T00:00:00Z";
    let managed = json!([{
        "manager": "x", "operation": "Update", "time": end_of_days,
        "apiVersion": "readiness.node.x-k8s.io/v1alpha1",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:dryRun": {}}},
    }]);
    let condition = json!({
        "type": "example.com/Ready", "status": "True",
        "lastHeartbeatTime": end_of_days, "lastTransitionTime": end_of_days,
    });
    let odd = |resource: &str, patch: Value| {
        let patch = patch.to_string();
        let mut arguments = vec!["patch", resource, "odd", "--type=merge", "-p", &patch];
        arguments.extend((resource == "node").then_some("--subresource=status"));
        environment.try_kubectl(&arguments).unwrap();
    };
    let running = environment.operator();
    environment.apply(&rule("odd", "continuous")).await;
    for name in ["odd", "n"] {
        environment.nodes().create(&PostParams::default(), &node(name)).await.unwrap();
    }
    eventually(&environment.nodes(), "n", |node| taints(node) == 1).await;
    odd("node", json!({"status": {"conditions": [condition]}}));
    odd("nrr", json!({"metadata": {"managedFields": managed}, "spec": {"dryRun": false}}));
    let stored =
        environment.try_kubectl(&["get", "nrr", "odd", "-o", "yaml", "--show-managed-fields"]);
    assert!(stored.unwrap().contains(end_of_days), "the API server stores it");
    let held = |name: &str| {
        let path = ["get", "node", name, "-o", "jsonpath={.spec.taints[*].key}"];
        environment.try_kubectl(&path).unwrap().contains(KEY)
    };
    assert!(poll(async || (!held("odd")).then_some(())).await.is_some(), "it is ready");

    // The same holds for a second rule, and for an operator that reads all objects at its start.
    environment.nodes().create(&PostParams::default(), &node("later")).await.unwrap();
    eventually(&environment.nodes(), "later", |node| taints(node) == 1).await;
    drop(running);
    let _anew = environment.operator();
    environment.nodes().create(&PostParams::default(), &node("last")).await.unwrap();
    eventually(&environment.nodes(), "last", |node| taints(node) == 1).await;
    environment.try_kubectl(&["delete", "nrr", "odd", "--timeout=60s"]).unwrap();
    eventually(&environment.nodes(), "last", |node| taints(node) == 0).await;
}

#[tokio::test]
async fn an_unreadable_rule_is_reported_and_affects_no_other_rule() {
    let environment = Environment::new("unreadable", 4).await;
    // The new mode could come from a later version of the project.
    let mode = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/enforcementMode";
    let patch = json!([{"op": "remove", "path": format!("{mode}/enum")}]).to_string();
    let definition = "crd/nodereadinessrules.readiness.node.x-k8s.io";
    environment.try_kubectl(&["patch", definition, "--type=json", "-p", &patch]).unwrap();
    let file = concat!(env!("CARGO_TARGET_TMPDIR"), "/unreadable.json");
    std::fs::write(file, rule("odd", "some-day").to_string()).unwrap();
    let stored =
        poll(async || environment.try_kubectl(&["apply", "--validate=false", "-f", file]).ok())
            .await;
    assert!(stored.is_some(), "the new definition has not taken effect");

    let _operator = environment.operator();
    environment.nodes().create(&PostParams::default(), &node("n")).await.unwrap();
    environment.apply(&rule("even", "continuous")).await;
    eventually(&environment.nodes(), "n", |node| taints(node) == 1).await;
    let condition = json!({"type": "example.com/Ready", "status": "True"});
    let ready = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
    environment.nodes().patch_status("n", &PatchParams::default(), &ready).await.unwrap();
    eventually(&environment.nodes(), "n", |node| taints(node) == 0).await;

    let accepted =
        "jsonpath={.status.conditions[?(@.type==\"Accepted\")]['status','reason','message']}";
    let reported = poll(async || {
        let reported = environment.try_kubectl(&["get", "nrr", "odd", "-o", accepted]).unwrap();
        (reported.starts_with("False Invalid") && reported.contains("some-day")).then_some(())
    });
    assert!(
        reported.await.is_some(),
        "{:?}",
        environment.try_kubectl(&["get", "nrr", "odd", "-o", "yaml"])
    );
    environment.try_kubectl(&["delete", "nrr", "odd", "--timeout=60s"]).unwrap();
}
