//! One cluster for all tests, and the lock with which a test uses it exclusively.
//!
//! libtest runs tests in parallel, but these tests share things of which a cluster has only one: the operator,
//! which some tests install and remove, and port 9099, the taint and the condition of the two examples on the two
//! nodes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::diagnosis;
use crate::nodes::{self, NODES};
use crate::shell::{apply, kubectl, root, sh, try_kubectl};

/// The timeout of a wait. It is long so that no test fails on a slow machine. Only a failing test waits that long.
const DEADLINE: Duration = Duration::from_mins(1);

/// The interval of polling.
const PAUSE: Duration = Duration::from_millis(150);

/// The command that installs the operator, except in the test of the guide.
const DEPLOY: &str = "make deploy OPERATOR_FLAGS='--guard=strict --allow-exec-probes \
     --allow-root-reporters --allow-host-path=/run/e2e --allow-reporter-image=node-readiness/*'";

static CLUSTER: Mutex<()> = Mutex::new(());

/// A test's exclusive use of the cluster. On drop the test's objects are deleted. If the test failed, the state of the
/// cluster is printed before.
pub struct Exclusive {
    clean_up: Vec<Vec<String>>,
    _exclusive: MutexGuard<'static, ()>,
}

impl Exclusive {
    /// Returns a new cluster: nodes with their startup taint, and no objects of this project.
    pub fn with_nothing_installed() -> Self {
        let exclusive = Self::lock();
        sh(&root(), "make undeploy ignore-not-found=true").expect_success();
        sh(&root(), "make uninstall ignore-not-found=true").expect_success();
        nodes::reset();
        exclusive
    }

    /// Returns a cluster with the operator, without rules, and with nodes as after registration.
    pub fn with_operator() -> Self {
        let exclusive = Self::lock();
        if !is_deployed() {
            sh(&root(), "make install").expect_success();
            sh(&root(), DEPLOY).expect_success();
        }
        kubectl(&["delete", "nodereadinessrules", "--all", "--timeout=60s"]);
        nodes::reset();
        exclusive
    }

    fn lock() -> Self {
        // The lock is poisoned if another test failed. This test can run nevertheless.
        let exclusive = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
        Self { clean_up: Vec::new(), _exclusive: exclusive }
    }

    /// Deletes these objects at the end of the test with `kubectl delete`.
    pub fn remove_at_the_end(&mut self, arguments: &[&str]) {
        let options = ["delete", "--ignore-not-found", "--timeout=60s"];
        self.clean_up
            .push([&options, arguments].concat().iter().map(ToString::to_string).collect());
    }

    /// Removes a label from a node at the end of the test.
    pub fn unlabel_at_the_end(&mut self, node: &str, key: &str) {
        let removed = format!("{key}-");
        let arguments = ["label", "node", node, &removed];
        self.clean_up.push(arguments.map(str::to_owned).to_vec());
    }

    /// Runs a pod until the end of the test.
    pub fn run_pod(&mut self, pod: &Value) {
        let name = pod["metadata"]["name"].as_str().unwrap();
        self.remove_at_the_end(&["pod", name, "--now"]);
        apply(pod);
    }

    /// Starts an agent on a node in place of a CNI agent. It is ready at once.
    pub fn start_agent(&mut self, node: &str) {
        self.run_pod(&agent(node));
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        if std::thread::panicking() {
            diagnosis::print();
        }
        for arguments in self.clean_up.iter().rev() {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let ran = try_kubectl(&arguments);
            if ran.code() != Some(0) {
                // A second panic would hide the first one.
                eprintln!("cannot clean up: {ran}");
            }
        }
    }
}

/// Stops a node's agent and waits until it is gone.
pub fn stop_agent(node: &str) {
    kubectl(&["delete", "pod", &agent_name(node), "--now", "--timeout=60s"]);
}

/// Polls until there is an answer. `what` describes the expected state.
pub fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    within(DEADLINE, what, ask)
}

/// Does the same with another deadline.
pub fn within<T>(deadline: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "this did not happen within {deadline:?}: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// Returns the name of an image of this checkout.
pub fn image(program: &str) -> String {
    format!("node-readiness/{program}:v{}", env!("CARGO_PKG_VERSION"))
}

/// Returns whether all replicas of the operator run. It waits, because another test may have drained one of them.
fn is_deployed() -> bool {
    let deployment = "deployment/nrr-controller-manager";
    let status = ["-n", "nrr-system", "rollout", "status", deployment, "--timeout=60s"];
    try_kubectl(&status).code() == Some(0)
}

fn agent_name(node: &str) -> String {
    format!("agent-{node}")
}

/// Returns a pod that listens on the port of Calico's agent. Like that agent it runs on a node that is held.
fn agent(node: &str) -> Value {
    assert!(NODES.contains(&node), "unknown node {node}");
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": agent_name(node)},
        "spec": {
            "nodeName": node,
            "hostNetwork": true,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{
                "name": "agent",
                "image": image("testkit"),
                "args": ["agent", "--listen", "0.0.0.0:9099", "--ready-after", "0s"],
            }],
        },
    })
}
