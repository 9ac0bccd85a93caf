//! A node that is rebooted, and a node whose kubelet is restarted.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use node_readiness_api::{Claim, Claims, HoldCause};
use serde_json::{Value, json};
use std::time::Duration;

use crate::harness::{Exclusive, eventually, image, within};
use crate::network::{await_whole, cluster, is_ready, node_without_leader};
use crate::reporters::Rule;
use crate::shell::get;
use crate::test_servers::TestServers;

const WORKLOAD: &str = "after-reboot";

#[test]
fn a_rebooted_node_gets_no_pod_before_its_reporter_has_reported_again() {
    let mut exclusive = Exclusive::with_operator();
    let node = node_without_leader();
    let _test_servers = TestServers::start(&mut exclusive, node);
    let probe = json!({"tcpSocket": {"port": 9183}});
    let rule = Rule::of_node("rebooted", node).probe("Rebooted", &probe);
    rule.apply(&mut exclusive);
    let ready = ("True", "ProbeSucceeded", "tcpSocket localhost:9183: connected".to_owned());
    rule.await_reported("Rebooted", &ready);
    eventually("the rule has released the node", || claim(&rule).filter(|c| c.cause.is_none()));

    let boot_id = "0f9a6a52-5b7f-4c52-8a46-0a35a2b7c1de";
    let while_down = || {
        let what = "the node is NotReady";
        within(Duration::from_mins(2), what, || (!is_ready(node)).then_some(()));
        rule.await_held(true);
        // The pod waits until the node is Ready again.
        exclusive.run_pod(&workload(node));
    };
    cluster().reboot(node, boot_id, while_down).unwrap();
    eventually("kubelet reports another boot", || (boot_of(&rule) == boot_id).then_some(()));
    eventually("the node is held because it was rebooted", || {
        claim(&rule).filter(|claim| claim.cause == Some(HoldCause::Rebooted))
    });
    assert_eq!(scheduled(), None, "the pod was scheduled before the node was held");

    let released = within(Duration::from_mins(2), "the node is released", || {
        claim(&rule).filter(|claim| claim.cause.is_none())
    });
    let landed = eventually("the pod is scheduled", scheduled);
    // Kubernetes' times have whole seconds.
    assert!(landed >= released.since.0 - Duration::from_secs(1), "{landed} {released:?}");
    await_whole(node);
}

#[test]
fn a_restart_of_kubelet_holds_nothing() {
    let mut exclusive = Exclusive::with_operator();
    let node = node_without_leader();
    let _test_servers = TestServers::start(&mut exclusive, node);
    let probe = json!({"tcpSocket": {"port": 9183}});
    let rule = Rule::of_node("restarted", node).probe("Restarted", &probe);
    rule.apply(&mut exclusive);
    let before = eventually("the rule has released the node", || {
        claim(&rule).filter(|claim| claim.cause.is_none())
    });
    let restarted = Timestamp::now();
    cluster().restart_kubelet(node).unwrap();
    eventually("the new kubelet reports", || {
        let lease: Lease = get(&["lease", "-n", "kube-node-lease", node]);
        (lease.spec?.renew_time?.0 > restarted + Duration::from_secs(2)).then_some(())
    });
    assert_eq!(claim(&rule), Some(before));
}

/// Returns the rule's claim on its node.
fn claim(rule: &Rule) -> Option<Claim> {
    let annotations = rule.node().metadata.annotations?;
    let claims: Claims = serde_json::from_str(annotations.get("readiness.k8s.io/rules")?).unwrap();
    let name = rule.now().metadata.name.unwrap();
    claims.get(&name).cloned()
}

fn boot_of(rule: &Rule) -> String {
    let node: Node = rule.node();
    node.status.unwrap().node_info.unwrap().boot_id
}

/// Returns the time at which the workload was scheduled.
fn scheduled() -> Option<Timestamp> {
    let pod: Pod = get(&["pod", WORKLOAD]);
    let conditions = pod.status?.conditions?;
    let scheduled = conditions.into_iter().find(|c| c.type_ == "PodScheduled")?;
    let time = scheduled.last_transition_time?.0;
    (scheduled.status == "True").then_some(time)
}

/// Returns an ordinary pod for the node, except that it tolerates the startup taint of this cluster's nodes.
fn workload(node: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": WORKLOAD},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "tolerations": [{"key": "readiness.k8s.io/NetworkReady", "operator": "Exists"}],
            "containers": [{"name": "workload", "image": image("testkit"), "args": ["pause"]}],
        },
    })
}
