//! Rules of users of the Go project, one of each kind, which kubectl applies unchanged. They use no field that this
//! project added.

use k8s_openapi::api::core::v1::{Node, Taint};
use node_readiness_api::CONTROLLER_NAME;
use serde_json::{Value, json};

use crate::harness::{Fixture, kubectl, poll};

/// One kind of rule.
struct Kind {
    name: &'static str,
    /// The spec without selector and taint, in YAML.
    spec: &'static str,
    /// Whether the node registers with the rule's taint.
    registers: bool,
    /// The conditions that are reported in each step, and whether the node then has the taint.
    steps: &'static [(&'static [(&'static str, &'static str)], bool)],
}

const KINDS: &[Kind] = &[
    Kind {
        name: "kind-bootstrap-only",
        spec: r#"
  conditions:
  - {type: example.com/NetworkReady, requiredStatus: "True"}
  enforcementMode: bootstrap-only"#,
        registers: true,
        steps: &[
            (&[], true),
            (&[("example.com/NetworkReady", "True")], false),
            (&[("example.com/NetworkReady", "False")], false),
        ],
    },
    Kind {
        name: "kind-continuous",
        spec: r#"
  conditions:
  - {type: example.com/StorageReady, requiredStatus: "True"}
  enforcementMode: continuous"#,
        registers: false,
        steps: &[
            (&[], true),
            (&[("example.com/StorageReady", "True")], false),
            (&[("example.com/StorageReady", "False")], true),
        ],
    },
    Kind {
        name: "kind-multi-condition",
        spec: r#"
  conditions:
  - {type: example.com/NetworkReady, requiredStatus: "True"}
  - {type: example.com/StorageReady, requiredStatus: "True"}
  - {type: example.com/SecurityAgentReady, requiredStatus: "True"}
  enforcementMode: continuous"#,
        registers: true,
        steps: &[
            (&[("example.com/NetworkReady", "True"), ("example.com/StorageReady", "True")], true),
            (&[("example.com/SecurityAgentReady", "True")], false),
            (&[("example.com/StorageReady", "Unknown")], true),
        ],
    },
    Kind {
        // These are conditions like those of node-problem-detector: True means a problem, and a missing condition means
        // none.
        name: "kind-problem-gate",
        spec: r#"
  conditions:
  - {type: example.com/KernelDeadlock, requiredStatus: "False", defaultStatus: "False"}
  - {type: example.com/ReadonlyFilesystem, requiredStatus: "False", defaultStatus: "False"}
  enforcementMode: continuous"#,
        registers: true,
        steps: &[
            (&[], false),
            (&[("example.com/KernelDeadlock", "True")], true),
            (&[("example.com/KernelDeadlock", "False")], false),
        ],
    },
];

fn manifest(name: &str, selector: &str, spec: &str) -> String {
    format!(
        r"
apiVersion: readiness.node.x-k8s.io/v1alpha1
kind: NodeReadinessRule
metadata:
  name: {name}
spec:
  nodeSelector:
{selector}{spec}
  taint:
    key: readiness.k8s.io/{name}
    value: pending
    effect: NoSchedule
"
    )
}

fn labelled(name: &str) -> String {
    format!("    matchLabels:\n      test: {name}")
}

/// Applies a manifest as users do.
fn apply(name: &str, manifest: &str) {
    let path = format!("{}/{name}.yaml", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(&path, manifest).unwrap();
    kubectl(&["apply", "--validate=strict", "-f", &path]);
}

fn taint(name: &str) -> Value {
    json!([{"key": format!("readiness.k8s.io/{name}"), "value": "pending", "effect": "NoSchedule"}])
}

#[tokio::test]
async fn each_kind_of_rule_adds_and_removes_its_taint_as_expected() {
    for Kind { name, spec, registers, steps } in KINDS {
        let t = Fixture::new(name).await;
        let taints = if *registers { taint(name) } else { Value::Null };
        let node = t.node("node", &taints).await;
        apply(name, &manifest(name, &labelled(name), spec));
        for (reports, held) in *steps {
            for (type_, status) in *reports {
                t.report(&node, type_, status).await;
            }
            // The last results show that the operator has received the reports.
            let stable = |status: &node_readiness_api::NodeReadinessRuleStatus| {
                let found = status.node_evaluations.first();
                found.is_some_and(|found| {
                    reports.iter().all(|(type_, status)| {
                        let mut results = found.condition_results.iter();
                        spec.contains("bootstrap-only")
                            || results.any(|r| {
                                r.type_ == *type_ && r.current_status.to_string() == *status
                            })
                    })
                })
            };
            t.expect_status(name, stable).await;
            let expected: &[&str] = if *held { &["pending:NoSchedule"] } else { &[] };
            t.expect_taints(&node, &format!("readiness.k8s.io/{name}"), expected).await;
        }
    }
}

#[tokio::test]
async fn a_dry_run_reports_and_writes_no_node() {
    let t = Fixture::new("kind-dry-run").await;
    let node = t.node("node", &Value::Null).await;
    let before = t.nodes().get(&node).await.unwrap();
    let spec = "\n  conditions:\n  - {type: example.com/NetworkReady, requiredStatus: \"True\"}\n  \
                enforcementMode: continuous\n  dryRun: true";
    apply("kind-dry-run", &manifest("kind-dry-run", &labelled("kind-dry-run"), spec));
    let rule = t.expect_status("kind-dry-run", |status| {
        status.dry_run_results.as_ref().is_some_and(|results| results.affected_nodes == 1)
    });
    let results = rule.await.status.unwrap().dry_run_results.unwrap();
    assert_eq!(results.summary, "would add 1 taints, 1 nodes have missing conditions");
    // Other controllers may write the node.
    let after = t.nodes().get(&node).await.unwrap();
    let writers = after.metadata.managed_fields.iter().flatten();
    let ours = |manager: &Option<String>| manager.as_deref() == Some(CONTROLLER_NAME);
    assert!(!writers.map(|entry| &entry.manager).any(ours), "{after:?}");
    assert_eq!(taints(&after), taints(&before));
}

fn taints(node: &Node) -> Option<&Vec<Taint>> {
    node.spec.as_ref()?.taints.as_ref()
}

#[tokio::test]
async fn a_selector_covers_exactly_the_nodes_that_it_matches() {
    let t = Fixture::new("kind-selector").await;
    let (inside, outside) = (t.node("in", &Value::Null).await, t.node("out", &Value::Null).await);
    kubectl(&["label", "node", &outside, "node-role.kubernetes.io/control-plane="]);
    let selector = "    matchLabels:\n      test: kind-selector\n    matchExpressions:\n    \
                    - {key: node-role.kubernetes.io/control-plane, operator: DoesNotExist}\n    \
                    - {key: test, operator: NotIn, values: [other]}";
    let spec = "\n  conditions:\n  - {type: example.com/NetworkReady, requiredStatus: \"True\"}\n  \
                enforcementMode: continuous";
    apply("kind-selector", &manifest("kind-selector", selector, spec));
    t.expect_taints(&inside, "readiness.k8s.io/kind-selector", &["pending:NoSchedule"]).await;
    let one = poll(async || {
        let nodes = t.rules().get("kind-selector").await.unwrap().status?.nodes?;
        (nodes.matched == 1 && nodes.held == 1).then_some(())
    });
    assert!(one.await.is_some());
    t.expect_taints(&outside, "readiness.k8s.io/kind-selector", &[]).await;
}
