//! What a stolen token of a reporter is good for. The list of what is tried is the testkit's, which
//! the demo shows as well.

use std::path::Path;

use node_readiness_testkit::verification::{
    self, Action, Answer, Expected, Identity, Reporter, Session,
};
use node_readiness_testkit::{Cluster, Layout};
use serde_json::json;

use crate::harness::{Turn, eventually};
use crate::shell::{apply, kubeconfig, kubectl};

#[test]
fn a_reporters_token_opens_its_own_nodes_status_and_nothing_else() {
    let mut turn = Turn::with_operator();
    let layout = layout();
    let reporter = reporter_on_node_a(&mut turn, &layout, "token-open");

    assert_own_status_and_nothing_else(&layout, &reporter);
}

#[test]
fn a_reporters_token_ends_with_its_pod() {
    let mut turn = Turn::with_operator();
    let layout = layout();
    let reporter = reporter_on_node_a(&mut turn, &layout, "token-end");
    let stolen = Session::bound(&layout, &reporter).unwrap();
    let read = Action::Read("/api/v1/nodes/node-a".to_owned());
    let ask = || stolen.perform(&Identity::Node("node-a".to_owned()), &read).unwrap();
    assert_eq!(ask(), Answer::Allowed);

    let Reporter { namespace, pod, .. } = &reporter;
    kubectl(&["-n", namespace, "delete", "pod", pod, "--timeout=60s"]);
    // The API server remembers for about ten seconds that it knew the token.
    let unauthorized = Expected::Refused("Unauthorized".to_owned());
    eventually("the token of a pod that is gone is refused", || {
        let answer = ask();
        assert!(answer == Answer::Allowed || unauthorized.is(&answer), "{answer}");
        unauthorized.is(&answer).then_some(())
    });
}

/// Tries the whole list with the token of a reporter on node-a.
pub fn assert_own_status_and_nothing_else(layout: &Layout, reporter: &Reporter) {
    let checks = verification::verify(layout, reporter, "node-b").unwrap();
    // Shown if the test fails.
    for check in &checks {
        println!("{}: expected {:?}, seen {:?}", check.what, check.expected, check.seen);
    }
    let wrong: Vec<_> = checks.iter().filter(|check| !check.holds()).map(|c| &c.what).collect();
    assert!(wrong.is_empty(), "not as expected: {wrong:?}");
    // So it is not all one answer.
    assert!(checks.iter().any(|check| check.seen == Answer::Allowed));
    assert!(checks.iter().any(|check| check.seen != Answer::Allowed));
}

/// Lets the operator run reporters for a rule that no other test has, and returns the one on node-a
/// once it has done its work.
fn reporter_on_node_a(turn: &mut Turn, layout: &Layout, rule: &str) -> Reporter {
    let condition = format!("e2e.example.com/{rule}");
    let taint = format!("readiness.k8s.io/{rule}");
    turn.remove_at_the_end(&["nodereadinessrule", rule]);
    apply(&json!({
        "apiVersion": "readiness.node.x-k8s.io/v1alpha1",
        "kind": "NodeReadinessRule",
        "metadata": {"name": rule},
        "spec": {
            "nodeSelector": {"matchLabels": {"kubernetes.io/os": "linux"}},
            "conditions": [{"type": condition, "requiredStatus": "True"}],
            "enforcementMode": "continuous",
            "taint": {"key": taint, "value": "pending", "effect": "NoSchedule"},
            "probes": [{
                "conditionType": condition,
                // Nothing listens there.
                "httpGet": {"port": 9098},
                "periodSeconds": 1,
                "failureThreshold": 1,
            }],
        },
    }));
    let reported = format!("--for=condition={condition}=False");
    kubectl(&["wait", "node", "node-a", &reported, "--timeout=60s"]);
    // It may have reported before kubelet reported that it runs.
    let account = format!("reporter-{rule}");
    let daemon_set = format!("daemonset/{account}");
    kubectl(&["-n", "nrr-reporters", "rollout", "status", &daemon_set, "--timeout=60s"]);
    Reporter::on_node(layout, "nrr-reporters", &account, "node-a", &condition).unwrap()
}

/// The cluster's files, as the testkit wants them.
pub fn layout() -> Layout {
    let kubeconfig = kubeconfig();
    let directory = Path::new(&kubeconfig).parent().unwrap();
    Cluster::attach(directory).unwrap().layout().clone()
}
