//! Plans of one node, case by case.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use common::{KEY, TestNode, TestRule, at, plan, rules};
use node_readiness_engine::{ChangeKind, NodePlan, NodeState, RuleSet, Unreadable};
use serde_json::json;

const HELD: &str = "readiness.k8s.io/Net=pending:NoSchedule";

fn node() -> TestNode {
    TestNode::new("n").label("os", "linux")
}

fn ready(node: TestNode) -> TestNode {
    node.condition("Ready1", "True")
}

fn kinds(plan: &NodePlan) -> Vec<ChangeKind> {
    plan.changes.iter().map(|change| change.kind).collect()
}

#[test]
fn an_unready_node_is_held_and_the_claim_is_recorded() {
    let mut node = node();
    let plan = node.reconcile(&rules(&[TestRule::new("cni")]), at(0));
    assert_eq!(node.taints(), [HELD]);
    let taint = json!({"key": KEY, "value": "pending", "effect": "NoSchedule"});
    let claim = json!({"taint": taint, "state": "held", "cause": "Bootstrap"});
    assert_eq!(node.record(), json!({"cni": claim}));
    assert_eq!(kinds(&plan), [ChangeKind::Added]);
    assert_eq!(plan.results[0].state, NodeState::Held);
    assert!(plan.results[0].after.tainted && plan.results[0].after.held);
    assert!(!plan.results[0].before.tainted);
}

#[test]
fn a_ready_node_is_released() {
    let mut node = node();
    let rules = rules(&[TestRule::new("cni")]);
    node.reconcile(&rules, at(0));
    let mut node = ready(node);
    let plan = node.reconcile(&rules, at(1));
    assert_eq!(node.taints(), [""; 0]);
    assert_eq!(node.record()["cni"]["state"], "released");
    assert_eq!(kinds(&plan), [ChangeKind::Removed]);
    assert_eq!(plan.changes[0].rule, "cni");
}

#[test]
fn a_taint_that_kubelet_registered_is_adopted_once() {
    let mut node = node().taint(KEY, "pending", "NoSchedule");
    let rules = rules(&[TestRule::new("cni")]);
    assert_eq!(kinds(&node.reconcile(&rules, at(0))), [ChangeKind::Adopted]);
    assert!(node.reconcile(&rules, at(1)).patch.is_none());
    assert_eq!(node.taints(), [HELD]);
}

#[test]
fn a_taint_that_kubelet_registered_is_removed_from_a_node_that_is_ready_when_first_seen() {
    let mut node = ready(node().taint(KEY, "pending", "NoSchedule"));
    let plan = node.reconcile(&rules(&[TestRule::new("cni")]), at(0));
    assert_eq!(node.taints(), [""; 0]);
    assert_eq!(kinds(&plan), [ChangeKind::Removed]);
}

#[test]
fn a_taint_of_another_effect_or_key_is_not_touched() {
    let others = ["other/key=pending:NoSchedule", "readiness.k8s.io/Net=pending:NoExecute"];
    let mut node = ready(node()).taint("other/key", "pending", "NoSchedule").taint(
        KEY,
        "pending",
        "NoExecute",
    );
    node.reconcile(&rules(&[TestRule::new("cni")]), at(0));
    assert_eq!(node.taints(), others);
}

#[test]
fn a_shared_taint_stays_while_either_rule_holds_the_node() {
    let second = TestRule::new("csi")
        .spec("conditions", json!([{"type": "Ready2", "requiredStatus": "True"}]));
    let rules = rules(&[TestRule::new("cni"), second]);
    let mut node = node();
    node.reconcile(&rules, at(0));
    let mut node = ready(node);
    let plan = node.reconcile(&rules, at(1));
    assert_eq!(node.taints(), [HELD]);
    assert_eq!(kinds(&plan), []);
    let mut node = node.condition("Ready2", "True");
    node.reconcile(&rules, at(2));
    assert_eq!(node.taints(), [""; 0]);
}

#[test]
fn the_oldest_rule_decides_the_value_of_a_shared_taint() {
    let old = TestRule::new("z").taint(KEY, "old").created("2025-01-01T00:00:00Z");
    let new = TestRule::new("a").taint(KEY, "new").created("2026-01-01T00:00:00Z");
    let mut node = node();
    node.reconcile(&rules(&[new.clone(), old.clone()]), at(0));
    assert_eq!(node.taints(), ["readiness.k8s.io/Net=old:NoSchedule"]);
    node.reconcile(&rules(&[new, old.deleting()]), at(1));
    assert_eq!(node.taints(), ["readiness.k8s.io/Net=new:NoSchedule"]);
}

