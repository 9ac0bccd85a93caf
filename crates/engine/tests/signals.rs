//! Rules that require more than conditions: pods, drivers and resources.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use common::signals::{lists, observe, pod, pods, required_pods};
use common::{KEY, Operator, TestNode, TestRule, rules, state};
use node_readiness_engine::signals::{CsiNode, ResourceSlice, SignalEvent, SignalObject, Source};
use node_readiness_engine::{NodePlan, NodeState, RuleSet};
use serde_json::{Value, json};

fn held() -> [String; 1] {
    [format!("{KEY}=pending:NoSchedule")]
}

/// A rule without conditions that requires this.
fn requiring(field: &str, value: Value) -> TestRule {
    TestRule::new("r").spec("conditions", json!([])).spec(field, value)
}

fn of_pods() -> TestRule {
    requiring("pods", required_pods())
}

fn one(rule: TestRule) -> RuleSet {
    rules(&[rule])
}

fn node() -> TestNode {
    TestNode::new("n").label("os", "linux").booted("a").reported("Ready", "True", 0)
}

/// An operator that has just started and has listed these pods.
fn started(node: &TestNode, listed: &[&dyn SignalObject]) -> Operator {
    let mut operator = Operator::started(&[node]);
    lists(&mut operator, &pods(), listed);
    operator
}

/// A node that the rule has released, because its pod with the container `1` is Ready.
fn released(rules: &RuleSet) -> (TestNode, Operator) {
    let mut node = node();
    let mut operator = started(&node, &[&pod(true, "1")]);
    operator.reconcile(&mut node, rules);
    assert!(node.taints().is_empty());
    (node, operator)
}

fn rebooted(node: TestNode, operator: &mut Operator, boot: &str) -> TestNode {
    let node = node.booted(boot);
    operator.sees(&node);
    node
}

fn unmet(plan: &NodePlan, rules: &RuleSet) -> String {
    plan.results[0].evaluation.describe_unmet(rules.get("r").unwrap())
}

#[test]
fn a_node_is_held_until_its_pod_is_ready() {
    let rules = one(of_pods());
    let mut node = node();
    let mut operator = started(&node, &[]);
    let plan = operator.reconcile(&mut node, &rules);
    assert_eq!(node.taints(), held());
    assert_eq!(unmet(&plan, &rules), "no Ready pod in kube-system matches k8s-app=cni");
    assert_eq!(node.record()["r"]["cause"], "Bootstrap");
    for (event, taints) in [
        (SignalEvent::Applied(&pod(false, "1")), 1),
        (SignalEvent::Applied(&pod(true, "1")), 0),
        (SignalEvent::Applied(&pod(false, "1")), 1),
        (SignalEvent::Applied(&pod(true, "2")), 0),
        (SignalEvent::Deleted(&pod(true, "2")), 1),
    ] {
        observe(&mut operator, &pods(), event);
        operator.reconcile(&mut node, &rules);
        assert_eq!(node.taints().len(), taints);
        assert!(operator.reconcile(&mut node, &rules).patch.is_none());
    }
    assert_eq!(node.record()["r"]["cause"], "Regressed");
}

#[test]
fn nothing_known_changes_before_the_first_list() {
    let rules = one(of_pods());
    let (mut node, _) = released(&rules);
    let mut restarted = Operator::started(&[&node]);
    let plan = restarted.reconcile(&mut node, &rules);
    assert!(plan.patch.is_none());
    assert_eq!(state(&plan), NodeState::Pending);
    assert_eq!(
        unmet(&plan, &rules),
        "pods in kube-system that match k8s-app=cni are not observed yet"
    );
    lists(&mut restarted, &pods(), &[&pod(false, "1")]);
    assert_eq!(state(&restarted.reconcile(&mut node, &rules)), NodeState::Held);

    // A held node stays held, one that was in service before the rule is left alone, and a new one is held.
    let mut restarted = Operator::started(&[&node]);
    let plan = restarted.reconcile(&mut node, &rules);
    assert!(plan.patch.is_none() && state(&plan) == NodeState::Held);
    let mut old = self::node().joined(-1000);
    let young = one(of_pods().created("2027-01-15T08:00:00Z"));
    let plan = Operator::started(&[&old]).reconcile(&mut old, &young);
    assert!(plan.patch.is_none() && state(&plan) == NodeState::Pending);
    let mut new = self::node();
    Operator::started(&[&new]).reconcile(&mut new, &rules);
    assert_eq!(new.taints(), held());
}

