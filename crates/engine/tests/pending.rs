//! Rules that are created on a cluster in service.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use std::time::Duration;

use common::{KEY, Operator, TestNode, TestRule, at, rules, state};
use node_readiness_engine::{NodeState, RuleSet};
use serde_json::json;

/// A rule with a probe that is created at the time 0.
fn created(rule: TestRule) -> TestRule {
    rule.created(&at(0).to_string())
}

fn one(rule: TestRule) -> RuleSet {
    rules(&[created(rule)])
}

fn node(joined: i64) -> TestNode {
    TestNode::new("n").label("os", "linux").joined(joined)
}

fn state_at(seconds: i64, node: &mut TestNode, rules: &RuleSet) -> (NodeState, Option<Duration>) {
    let mut operator = Operator { now: seconds, ..Operator::started(&[&*node]) };
    let plan = operator.reconcile(node, rules);
    (state(&plan), plan.recheck_in)
}

#[test]
fn a_node_in_service_waits_for_the_first_verdict_for_two_minutes() {
    let rules = one(TestRule::new("cni").probed());
    let mut node = node(-1);
    let left = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(state_at(0, &mut node, &rules), (NodeState::Pending, left(120)));
    assert_eq!(state_at(119, &mut node, &rules), (NodeState::Pending, left(1)));
    // The operator's clock is behind.
    assert_eq!(state_at(-60, &mut node, &rules).0, NodeState::Pending);
    assert_eq!(node.0["metadata"].get("annotations"), None, "nothing is written");
    assert_eq!(state_at(120, &mut node, &rules).0, NodeState::Held);
    assert_eq!(node.record()["cni"]["cause"], "Regressed");
}

#[test]
fn a_bad_verdict_holds_the_node_at_once_as_a_regression() {
    let rules = one(TestRule::new("cni").probed().spec("maxUnavailable", json!(0)));
    let mut failing = node(-1).reported("Ready1", "False", 5);
    assert_eq!(state_at(6, &mut failing, &rules).0, NodeState::Deferred);
    let unlimited = one(TestRule::new("cni").probed());
    assert_eq!(state_at(6, &mut failing, &unlimited).0, NodeState::Held);
    assert_eq!(failing.record()["cni"]["cause"], "Regressed");
}

#[test]
fn a_good_verdict_writes_no_taint() {
    for rule in [TestRule::new("cni").probed(), TestRule::new("cni").probed().bootstrap()] {
        let rules = one(rule);
        let mut node = node(-1);
        assert_eq!(state_at(1, &mut node, &rules).0, NodeState::Pending);
        let mut node = node.reported("Ready1", "True", 5);
        let (state, _) = state_at(6, &mut node, &rules);
        assert!(matches!(state, NodeState::Ready | NodeState::Bootstrapped));
        assert!(node.taints().is_empty());
    }
}

#[test]
fn a_condition_from_before_the_rule_does_not_count_as_a_verdict() {
    let rules = one(TestRule::new("cni").probed());
    let mut node = node(-100).reported("Ready1", "False", -50);
    assert_eq!(state_at(1, &mut node, &rules).0, NodeState::Pending);
}

#[test]
fn new_and_tainted_nodes_and_nodes_that_miss_conditions_of_others_are_held_at_once() {
    let probed = one(TestRule::new("cni").probed());
    assert_eq!(state_at(1, &mut node(0), &probed).0, NodeState::Held);
    let mut tainted = node(-1).taint(KEY, "pending", "NoSchedule");
    assert_eq!(state_at(1, &mut tainted, &probed).0, NodeState::Held);
    let of_others = one(TestRule::new("cni"));
    let mut unreported = node(-1);
    assert_eq!(state_at(1, &mut unreported, &of_others).0, NodeState::Held);
    assert_eq!(unreported.record()["cni"]["cause"], "Bootstrap");
    let both = json!([
        {"type": "Ready1", "requiredStatus": "True"}, {"type": "Ready2", "requiredStatus": "True"},
    ]);
    let both = TestRule::new("cni").probed().spec("conditions", both);
    assert_eq!(state_at(1, &mut node(-1), &one(both.clone())).0, NodeState::Held);
    // One condition is enough, and the probe may still report it.
    let any = both.spec("conditionPolicy", json!("anyOf"));
    assert_eq!(state_at(1, &mut node(-1), &one(any)).0, NodeState::Pending);
}

#[test]
fn a_condition_from_before_the_rules_own_reporter_does_not_count() {
    for rule in [TestRule::new("cni").probed(), TestRule::new("cni").probed().bootstrap()] {
        let rules = one(rule);
        let mut in_service = node(-100).reported("Ready1", "True", -50);
        assert_eq!(state_at(1, &mut in_service, &rules).0, NodeState::Pending);
        assert_eq!(in_service.0["metadata"].get("annotations"), None, "nothing is written");
        let mut reported = in_service.reported("Ready1", "True", 5);
        let (state, _) = state_at(6, &mut reported, &rules);
        assert!(matches!(state, NodeState::Ready | NodeState::Bootstrapped));
    }
}

#[test]
fn a_new_node_with_the_condition_is_held_until_its_own_reporter_writes_it() {
    let rules = one(TestRule::new("cni").probed());
    let mut node = node(1).reported("Ready1", "True", -50);
    assert_eq!(state_at(2, &mut node, &rules).0, NodeState::Held);
    assert_eq!(node.record()["cni"]["cause"], "Bootstrap");
    // A later leader reads it from the record.
    let mut operator = Operator { now: 600, ..Operator::started(&[&node]) };
    let plan = operator.reconcile(&mut node, &rules);
    assert_eq!(state(&plan), NodeState::Held);
    let unmet = plan.results[0].evaluation.describe_unmet(rules.get("cni").unwrap());
    assert!(unmet.contains("existed before the rule's own probes reported it"), "{unmet}");
    // The clock of the node is behind, so only the different value shows that this heartbeat is new.
    let mut node = node.reported("Ready1", "True", -40);
    operator.sees(&node);
    assert_eq!(state(&operator.reconcile(&mut node, &rules)), NodeState::Ready);
}

#[test]
fn a_heartbeat_that_the_operator_observed_counts_independent_of_the_nodes_clock() {
    let rules = one(TestRule::new("cni").probed());
    let mut node = node(-100).reported("Ready1", "True", -50);
    let mut operator = Operator { now: 2, ..Operator::started(&[&node]) };
    operator.wait(10);
    node = node.reported("Ready1", "True", -40);
    operator.sees(&node);
    operator.wait(1);
    assert_eq!(state(&operator.reconcile(&mut node, &rules)), NodeState::Ready);
    // A heartbeat before the rule was created is from the reporter of an earlier rule.
    operator.wait(5);
    let mut other = TestNode(node.0.clone());
    other.0["metadata"].as_object_mut().unwrap().remove("annotations");
    assert_eq!(state(&operator.reconcile(&mut other, &rules)), NodeState::Pending);
}

#[test]
fn a_condition_of_an_older_rules_reporter_counts_at_once() {
    let older = TestRule::new("older").probed();
    let younger = created(TestRule::new("younger").probed().taint("readiness.k8s.io/Other", ""));
    let rules = rules(&[older, younger]);
    let mut node = node(-100).reported("Ready1", "True", -50);
    let mut operator = Operator { now: 1, ..Operator::started(&[&node]) };
    let plan = operator.reconcile(&mut node, &rules);
    assert!(plan.results.iter().all(|result| result.state == NodeState::Ready));
}
