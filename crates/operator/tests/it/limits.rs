//! Limits of a rule's effect: suspension, `maxUnavailable`, and missing heartbeats.

use kube::api::{DeleteParams, ListParams};
use node_readiness_api::NodeReadinessRuleStatus;
use serde_json::{Value, json};

use crate::harness::{Fixture, KEY, gone, warned};

/// `ready`, `held` and `deferred` of a status.
fn counts(status: &NodeReadinessRuleStatus) -> Option<(u32, u32, u32)> {
    status.nodes.map(|nodes| (nodes.ready, nodes.held, nodes.deferred))
}

#[tokio::test]
async fn lesson_335_a_suspended_rule_changes_nothing_until_it_is_deleted() {
    let t = Fixture::new("suspended").await;
    let node = t.node("a", &Value::Null).await;
    t.apply(&t.rule()).await;
    t.expect_taints(&node, KEY, &["pending:NoSchedule"]).await;
    let mut rule = t.rule();
    rule["spec"]["suspend"] = json!(true);
    t.apply(&rule).await;
    t.report(&node, "example.com/Ready", "True").await;
    // The node meets its conditions, but it stays held.
    t.expect_status("suspended", |status| counts(status) == Some((1, 1, 0))).await;
    t.expect_taints(&node, KEY, &["pending:NoSchedule"]).await;
    t.delete_rule("suspended").await;
    gone(&t.rules(), "suspended").await;
    t.expect_taints(&node, KEY, &[]).await;
}

#[tokio::test]
async fn lesson_9_one_bad_probe_cannot_hold_every_node() {
    let t = Fixture::new("limited").await;
    let nodes = [
        t.node("a", &Value::Null).await,
        t.node("b", &Value::Null).await,
        t.node("c", &Value::Null).await,
    ];
    let mut rule = t.rule();
    rule["spec"]["maxUnavailable"] = json!(1);
    t.apply(&rule).await;
    // All new nodes are held.
    t.expect_status("limited", |status| counts(status) == Some((0, 3, 0))).await;
    for node in &nodes {
        t.report(node, "example.com/Ready", "True").await;
    }
    t.expect_status("limited", |status| counts(status) == Some((3, 0, 0))).await;
    for node in &nodes {
        t.report(node, "example.com/Ready", "False").await;
    }
    let rule = t.expect_status("limited", |status| counts(status) == Some((0, 1, 2))).await;
    let conditions = rule.status.unwrap().conditions;
    let ready = conditions.iter().find(|condition| condition.type_ == "NodesReady").unwrap();
    assert_eq!(ready.reason, "NodesDeferred");
    assert!(ready.message.contains("2 of them not held because of maxUnavailable"), "{ready:?}");
    warned(&t, "TaintDeferred").await;
    // When the held node recovers, another one is held.
    t.report(&held_now(&t).await, "example.com/Ready", "True").await;
    t.expect_status("limited", |status| counts(status) == Some((1, 1, 1))).await;
    // When that node is deleted, another one is held, too.
    let held = held_now(&t).await;
    t.nodes().delete(&held, &DeleteParams::default()).await.unwrap();
    t.expect_status("limited", |status| counts(status) == Some((1, 1, 0))).await;
    assert_ne!(held_now(&t).await, held);
}

/// Returns the name of the one node with the taint.
async fn held_now(t: &Fixture) -> String {
    let nodes = t.nodes().list(&ListParams::default().labels("test=limited")).await.unwrap();
    let held = nodes.items.into_iter().find(|node| {
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
        taints.is_some_and(|taints| taints.iter().any(|taint| taint.key == KEY))
    });
    held.unwrap().metadata.name.unwrap()
}

#[tokio::test]
async fn lesson_357_a_condition_without_heartbeats_becomes_stale() {
    let t = Fixture::new("silent").await;
    let node = t.node("a", &Value::Null).await;
    let mut rule = t.rule();
    rule["spec"]["conditions"][0]["staleAfterSeconds"] = json!(30);
    t.apply(&rule).await;
    t.expect_taints(&node, KEY, &["pending:NoSchedule"]).await;
    t.report(&node, "example.com/Ready", "True").await;
    t.expect_taints(&node, KEY, &[]).await;
    t.expect_taints(&node, KEY, &["pending:NoSchedule"]).await;
    let rule =
        t.expect_status("silent", |status| status.nodes.is_some_and(|nodes| nodes.stale == 1));
    let conditions = rule.await.status.unwrap().conditions;
    let ready = conditions.iter().find(|condition| condition.type_ == "NodesReady").unwrap();
    assert!(ready.message.contains("had no heartbeat for 30 s"), "{ready:?}");
    t.beat(&node, "example.com/Ready", "2026-01-01T00:05:00Z").await;
    t.expect_taints(&node, KEY, &[]).await;
}
