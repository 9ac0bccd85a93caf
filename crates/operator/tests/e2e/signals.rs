//! Rules that require pods, with agents that real kubelets run.

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

use crate::harness::{Exclusive, eventually, image};
use crate::network::node_without_leader;
use crate::nodes::NODES;
use crate::process::Process;
use crate::reporters::Rule;
use crate::shell::{apply, get, get_all, kubectl};

/// A DaemonSet of agents with a readiness probe, like that of a CNI plugin.
pub struct Agent {
    name: &'static str,
}

impl Agent {
    pub fn new(name: &'static str) -> Self {
        Self { name }
    }

    /// Returns the entry of a rule that requires it.
    pub fn required(&self) -> Value {
        let selector = json!({"matchLabels": {"app": self.name}});
        json!([{"name": "agent", "namespace": "default", "selector": selector}])
    }

    /// Creates the DaemonSet until the end of the test. Its pods are Ready after this time.
    pub fn apply(&self, exclusive: &mut Exclusive, ready_after: &str) {
        exclusive.remove_at_the_end(&["daemonset", self.name]);
        self.roll(ready_after);
    }

    /// Creates or changes the DaemonSet. Its pods are Ready after this time.
    fn roll(&self, ready_after: &str) {
        let probe = json!({"httpGet": {"port": 9199, "path": "/readiness"}, "periodSeconds": 1});
        apply(&json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": self.name},
            "spec": {
                "selector": {"matchLabels": {"app": self.name}},
                "template": {
                    "metadata": {"labels": {"app": self.name}},
                    "spec": {
                        "terminationGracePeriodSeconds": 0,
                        "tolerations": [{"operator": "Exists"}],
                        "containers": [{
                            "name": "agent", "image": image("testkit"),
                            "args": ["agent", "--listen", "0.0.0.0:9199", "--ready-after", ready_after],
                            "readinessProbe": probe,
                        }],
                    },
                },
            },
        }));
    }

    /// Returns its pod on a node, if it is Ready.
    pub fn ready_on(&self, node: &str) -> Option<Pod> {
        let pods: Vec<Pod> = get_all(&["pods", &format!("-lapp={}", self.name)]);
        pods.into_iter().find(|pod| {
            let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
            let is_ready = conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True");
            is_ready && pod.spec.as_ref().unwrap().node_name.as_deref() == Some(node)
        })
    }
}

/// Returns how many nodes carry a taint with this key.
fn held_nodes(key: &str) -> usize {
    let nodes: Vec<Node> = get_all(&["nodes"]);
    let is_held = |node: &&Node| {
        let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
        taints.into_iter().any(|taint| taint.key == key)
    };
    nodes.iter().filter(is_held).count()
}

#[test]
fn a_node_takes_pods_only_while_the_pod_of_a_daemon_set_is_ready() {
    let mut exclusive = Exclusive::with_operator();
    let node = node_without_leader();
    let agent = Agent::new("required-agent");
    let rule = Rule::of_node("requires", node).spec("pods", agent.required());
    rule.apply(&mut exclusive);
    rule.await_held(true);
    let unmet = format!("{node}: no Ready pod in default matches app=required-agent");
    eventually("the status names what is missing", || {
        let conditions = rule.now().status?.conditions;
        let nodes_ready = conditions.into_iter().find(|c| c.type_ == "NodesReady")?;
        nodes_ready.message.contains(&unmet).then_some(())
    });
    agent.apply(&mut exclusive, "1s");
    rule.await_held(false);

    // The agent fails and recovers in place.
    let pod = eventually("the agent is Ready", || agent.ready_on(node));
    let process = Process::with_argument(&pod, "--ready-after");
    process.signal("STOP");
    rule.await_held(true);
    process.signal("CONT");
    rule.await_held(false);

    // The DaemonSet has no pod for the node any more.
    let elsewhere =
        json!([{"op": "add", "path": "/spec/template/spec/nodeSelector", "value": {"no": "node"}}]);
    kubectl(&["patch", "daemonset", "required-agent", "--type=json", "-p", &elsewhere.to_string()]);
    rule.await_held(true);
    let everywhere = json!([{"op": "remove", "path": "/spec/template/spec/nodeSelector"}]);
    kubectl(&[
        "patch",
        "daemonset",
        "required-agent",
        "--type=json",
        "-p",
        &everywhere.to_string(),
    ]);
    rule.await_held(false);
}

#[test]
fn a_rollout_of_a_required_daemon_set_holds_one_node_at_a_time() {
    let mut exclusive = Exclusive::with_operator();
    let agent = Agent::new("rolled-agent");
    agent.apply(&mut exclusive, "1s");
    for node in NODES {
        eventually("the agent is Ready", || agent.ready_on(node));
    }
    let rule = Rule::of_node("rolled", NODES[0]).on_all_nodes();
    let rule = rule.spec("pods", agent.required()).spec("minReadySeconds", 3);
    let rule = rule.spec("maxUnavailable", 1);
    rule.apply(&mut exclusive);
    let counts = || rule.now().status.and_then(|status| status.nodes);
    eventually("both nodes are ready", || counts().filter(|nodes| nodes.ready == 2));
    let generation = |daemon_set: &Value| daemon_set["status"]["observedGeneration"].as_i64();
    let before: Value = get(&["daemonset", "rolled-agent"]);

    agent.roll("2s");
    let (key, begun, mut most, mut changes, mut last) =
        ("readiness.k8s.io/rolled", Instant::now(), 0, 0, 0);
    // Each of the two pods needs 2 s to be Ready, and its node waits for 3 s more.
    loop {
        let held = held_nodes(key);
        (most, changes, last) = (most.max(held), changes + usize::from(held != last), held);
        let now: Value = get(&["daemonset", "rolled-agent"]);
        let is_updated = generation(&now) > generation(&before)
            && now["status"]["updatedNumberScheduled"] == 2
            && now["status"]["numberReady"] == 2;
        if is_updated && held == 0 && changes > 0 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_mins(2), "the rollout does not end");
    }
    assert_eq!(most, 1);
    // Without minReadySeconds a node could be released and held again.
    assert!((2..=4).contains(&changes), "{changes} changes");
}
