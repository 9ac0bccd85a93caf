//! Tests of metrics, from plans to a scrape.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::runtime::reflector::{self, store::Writer};
use kube::runtime::watcher::Event;
use node_readiness_engine::{Failure, Node, NodePlan, PlanContext, Rule, RuleSet, plan};
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Metrics, exposition, newly_unmet};
use crate::cache::StoredRule;
use crate::evaluations::EvaluationStore;
use crate::leader::{Claim, Leadership};

/// Seconds after the creation of rules.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn rule(name: &str, uid: &str, mode: &str) -> Value {
    json!({
        "metadata": {"name": name, "uid": uid, "generation": 1, "creationTimestamp": at(0)},
        "spec": {
            "nodeSelector": {"matchLabels": {"rule": name}},
            "conditions": [{"type": "example.com/Ready", "requiredStatus": "True"}],
            "enforcementMode": mode,
            "taint": {"key": format!("readiness.k8s.io/{name}"), "effect": "NoSchedule"},
        },
    })
}

fn node(rule: &str, created: i64, status: &str) -> Node {
    serde_json::from_value(node_json(rule, created, status)).unwrap()
}

fn node_json(rule: &str, created: i64, status: &str) -> Value {
    let conditions = json!([{"type": "example.com/Ready", "status": status}]);
    json!({
        "metadata": {"name": "n", "uid": "u", "labels": {"rule": rule},
            "creationTimestamp": at(created)},
        "status": {"conditions": conditions},
    })
}

/// The parts of an operator that metrics need, without watches.
struct Site {
    metrics: Metrics,
    evaluations: Arc<EvaluationStore>,
    rules: watch::Sender<Option<Arc<RuleSet>>>,
    store: Writer<StoredRule>,
    claim: watch::Sender<Claim>,
    registry: Registry,
}

impl Site {
    fn new(rules: &[Value]) -> Self {
        let metrics = Metrics::new(true);
        let (evaluations, _) = EvaluationStore::new();
        let evaluations = Arc::new(evaluations);
        let (reader, store) = reflector::store();
        let (publish, set) = watch::channel(None);
        let (claim, leadership) = Leadership::new();
        let registry =
            exposition(metrics.clone(), reader, set, Arc::clone(&evaluations), leadership);
        let mut site = Self { metrics, evaluations, rules: publish, store, claim, registry };
        site.relist(rules);
        site
    }

    /// Replaces the existing rules.
    fn relist(&mut self, rules: &[Value]) {
        let stored = rules.iter().map(|rule| {
            let mut rule = rule.clone();
            rule["apiVersion"] = json!("readiness.node.x-k8s.io/v1alpha1");
            rule["kind"] = json!("NodeReadinessRule");
            serde_json::from_value::<StoredRule>(rule).unwrap()
        });
        self.store.apply_watcher_event(&Event::Init);
        let mut readable = Vec::new();
        for rule in stored {
            readable.extend(rule.0.as_ref().ok().map(|rule| Rule::compile(rule).unwrap()));
            self.store.apply_watcher_event(&Event::InitApply(rule));
        }
        self.store.apply_watcher_event(&Event::InitDone);
        self.rules.send_replace(Some(Arc::new(RuleSet::new(readable, []))));
    }

    fn plan(&self, node: &Node) -> NodePlan {
        let set = self.rules.borrow().clone().unwrap();
        plan(node, &set, &PlanContext::unobserved(at(0), Duration::ZERO))
    }

    /// Plans a node and records a written or failed plan, as the node controller does.
    fn reconcile(&self, node: &Node, now: Timestamp, failure: Option<&Failure>) {
        let set = self.rules.borrow().clone().unwrap();
        let plan = self.plan(node);
        self.metrics.planned(&plan, Duration::from_micros(10));
        self.metrics.unmet(&self.evaluations.read(|l| newly_unmet(node.name(), &plan, &set, l)));
        self.evaluations.record(node.name(), &plan, failure);
        match failure {
            None => self.metrics.written(node, &plan, &set, Duration::from_millis(20), now),
            Some(_) => self.metrics.failed(&plan, &set),
        }
    }

    fn scrape(&self) -> String {
        let mut exposed = String::new();
        text::encode(&mut exposed, &self.registry).unwrap();
        exposed
    }

    fn expect(&self, lines: &[&str]) {
        let exposed = self.scrape();
        for line in lines {
            assert!(exposed.lines().any(|l| l == *line), "{line} is not in\n{exposed}");
        }
    }
}

