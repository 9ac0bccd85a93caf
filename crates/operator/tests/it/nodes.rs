//! The effects of rules on nodes.

use k8s_openapi::api::admissionregistration::v1::{
    MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding,
};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use node_readiness_api::NodeReadinessRuleStatus;
use serde_json::{Value, json};

use crate::harness::{Fixture, KEY, event_of, eventually, gone, poll};

const NONE: Value = Value::Null;

fn registered() -> Value {
    json!([{"key": KEY, "value": "pending", "effect": "NoSchedule"}])
}

fn record(node: &k8s_openapi::api::core::v1::Node) -> Value {
    let annotations = node.metadata.annotations.as_ref();
    let text = annotations.and_then(|a| a.get("readiness.k8s.io/rules"));
    text.map_or(Value::Null, |text| serde_json::from_str(text).unwrap())
}

#[tokio::test]
async fn a_node_is_held_until_its_condition_is_met_and_again_when_it_is_not() {
    let t = Fixture::new("held").await;
    let node = t.node("a", &NONE).await;
    t.apply(&t.rule()).await;
    let held = t.expect_taints(&node, KEY, &["pending:NoSchedule"]).await;
    assert_eq!(record(&held)["held"]["state"], "held");
    t.report(&node, "example.com/Ready", "True").await;
    let released = t.expect_taints(&node, KEY, &[]).await;
    assert_eq!(record(&released)["held"]["state"], "released");
    t.report(&node, "example.com/Ready", "False").await;
    t.expect_taints(&node, KEY, &["pending:NoSchedule"]).await;
}

#[tokio::test]
async fn a_node_with_an_odd_condition_blocks_no_other_node() {
    let t = Fixture::new("odd").await;
    let (odd, plain) = (t.node("a", &NONE).await, t.node("b", &NONE).await);
    t.report(&odd, "example.com/Ready", "Perhaps").await;
    t.apply(&t.rule()).await;
    for node in [&odd, &plain] {
        t.expect_taints(node, KEY, &["pending:NoSchedule"]).await;
    }
}

#[tokio::test]
async fn lesson_180_other_controllers_taints_stay_in_their_order() {
    let t = Fixture::new("others").await;
    let mine =
        |value: &str| json!({"key": "example.com/mine", "value": value, "effect": "NoExecute"});
    let node = t
        .node("a", &json!([mine("1"), registered()[0], {"key": "b", "effect": "NoSchedule"}]))
        .await;
    t.report(&node, "example.com/Ready", "True").await;
    t.apply(&t.rule()).await;
    let node = t.expect_taints(&node, KEY, &[]).await;
    let keys: Vec<_> =
        node.spec.unwrap().taints.unwrap().into_iter().map(|taint| taint.key).collect();
    assert!(keys.starts_with(&["example.com/mine".to_owned(), "b".to_owned()]), "{keys:?}");
}

