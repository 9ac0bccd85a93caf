//! Conditions whose heartbeat stops, and limits on the number of nodes that are held for it.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use std::time::Duration;

use common::{KEY, Operator, TestNode, TestRule, rules, state};
use node_readiness_engine::{NodeState, RuleSet};
use serde_json::json;

fn beating(name: &str, beat: u32) -> TestNode {
    beat_again(TestNode::new(name).label("os", "linux"), beat)
}

fn beat_again(mut node: TestNode, beat: u32) -> TestNode {
    let heartbeat = format!("2026-01-01T00:00:{beat:02}Z");
    let condition = json!({"type": "Ready1", "status": "True", "lastHeartbeatTime": heartbeat});
    node.0["status"]["conditions"] = json!([condition]);
    node
}

fn impatient() -> TestRule {
    let condition = json!({"type": "Ready1", "requiredStatus": "True", "staleAfterSeconds": 60});
    TestRule::new("cni").spec("conditions", json!([condition]))
}

#[test]
fn a_condition_without_a_heartbeat_counts_as_unknown() {
    let rules = rules(&[impatient()]);
    let mut node = beating("n", 1);
    let mut operator = Operator::started(&[&node]);
    let plan = operator.reconcile(&mut node, &rules);
    assert_eq!(state(&plan), NodeState::Ready);
    assert_eq!(plan.recheck_in, Some(Duration::from_mins(1)));
    operator.wait(59);
    assert_eq!(state(&operator.reconcile(&mut node, &rules)), NodeState::Ready);
    operator.wait(1);
    let plan = operator.reconcile(&mut node, &rules);
    assert_eq!(state(&plan), NodeState::Held);
    assert_eq!(plan.recheck_in, None);
    assert!(plan.results[0].evaluation.has_stale());
    let unmet = plan.results[0].evaluation.describe_unmet(rules.get("cni").unwrap());
    let expected = "Ready1 had no heartbeat for 60 s and counts as Unknown, must be True";
    assert_eq!(unmet, expected);
}

#[test]
fn a_new_heartbeat_releases_the_node() {
    let rules = rules(&[impatient()]);
    let mut node = beating("n", 1);
    let mut operator = Operator::started(&[&node]);
    operator.reconcile(&mut node, &rules);
    operator.wait(60);
    operator.reconcile(&mut node, &rules);
    let mut node = beat_again(node, 2);
    operator.sees(&node);
    assert_eq!(state(&operator.reconcile(&mut node, &rules)), NodeState::Ready);
    assert_eq!(node.taints(), [""; 0]);
}

#[test]
fn an_outage_of_the_api_server_makes_nothing_stale() {
    let rules = rules(&[impatient()]);
    let mut node = beating("n", 1);
    let mut operator = Operator::started(&[&node]);
    operator.heartbeats.interrupt(operator.uptime);
    operator.wait(600);
    assert_eq!(state(&operator.reconcile(&mut node, &rules)), NodeState::Ready);
    operator.heartbeats.resume(operator.uptime);
    operator.wait(59);
    assert_eq!(state(&operator.reconcile(&mut node, &rules)), NodeState::Ready);
    operator.wait(1);
    assert_eq!(state(&operator.reconcile(&mut node, &rules)), NodeState::Held);
}

#[test]
fn an_outage_of_the_api_server_releases_nothing() {
    let rules = rules(&[impatient()]);
    let node = beating("n", 1);
    let mut operator = Operator::started(&[&node]);
    let mut node = beat_again(node, 2);
    operator.sees(&node);
    operator.wait(60);
    assert_eq!(state(&operator.reconcile(&mut node, &rules)), NodeState::Held);
    operator.heartbeats.interrupt(operator.uptime);
    assert_eq!(state(&operator.reconcile(&mut node, &rules)), NodeState::Held);
    operator.heartbeats.resume(operator.uptime);
    assert_eq!(state(&operator.reconcile(&mut node, &rules)), NodeState::Held);
}