#[test]
fn a_rebooted_node_is_held_until_its_pod_has_other_containers() {
    let rules = one(of_pods());
    let (node, mut operator) = released(&rules);
    operator.wait(60);
    let mut node = rebooted(node, &mut operator, "b");
    let plan = operator.reconcile(&mut node, &rules);
    assert_eq!(node.taints(), held());
    assert_eq!(node.record()["r"]["cause"], "Rebooted");
    assert_eq!(
        unmet(&plan, &rules),
        "no pod in kube-system that matches k8s-app=cni has restarted since the node rebooted"
    );
    // The same containers release nothing, on any operator.
    for operator in [&mut operator, &mut started(&node, &[&pod(true, "1")])] {
        assert!(operator.reconcile(&mut node, &rules).patch.is_none());
    }
    observe(&mut operator, &pods(), SignalEvent::Applied(&pod(true, "2")));
    operator.reconcile(&mut node, &rules);
    assert!(node.taints().is_empty());
}

#[test]
fn a_rebooted_node_without_a_ready_pod_is_held_because_it_rebooted() {
    let rules = one(of_pods().spec("maxUnavailable", json!(0)));
    let (node, mut operator) = released(&rules);
    operator.wait(60);
    observe(&mut operator, &pods(), SignalEvent::Applied(&pod(false, "1")));
    let mut node = rebooted(node, &mut operator, "b");
    operator.reconcile(&mut node, &rules);
    assert_eq!(node.record()["r"]["cause"], "Rebooted");
    observe(&mut operator, &pods(), SignalEvent::Applied(&pod(true, "2")));
    operator.reconcile(&mut node, &rules);
    assert!(node.taints().is_empty());
}

#[test]
fn a_reboot_without_an_operator_is_detected_by_the_record() {
    let rules = one(of_pods());
    let (node, _) = released(&rules);
    let node = node.booted("b");
    for (container, taints) in [("1", 1), ("2", 0)] {
        let mut node = node.clone();
        started(&node, &[&pod(true, container)]).reconcile(&mut node, &rules);
        assert_eq!(node.taints().len(), taints, "container {container}");
    }
    // The pods are not listed yet, and the boot is recorded nevertheless.
    let mut node = node;
    let mut operator = Operator::started(&[&node]);
    operator.reconcile(&mut node, &rules);
    assert_eq!(node.record()["r"]["cause"], "Rebooted");
    lists(&mut operator, &pods(), &[&pod(true, "1")]);
    operator.reconcile(&mut node, &rules);
    assert_eq!(node.taints(), held());
}

#[test]
fn containers_that_are_observed_just_before_the_boot_count() {
    let rules = one(of_pods());
    let (mut node, mut operator) = released(&rules);
    operator.wait(60);
    // The watch of nodes is behind that of pods.
    observe(&mut operator, &pods(), SignalEvent::Applied(&pod(true, "2")));
    operator.reconcile(&mut node, &rules);
    operator.wait(2);
    let mut node = rebooted(node, &mut operator, "b");
    operator.reconcile(&mut node, &rules);
    assert!(node.taints().is_empty());
}

#[test]
fn a_reboot_matters_to_a_bootstrap_only_rule_and_not_with_keep() {
    for (rule, taints) in [
        (of_pods().bootstrap(), 1),
        (of_pods().spec("afterReboot", json!("Keep")), 0),
        (of_pods().bootstrap().spec("afterReboot", json!("Keep")), 0),
    ] {
        let rules = one(rule);
        let (node, mut operator) = released(&rules);
        operator.wait(60);
        let mut node = rebooted(node, &mut operator, "b");
        operator.reconcile(&mut node, &rules);
        assert_eq!(node.taints().len(), taints);
    }
}