#[test]
fn every_metric_has_exactly_its_name_type_and_labels() {
    let site = Site::new(&[rule("r", "1", "continuous")]);
    site.metrics.reconciled("1", at(7));
    let exposed = site.scrape();
    let types: Vec<_> = exposed.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let expected = [
        "node_readiness_build_info gauge",
        "node_readiness_leader gauge",
        "node_readiness_rules_total gauge",
        "node_readiness_events_dropped counter",
        "node_readiness_nodes_by_state gauge",
        "node_readiness_rule_nodes gauge",
        "node_readiness_taint_operations counter",
        "node_readiness_reconciliation_latency_seconds histogram",
        "node_readiness_failures counter",
        "node_readiness_bootstrap_completed counter",
        "node_readiness_bootstrap_duration_seconds histogram",
        "node_readiness_nodes_overdue gauge",
        "node_readiness_evaluation_duration_seconds histogram",
        "node_readiness_condition_failures counter",
        "node_readiness_rule_last_reconciliation_timestamp_seconds gauge",
    ];
    assert_eq!(types, expected);
    let samples: Vec<_> = exposed
        .lines()
        .filter(|line| !line.starts_with('#') && !line.contains("_bucket{"))
        .map(|line| line.rsplit_once(' ').unwrap().0)
        .collect();
    let expected = [
        concat!("node_readiness_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"),
        "node_readiness_leader",
        "node_readiness_rules_total",
        "node_readiness_events_dropped_total",
        r#"node_readiness_nodes_by_state{rule="r",state="ready"}"#,
        r#"node_readiness_nodes_by_state{rule="r",state="not_ready"}"#,
        r#"node_readiness_nodes_by_state{rule="r",state="bootstrapping"}"#,
        r#"node_readiness_rule_nodes{rule="r",state="held"}"#,
        r#"node_readiness_rule_nodes{rule="r",state="released"}"#,
        r#"node_readiness_taint_operations_total{rule="r",operation="add"}"#,
        r#"node_readiness_taint_operations_total{rule="r",operation="remove"}"#,
        r#"node_readiness_reconciliation_latency_seconds_sum{rule="r",operation="add_taint"}"#,
        r#"node_readiness_reconciliation_latency_seconds_count{rule="r",operation="add_taint"}"#,
        r#"node_readiness_reconciliation_latency_seconds_sum{rule="r",operation="remove_taint"}"#,
        r#"node_readiness_reconciliation_latency_seconds_count{rule="r",operation="remove_taint"}"#,
        r#"node_readiness_failures_total{rule="r",reason="EvaluationError"}"#,
        r#"node_readiness_failures_total{rule="r",reason="AddTaintError"}"#,
        r#"node_readiness_failures_total{rule="r",reason="RemoveTaintError"}"#,
        r#"node_readiness_bootstrap_completed_total{rule="r"}"#,
        r#"node_readiness_bootstrap_duration_seconds_sum{rule="r"}"#,
        r#"node_readiness_bootstrap_duration_seconds_count{rule="r"}"#,
        r#"node_readiness_nodes_overdue{rule="r"}"#,
        r#"node_readiness_evaluation_duration_seconds_sum{rule="r"}"#,
        r#"node_readiness_evaluation_duration_seconds_count{rule="r"}"#,
        r#"node_readiness_condition_failures_total{rule="r",condition="example.com/Ready"}"#,
        r#"node_readiness_rule_last_reconciliation_timestamp_seconds{rule="r"}"#,
    ];
    assert_eq!(samples, expected);
    assert!(exposed.ends_with("# EOF\n"));
}

#[test]
fn the_leader_metric_is_1_on_the_leader_only() {
    let site = Site::new(&[]);
    site.expect(&["node_readiness_leader 0"]);
    site.claim.send_replace(Claim::Unlimited);
    site.expect(&["node_readiness_leader 1"]);
}

#[test]
fn an_added_taint_is_counted_with_its_latency_and_the_node_as_held() {
    let site = Site::new(&[rule("r", "1", "continuous")]);
    site.reconcile(&node("r", 0, "False"), at(0), None);
    site.expect(&[
        "node_readiness_rules_total 1",
        r#"node_readiness_taint_operations_total{rule="r",operation="add"} 1"#,
        r#"node_readiness_taint_operations_total{rule="r",operation="remove"} 0"#,
        r#"node_readiness_reconciliation_latency_seconds_count{rule="r",operation="add_taint"} 1"#,
        r#"node_readiness_reconciliation_latency_seconds_sum{rule="r",operation="add_taint"} 0.02"#,
        r#"node_readiness_nodes_by_state{rule="r",state="not_ready"} 1"#,
        r#"node_readiness_rule_nodes{rule="r",state="held"} 1"#,
        r#"node_readiness_evaluation_duration_seconds_count{rule="r"} 1"#,
    ]);
}

#[test]
fn a_condition_that_remains_unmet_is_counted_once() {
    let site = Site::new(&[rule("r", "1", "continuous")]);
    let count =
        r#"node_readiness_condition_failures_total{rule="r",condition="example.com/Ready"}"#;
    for (status, expected) in
        [("False", 1), ("False", 1), ("Unknown", 1), ("True", 1), ("False", 2)]
    {
        site.reconcile(&node("r", 0, status), at(0), None);
        site.expect(&[&format!("{count} {expected}")]);
    }
}