#[test]
fn a_restart_neither_holds_nor_releases() {
    let rules = rules(&[impatient()]);
    let mut node = beating("n", 1);
    let mut operator = Operator::started(&[&node]);
    operator.reconcile(&mut node, &rules);
    // The node is released and silent for longer than allowed, and the operator restarts.
    let mut restarted = Operator::started(&[&node]);
    assert_eq!(state(&restarted.reconcile(&mut node, &rules)), NodeState::Ready);
    restarted.wait(60);
    assert_eq!(state(&restarted.reconcile(&mut node, &rules)), NodeState::Held);
    // The node is held, and the operator restarts again. The old heartbeat does not count.
    let mut restarted = Operator::started(&[&node]);
    let plan = restarted.reconcile(&mut node, &rules);
    assert_eq!(state(&plan), NodeState::Held);
    assert!(plan.results[0].evaluation.has_stale());
    let mut node = beat_again(node, 2);
    restarted.sees(&node);
    assert_eq!(state(&restarted.reconcile(&mut node, &rules)), NodeState::Ready);
}

/// A node with two conditions that do not become stale together.
fn with_second(node: TestNode, status: &str) -> TestNode {
    let first = node.0["status"]["conditions"][0].clone();
    let mut node = node.condition("Ready2", status);
    node.0["status"]["conditions"][0] = first;
    node
}

fn of_two_conditions() -> RuleSet {
    let conditions = json!([
        {"type": "Ready1", "requiredStatus": "True", "staleAfterSeconds": 60},
        {"type": "Ready2", "requiredStatus": "True"},
    ]);
    rules(&[TestRule::new("cni").spec("conditions", conditions)])
}

#[test]
fn a_node_whose_conditions_were_met_while_no_operator_ran_is_released_at_once() {
    let rules = of_two_conditions();
    let mut node = with_second(beating("n", 1), "False");
    let mut operator = Operator::started(&[&node]);
    assert_eq!(state(&operator.reconcile(&mut node, &rules)), NodeState::Held);
    assert_eq!(node.record()["cni"]["cause"], "Bootstrap");
    // The change brings no new heartbeat, because a heartbeat takes minutes.
    let mut node = with_second(node, "True");
    let mut restarted = Operator::started(&[&node]);
    assert_eq!(state(&restarted.reconcile(&mut node, &rules)), NodeState::Ready);
    assert_eq!(node.taints(), [""; 0]);
}

#[test]
fn a_stale_condition_of_a_held_node_stays_stale_after_a_restart() {
    let rules = of_two_conditions();
    let mut node = with_second(beating("n", 1), "False");
    let mut operator = Operator::started(&[&node]);
    operator.reconcile(&mut node, &rules);
    operator.wait(60);
    operator.reconcile(&mut node, &rules);
    let heartbeats = json!({"Ready1": "2026-01-01T00:00:01Z"});
    assert_eq!(node.record()["cni"]["cause"], "Bootstrap");
    assert_eq!(node.record()["cni"]["expiredHeartbeats"], heartbeats);
    // The other condition is met while no operator runs. The silent one is still silent.
    let mut node = with_second(node, "True");
    let mut restarted = Operator::started(&[&node]);
    assert_eq!(state(&restarted.reconcile(&mut node, &rules)), NodeState::Held);
    // A heartbeat that came while no operator ran counts as well.
    let first = json!("2026-01-01T00:00:02Z");
    node.0["status"]["conditions"][0]["lastHeartbeatTime"] = first;
    let mut restarted = Operator::started(&[&node]);
    assert_eq!(state(&restarted.reconcile(&mut node, &rules)), NodeState::Ready);
    assert_eq!(node.record()["cni"].get("expiredHeartbeats"), None);
}

#[test]
fn the_record_has_the_cause_why_a_released_node_is_held_again() {
    let rules = rules(&[impatient()]);
    let mut node = beating("n", 1);
    let mut operator = Operator::started(&[&node]);
    operator.reconcile(&mut node, &rules);
    assert_eq!(node.record()["cni"].get("cause"), None);
    operator.wait(60);
    assert_eq!(operator.reconcile(&mut node, &rules).regressed, ["cni"]);
    assert_eq!(node.record()["cni"]["cause"], "Stale");
    // The reporter writes again, and the condition is not met.
    let mut node = beat_again(node, 2);
    node.0["status"]["conditions"][0]["status"] = json!("False");
    operator.sees(&node);
    assert_eq!(operator.reconcile(&mut node, &rules).regressed, ["cni"]);
    assert_eq!(node.record()["cni"]["cause"], "Regressed");
    assert!(operator.reconcile(&mut node, &rules).patch.is_none());
}