#[test]
fn a_node_needs_its_drivers_and_resources() {
    let csi: CsiNode = serde_json::from_value(
        json!({"metadata": {"name": "n"}, "spec": {"drivers": [{"name": "ebs.csi.aws.com"}]}}),
    )
    .unwrap();
    let slice: ResourceSlice = serde_json::from_value(json!({
        "metadata": {"name": "s"},
        "spec": {"driver": "gpu.example.com", "nodeName": "n",
                 "pool": {"name": "n", "generation": 1, "resourceSliceCount": 1}},
    }))
    .unwrap();
    let mut with_gpus = node();
    with_gpus.0["status"]["allocatable"] = json!({"example.com/gpu": "8", "memory": "16Gi"});
    for (field, met, missing, text) in [
        (
            "csiDrivers",
            json!(["ebs.csi.aws.com"]),
            json!(["efs.csi.aws.com"]),
            "the CSI driver efs.csi.aws.com is not registered",
        ),
        (
            "resourceDrivers",
            json!(["gpu.example.com"]),
            json!(["other.example.com"]),
            "the DRA driver other.example.com has not published all of its ResourceSlices",
        ),
        (
            "resources",
            json!([{"name": "example.com/gpu"}, {"name": "memory", "minimum": "16384Mi"}]),
            json!([{"name": "example.com/gpu", "minimum": 9}]),
            "allocatable example.com/gpu is less than 9",
        ),
    ] {
        for (value, expected) in [(met, ""), (missing, text)] {
            let rules = one(requiring(field, value));
            let mut node = with_gpus.clone();
            let mut operator = Operator::started(&[&node]);
            lists(&mut operator, &Source::CsiNodes, &[&csi]);
            lists(&mut operator, &Source::ResourceSlices, &[&slice]);
            let plan = operator.reconcile(&mut node, &rules);
            assert_eq!(unmet(&plan, &rules), expected, "{field}");
            assert_eq!(node.taints().is_empty(), expected.is_empty(), "{field}");
        }
    }
}

#[test]
fn the_policy_is_over_all_requirements() {
    let rule = of_pods().spec("conditions", json!([{"type": "C", "requiredStatus": "True"}]));
    for (policy, ready, status, taints) in [
        ("allOf", true, "True", 0),
        ("allOf", true, "False", 1),
        ("allOf", false, "True", 1),
        ("anyOf", true, "False", 0),
        ("anyOf", false, "True", 0),
        ("anyOf", false, "False", 1),
    ] {
        let rules = one(rule.clone().spec("conditionPolicy", json!(policy)));
        let mut node = node().condition("C", status);
        let mut operator = started(&node, &[&pod(ready, "1")]);
        operator.reconcile(&mut node, &rules);
        assert_eq!(node.taints().len(), taints, "{policy} {ready} {status}");
    }
}

#[test]
fn results_of_a_rule_with_many_requirements_are_bounded() {
    let drivers: Vec<_> = (0..16).map(|n| format!("csi-{n}.example.com")).collect();
    let values: Vec<_> = (0..1000).map(|n| format!("value-{n}")).collect();
    let selector = json!({"matchExpressions": [{"key": "a", "operator": "In", "values": values}]});
    let pods = json!([{"name": "many", "namespace": "default", "selector": selector}]);
    let rules = one(requiring("csiDrivers", json!(drivers)).spec("pods", pods));
    let mut node = node();
    let mut operator = Operator::started(&[&node]);
    let registered =
        json!({"metadata": {"name": "n"}, "spec": {"drivers": [{"name": drivers[0]}]}});
    let csi: CsiNode = serde_json::from_value(registered).unwrap();
    lists(&mut operator, &Source::CsiNodes, &[&csi]);
    let plan = operator.reconcile(&mut node, &rules);
    let results = plan.results[0].evaluation.requirement_results(rules.get("r").unwrap());
    assert_eq!(results.len(), 16);
    assert!(results.iter().all(|result| !result.met));
    assert!(results[0].message.len() < 300, "{}", results[0].message);
    assert!(unmet(&plan, &rules).ends_with("; and 8 more"), "{}", unmet(&plan, &rules));
}

