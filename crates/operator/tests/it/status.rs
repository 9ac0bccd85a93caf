//! The status of a rule.

use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use node_readiness_api::TaintPresence;
use serde_json::{Value, json};

use crate::harness::{Fixture, kubectl};

fn condition<'a>(
    status: &'a node_readiness_api::NodeReadinessRuleStatus,
    type_: &str,
) -> &'a k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition {
    status.conditions.iter().find(|condition| condition.type_ == type_).unwrap()
}

#[tokio::test]
async fn a_held_node_is_named_with_the_cause() {
    let t = Fixture::new("cause").await;
    let (held, _ready) = (t.node("a", &Value::Null).await, t.node("b", &Value::Null).await);
    t.apply(&t.rule()).await;
    t.report("cause-b", "example.com/Ready", "True").await;
    let rule = t.expect_status("cause", |status| {
        status.nodes.is_some_and(|nodes| (nodes.matched, nodes.ready, nodes.held) == (2, 1, 1))
    });
    let status = rule.await.status.unwrap();
    assert_eq!(condition(&status, "Accepted").status, "True");
    let ready = condition(&status, "NodesReady");
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "NodesHeld"));
    let cause =
        format!("1 of 2 nodes are held: {held}: example.com/Ready is not reported, must be True");
    assert_eq!(ready.message, cause);
    assert_eq!(status.applied_nodes, ["cause-a", "cause-b"]);
    assert_eq!(status.node_evaluations[0].taint_status, TaintPresence::Present);
    assert_eq!(status.node_evaluations[1].taint_status, TaintPresence::Absent);
    t.report(&held, "example.com/Ready", "True").await;
    let rule = t.expect_status("cause", |status| {
        status.nodes.is_some_and(|nodes| nodes.ready == 2 && nodes.held == 0)
    });
    let status = rule.await.status.unwrap();
    assert_eq!(condition(&status, "NodesReady").reason, "NodesReady");
}

/// Returns an object's status by the generic rules of kstatus, in their order. Flux, Helm and Argo CD use kstatus to
/// wait for custom resources.
fn kstatus(object: &Value) -> &'static str {
    let of = |type_: &str| {
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let condition = conditions.into_iter().find(|condition| condition["type"] == type_);
        condition.map(|condition| condition["status"].as_str().unwrap().to_owned())
    };
    let observed = &object["status"]["observedGeneration"];
    if !object["metadata"]["deletionTimestamp"].is_null() {
        "Terminating"
    } else if !observed.is_null() && *observed != object["metadata"]["generation"] {
        "InProgress"
    } else if of("Stalled").as_deref() == Some("True") {
        "Failed"
    } else if of("Reconciling").as_deref() == Some("True") {
        "InProgress"
    } else {
        match of("Ready").as_deref() {
            // An object without the condition is current at once, before the operator can add the condition.
            None => "Current (no condition Ready)",
            Some("True") => "Current",
            Some(_) => "InProgress",
        }
    }
}

#[tokio::test]
async fn kstatus_reports_a_rule_as_current_while_nodes_are_held() {
    let t = Fixture::new("kstatus").await;
    let node = t.node("a", &Value::Null).await;
    let mut rule = t.rule();
    t.apply(&rule).await;
    let get = || -> Value {
        serde_json::from_str(&kubectl(&["get", "nrr", "kstatus", "-o", "json"])).unwrap()
    };
    t.expect_status("kstatus", |status| status.nodes.is_some_and(|nodes| nodes.held == 1)).await;
    assert_eq!(kstatus(&get()), "Current");
    for (field, value) in [("suspend", true), ("suspend", false), ("dryRun", true)] {
        rule["spec"][field] = json!(value);
        t.apply(&rule).await;
        let generation = get()["metadata"]["generation"].as_i64();
        t.expect_status("kstatus", |status| status.observed_generation == generation).await;
        t.expect_status("kstatus", |status| condition(status, "Ready").status == "True").await;
        let object = get();
        assert_eq!(kstatus(&object), "Current", "{field} is {value}");
        let types: Vec<_> = object["status"]["conditions"].as_array().unwrap().clone();
        let types: Vec<_> = types.iter().map(|condition| condition["type"].clone()).collect();
        assert_eq!(types, ["Accepted", "Ready", "NodesReady"], "there are no other conditions");
    }
    rule["spec"]["dryRun"] = json!(false);
    rule["spec"]["probes"] = json!([{
        "conditionType": "example.com/Ready", "httpGet": {"host": "192.0.2.1", "port": 1}
    }]);
    t.apply(&rule).await;
    let refused = |status: &node_readiness_api::NodeReadinessRuleStatus| {
        condition(status, "Ready").reason == "NotAllowed"
    };
    t.expect_status("kstatus", refused).await;
    assert_eq!(kstatus(&get()), "InProgress");

    rule["spec"].as_object_mut().unwrap().remove("probes");
    t.apply(&rule).await;
    t.report(&node, "example.com/Ready", "True").await;
    let rule = "nodereadinessrule/kstatus";
    kubectl(&["wait", "--for=condition=NodesReady", rule, "--timeout=30s"]);
    kubectl(&["wait", "--for=condition=Ready", rule, "--timeout=30s"]);
}