#[test]
fn completion_and_taint_change_in_one_patch() {
    let rules = rules(&[TestRule::new("boot").bootstrap()]);
    let mut node = node();
    node.reconcile(&rules, at(0));
    assert_eq!(node.taints(), [HELD]);
    let mut node = ready(node);
    let plan = node.reconcile(&rules, at(1));
    assert_eq!(node.taints(), [""; 0]);
    assert_eq!(node.completed(), ["uid-boot"]);
    assert_eq!(node.record(), json!({}));
    assert_eq!(plan.results[0].state, NodeState::Bootstrapped);
}

#[test]
fn a_completed_rule_does_not_change_the_node_again() {
    let rules = rules(&[TestRule::new("boot").bootstrap()]);
    let mut node = ready(node());
    node.reconcile(&rules, at(0));
    let mut node = node.condition("Ready1", "False");
    let plan = node.reconcile(&rules, at(1));
    assert!(plan.patch.is_none());
    assert_eq!(plan.results[0].state, NodeState::Bootstrapped);
}

#[test]
fn a_taint_that_reappears_on_a_released_node_is_removed() {
    for rule in [TestRule::new("cni"), TestRule::new("cni").bootstrap()] {
        let rules_ = rules(std::slice::from_ref(&rule));
        let mut node = ready(node());
        node.reconcile(&rules_, at(0));
        let mut node = node.taint(KEY, "late", "NoSchedule");
        let plan = node.reconcile(&rules_, at(1));
        assert_eq!(node.taints(), [""; 0]);
        assert_eq!(kinds(&plan), [ChangeKind::Removed]);
        assert!(plan.changes[0].reappeared);
        // A rule that is suspended or does not cover the node does not change it.
        for stays in [rule.clone().spec("suspend", json!(true)), rule.clone().deleting()] {
            let mut node = node.clone().taint(KEY, "late", "NoSchedule");
            node.reconcile(&rules(&[stays]), at(2));
            assert_eq!(node.taints(), [format!("{KEY}=late:NoSchedule")]);
        }
    }
}

#[test]
fn a_taint_of_a_joining_node_did_not_reappear() {
    let rules = rules(&[TestRule::new("cni")]);
    let mut node = ready(node().taint(KEY, "pending", "NoSchedule"));
    let plan = node.reconcile(&rules, at(0));
    assert_eq!(kinds(&plan), [ChangeKind::Removed]);
    assert!(!plan.changes[0].reappeared);
}

#[test]
fn a_plan_for_a_reverted_node_has_the_same_content_hash() {
    let rules = rules(&[TestRule::new("cni")]);
    let plan_at = |node: &TestNode, seconds| plan(&node.view(), &rules, at(seconds));
    let bare = node();
    let first = plan_at(&bare, 0);
    assert_eq!(plan_at(&bare, 60).content_hash, first.content_hash, "the hash contains no time");
    let mut without_taint = bare.clone();
    without_taint.apply(&first.patch.unwrap()).unwrap();
    without_taint.0["spec"]["taints"] = json!([]);
    let again = plan_at(&without_taint, 60);
    assert!(again.patch.is_some());
    assert_eq!(again.content_hash, first.content_hash);
    assert_ne!(plan_at(&ready(without_taint), 60).content_hash, first.content_hash);
}

#[test]
fn a_concurrent_change_of_taints_refuses_the_completion_too() {
    let rules = rules(&[TestRule::new("boot").bootstrap()]);
    let seen = ready(node());
    let patch = plan(&seen.view(), &rules, at(0)).patch.unwrap();
    let mut now = seen.taint(KEY, "pending", "NoSchedule");
    now.apply(&patch).unwrap_err();
    assert_eq!(now.completed(), [""; 0]);
}

