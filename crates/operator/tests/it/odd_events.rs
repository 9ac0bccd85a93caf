//! Generated objects and nodes that users and their tools change beside the operator.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::{Resource, ResourceExt};
use node_readiness_api::{NodeReadinessRuleStatus, REPORTER_SET_LABEL};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;

use crate::harness::{
    Fixture, KEY, REPORTERS, configured, eventually, gone, kubectl, poll, reporter_set, warned,
};

fn daemon_sets(t: &Fixture) -> Api<DaemonSet> {
    Api::namespaced(t.client.clone(), REPORTERS)
}

fn is_owned_by(uid: &str) -> impl Fn(&DaemonSet) -> bool {
    move |object| object.owner_references().iter().any(|owner| owner.uid == uid)
}

/// Returns the number of objects of a kind of this reporter set.
async fn generated<K>(api: Api<K>, set: &str) -> usize
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let of_set = ListParams::default().labels(&format!("{REPORTER_SET_LABEL}={set}"));
    api.list(&of_set).await.unwrap().items.len()
}

#[tokio::test]
async fn a_rule_deleted_in_the_foreground_or_with_orphans_leaves_no_generated_object() {
    let t = Fixture::new("cascade").await;
    let set = reporter_set(&t.probing_rule());
    for round in 0..11 {
        let uid = t.apply(&t.probing_rule()).await.metadata.uid.unwrap();
        // In every other round the operator is still creating objects when the rule is deleted.
        if round % 2 == 0 {
            eventually(&daemon_sets(&t), &set, is_owned_by(&uid)).await;
        }
        let policy =
            if round < 10 { PropagationPolicy::Foreground } else { PropagationPolicy::Orphan };
        let params = DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() };
        t.rules().delete("cascade", &params).await.unwrap();
        gone(&t.rules(), "cascade").await;
    }
    let left = async || {
        let client = || t.client.clone();
        generated(Api::<ClusterRoleBinding>::all(client()), &set).await
            + generated(Api::<ClusterRole>::all(client()), &set).await
            + generated(Api::<RoleBinding>::namespaced(client(), REPORTERS), &set).await
            + generated(Api::<Role>::namespaced(client(), REPORTERS), &set).await
            + generated(daemon_sets(&t), &set).await
            + generated(Api::<ServiceAccount>::namespaced(client(), REPORTERS), &set).await
            + generated(Api::<ConfigMap>::namespaced(client(), REPORTERS), &set).await
    };
    let nothing = poll(async || (left().await == 0).then_some(())).await;
    assert!(nothing.is_some(), "{} objects are left", left().await);
    let uid = t.apply(&t.probing_rule()).await.metadata.uid.unwrap();
    eventually(&daemon_sets(&t), &set, is_owned_by(&uid)).await;
}

/// Creates an object like a restored backup: with its labels, and without its owner references.
async fn restore<K>(api: &Api<K>, mut object: K)
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    let metadata = object.meta_mut();
    (metadata.owner_references, metadata.uid, metadata.resource_version) = (None, None, None);
    (metadata.managed_fields, metadata.creation_timestamp) = (None, None);
    api.create(&PostParams::default(), &object).await.unwrap();
}

#[tokio::test]
async fn objects_that_were_restored_without_their_owner_are_adopted_or_replaced() {
    let t = Fixture::new("restored").await;
    let (rule, maps) =
        (t.probing_rule(), Api::<ConfigMap>::namespaced(t.client.clone(), REPORTERS));
    let set = reporter_set(&rule);
    let uid = t.apply(&rule).await.metadata.uid.unwrap();
    let daemon_set = eventually(&daemon_sets(&t), &set, is_owned_by(&uid)).await;
    let map = maps.get(&set).await.unwrap();
    t.delete_rule("restored").await;
    gone(&t.rules(), "restored").await;
    gone(&daemon_sets(&t), &set).await;
    gone(&maps, &set).await;

    restore(&daemon_sets(&t), DaemonSet { status: None, ..daemon_set }).await;
    restore(&maps, map).await;
    let uid = t.apply(&rule).await.metadata.uid.unwrap();
    eventually(&daemon_sets(&t), &set, is_owned_by(&uid)).await;
    let map = eventually(&maps, &set, |map| configured(map) == ["restored"]).await;
    assert_eq!(map.owner_references()[0].uid, uid);
}