#[tokio::test]
async fn lesson_207_382_bootstrap_completes_only_once() {
    let t = Fixture::new("bootstrap").await;
    let node = t.node("a", &registered()).await;
    let mut rule = t.rule();
    rule["spec"]["enforcementMode"] = json!("bootstrap-only");
    let uid = t.apply(&rule).await.metadata.uid.unwrap();
    eventually(&t.nodes(), &node, |node| record(node)["bootstrap"]["state"] == "held").await;
    t.report(&node, "example.com/Ready", "True").await;
    let done = t.expect_taints(&node, KEY, &[]).await;
    let key = format!("readiness.k8s.io/bootstrap-completed-{uid}");
    assert_eq!(done.metadata.annotations.unwrap()[&key], r#"{"rule-name":"bootstrap"}"#);
    t.report(&node, "example.com/Ready", "False").await;
    // The rule's status shows that the operator has received the change.
    t.expect_status("bootstrap", |status| {
        let seen = status.node_evaluations.first();
        seen.is_some_and(|e| {
            e.condition_results[0].current_status == node_readiness_api::ConditionStatus::False
        })
    })
    .await;
    t.expect_taints(&node, KEY, &[]).await;
    t.delete_rule("bootstrap").await;
    gone(&t.rules(), "bootstrap").await;
    let clean = t.nodes().get(&node).await.unwrap();
    assert!(!clean.metadata.annotations.unwrap_or_default().contains_key(&key));
}

#[tokio::test]
async fn lesson_260_a_shared_taint_stays_until_the_last_rule_releases_the_node() {
    let t = Fixture::new("shared").await;
    let node = t.node("a", &NONE).await;
    let mut second = t.rule();
    second["metadata"]["name"] = json!("shared-2");
    second["spec"]["conditions"][0]["type"] = json!("example.com/Second");
    t.apply(&t.rule()).await;
    t.apply(&second).await;
    let both = |node: &_| {
        let record = record(node);
        record["shared"]["state"] == "held" && record["shared-2"]["state"] == "held"
    };
    eventually(&t.nodes(), &node, both).await;
    t.report(&node, "example.com/Ready", "True").await;
    let one = eventually(&t.nodes(), &node, |n| record(n)["shared"]["state"] == "released").await;
    let taints = one.spec.unwrap().taints.unwrap();
    assert!(taints.iter().any(|taint| taint.key == KEY), "{taints:?}");
    t.delete_rule("shared-2").await;
    t.expect_taints(&node, KEY, &[]).await;
}

#[tokio::test]
async fn lesson_235_338_342_347_a_relabelled_node_is_cleaned() {
    let t = Fixture::new("relabelled").await;
    let node = t.node("a", &NONE).await;
    t.apply(&t.rule()).await;
    t.expect_taints(&node, KEY, &["pending:NoSchedule"]).await;
    t.relabel(&node, "elsewhere").await;
    let clean = t.expect_taints(&node, KEY, &[]).await;
    assert_eq!(record(&clean), Value::Null);
    t.expect_status("relabelled", |status| status.nodes.is_some_and(|n| n.matched == 0)).await;
}

#[tokio::test]
async fn a_deleted_rule_stays_until_its_nodes_are_clean() {
    let t = Fixture::new("deleted").await;
    let nodes = [t.node("a", &NONE).await, t.node("b", &NONE).await];
    t.apply(&t.rule()).await;
    for node in &nodes {
        t.expect_taints(node, KEY, &["pending:NoSchedule"]).await;
    }
    // The writes of nodes do not wait for the write of the rule, so the finalizer may be added after the taints.
    let finalizer = "readiness.node.x-k8s.io/cleanup-taints".to_owned();
    let has_finalizer = |rule: &node_readiness_api::NodeReadinessRule| {
        rule.metadata.finalizers.iter().flatten().eq([&finalizer])
    };
    eventually(&t.rules(), "deleted", has_finalizer).await;
    t.delete_rule("deleted").await;
    gone(&t.rules(), "deleted").await;
    for node in &nodes {
        let node = t.nodes().get(node).await.unwrap();
        assert_eq!(record(&node), Value::Null);
        let taints = node.spec.unwrap().taints.unwrap_or_default();
        assert!(taints.iter().all(|taint| taint.key != KEY), "{taints:?}");
    }
}

#[tokio::test]
async fn lesson_467_an_edited_taint_is_replaced() {
    let t = Fixture::new("edited").await;
    let node = t.node("a", &NONE).await;
    t.apply(&t.rule()).await;
    t.expect_taints(&node, KEY, &["pending:NoSchedule"]).await;
    let mut rule = t.rule();
    rule["spec"]["taint"] = json!({"key": "readiness.k8s.io/it-new", "effect": "NoExecute"});
    t.apply(&rule).await;
    t.expect_taints(&node, "readiness.k8s.io/it-new", &[":NoExecute"]).await;
    t.expect_taints(&node, KEY, &[]).await;
}

#[tokio::test]
async fn lesson_383_a_registered_taint_is_adopted_with_one_event() {
    let t = Fixture::new("adopted").await;
    let node = t.node("a", &registered()).await;
    t.apply(&t.rule()).await;
    eventually(&t.nodes(), &node, |node| record(node)["adopted"]["state"] == "held").await;
    t.report(&node, "example.com/Ready", "True").await;
    t.expect_taints(&node, KEY, &[]).await;
    event_of(&t, "TaintRemoved", "Node", &node).await;
    let mut adopted = t.events().list(&ListParams::default()).await.unwrap().items;
    adopted.retain(|event| {
        event.regarding.as_ref().and_then(|about| about.name.as_ref()) == Some(&node)
            && event.reason.as_deref() == Some("TaintAdopted")
    });
    assert_eq!(adopted.len(), 1, "{adopted:#?}");
    assert!(adopted[0].series.is_none(), "{adopted:#?}");
    assert_eq!(adopted[0].action.as_deref(), Some("AdoptTaint"));
    assert_eq!(adopted[0].reporting_controller.as_deref(), Some("node-readiness-controller"));
    let text = format!(
        "taint {KEY}=pending:NoSchedule adopted for NodeReadinessRule adopted: example.com/Ready is not \
         reported, must be True"
    );
    assert_eq!(adopted[0].note.as_deref(), Some(text.as_str()));
}

#[tokio::test]
async fn each_added_or_removed_taint_emits_an_event_on_its_node() {
    let t = Fixture::new("told").await;
    let node = t.node("a", &NONE).await;
    t.apply(&t.rule()).await;
    t.expect_taints(&node, KEY, &["pending:NoSchedule"]).await;
    t.report(&node, "example.com/Ready", "True").await;
    t.expect_taints(&node, KEY, &[]).await;
    let unmet = ": example.com/Ready is not reported, must be True";
    for (reason, action, what, why) in
        [("TaintAdded", "AddTaint", "added", unmet), ("TaintRemoved", "RemoveTaint", "removed", "")]
    {
        let reported = event_of(&t, reason, "Node", &node).await;
        assert_eq!(reported.action.as_deref(), Some(action));
        assert_eq!(reported.type_.as_deref(), Some("Normal"));
        let text = format!("taint {KEY}=pending:NoSchedule {what} for NodeReadinessRule told{why}");
        assert_eq!(reported.note.as_deref(), Some(text.as_str()));
        let rule = reported.related.and_then(|rule| rule.name);
        assert_eq!(rule.as_deref(), Some("told"));
    }
}

#[tokio::test]
async fn lesson_54_374_435_a_dry_run_never_writes_a_node_and_its_status_follows_the_node() {
    let t = Fixture::new("dry").await;
    let node = t.node("a", &registered()).await;
    let mut rule = t.rule();
    rule["spec"]["dryRun"] = json!(true);
    t.apply(&rule).await;
    let summary = |expected: &'static str| {
        move |status: &node_readiness_api::NodeReadinessRuleStatus| {
            status.dry_run_results.as_ref().is_some_and(|results| results.summary == expected)
        }
    };
    t.expect_status("dry", summary("1 nodes have missing conditions")).await;
    t.report(&node, "example.com/Ready", "True").await;
    t.expect_status("dry", summary("would remove 1 taints")).await;
    t.report(&node, "example.com/Ready", "False").await;
    t.expect_status("dry", summary("No changes needed")).await;
    t.delete_rule("dry").await;
    gone(&t.rules(), "dry").await;
    let untouched = t.expect_taints(&node, KEY, &["pending:NoSchedule"]).await;
    assert_eq!(record(&untouched), Value::Null);
}

