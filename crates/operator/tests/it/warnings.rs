//! Rules that can evict pods are taken with a warning.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::{Fixture, kubectl_with_warnings, poll};

const EVICTS: &str = "NoExecute evicts running pods";
const EVERYWHERE: &str = "one probe that fails everywhere evicts pods";

/// What kubectl warns of when it applies a rule, which is then not kept.
fn warnings(rule: &Value) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("risky.json");
    std::fs::write(&path, rule.to_string()).unwrap();
    let arguments = ["apply", "--dry-run=server", "-f", path.to_str().unwrap()];
    kubectl_with_warnings(&arguments).1
}

#[tokio::test]
async fn lesson_9_a_rule_that_can_evict_pods_is_taken_with_a_warning() {
    let t = Fixture::new("risky").await;
    let with = |change: &dyn Fn(&mut Value)| {
        let mut rule = t.rule();
        rule["spec"]["taint"]["effect"] = json!("NoExecute");
        change(&mut rule["spec"]);
        warnings(&rule)
    };
    // A policy takes a moment to be in force.
    let in_force = poll(async || with(&|_| {}).contains(EVERYWHERE).then_some(()));
    in_force.await.expect("a continuous rule with NoExecute is warned of");
    assert!(with(&|_| {}).contains(EVICTS));
    let limited = with(&|spec| spec["maxUnavailable"] = json!("10%"));
    assert!(limited.contains(EVICTS) && !limited.contains(EVERYWHERE), "{limited}");
    let bootstrap = with(&|spec| spec["enforcementMode"] = json!("bootstrap-only"));
    assert!(bootstrap.contains(EVICTS) && !bootstrap.contains(EVERYWHERE), "{bootstrap}");
    assert_eq!(with(&|spec| spec["dryRun"] = json!(true)), "");
    assert_eq!(with(&|spec| spec["taint"]["effect"] = json!("NoSchedule")), "");
}
