//! A stored rule that this version cannot read, which takes a definition that lets it through.

use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::harness::{eventually, poll};
use crate::restarts::World;

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

#[tokio::test]
async fn a_rule_that_cannot_be_read_is_told_and_stops_no_other() {
    let world = World::new("unreadable", 4).await;
    // As if a later version of the project knew another mode.
    let mode = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/enforcementMode";
    let patch = json!([{"op": "remove", "path": format!("{mode}/enum")}]).to_string();
    let definition = "crd/nodereadinessrules.readiness.node.x-k8s.io";
    world.try_kubectl(&["patch", definition, "--type=json", "-p", &patch]).unwrap();
    let file = concat!(env!("CARGO_TARGET_TMPDIR"), "/unreadable.json");
    std::fs::write(file, rule("odd", "some-day").to_string()).unwrap();
    let stored =
        poll(async || world.try_kubectl(&["apply", "--validate=false", "-f", file]).ok()).await;
    assert!(stored.is_some(), "the new definition is not in force");

    let _operator = world.operator();
    let node = json!({"metadata": {"name": "n", "labels": {"test": "unreadable"}}});
    let node = serde_json::from_value(node).unwrap();
    world.nodes().create(&PostParams::default(), &node).await.unwrap();
    world.apply(&rule("even", "continuous")).await;
    let taints = |node: &k8s_openapi::api::core::v1::Node| {
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
        taints.iter().filter(|taint| taint.key == KEY).count()
    };
    eventually(&world.nodes(), "n", |node| taints(node) == 1).await;
    let condition = json!({"type": "example.com/Ready", "status": "True"});
    let ready = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
    world.nodes().patch_status("n", &PatchParams::default(), &ready).await.unwrap();
    eventually(&world.nodes(), "n", |node| taints(node) == 0).await;

    let accepted =
        "jsonpath={.status.conditions[?(@.type==\"Accepted\")]['status','reason','message']}";
    let told = poll(async || {
        let told = world.try_kubectl(&["get", "nrr", "odd", "-o", accepted]).unwrap();
        (told.starts_with("False Invalid") && told.contains("some-day")).then_some(())
    });
    assert!(told.await.is_some(), "{:?}", world.try_kubectl(&["get", "nrr", "odd", "-o", "yaml"]));
    world.try_kubectl(&["delete", "nrr", "odd", "--timeout=60s"]).unwrap();
}