/// Adds a taint to a node as this field manager, and keeps its other taints.
async fn put_taint(t: &Fixture, node: &str, manager: &str) {
    let params = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
    let taints = Patch::Strategic(json!({"spec": {"taints": registered()}}));
    t.nodes().patch(node, &params, &taints).await.unwrap();
}

/// The cloud provider adds its startup taint late (aws-ebs-csi-driver 2447 and karpenter 1772).
#[tokio::test]
async fn a_startup_taint_that_is_added_after_the_bootstrap_is_removed_and_its_manager_is_named() {
    let t = Fixture::new("late").await;
    let node = t.node("a", &NONE).await;
    let foreign = t.node("b", &NONE).await;
    t.relabel(&foreign, "not-covered").await;
    t.report(&node, "example.com/Ready", "True").await;
    let mut rule = t.rule();
    rule["spec"]["enforcementMode"] = json!("bootstrap-only");
    let uid = t.apply(&rule).await.metadata.uid.unwrap();
    let key = format!("readiness.k8s.io/bootstrap-completed-{uid}");
    let completed = |node: &k8s_openapi::api::core::v1::Node| {
        node.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(&key))
    };
    eventually(&t.nodes(), &node, completed).await;
    for name in [&foreign, &node] {
        put_taint(&t, name, "cloud-provider").await;
    }
    let clean = t.expect_taints(&node, KEY, &[]).await;
    assert!(completed(&clean));
    let event = event_of(&t, "FieldManagerConflict", "Node", &node).await;
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    assert!(event.note.as_ref().unwrap().starts_with("cloud-provider changed"), "{event:?}");
    // A rule that does not cover the node does not remove the taint.
    t.expect_taints(&foreign, KEY, &["pending:NoSchedule"]).await;
}

#[tokio::test]
async fn a_startup_taint_that_is_added_again_is_removed_from_a_released_node() {
    let t = Fixture::new("returning").await;
    let node = t.node("a", &NONE).await;
    t.report(&node, "example.com/Ready", "True").await;
    t.apply(&t.rule()).await;
    let released = |node: &_| record(node)["returning"]["state"] == "released";
    eventually(&t.nodes(), &node, released).await;
    put_taint(&t, &node, "autoscaler").await;
    t.expect_taints(&node, KEY, &[]).await;
    let event = event_of(&t, "FieldManagerConflict", "Node", &node).await;
    assert!(event.note.as_ref().unwrap().starts_with("autoscaler changed"), "{event:?}");
}