#[test]
fn a_concurrent_heartbeat_or_foreign_annotation_does_not_refuse_the_patch() {
    let rules = rules(&[TestRule::new("cni")]);
    let seen = node().annotation("example.com/a", "1");
    let patch = plan(&seen.view(), &rules, at(0)).patch.unwrap();
    let mut now = seen.condition("Ready", "True").annotation("example.com/b", "2");
    now.apply(&patch).unwrap();
    assert_eq!(now.taints(), [HELD]);
}

#[test]
fn the_first_annotation_of_a_node_does_not_overwrite_a_concurrent_one() {
    let rules = rules(&[TestRule::new("cni")]);
    let seen = node();
    let patch = plan(&seen.view(), &rules, at(0)).patch.unwrap();
    let mut now = seen.annotation("example.com/a", "1");
    now.apply(&patch).unwrap_err();
}

#[test]
fn a_legacy_completion_under_the_rules_name_counts_and_is_removed_with_the_rule() {
    let rule = TestRule::new("boot").bootstrap();
    let mut node =
        node().annotation("readiness.k8s.io/bootstrap-completed-boot", r#"{"rule-name":"boot"}"#);
    assert!(node.reconcile(&rules(std::slice::from_ref(&rule)), at(0)).patch.is_none());
    node.reconcile(&rules(&[rule.deleting()]), at(1));
    assert_eq!(node.completed(), [""; 0]);
}

#[test]
fn a_relabeled_node_loses_its_taint_and_record() {
    let rules = rules(&[TestRule::new("cni")]);
    let mut node = node();
    node.reconcile(&rules, at(0));
    node.0["metadata"]["labels"] = json!({});
    let plan = node.reconcile(&rules, at(1));
    assert_eq!(node.taints(), [""; 0]);
    assert_eq!(node.record(), json!({}));
    assert_eq!(plan.results, []);
}

#[test]
fn a_rule_that_was_deleted_while_no_operator_ran_leaves_nothing() {
    let mut node = node();
    node.reconcile(&rules(&[TestRule::new("cni")]), at(0));
    let plan = node.reconcile(&rules(&[]), at(1));
    assert_eq!(node.taints(), [""; 0]);
    assert_eq!(plan.changes[0].rule, "cni");
}

#[test]
fn an_edited_taint_is_replaced_in_one_patch() {
    let mut node = node();
    node.reconcile(&rules(&[TestRule::new("cni")]), at(0));
    let plan =
        node.reconcile(&rules(&[TestRule::new("cni").taint("readiness.k8s.io/Other", "")]), at(1));
    assert_eq!(node.taints(), ["readiness.k8s.io/Other=:NoSchedule"]);
    assert_eq!(kinds(&plan), [ChangeKind::Added, ChangeKind::Removed]);
}

#[test]
fn a_dry_run_writes_nothing_and_reports_the_state() {
    let rule = TestRule::new("dry").spec("dryRun", json!(true));
    let mut node = node().taint(KEY, "", "NoSchedule");
    let plan = node.reconcile(&rules(std::slice::from_ref(&rule)), at(0));
    assert!(plan.patch.is_none());
    assert_eq!(plan.results[0].state, NodeState::Held);
    assert!(node.reconcile(&rules(&[rule.deleting()]), at(1)).patch.is_none());
    assert_eq!(node.taints(), ["readiness.k8s.io/Net=:NoSchedule"]);
}

#[test]
fn a_rule_edited_to_dry_run_keeps_its_holds_until_it_is_deleted() {
    let mut node = node();
    node.reconcile(&rules(&[TestRule::new("cni")]), at(0));
    let dry = TestRule::new("cni").spec("dryRun", json!(true));
    let mut node = ready(node);
    assert!(node.reconcile(&rules(std::slice::from_ref(&dry)), at(1)).patch.is_none());
    assert_eq!(node.taints(), [HELD]);
    node.reconcile(&rules(&[dry.deleting()]), at(2));
    assert_eq!(node.taints(), [""; 0]);
}

#[test]
fn a_frozen_rule_does_not_restore_a_taint_that_somebody_removed() {
    for frozen in ["dryRun", "suspend"] {
        let mut node = node();
        node.reconcile(&rules(&[TestRule::new("cni")]), at(0));
        node.0["spec"] = json!({});
        let frozen = TestRule::new("cni").spec(frozen, json!(true));
        assert!(node.reconcile(&rules(&[frozen]), at(1)).patch.is_none());
    }
}

#[test]
fn another_rule_does_not_remove_a_taint_that_a_frozen_rule_holds() {
    let mut node = ready(node());
    let frozen = TestRule::new("csi")
        .spec("conditions", json!([{"type": "Ready2", "requiredStatus": "True"}]));
    node.reconcile(&rules(std::slice::from_ref(&frozen)), at(0));
    let frozen = frozen.spec("suspend", json!(true));
    node.reconcile(&rules(&[TestRule::new("cni"), frozen]), at(1));
    assert_eq!(node.taints(), [HELD]);
    assert_eq!(node.record()["csi"]["state"], "held");
}

#[test]
fn a_suspended_rule_changes_nothing_until_it_is_resumed() {
    let suspended = TestRule::new("cni").spec("suspend", json!(true));
    let mut node = node();
    let plan = node.reconcile(&rules(std::slice::from_ref(&suspended)), at(0));
    assert!(plan.patch.is_none());
    assert_eq!(plan.results[0].state, NodeState::Held);
    assert!(!plan.results[0].after.held);
    node.reconcile(&rules(&[TestRule::new("cni")]), at(1));
    assert_eq!(node.taints(), [HELD]);
    let mut node = ready(node);
    assert!(node.reconcile(&rules(&[suspended]), at(2)).patch.is_none());
}

#[test]
fn the_effects_of_an_unreadable_rule_stay() {
    let mut node = node();
    node.reconcile(&rules(&[TestRule::new("cni")]), at(0));
    let unreadable = RuleSet::new([], [Unreadable { name: "cni".into(), uid: "uid-cni".into() }]);
    assert!(node.reconcile(&unreadable, at(1)).patch.is_none());
}

#[test]
fn an_unreadable_rule_does_not_block_other_rules() {
    let boot = TestRule::new("boot").bootstrap();
    let mut node = ready(node());
    node.reconcile(&rules(std::slice::from_ref(&boot)), at(0));
    let mut node = node.annotation("readiness.k8s.io/bootstrap-completed-uid-odd", "{}");
    let odd = Unreadable { name: "odd".into(), uid: "uid-odd".into() };
    node.reconcile(&RuleSet::new([boot.deleting().compile()], [odd]), at(1));
    assert_eq!(node.completed(), ["uid-odd"]);
}

#[test]
fn a_default_replaces_only_a_missing_condition() {
    let conditions = json!([{"type": "Ready1", "requiredStatus": "True", "defaultStatus": "True"}]);
    let rules = rules(&[TestRule::new("cni").spec("conditions", conditions)]);
    let mut absent = node();
    let plan = absent.reconcile(&rules, at(0));
    assert_eq!(plan.results[0].state, NodeState::Ready);
    assert!(plan.results[0].evaluation.has_missing());
    let mut unknown = node().condition("Ready1", "Unknown");
    assert_eq!(unknown.reconcile(&rules, at(0)).results[0].state, NodeState::Held);
}

#[test]
fn any_of_requires_one_condition_and_all_of_requires_each() {
    let conditions = json!([
        {"type": "Ready1", "requiredStatus": "True"},
        {"type": "Problem", "requiredStatus": "False"},
    ]);
    let rule = TestRule::new("cni").spec("conditions", conditions);
    let state = |rule: TestRule, node: TestNode| {
        plan(&node.view(), &rules(&[rule]), at(0)).results[0].state
    };
    assert_eq!(state(rule.clone(), ready(node())), NodeState::Held);
    let both = ready(node()).condition("Problem", "False");
    assert_eq!(state(rule.clone(), both), NodeState::Ready);
    let any = rule.spec("conditionPolicy", json!("anyOf"));
    assert_eq!(state(any.clone(), ready(node())), NodeState::Ready);
    assert_eq!(state(any, node()), NodeState::Held);
}

#[test]
fn a_node_that_is_being_deleted_is_not_changed() {
    let terminating = |mut node: TestNode| {
        node.0["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        node
    };
    let rules = rules(&[TestRule::new("cni")]);
    let mut held = node();
    held.reconcile(&rules, at(0));
    for node in [node(), held.clone(), ready(held)] {
        let mut node = terminating(node);
        let plan = node.reconcile(&rules, at(1));
        assert!(plan.patch.is_none() && plan.results.is_empty() && plan.regressed.is_empty());
    }
}
