//! The user's guide to secure status reporting, command by command.
//!
//! The guide's first command creates a cluster with kind. Here `make test` has created one instead.

use std::path::Path;

use k8s_openapi::api::core::v1::Node;
use node_readiness_api::{BOOTSTRAP_COMPLETED_PREFIX, ConditionStatus, NodeReadinessRule};
use node_readiness_testkit::verification::Reporter;
use serde_json::Value;

use crate::harness::{Exclusive, eventually, stop_agent};
use crate::nodes::{CONDITION, NODES, await_node, is_held, records};
use crate::shell::{Ran, get, kubectl, root, sh, try_kubectl};
use crate::tokens::{assert_as_the_matrix_says, layout, version};

/// A command of the guide, unchanged, and the result that the guide shows.
struct Step(&'static str, Expected);

enum Expected {
    /// The command succeeds.
    Done,
    /// The output becomes as expected, perhaps only after some retries.
    Shown(fn(&str) -> bool),
    /// The first output is exactly this.
    Answer(&'static str),
}

use Expected::{Answer, Done, Shown};

const CONDITIONS: &str = r#"kubectl get nodes -o custom-columns='NAME:.metadata.name,CALICO_READY:.status.conditions[?(@.type=="projectcalico.org/CalicoReady")].status'"#;

const GUIDE: [Step; 9] = [
    // 2. Install the CRDs and Controller
    Step("make install", Done),
    Step("make deploy", Done),
    // 3. Deploy the Example
    Step("cd examples/constrained-impersonation", Done),
    Step("kubectl apply -f .", Done),
    // 5. Verification: check that the reporter is running, check node conditions
    Step("kubectl -n kube-system get pods -l app=cni-reporter", Shown(a_running_pod_on_each_node)),
    Step(CONDITIONS, Shown(false_on_every_node)),
    // 6. Security Verification: the reporter has no direct permissions but writes the condition
    Step(
        "kubectl auth can-i get nodes --as=system:serviceaccount:kube-system:cni-reporter",
        Answer("no\n"),
    ),
    Step(
        "kubectl auth can-i update nodes/status --as=system:serviceaccount:kube-system:cni-reporter",
        Answer("no\n"),
    ),
    Step(CONDITIONS, Shown(false_on_every_node)),
];

#[test]
fn the_guide_works_as_written_and_is_removed_completely() {
    let mut exclusive = Exclusive::with_nothing_installed();
    assert_version();
    // These are removed even if a step fails. The next test then removes the rule and the operator.
    exclusive.remove_at_the_end(&["-f", &format!("{}/rbac.yaml", example())]);
    exclusive.remove_at_the_end(&["-f", &format!("{}/reporter-ds.yaml", example())]);

    let mut directory = root();
    for Step(command, expected) in &GUIDE {
        if let Some(path) = command.strip_prefix("cd ") {
            directory.push(path);
            continue;
        }
        follow(command, expected, || sh(&directory, command));
    }

    // The guide concludes that the reporter writes its own node's status and has no other access. The matrix lists what
    // that includes.
    let layout = layout();
    let reporter = Reporter::on_node(&layout, "kube-system", "cni-reporter", "node-a", CONDITION);
    assert_as_the_matrix_says(&layout, &reporter.unwrap());

    agents_release_the_nodes_for_good(&mut exclusive, &directory);
    undeploy_leaves_nothing(&directory);
}

/// Runs one step.
fn follow(command: &str, expected: &Expected, run: impl Fn() -> Ran) {
    match expected {
        Done => {
            run().expect_success();
        }
        Answer(answer) => {
            let ran = run();
            assert_eq!(ran.stdout(), *answer, "{ran}");
            // `kubectl auth can-i` exits with 1 if the answer is no.
            assert_eq!(ran.code(), Some(1), "{ran}");
        }
        Shown(as_expected) => {
            let mut last = String::new();
            eventually(&format!("{command} has the output of the guide"), || {
                let shown = run().expect_success();
                if shown != last {
                    // libtest shows this if the test fails.
                    println!("$ {command}\n{shown}");
                    last.clone_from(&shown);
                }
                as_expected(&shown).then_some(())
            });
        }
    }
}

/// Checks that all nodes are held until their agents answer. The rule is bootstrap-only, so it does not hold a node
/// again.
fn agents_release_the_nodes_for_good(exclusive: &mut Exclusive, directory: &Path) {
    for node in NODES {
        await_node(node, "False", true);
    }
    for node in NODES {
        exclusive.start_agent(node);
    }
    follow(CONDITIONS, &Shown(true_on_every_node), || sh(directory, CONDITIONS));
    let uid = rule().metadata.uid.unwrap();
    for node in NODES {
        let node = await_node(node, "True", false);
        assert!(records(&node).contains(&&format!("{BOOTSTRAP_COMPLETED_PREFIX}{uid}")));
    }
    stop_agent("node-a");
    eventually("the status shows that node-a's agent stopped", || {
        let evaluations = rule().status?.node_evaluations;
        let node = evaluations.iter().find(|evaluation| evaluation.node_name == "node-a")?;
        (node.condition_results[0].current_status == ConditionStatus::False).then_some(())
    });
    await_node("node-a", "False", false);
}

fn rule() -> NodeReadinessRule {
    get(&["nodereadinessrule", "network-readiness"])
}

/// Checks that `make undeploy` removes everything. The rule still exists then, so `make undeploy` must delete it first.
fn undeploy_leaves_nothing(example: &Path) {
    let said = sh(&root(), "make undeploy").expect_success();
    let rule = said.find("\"network-readiness\" deleted").expect("the rule is deleted");
    let operator =
        said.find("\"nrr-controller-manager\" deleted").expect("the operator is deleted");
    assert!(rule < operator, "the operator was deleted before the rule: {said}");
    for node in NODES {
        let node: Node = get(&["node", node]);
        assert_eq!(records(&node), [""; 0], "a node still has annotations of this project");
        assert!(!is_held(&node), "a node still has the taint");
    }
    sh(example, "kubectl delete -f . --ignore-not-found --timeout=60s").expect_success();

    sh(&root(), "make uninstall").expect_success();
    for gone in [
        "namespace/nrr-system",
        "namespace/nrr-reporters",
        "clusterrole/nrr-manager-role",
        "crd/nodereadinessrules.readiness.node.x-k8s.io",
    ] {
        let ran = try_kubectl(&["get", gone]);
        assert_ne!(ran.code(), Some(0), "{gone} still exists: {ran}");
    }
}

fn example() -> String {
    root().join("examples/constrained-impersonation").display().to_string()
}

/// Checks that the cluster has the version of this run.
fn assert_version() {
    let answer: Value = serde_json::from_str(&kubectl(&["get", "--raw", "/version"])).unwrap();
    let minor = answer["emulationMinor"].as_str().unwrap();
    assert_eq!(format!("1.{minor}"), version().as_str());
}

/// Returns the rows of a table without its head, each as words.
fn rows(table: &str) -> Vec<Vec<&str>> {
    table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect()
}

fn a_running_pod_on_each_node(table: &str) -> bool {
    let rows = rows(table);
    rows.len() == NODES.len()
        && rows.iter().all(|row| matches!(row[..], [_, "1/1", "Running", "0", _]))
}

fn true_on_every_node(table: &str) -> bool {
    rows(table) == NODES.map(|node| vec![node, "True"])
}

fn false_on_every_node(table: &str) -> bool {
    rows(table) == NODES.map(|node| vec![node, "False"])
}