/// Two controllers that set a field to different values must not write as fast as the API server answers.
#[tokio::test]
async fn a_taint_that_another_client_removes_repeatedly_is_added_with_backoff() {
    let t = Fixture::new("fought").await;
    let node = t.node("a", &NONE).await;
    t.apply(&t.rule()).await;
    let params = PatchParams::default();
    let removal = Patch::Merge(json!({"spec": {"taints": null}}));
    let waits = |rule: &node_readiness_api::NodeReadinessRule| {
        let failed = rule.status.iter().flat_map(|status| status.failed_nodes.iter());
        failed.into_iter().any(|failed| failed.message.contains("repeatedly"))
    };
    let mut added = 0;
    let reported = poll(async || {
        let live = t.nodes().get(&node).await.unwrap();
        if live.spec.and_then(|spec| spec.taints).is_some_and(|taints| !taints.is_empty()) {
            added += 1;
            t.nodes().patch(&node, &params, &removal).await.unwrap();
        }
        waits(&t.rules().get("fought").await.unwrap()).then_some(())
    });
    assert!(reported.await.is_some(), "the status does not report it; added {added} times");
    assert!((2..=5).contains(&added), "added {added} times");
    let event = event_of(&t, "FieldManagerConflict", "Node", &node).await;
    assert!(event.note.as_ref().unwrap().contains("added again"), "{event:?}");
}

/// Creates a policy that removes taints and claims from each write of a node.
async fn strip(t: &Fixture, node: &str) -> (Api<MutatingAdmissionPolicyBinding>, String) {
    let name = t.named("policy");
    let ours = format!(
        "object.metadata.name == '{node}' && has(object.metadata.annotations) && \
         'readiness.k8s.io/rules' in object.metadata.annotations"
    );
    let stripped = "[JSONPatch{op: 'remove', path: '/metadata/annotations/readiness.k8s.io~1rules'}] + \
        (has(object.spec.taints) ? [JSONPatch{op: 'remove', path: '/spec/taints'}] : [])";
    let policy = json!({
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
                "operations": ["UPDATE"], "resources": ["nodes"]}]},
            "matchConditions": [{"name": "ours", "expression": ours}],
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": stripped}}],
            "reinvocationPolicy": "Never",
        },
    });
    let binding = json!({"metadata": {"name": name}, "spec": {"policyName": name}});
    let policies: Api<MutatingAdmissionPolicy> = Api::all(t.client.clone());
    let bindings: Api<MutatingAdmissionPolicyBinding> = Api::all(t.client.clone());
    let post = PostParams::default();
    policies.create(&post, &serde_json::from_value(policy).unwrap()).await.unwrap();
    bindings.create(&post, &serde_json::from_value(binding).unwrap()).await.unwrap();
    let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
    let attempt =
        Patch::Merge(json!({"metadata": {"annotations": {"readiness.k8s.io/rules": "{}"}}}));
    let in_force = poll(async || {
        let answer = t.nodes().patch(node, &dry_run, &attempt).await.unwrap();
        record(&answer).is_null().then_some(())
    });
    in_force.await.expect("the policy takes effect");
    (bindings, name)
}

#[tokio::test]
async fn a_node_whose_taint_a_policy_removes_is_not_reported_as_held_and_not_written_in_a_loop() {
    let t = Fixture::new("stripped").await;
    let node = t.node("a", &NONE).await;
    let (bindings, policy) = strip(&t, &node).await;
    t.apply(&t.rule()).await;
    let failed = |status: &NodeReadinessRuleStatus| {
        status.failed_nodes.iter().any(|failed| {
            failed.reason == "Reverted" && failed.message.contains("an admission policy")
        })
    };
    let rule = t.expect_status("stripped", failed).await;
    assert_eq!(rule.status.unwrap().nodes.unwrap().held, 0);
    let event = event_of(&t, "FieldManagerConflict", "Node", &node).await;
    assert!(event.note.unwrap().contains("an admission policy or webhook"));

    bindings.delete(&policy, &DeleteParams::default()).await.unwrap();
    t.expect_taints(&node, KEY, &["pending:NoSchedule"]).await;
    t.expect_status("stripped", |status| status.failed_nodes.is_empty()).await;
}
