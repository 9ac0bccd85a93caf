//! Nodes that are being deleted and wait for another client's finalizer, for example the minutes for which autoscalers
//! keep them.

use kube::api::{DeleteParams, Patch, PatchParams};
use node_readiness_api::{NodeCounts, NodeReadinessRuleStatus};
use serde_json::{Value, json};

use crate::harness::{Fixture, KEY, eventually, gone};

/// Matched, ready, held and deferred nodes of a status.
fn counts(status: &NodeReadinessRuleStatus) -> Option<[u32; 4]> {
    let counts = |nodes: NodeCounts| [nodes.matched, nodes.ready, nodes.held, nodes.deferred];
    status.nodes.map(counts)
}

/// Creates the nodes a to d, and waits until a rule with `maxUnavailable: 1` has released them.
async fn released(t: &Fixture, rule: &str) -> [String; 4] {
    let mut nodes = Vec::new();
    for suffix in ["a", "b", "c", "d"] {
        nodes.push(t.node(suffix, &Value::Null).await);
    }
    for node in &nodes {
        t.report(node, "example.com/Ready", "True").await;
    }
    let mut limited = t.rule();
    limited["spec"]["maxUnavailable"] = json!(1);
    t.apply(&limited).await;
    t.expect_status(rule, |status| counts(status) == Some([4, 4, 0, 0])).await;
    nodes.try_into().unwrap()
}

async fn set_finalizers(t: &Fixture, node: &str, finalizers: &Value) {
    let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
    t.nodes().patch(node, &PatchParams::default(), &patch).await.unwrap();
}

/// Deletes a node, which stays because of a finalizer.
async fn terminate(t: &Fixture, node: &str) {
    set_finalizers(t, node, &json!(["example.com/drain"])).await;
    t.nodes().delete(node, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn a_node_that_is_being_deleted_is_not_held_and_does_not_delay_its_rules_deletion() {
    let t = Fixture::new("terminating").await;
    let [going, other, ..] = released(&t, "terminating").await;
    terminate(&t, &going).await;
    t.expect_status("terminating", |status| counts(status) == Some([3, 3, 0, 0])).await;
    t.report(&going, "example.com/Ready", "False").await;
    t.report(&other, "example.com/Ready", "False").await;
    // The deleted node does not count for maxUnavailable, so the other one is held.
    t.expect_taints(&other, KEY, &["pending:NoSchedule"]).await;
    t.expect_status("terminating", |status| counts(status) == Some([3, 2, 1, 0])).await;
    t.expect_taints(&going, KEY, &[]).await;
    // The deleted node keeps the rule's claim until it is gone.
    t.delete_rule("terminating").await;
    gone(&t.rules(), "terminating").await;
    let kept = t.nodes().get(&going).await.unwrap().metadata;
    assert!(kept.annotations.unwrap().contains_key("readiness.k8s.io/rules"));
    set_finalizers(&t, &going, &Value::Null).await;
    gone(&t.nodes(), &going).await;
}

#[tokio::test]
async fn a_held_node_that_is_being_deleted_keeps_its_taint_and_does_not_count_for_max_unavailable()
{
    let t = Fixture::new("leaving-room").await;
    let [going, other, ..] = released(&t, "leaving-room").await;
    t.report(&going, "example.com/Ready", "False").await;
    t.expect_taints(&going, KEY, &["pending:NoSchedule"]).await;
    t.report(&other, "example.com/Ready", "False").await;
    t.expect_status("leaving-room", |status| counts(status) == Some([4, 2, 1, 1])).await;
    terminate(&t, &going).await;
    t.expect_taints(&other, KEY, &["pending:NoSchedule"]).await;
    t.expect_status("leaving-room", |status| counts(status) == Some([3, 2, 1, 0])).await;
    let is_tainted = |node: &k8s_openapi::api::core::v1::Node| {
        node.spec.iter().flat_map(|s| s.taints.iter().flatten()).any(|taint| taint.key == KEY)
    };
    eventually(&t.nodes(), &going, is_tainted).await;
    set_finalizers(&t, &going, &Value::Null).await;
    gone(&t.nodes(), &going).await;
}
