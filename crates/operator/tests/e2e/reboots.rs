//! A node that is rebooted, and a node whose kubelet is restarted.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use node_readiness_api::HoldCause;
use serde_json::{Value, json};
use std::time::Duration;

use crate::harness::{Exclusive, eventually, image, within};
use crate::network::{await_whole, cluster, is_ready, node_without_leader};
use crate::reporters::Rule;
use crate::shell::get;
use crate::signals::Agent;
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
    eventually("the rule has released the node", || rule.claim().filter(|c| c.cause.is_none()));

    assert_no_pod_lands_before_a_release(&mut exclusive, &rule, node);
}

#[test]
fn a_rebooted_node_gets_no_pod_before_its_agent_has_restarted() {
    let mut exclusive = Exclusive::with_operator();
    let node = node_without_leader();
    let agent = Agent::new("reboot-agent");
    agent.apply(&mut exclusive, "5s");
    let rule = Rule::of_node("agent-rebooted", node).spec("pods", agent.required());
    rule.apply(&mut exclusive);
    eventually("the rule has released the node", || rule.claim().filter(|c| c.cause.is_none()));
    let before = eventually("the agent is Ready", || agent.ready_on(node));
    // Containers that are first seen just before a reboot count as started after it.
    std::thread::sleep(Duration::from_secs(11));
    assert_no_pod_lands_before_a_release(&mut exclusive, &rule, node);
    let after = eventually("the agent is Ready", || agent.ready_on(node));
    assert_eq!(after.metadata.uid, before.metadata.uid, "the pod is the same after the reboot");
}

/// Reboots a node while a pod waits for it. The node must be held when it comes back, and the pod must be scheduled
/// only after its release.
fn assert_no_pod_lands_before_a_release(exclusive: &mut Exclusive, rule: &Rule, node: &str) {
    let boot_id = Timestamp::now().as_nanosecond().to_string();
    let while_down = || {
        let what = "the node is NotReady";
        within(Duration::from_mins(2), what, || (!is_ready(node)).then_some(()));
        rule.await_held(true);
        // The pod waits until the node is Ready again.
        exclusive.run_pod(&workload(node));
    };
    cluster().reboot(node, &boot_id, while_down).unwrap();
    eventually("kubelet reports another boot", || (boot_of(rule) == boot_id).then_some(()));
    eventually("the node is held because it was rebooted", || {
        rule.claim().filter(|claim| claim.cause == Some(HoldCause::Rebooted))
    });
    assert_eq!(scheduled(), None, "the pod was scheduled before the node was held");

    let released = within(Duration::from_mins(2), "the node is released", || {
        rule.claim().filter(|claim| claim.cause.is_none())
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
        rule.claim().filter(|claim| claim.cause.is_none())
    });
    let restarted = Timestamp::now();
    cluster().restart_kubelet(node).unwrap();
    eventually("the new kubelet reports", || {
        let lease: Lease = get(&["lease", "-n", "kube-node-lease", node]);
        (lease.spec?.renew_time?.0 > restarted + Duration::from_secs(2)).then_some(())
    });
    assert_eq!(rule.claim(), Some(before));
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