#[test]
fn a_new_rule_does_not_take_a_cluster_in_service_down() {
    let rules = one(of_pods().created("2027-01-15T08:00:00Z").spec("maxUnavailable", json!(0)));
    let mut node = node().joined(-1000);
    let mut operator = started(&node, &[]);
    let plan = operator.reconcile(&mut node, &rules);
    assert_eq!(state(&plan), NodeState::Deferred);
    assert!(node.taints().is_empty());
}

#[test]
fn requirements_must_be_met_for_a_while() {
    let rules = one(of_pods().spec("minReadySeconds", json!(30)));
    let mut node = node();
    let mut operator = started(&node, &[]);
    operator.reconcile(&mut node, &rules);
    observe(&mut operator, &pods(), SignalEvent::Applied(&pod(true, "1")));
    let plan = operator.reconcile(&mut node, &rules);
    assert_eq!(plan.recheck_in.unwrap().as_secs(), 30);
    assert_eq!(unmet(&plan, &rules), "has met the requirements for less than 30 s");
    operator.wait(20);
    assert_eq!(operator.reconcile(&mut node, &rules).recheck_in.unwrap().as_secs(), 10);
    // A failure in between begins the time anew.
    observe(&mut operator, &pods(), SignalEvent::Applied(&pod(false, "1")));
    operator.reconcile(&mut node, &rules);
    observe(&mut operator, &pods(), SignalEvent::Applied(&pod(true, "1")));
    operator.reconcile(&mut node, &rules);
    operator.wait(29);
    operator.reconcile(&mut node, &rules);
    assert_eq!(node.taints(), held());
    operator.wait(1);
    operator.reconcile(&mut node, &rules);
    assert!(node.taints().is_empty());
    // A node that was never held does not wait.
    let mut other = self::node();
    started(&other, &[&pod(true, "1")]).reconcile(&mut other, &rules);
    assert!(other.taints().is_empty());
}

#[test]
fn an_overdue_node_is_reported_once() {
    let rules = one(of_pods().spec("holdTimeout", json!({"seconds": 60})));
    let mut node = node();
    let mut operator = started(&node, &[]);
    let plan = operator.reconcile(&mut node, &rules);
    assert_eq!(plan.recheck_in.unwrap().as_secs(), 60);
    operator.now += 60;
    let plan = operator.reconcile(&mut node, &rules);
    assert_eq!(plan.newly_overdue, ["r"]);
    assert_eq!(node.taints(), held());
    assert!(plan.results[0].overdue);
    let plan = operator.reconcile(&mut node, &rules);
    assert!(plan.patch.is_none() && plan.newly_overdue.is_empty() && plan.results[0].overdue);
    observe(&mut operator, &pods(), SignalEvent::Applied(&pod(true, "1")));
    let plan = operator.reconcile(&mut node, &rules);
    assert!(node.taints().is_empty() && !plan.results[0].overdue);
    let hold = &plan.ended_holds[0];
    assert_eq!((&*hold.rule, hold.held_for.as_secs()), ("r", 60));
}

#[test]
fn an_overdue_node_can_be_released() {
    let timeout = json!({"seconds": 60, "action": "Release"});
    let rules = one(of_pods().spec("holdTimeout", timeout));
    let mut node = node();
    let mut operator = started(&node, &[]);
    operator.reconcile(&mut node, &rules);
    operator.now += 61;
    let plan = operator.reconcile(&mut node, &rules);
    assert_eq!((state(&plan), plan.newly_overdue.len()), (NodeState::Overdue, 1));
    assert!(node.taints().is_empty());
    assert_eq!(node.record()["r"]["overdue"], true);
    // It is not held again before it was ready, by any operator.
    let mut restarted = started(&node, &[]);
    restarted.now = operator.now;
    for operator in [&mut operator, &mut restarted] {
        let plan = operator.reconcile(&mut node, &rules);
        assert!(plan.patch.is_none() && state(&plan) == NodeState::Overdue);
    }
    observe(&mut operator, &pods(), SignalEvent::Applied(&pod(true, "1")));
    operator.reconcile(&mut node, &rules);
    assert!(node.record()["r"]["overdue"].is_null());
    observe(&mut operator, &pods(), SignalEvent::Applied(&pod(false, "1")));
    operator.reconcile(&mut node, &rules);
    assert_eq!(node.taints(), held());
}