#[test]
fn a_failed_write_is_counted_by_its_intended_operation() {
    let site = Site::new(&[rule("r", "1", "continuous")]);
    let failure = Failure { reason: "Forbidden".to_owned(), message: "no".to_owned() };
    site.reconcile(&node("r", 0, "False"), at(0), Some(&failure));
    site.expect(&[
        r#"node_readiness_failures_total{rule="r",reason="AddTaintError"} 1"#,
        r#"node_readiness_failures_total{rule="r",reason="EvaluationError"} 0"#,
        r#"node_readiness_taint_operations_total{rule="r",operation="add"} 0"#,
        r#"node_readiness_rule_nodes{rule="r",state="held"} 0"#,
    ]);
    // This plan changes only the record, for the release.
    site.reconcile(&node("r", 0, "True"), at(0), Some(&failure));
    site.expect(&[r#"node_readiness_failures_total{rule="r",reason="EvaluationError"} 1"#]);
}

#[test]
fn the_duration_of_a_hold_is_recorded_by_its_cause() {
    let mut limited = rule("r", "1", "continuous");
    limited["spec"]["holdTimeout"] = json!({"seconds": 60});
    let site = Site::new(&[limited]);
    let held = |status| {
        let mut node = node_json("r", 0, status);
        let claim = json!({"r": {
            "state": "held", "cause": "Regressed", "since": at(-90).to_string(),
            "taint": {"key": "readiness.k8s.io/r", "effect": "NoSchedule"},
        }});
        let record = claim.to_string();
        node["metadata"]["annotations"] = json!({"readiness.k8s.io/rules": record});
        serde_json::from_value::<Node>(node).unwrap()
    };
    site.reconcile(&held("False"), at(0), None);
    site.expect(&[r#"node_readiness_nodes_overdue{rule="r"} 1"#]);
    site.reconcile(&held("True"), at(0), None);
    site.expect(&[
        r#"node_readiness_hold_duration_seconds_sum{rule="r",cause="Regressed"} 90.0"#,
        r#"node_readiness_hold_duration_seconds_count{rule="r",cause="Regressed"} 1"#,
        r#"node_readiness_nodes_overdue{rule="r"} 0"#,
    ]);
}

#[test]
fn bootstrap_duration_starts_when_both_node_and_rule_exist() {
    let site = Site::new(&[rule("old", "1", "bootstrap-only"), rule("new", "2", "bootstrap-only")]);
    site.reconcile(&node("old", 30, "False"), at(40), None);
    site.expect(&[r#"node_readiness_nodes_by_state{rule="old",state="bootstrapping"} 1"#]);
    site.reconcile(&node("old", 30, "True"), at(90), None);
    site.expect(&[
        r#"node_readiness_bootstrap_completed_total{rule="old"} 1"#,
        r#"node_readiness_bootstrap_duration_seconds_sum{rule="old"} 60.0"#,
        r#"node_readiness_nodes_by_state{rule="old",state="ready"} 1"#,
    ]);
    site.reconcile(&node("new", -900, "True"), at(90), None);
    site.expect(&[r#"node_readiness_bootstrap_duration_seconds_sum{rule="new"} 90.0"#]);
}

#[test]
fn the_duration_of_a_plan_is_divided_among_the_covering_rules() {
    let mut second = rule("s", "2", "continuous");
    second["spec"]["nodeSelector"]["matchLabels"]["rule"] = json!("r");
    let site = Site::new(&[rule("r", "1", "continuous"), second, rule("t", "3", "continuous")]);
    site.reconcile(&node("r", 0, "True"), at(0), None);
    site.expect(&[
        r#"node_readiness_evaluation_duration_seconds_sum{rule="r"} 0.000005"#,
        r#"node_readiness_evaluation_duration_seconds_sum{rule="s"} 0.000005"#,
        r#"node_readiness_evaluation_duration_seconds_count{rule="t"} 0"#,
    ]);
}

#[test]
fn series_end_with_their_rule_and_start_over_for_a_new_rule_of_that_name() {
    let mut site = Site::new(&[rule("r", "1", "continuous")]);
    site.reconcile(&node("r", 0, "False"), at(0), None);
    site.relist(&[]);
    // A late record of a deleted rule.
    site.metrics.reconciled("1", at(1));
    let exposed = site.scrape();
    assert!(!exposed.contains(r#"rule="r""#), "{exposed}");
    assert!(exposed.contains("node_readiness_rules_total 0"), "{exposed}");
    site.relist(&[rule("r", "2", "continuous")]);
    site.expect(&[r#"node_readiness_taint_operations_total{rule="r",operation="add"} 0"#]);
    assert!(!site.scrape().contains("rule_last_reconciliation_timestamp_seconds{"));
}

#[test]
fn an_unreadable_rule_is_counted_as_a_failure() {
    let mut unreadable = rule("r", "1", "continuous");
    unreadable["spec"]["enforcementMode"] = json!("some-day");
    let site = Site::new(&[unreadable]);
    site.metrics.not_evaluable("1");
    site.expect(&[
        "node_readiness_rules_total 1",
        r#"node_readiness_failures_total{rule="r",reason="EvaluationError"} 1"#,
    ]);
    // An unreadable rule keeps holding its nodes, so a count of zero would be wrong.
    assert!(!site.scrape().contains("node_readiness_rule_nodes"));
}

#[test]
fn disabled_metrics_record_nothing() {
    let metrics = Metrics::new(false);
    metrics.reconciled("1", at(0));
    assert!(metrics.retain(&["1".to_owned()].into()).is_empty());
}