/// A node that an operator of version 0.1.0 held at the third second.
fn held_by_the_version_before(beat: u32, regressed: bool) -> TestNode {
    let mut claim = json!({
        "taint": {"key": KEY, "value": "pending", "effect": "NoSchedule"},
        "state": "held", "since": "2026-01-01T00:00:03Z",
    });
    if regressed {
        claim["regressed"] = json!(true);
    }
    let record = json!({"cni": claim}).to_string();
    beating("n", beat)
        .taint(KEY, "pending", "NoSchedule")
        .annotation("readiness.k8s.io/rules", &record)
}

#[test]
fn records_of_version_0_1_0_are_read() {
    let rules = rules(&[impatient()]);
    for regressed in [false, true] {
        // The condition was not written since: the node was held as stale, and the record now names the heartbeat.
        let mut node = held_by_the_version_before(2, regressed);
        let mut operator = Operator::started(&[&node]);
        let plan = operator.reconcile(&mut node, &rules);
        assert_eq!(state(&plan), NodeState::Held);
        assert_eq!(
            !plan.regressed.is_empty(),
            regressed,
            "the node must count against maxUnavailable as before"
        );
        let cause = if regressed { "Stale" } else { "Bootstrap" };
        assert_eq!(node.record()["cni"]["cause"], cause);
        assert_eq!(node.record()["cni"].get("regressed"), None);
        assert_eq!(node.record()["cni"]["expiredHeartbeats"]["Ready1"], "2026-01-01T00:00:02Z");
        // The condition was written since, so the node is released.
        let mut node = held_by_the_version_before(4, regressed);
        let mut operator = Operator::started(&[&node]);
        assert_eq!(state(&operator.reconcile(&mut node, &rules)), NodeState::Ready);
    }
}

#[test]
fn a_condition_of_an_own_probe_becomes_stale_after_three_heartbeats() {
    let probe = json!([{"conditionType": "Ready1", "httpGet": {"port": 1}}]);
    let rule = TestRule::new("cni")
        .spec("probes", probe)
        .spec("reporter", json!({"heartbeatSeconds": 20}));
    let rules = rules(&[rule]);
    let mut node = beating("n", 1);
    let mut operator = Operator::started(&[&node]);
    let plan = operator.reconcile(&mut node, &rules);
    assert_eq!(plan.recheck_in, Some(Duration::from_mins(1)));
}

/// A rule with a probe that has these other fields. The probe decides a condition that must be True, with a
/// heartbeat of 20 s.
fn probing(probe: serde_json::Value) -> TestRule {
    let mut probe = probe;
    probe["conditionType"] = json!("Ready1");
    probe["httpGet"] = json!({"port": 1});
    TestRule::new("cni")
        .spec("probes", json!([probe]))
        .spec("reporter", json!({"heartbeatSeconds": 20}))
}

/// The seconds after which a node with a heartbeat is requeued.
fn lasts(rules_: &[TestRule]) -> u64 {
    let mut node = beating("n", 1);
    let mut operator = Operator::started(&[&node]);
    operator.reconcile(&mut node, &rules(rules_)).recheck_in.unwrap().as_secs()
}

#[test]
fn a_restarted_reporter_has_time_for_its_first_verdict() {
    assert_eq!(lasts(&[probing(json!({}))]), 60);
    assert_eq!(lasts(&[probing(json!({"initialDelaySeconds": 180}))]), 220);
    assert_eq!(lasts(&[probing(json!({"successThreshold": 4, "periodSeconds": 60}))]), 220);
    // The rule waits for successes, so the failure threshold has no effect.
    assert_eq!(lasts(&[probing(json!({"failureThreshold": 100}))]), 60);
    let problem = json!([{"type": "Ready1", "requiredStatus": "False"}]);
    let problem = probing(json!({"failureThreshold": 10})).spec("conditions", problem);
    let mut node = beat_again(beating("n", 1), 1);
    node.0["status"]["conditions"][0]["status"] = json!("False");
    let mut operator = Operator::started(&[&node]);
    let plan = operator.reconcile(&mut node, &rules(&[problem]));
    assert_eq!(plan.recheck_in, Some(Duration::from_secs(40 + 90)));
}

#[test]
fn no_limit_is_shorter_than_the_silence_of_a_healthy_reporter() {
    let hasty = json!([{"type": "Ready1", "requiredStatus": "True", "staleAfterSeconds": 30}]);
    assert_eq!(lasts(&[probing(json!({})).spec("conditions", hasty.clone())]), 40);
    // A rule may set a shorter limit for conditions of other rules' reporters.
    let other = TestRule::new("other").spec("conditions", hasty);
    assert_eq!(lasts(&[probing(json!({})), other]), 30);
}