#[tokio::test]
async fn a_status_that_another_client_changes_repeatedly_is_written_with_backoff() {
    let t = Fixture::new("overwritten").await;
    t.node("a", &Value::Null).await;
    t.apply(&t.rule()).await;
    let theirs = Patch::Merge(json!({"status": {"conditions": null}}));
    let (mut changed, begun) = (0, Instant::now());
    while begun.elapsed() < Duration::from_secs(20) {
        let status = t.rules().get("overwritten").await.unwrap().status.unwrap_or_default();
        if status.nodes.is_some_and(|nodes| nodes.held == 1) && !status.conditions.is_empty() {
            changed += 1;
            let params = PatchParams::default();
            t.rules().patch_status("overwritten", &params, &theirs).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The operator writes at 0 s, at once again, and then after 5 s and after 10 s more.
    assert!((2..=5).contains(&changed), "written {changed} times in 20 s");
    t.expect_status("overwritten", |status| !status.conditions.is_empty()).await;
}

#[tokio::test]
async fn the_printed_columns_are_those_of_the_design() {
    let t = Fixture::new("columns").await;
    t.node("a", &Value::Null).await;
    t.apply(&t.rule()).await;
    t.expect_status("columns", |status| status.nodes.is_some_and(|nodes| nodes.held == 1)).await;
    let table = kubectl(&["get", "nodereadinessrules", "columns"]);
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let header = ["NAME", "MODE", "TAINT", "EFFECT", "NODES", "READY", "HELD", "DRYRUN", "AGE"];
    assert_eq!(lines.next().unwrap(), header);
    let row = lines.next().unwrap();
    let taint = "readiness.k8s.io/it";
    let expected = ["columns", "continuous", taint, "NoSchedule", "1", "0", "1", "false"];
    assert_eq!(row[..8], expected);
    let wide = kubectl(&["get", "nodereadinessrules", "columns", "-o", "wide"]);
    let wide: Vec<Vec<_>> = wide.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(wide[0][9..], ["INEFFECT", "REASON", "NODESREADY", "NODESREASON"]);
    assert_eq!(wide[1][9..], ["True", "InEffect", "False", "NodesHeld"]);
    assert_eq!(
        kubectl(&["get", "nrr", "columns", "-o", "name"]).trim(),
        "nodereadinessrule.readiness.node.x-k8s.io/columns"
    );
}

#[tokio::test]
async fn fields_that_users_select_by_are_selectable() {
    let t = Fixture::new("selectable").await;
    let mut rule = t.rule();
    rule["spec"]["taint"]["key"] = json!("readiness.k8s.io/selectable");
    t.apply(&rule).await;
    for field in [
        "spec.taint.key=readiness.k8s.io/selectable",
        "spec.taint.key=readiness.k8s.io/selectable,spec.enforcementMode=continuous",
        "spec.taint.key=readiness.k8s.io/selectable,spec.dryRun=false",
    ] {
        let found = kubectl(&["get", "nrr", "--field-selector", field, "-o", "name"]);
        assert!(found.contains("/selectable"), "{field}: {found}");
    }
}

#[tokio::test]
async fn lesson_89_111_341_the_operator_writes_only_changes() {
    let t = Fixture::new("quiet").await;
    let node = t.node("a", &Value::Null).await;
    t.apply(&t.rule()).await;
    let stable = |rule: node_readiness_api::NodeReadinessRule| rule.metadata.resource_version;
    let held = |status: &node_readiness_api::NodeReadinessRuleStatus| {
        status.nodes.is_some_and(|nodes| nodes.held == 1)
    };
    let before = stable(t.expect_status("quiet", held).await);
    // The node gets a heartbeat, and then another rule changes, so the operator reconciles every node again.
    t.report(&node, "example.com/Unrelated", "True").await;
    let mut other = t.rule();
    other["metadata"]["name"] = json!("quiet-2");
    other["spec"]["nodeSelector"] = json!({"matchLabels": {"test": "nothing"}});
    t.apply(&other).await;
    t.expect_status("quiet-2", |status| !status.conditions.is_empty()).await;
    assert_eq!(stable(t.expect_status("quiet", held).await), before);
}