#[tokio::test]
async fn a_value_that_the_api_server_normalizes_is_written_only_once() {
    let t = Fixture::new("rewritten").await;
    let mut rule = t.probing_rule();
    rule["spec"]["reporter"]["resources"] = json!({
        "requests": {"cpu": 0.05, "memory": "16384Ki"},
        "limits": {"cpu": "1000m", "memory": "1024Mi", "ephemeral-storage": 1_073_741_824},
    });
    let set_name = reporter_set(&rule);
    t.apply(&rule).await;
    let set = eventually(&daemon_sets(&t), &set_name, |_| true).await;
    let resources = &set.spec.template.spec.as_ref().unwrap().containers[0].resources;
    assert_eq!(
        serde_json::to_value(resources).unwrap(),
        json!({
            "requests": {"cpu": "50m", "memory": "16Mi"},
            "limits": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1073741824"},
        })
    );
    // The conditions change their order, which has no meaning, and a new one makes the operator reconcile the rule.
    rule["spec"]["conditions"] = json!([
        {"type": "example.com/Other", "requiredStatus": "True"},
        {"type": "example.com/Ready", "requiredStatus": "True"},
    ]);
    let generation = t.apply(&rule).await.metadata.generation;
    t.expect_status("rewritten", |status| status.observed_generation == generation).await;
    let later = daemon_sets(&t).get(&set_name).await.unwrap();
    assert_eq!(later.metadata.generation, set.metadata.generation, "its pods would restart");
    let version = |set: &DaemonSet| {
        let managed = set.metadata.managed_fields.iter().flatten();
        managed
            .filter(|entry| entry.manager.as_deref() == Some("node-readiness-operator"))
            .map(|entry| entry.time.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(version(&later), version(&set), "it was written again");
}

#[tokio::test]
async fn a_node_with_full_annotations_is_reported_and_delays_no_other() {
    let t = Fixture::new("full").await;
    let (full, other) = (t.node("a", &Value::Null).await, t.node("b", &Value::Null).await);
    let annotate = async |value: Value| {
        let patch =
            Patch::Merge(json!({"metadata": {"annotations": {"example.com/large": value}}}));
        t.nodes().patch(&full, &PatchParams::default(), &patch).await.unwrap();
    };
    // Kubernetes itself sets a short annotation on each node.
    let room = 262_144 - "example.com/large".len() - 60;
    annotate(json!("x".repeat(room))).await;
    t.apply(&t.rule()).await;
    t.expect_taints(&other, KEY, &["pending:NoSchedule"]).await;
    let is_reported = |status: &NodeReadinessRuleStatus| {
        status.failed_nodes.iter().any(|failure| {
            failure.node_name == full && failure.message.contains("may not be more than 262144")
        })
    };
    t.expect_status("full", is_reported).await;
    warned(&t, "NodeWriteFailed").await;
    annotate(Value::Null).await;
    t.expect_taints(&full, KEY, &["pending:NoSchedule"]).await;
    t.expect_status("full", |status| status.failed_nodes.is_empty()).await;
}

#[tokio::test]
async fn tracking_labels_and_annotations_of_a_rule_are_not_copied_to_generated_objects() {
    let t = Fixture::new("tracked").await;
    let mut rule = t.probing_rule();
    rule["metadata"]["labels"] = json!({
        "app.kubernetes.io/instance": "platform", "argocd.argoproj.io/instance": "platform",
        "kustomize.toolkit.fluxcd.io/name": "platform",
    });
    rule["metadata"]["annotations"] =
        json!({"argocd.argoproj.io/tracking-id": "platform:x", "meta.helm.sh/release-name": "x"});
    t.apply(&rule).await;
    let set = eventually(&daemon_sets(&t), &reporter_set(&rule), |_| true).await;
    let text = serde_json::to_string(&set).unwrap();
    for trace in ["argocd", "fluxcd", "meta.helm.sh", "app.kubernetes.io/instance"] {
        assert!(!text.contains(trace), "{trace}: {text}");
    }
}

/// Tests the command of docs/guides/nodes-in-service.md that removes a condition which no rule probes any more.
#[tokio::test]
async fn a_condition_that_no_reporter_writes_any_more_is_removed_by_one_command() {
    let t = Fixture::new("unprobed").await;
    let node = t.node("a", &Value::Null).await;
    t.report(&node, "example.com/Unprobed", "True").await;
    t.report(&node, "example.com/Other", "True").await;
    let patch = r#"{"status":{"conditions":[{"type":"example.com/Unprobed","$patch":"delete"}]}}"#;
    kubectl(&["patch", "node", &node, "--subresource=status", "-p", patch]);
    let conditions = t.nodes().get(&node).await.unwrap().status.unwrap().conditions.unwrap();
    let types: Vec<_> = conditions.iter().map(|condition| &condition.type_).collect();
    assert_eq!(types, ["example.com/Other"]);
}
