//! A node that is disconnected from the network and connected again.

use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod};
use k8s_openapi::jiff::Timestamp;
use node_readiness_testkit::Cluster;
use serde_json::{Value, json};

use crate::harness::{Exclusive, eventually, within};
use crate::metrics::scrape;
use crate::nodes::NODES;
use crate::process::Process;
use crate::reporters::Rule;
use crate::shell::{get, get_all, kubeconfig};
use crate::test_servers::TestServers;

const METRICS: u16 = 9194;
const LEASE: &str = "ba65f13e.readiness.node.x-k8s.io";
const OPERATORS: &str = "-lcontrol-plane=controller-manager";

/// A disconnected node. It is connected again on drop.
pub struct Cut {
    cluster: Cluster,
    node: &'static str,
}

impl Cut {
    pub fn off(node: &'static str) -> Self {
        let cluster = cluster();
        cluster.disconnect(node).unwrap();
        Self { cluster, node }
    }
}

/// Returns the cluster of the tests.
pub fn cluster() -> Cluster {
    let kubeconfig = kubeconfig();
    Cluster::attach(Path::new(&kubeconfig).parent().unwrap()).unwrap()
}

impl Drop for Cut {
    fn drop(&mut self) {
        if let Err(error) = self.cluster.reconnect(self.node) {
            eprintln!("cannot connect {} again: {error}", self.node);
        } else if !std::thread::panicking() {
            await_whole(self.node);
        }
    }
}

#[test]
fn a_disconnected_node_is_held_and_recovers_by_itself() {
    let mut exclusive = Exclusive::with_operator();
    let node = node_without_leader();
    let _test_servers = TestServers::start(&mut exclusive, node);
    let rule = Rule::of_node("cut-off", node)
        .reporter("heartbeatSeconds", 10)
        .reporter("metricsPort", METRICS)
        .probe("CutOff", &json!({"tcpSocket": {"port": 9183}}))
        .stale_after(30);
    rule.apply(&mut exclusive);
    let ready = ("True", "ProbeSucceeded", "tcpSocket localhost:9183: connected".to_owned());
    rule.await_reported("CutOff", &ready);
    rule.await_held(false);
    let pod = rule.await_pod();
    let process = Process::of_reporter(&pod);
    let resident = process.resident();
    // The limit is eight megabytes, in KiB.
    assert!(resident < 7812, "a reporter takes {resident} KiB");
    let failed_before = writes(node, "error");
    let said_before = rule.log().lines().count();

    let cut = Cut::off(node);
    rule.await_held(true);
    let seen = rule.conditions();
    assert_eq!(
        seen[0].status, "True",
        "the condition must not change while the node is disconnected: {seen:?}"
    );
    eventually("the status counts the node as stale", || {
        let nodes = rule.now().status?.nodes?;
        ((nodes.held, nodes.stale) == (1, 1)).then_some(())
    });
    let grown = process.resident().saturating_sub(resident);
    assert!(grown < 1024, "the reporter grew by {grown} KiB from {resident} KiB");

    drop(cut);
    eventually("a new heartbeat", || (beat(&rule.conditions()) > beat(&seen)).then_some(()));
    rule.await_reported("CutOff", &ready);
    rule.await_held(false);
    assert_eq!(restarts(&rule.await_pod()), restarts(&pod), "the reporter was restarted");
    // The reporter retried with backoff, and did not log every attempt.
    let failed = writes(node, "error") - failed_before;
    assert!((2..15).contains(&failed), "{failed} writes failed");
    let log = rule.log();
    let said = log.lines().count() - said_before;
    assert!((1..10).contains(&said), "{said} lines:\n{log}");
}

#[test]
fn reporters_are_rolled_out_on_the_other_nodes_while_one_is_not_ready() {
    let mut exclusive = Exclusive::with_operator();
    let broken = node_without_leader();
    let _test_servers = TestServers::start(&mut exclusive, broken);
    let other = NODES.into_iter().find(|node| *node != broken).unwrap();
    let rule =
        |probe: Value| Rule::of_node("rolled-out", broken).on_all_nodes().probe("Out", &probe);
    let before = rule(json!({"tcpSocket": {"port": 9183}}));
    before.apply(&mut exclusive);
    let first = eventually("both nodes have a reporter", || {
        before.pod_on(broken).and(before.pod_on(other))
    });

    let _cut = Cut::off(broken);
    within(Duration::from_mins(2), "the node is NotReady", || (!is_ready(broken)).then_some(()));
    // A new mount needs new pods.
    let after = rule(json!({"file": {"path": "/run/e2e/rolled-out"}}));
    after.apply(&mut exclusive);
    eventually("the other node has a new reporter that is ready", || {
        (after.pod_on(other)?.metadata.uid != first.metadata.uid).then_some(())
    });
}

/// Returns a node on which the leader of the operators does not run.
pub fn node_without_leader() -> &'static str {
    let leader = eventually("an operator leads", || {
        let lease: Lease = get(&["lease", "-n", "nrr-system", LEASE]);
        let holder = lease.spec?.holder_identity?;
        let pods: Vec<Pod> = get_all(&["pods", "-n", "nrr-system", OPERATORS]);
        let holds = |pod: &Pod| holder.starts_with(pod.metadata.name.as_ref().unwrap());
        pods.into_iter().find(holds)?.spec?.node_name
    });
    NODES.into_iter().find(|node| **node != leader).unwrap()
}

fn writes(node: &str, result: &str) -> u64 {
    let samples = eventually("the reporter serves metrics", || scrape(node, METRICS));
    samples[&format!("condition_writes_total{{result=\"{result}\"}}")]
}

fn beat(conditions: &[NodeCondition]) -> Option<Timestamp> {
    conditions[0].last_heartbeat_time.as_ref().map(|time| time.0)
}

fn restarts(pod: &Pod) -> (Option<&String>, i32) {
    let containers = pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap();
    (pod.metadata.uid.as_ref(), containers[0].restart_count)
}

/// Waits until kubelet has reported again, and Kubernetes has removed the taints of a node that is not Ready.
pub fn await_whole(node: &str) {
    eventually(&format!("{node} is Ready and has no taint of Kubernetes"), || {
        let object: Node = get(&["node", node]);
        let taints = object.spec.and_then(|spec| spec.taints).unwrap_or_default();
        let reported = taints.iter().any(|taint| taint.key.starts_with("node.kubernetes.io/"));
        (is_ready(node) && !reported).then_some(())
    });
}

pub fn is_ready(node: &str) -> bool {
    let node: Node = get(&["node", node]);
    let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}
