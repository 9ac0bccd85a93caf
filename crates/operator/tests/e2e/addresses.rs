//! The addresses of a node at which agents listen.

use std::path::PathBuf;

use serde_json::json;

use crate::harness::{Exclusive, image};
use crate::network::{cluster, node_without_leader};
use crate::nodes::address;
use crate::reporters::{Report, Rule};
use crate::shell::{root, sh};
use crate::test_servers::TestServers;

/// The agent's port.
const PORT: u16 = 9098;

/// A node whose loopback interface is down. It is up again on drop.
struct WithoutLoopback(PathBuf);

impl WithoutLoopback {
    fn on(node: &str) -> Self {
        let network = cluster().network_of(node).unwrap();
        let without = Self(network);
        without.set("down");
        without
    }

    fn set(&self, state: &str) {
        let command = format!("nsenter --net={} ip link set lo {state}", self.0.display());
        sh(&root(), &command).expect_success();
    }
}

impl Drop for WithoutLoopback {
    fn drop(&mut self) {
        self.set("up");
    }
}

fn failed(message: &str) -> Report {
    ("False", "ProbeFailed", message.to_owned())
}

#[test]
fn an_agent_that_listens_on_its_nodes_own_address_only_is_reached_there() {
    let mut exclusive = Exclusive::with_operator();
    let node = node_without_leader();
    let address = address(node);
    exclusive.run_pod(&json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "own-address"},
        "spec": {
            "nodeName": node,
            "hostNetwork": true,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{
                "name": "agent",
                "image": image("testkit"),
                "args": ["agent", "--listen", format!("{address}:{PORT}"), "--ready-after", "0s"],
            }],
        },
    }));
    let rule = Rule::of_node("own-address", node)
        .probe(
            "HttpNode",
            &json!({"httpGet": {"port": PORT, "path": "/readiness", "address": "Node"}}),
        )
        .probe("TcpNode", &json!({"tcpSocket": {"port": PORT, "address": "Node"}}))
        .probe("TcpLocal", &json!({"tcpSocket": {"port": PORT}}));
    rule.apply(&mut exclusive);
    let found = format!("httpGet http://{address}:{PORT}/readiness: status 200");
    rule.await_reported("HttpNode", &("True", "ProbeSucceeded", found));
    let found = format!("tcpSocket {address}:{PORT}: connected");
    rule.await_reported("TcpNode", &("True", "ProbeSucceeded", found));
    let refused = format!("tcpSocket localhost:{PORT}: connection refused");
    rule.await_reported("TcpLocal", &failed(&refused));
}

#[test]
fn a_node_without_loopback_is_reported_and_its_reporter_keeps_running() {
    let mut exclusive = Exclusive::with_operator();
    let node = node_without_leader();
    let _test_servers = TestServers::start(&mut exclusive, node);
    let probe = json!({"tcpSocket": {"port": 9183}});
    let rule = Rule::of_node("loopback", node).probe("Loopback", &probe);
    rule.apply(&mut exclusive);
    let connected = ("True", "ProbeSucceeded", "tcpSocket localhost:9183: connected".to_owned());
    rule.await_reported("Loopback", &connected);
    let pod = rule.await_pod();

    let without = WithoutLoopback::on(node);
    // The interface that is down drops packets.
    let silent = "tcpSocket localhost:9183: no connection within 1s".to_owned();
    rule.await_reported("Loopback", &("False", "ProbeTimedOut", silent));
    drop(without);
    rule.await_reported("Loopback", &connected);
    let later = rule.await_pod();
    let restarts = |pod: &k8s_openapi::api::core::v1::Pod| {
        let containers = pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap();
        (pod.metadata.uid.clone(), containers[0].restart_count)
    };
    assert_eq!(restarts(&later), restarts(&pod), "the reporter was restarted");
}