#[test]
fn a_condition_of_others_does_not_become_stale_by_default() {
    let mut node = beating("n", 1);
    let mut operator = Operator::started(&[&node]);
    operator.wait(1_000_000);
    let plan = operator.reconcile(&mut node, &rules(&[TestRule::new("cni")]));
    assert_eq!((state(&plan), plan.recheck_in), (NodeState::Ready, None));
}

/// Ten released nodes whose heartbeats all stop.
fn silent_fleet(max_unavailable: serde_json::Value) -> (Operator, Vec<TestNode>, RuleSet) {
    let rules = rules(&[impatient().spec("maxUnavailable", max_unavailable)]);
    let mut nodes: Vec<_> = (0..10).map(|n| beating(&format!("n{n}"), 1)).collect();
    let mut operator = Operator::started(&nodes.iter().collect::<Vec<_>>());
    for node in &mut nodes {
        operator.reconcile(node, &rules);
    }
    operator.wait(60);
    for node in &mut nodes {
        operator.reconcile(node, &rules);
    }
    (operator, nodes, rules)
}

fn held(nodes: &[TestNode]) -> usize {
    nodes.iter().filter(|node| node.taints().iter().any(|t| t.starts_with(KEY))).count()
}

#[test]
fn no_more_regressed_nodes_are_held_than_the_rule_allows() {
    assert_eq!(held(&silent_fleet(json!("25%")).1), 3);
    assert_eq!(held(&silent_fleet(json!(4)).1), 4);
    assert_eq!(held(&silent_fleet(json!(0)).1), 0);
    assert_eq!(held(&silent_fleet(json!("100%")).1), 10);
}

#[test]
fn a_deferred_node_is_held_when_there_is_room() {
    let (mut operator, mut nodes, rules) = silent_fleet(json!(1));
    assert_eq!(state(&operator.reconcile(&mut nodes[5], &rules)), NodeState::Deferred);
    nodes[0] = beat_again(nodes[0].clone(), 2);
    operator.sees(&nodes[0]);
    operator.reconcile(&mut nodes[0], &rules);
    assert_eq!(state(&operator.reconcile(&mut nodes[5], &rules)), NodeState::Held);
    assert_eq!(held(&nodes), 1);
}

#[test]
fn the_limit_survives_a_restart() {
    let (_, mut nodes, rules) = silent_fleet(json!(2));
    let mut restarted = Operator::started(&nodes.iter().collect::<Vec<_>>());
    restarted.wait(60);
    for node in &mut nodes {
        restarted.reconcile(node, &rules);
    }
    assert_eq!(held(&nodes), 2);
}

#[test]
fn a_held_node_stays_held_even_if_another_node_uses_up_the_limit() {
    let (mut operator, mut nodes, rules) = silent_fleet(json!(1));
    operator.regressed_nodes.set("n0", &[]);
    operator.regressed_nodes.set("n5", &["cni".to_owned()]);
    assert_eq!(state(&operator.reconcile(&mut nodes[0], &rules)), NodeState::Held);
}

#[test]
fn a_rule_that_becomes_continuous_observes_its_limit() {
    let boot = impatient().bootstrap();
    let mut nodes: Vec<_> = (0..4).map(|n| beating(&format!("n{n}"), 1)).collect();
    let mut operator = Operator::started(&nodes.iter().collect::<Vec<_>>());
    for node in &mut nodes {
        operator.reconcile(node, &rules(std::slice::from_ref(&boot)));
        assert_eq!(node.completed(), ["uid-cni"]);
    }
    operator.wait(60);
    let continuous = rules(&[impatient().spec("maxUnavailable", json!(1))]);
    for _ in 0..2 {
        for node in &mut nodes {
            operator.reconcile(node, &continuous);
            assert_eq!(node.completed(), [""; 0]);
        }
    }
    assert_eq!(held(&nodes), 1);
}

#[test]
fn new_nodes_are_held_beyond_the_limit() {
    let (mut operator, _, rules) = silent_fleet(json!(0));
    let mut new = TestNode::new("new").label("os", "linux");
    operator.sees(&new);
    assert_eq!(state(&operator.reconcile(&mut new, &rules)), NodeState::Held);
}
