//! The API server accepts rules that can evict pods, with a warning.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::{Fixture, kubectl_with_warnings, poll};

const EVICTS: &str = "NoExecute evicts running pods";
const EVERYWHERE: &str = "one probe that fails everywhere evicts pods";

/// Returns the warnings that kubectl prints when it applies a rule as a dry run.
fn warnings(rule: &Value) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("risky.json");
    std::fs::write(&path, rule.to_string()).unwrap();
    let arguments = ["apply", "--dry-run=server", "-f", path.to_str().unwrap()];
    kubectl_with_warnings(&arguments).1
}

#[tokio::test]
async fn lesson_9_a_rule_that_can_evict_pods_is_accepted_with_a_warning() {
    let t = Fixture::new("risky").await;
    let with = |change: &dyn Fn(&mut Value)| {
        let mut rule = t.rule();
        rule["spec"]["taint"]["effect"] = json!("NoExecute");
        change(&mut rule["spec"]);
        warnings(&rule)
    };
    // A policy takes a moment to take effect.
    let in_force = poll(async || with(&|_| {}).contains(EVERYWHERE).then_some(()));
    in_force.await.expect("the API server warns of a continuous rule with NoExecute");
    assert!(with(&|_| {}).contains(EVICTS));
    let limited = with(&|spec| spec["maxUnavailable"] = json!("10%"));
    assert!(limited.contains(EVICTS) && !limited.contains(EVERYWHERE), "{limited}");
    let bootstrap = with(&|spec| spec["enforcementMode"] = json!("bootstrap-only"));
    assert!(bootstrap.contains(EVICTS) && !bootstrap.contains(EVERYWHERE), "{bootstrap}");
    assert_eq!(with(&|spec| spec["dryRun"] = json!(true)), "");
    assert_eq!(with(&|spec| spec["taint"]["effect"] = json!("NoSchedule")), "");
}
