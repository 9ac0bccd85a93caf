//! Nodes that reboot, and their conditions from before the reboot.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use common::{KEY, Operator, TestNode, TestRule, rules, state};
use node_readiness_engine::{NodeState, RuleSet};
use serde_json::json;

const BOOT: &str = "readiness.k8s.io/boot-id";

fn held() -> [String; 1] {
    [format!("{KEY}=pending:NoSchedule")]
}

fn one(rule: TestRule) -> RuleSet {
    rules(&[rule])
}

/// A node that runs boot `a` and was reported to be ready, and an operator that has released it.
fn released(rules: &RuleSet) -> (TestNode, Operator) {
    let node = TestNode::new("n").label("os", "linux").booted("a");
    let mut node = node.reported("Ready", "True", 0).reported("Ready1", "True", 10);
    let mut operator = Operator::started(&[&node]);
    operator.reconcile(&mut node, rules);
    assert!(node.taints().is_empty());
    (node, operator)
}

/// The node as kubelet reports it after a reboot.
fn rebooted(node: TestNode, boot: &str, seconds: i64) -> TestNode {
    node.booted(boot).reported("Ready", "True", seconds)
}

fn boot(node: &TestNode) -> Option<&str> {
    node.0["metadata"]["annotations"][BOOT].as_str()
}

#[test]
fn a_rebooted_node_is_held_until_its_reporter_reports_again() {
    let rules = one(TestRule::new("cni").probed());
    let (node, mut operator) = released(&rules);
    assert_eq!(boot(&node), Some("a"));

    let mut node = rebooted(node, "b", 60);
    operator.wait(60);
    operator.sees(&node);
    let plan = operator.reconcile(&mut node, &rules);
    assert_eq!(node.taints(), held());
    assert_eq!(boot(&node), Some("b"));
    assert_eq!(node.record()["cni"]["cause"], "Rebooted");
    let unmet = plan.results[0].evaluation.describe_unmet(rules.get("cni").unwrap());
    assert_eq!(
        unmet,
        "Ready1 has not been reported since the node rebooted and counts as Unknown, must be True"
    );

    // The same heartbeat releases nothing, on any operator.
    for operator in [&mut operator, &mut Operator::started(&[&node])] {
        let plan = operator.reconcile(&mut node, &rules);
        assert_eq!((state(&plan), plan.patch), (NodeState::Held, None));
    }

    let mut node = node.reported("Ready1", "True", 70);
    operator.sees(&node);
    operator.reconcile(&mut node, &rules);
    assert!(node.taints().is_empty());
    assert_eq!(operator.reconcile(&mut node, &rules).patch, None);
}

#[test]
fn a_node_that_is_broken_after_a_reboot_is_held_beyond_every_limit() {
    let rules = one(TestRule::new("cni").probed().spec("maxUnavailable", json!(0)));
    let (node, mut operator) = released(&rules);
    let mut node = rebooted(node, "b", 60);
    operator.wait(60);
    operator.sees(&node);
    let plan = operator.reconcile(&mut node, &rules);
    assert_eq!((state(&plan), plan.regressed.len()), (NodeState::Held, 0));
    let mut node = node.reported("Ready1", "False", 70);
    operator.sees(&node);
    assert_eq!(state(&operator.reconcile(&mut node, &rules)), NodeState::Held);
    assert_eq!(node.record()["cni"]["cause"], "Rebooted");
}

#[test]
fn a_reboot_while_no_operator_ran_is_detected() {
    let rules = one(TestRule::new("cni").probed());
    let (node, _) = released(&rules);
    let mut node = rebooted(node, "b", 60);
    Operator::started(&[&node]).reconcile(&mut node, &rules);
    assert_eq!(node.taints(), held());
}

#[test]
fn a_node_that_has_reported_since_its_reboot_is_not_held_by_a_new_operator() {
    let rules = one(TestRule::new("cni").probed());
    let (node, _) = released(&rules);
    let mut node = rebooted(node, "b", 60).reported("Ready1", "True", 65);
    Operator::started(&[&node]).reconcile(&mut node, &rules);
    assert!(node.taints().is_empty());
    assert_eq!(boot(&node), Some("b"));
}

#[test]
fn a_restart_of_kubelet_holds_nothing() {
    let rules = one(TestRule::new("cni").probed());
    let (node, mut operator) = released(&rules);
    let mut node = rebooted(node, "a", 60);
    operator.wait(60);
    operator.sees(&node);
    assert_eq!(operator.reconcile(&mut node, &rules).patch, None);
}

#[test]
fn conditions_of_other_writers_count_after_a_reboot_unless_the_rule_sets_hold() {
    let cases = [
        (TestRule::new("cni"), false),
        (TestRule::new("cni").spec("afterReboot", json!("Hold")), true),
        (TestRule::new("cni").probed().spec("afterReboot", json!("Keep")), false),
    ];
    for (rule, is_held) in cases {
        let rules = one(rule.clone());
        let (node, mut operator) = released(&rules);
        assert_eq!(boot(&node).is_some(), is_held, "written only where it is needed");
        let mut node = rebooted(node, "b", 60);
        operator.wait(60);
        operator.sees(&node);
        operator.reconcile(&mut node, &rules);
        assert_eq!(!node.taints().is_empty(), is_held, "{}", rule.0["spec"]);
    }
}

#[test]
fn a_bootstrap_only_rule_applies_again() {
    let rules = one(TestRule::new("cni").probed().bootstrap());
    let (node, mut operator) = released(&rules);
    assert_eq!(node.completed(), ["uid-cni"]);
    let mut node = rebooted(node, "b", 60);
    operator.wait(60);
    operator.sees(&node);
    operator.reconcile(&mut node, &rules);
    assert_eq!((node.taints().as_slice(), node.completed().len()), (&held()[..], 0));
    let mut node = node.reported("Ready1", "True", 70);
    operator.sees(&node);
    operator.reconcile(&mut node, &rules);
    assert_eq!((node.taints().len(), node.completed()), (0, vec!["uid-cni".to_owned()]));
}

#[test]
fn a_frozen_rule_writes_no_boot_and_the_last_rule_removes_it() {
    for field in ["dryRun", "suspend"] {
        let frozen = one(TestRule::new("cni").probed().spec(field, json!(true)));
        let mut node = TestNode::new("n").label("os", "linux").booted("a");
        assert_eq!(Operator::started(&[&node]).reconcile(&mut node, &frozen).patch, None);

        let (mut node, mut operator) = released(&one(TestRule::new("cni").probed()));
        assert_eq!(operator.reconcile(&mut node, &frozen).patch, None);
    }
    let (mut node, mut operator) = released(&one(TestRule::new("cni").probed()));
    operator.reconcile(&mut node, &one(TestRule::new("cni").probed().deleting()));
    assert_eq!(node.0["metadata"]["annotations"], json!({}));
}

#[test]
fn records_of_0_1_0_have_no_boot_and_hold_nothing() {
    let rules = one(TestRule::new("cni").probed());
    let (mut node, _) = released(&rules);
    node.0["metadata"]["annotations"].as_object_mut().unwrap().remove(BOOT);
    let mut node = rebooted(node, "b", 60);
    Operator::started(&[&node]).reconcile(&mut node, &rules);
    assert!(node.taints().is_empty());
    assert_eq!(boot(&node), Some("b"));
}

#[test]
fn a_node_whose_kubelet_is_silent_is_held_before_it_can_come_back_from_a_reboot() {
    for rule in [TestRule::new("cni").probed(), TestRule::new("cni").probed().bootstrap()] {
        let rules = rules(&[rule]);
        let mut node = TestNode::new("n").label("os", "linux").booted("a");
        node = node.condition("Ready", "True").reported("Ready1", "True", 0);
        let mut operator = Operator::started(&[&node]);
        operator.reconcile(&mut node, &rules);
        assert!(node.taints().is_empty());

        node = node.condition("Ready", "Unknown");
        assert_eq!(state(&operator.reconcile(&mut node, &rules)), NodeState::Held);
        assert_eq!(node.record()["cni"]["cause"], "Unreachable");
        assert!(operator.reconcile(&mut node, &rules).patch.is_none());
        // It only lost its network.
        let mut back = TestNode(node.0.clone()).condition("Ready", "True");
        operator.reconcile(&mut back, &rules);
        assert!(back.taints().is_empty());
        // It was rebooted.
        let mut rebooted = node.condition("Ready", "True").booted("b");
        operator.sees(&rebooted);
        assert_eq!(state(&operator.reconcile(&mut rebooted, &rules)), NodeState::Held);
        assert_eq!(rebooted.record()["cni"]["cause"], "Rebooted");
    }
}

#[test]
fn a_rule_that_evicts_or_keeps_conditions_after_reboots_does_not_hold_a_silent_node() {
    let evicts = json!({"key": KEY, "value": "pending", "effect": "NoExecute"});
    for rule in [
        TestRule::new("cni").probed().spec("taint", evicts),
        TestRule::new("cni").probed().spec("afterReboot", json!("Keep")),
        TestRule::new("cni"),
    ] {
        let rules = rules(&[rule]);
        let mut node = TestNode::new("n").label("os", "linux").booted("a");
        node = node.condition("Ready", "Unknown").reported("Ready1", "True", 0);
        assert_eq!(
            state(&Operator::started(&[&node]).reconcile(&mut node, &rules)),
            NodeState::Ready
        );
    }
}
