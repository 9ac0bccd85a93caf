//! One cluster for all tests, and whose turn it is to use it.
//!
//! The tests take turns, because they share what a cluster has only once: the operator, which one
//! of them installs and removes, and port 9099, the taint and the condition of the two examples on
//! the same two nodes. libtest would otherwise run them side by side.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::diagnosis;
use crate::nodes::{self, NODES};
use crate::shell::{apply, kubectl, root, sh, try_kubectl};

/// How long anything may take to come true. It is long so that a slow machine fails no test;
/// nothing waits for it unless it fails.
const DEADLINE: Duration = Duration::from_mins(1);

/// How long to wait before asking again.
const PAUSE: Duration = Duration::from_millis(150);

/// How the operator is installed, but where the guide says otherwise.
const DEPLOY: &str = "make deploy OPERATOR_FLAGS='--guard=strict --allow-exec-probes \
     --allow-root-reporters --allow-host-path=/run/e2e --allow-reporter-image=node-readiness/*'";

static CLUSTER: Mutex<()> = Mutex::new(());

/// One test's turn with the cluster. When it ends, what the test made is removed; if the test
/// failed, the cluster is shown before that.
pub struct Exclusive {
    clean_up: Vec<Vec<String>>,
    _exclusive: MutexGuard<'static, ()>,
}

impl Exclusive {
    /// A cluster as it comes: nodes with their startup taint, and nothing of this project.
    pub fn with_nothing_installed() -> Self {
        let exclusive = Self::lock();
        sh(&root(), "make undeploy ignore-not-found=true").expect_success();
        sh(&root(), "make uninstall ignore-not-found=true").expect_success();
        nodes::reset();
        exclusive
    }

    /// A cluster with the operator and no rules, and nodes as they come.
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
        // That another test failed in its turn says nothing about this one.
        let exclusive = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
        Self { clean_up: Vec::new(), _exclusive: exclusive }
    }

    /// Removes this at the end with `kubectl delete`.
    pub fn remove_at_the_end(&mut self, arguments: &[&str]) {
        let options = ["delete", "--ignore-not-found", "--timeout=60s"];
        self.clean_up
            .push([&options, arguments].concat().iter().map(ToString::to_string).collect());
    }

    /// Runs a pod until the end of the turn.
    pub fn run_pod(&mut self, pod: &Value) {
        let name = pod["metadata"]["name"].as_str().unwrap();
        self.remove_at_the_end(&["pod", name, "--now"]);
        apply(pod);
    }

    /// Starts a stand-in for a node's CNI agent, which is ready at once.
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
                // A panic while one is under way would hide the first.
                eprintln!("could not clean up: {ran}");
            }
        }
    }
}

/// Stops a node's agent and waits until it is gone.
pub fn stop_agent(node: &str) {
    kubectl(&["delete", "pod", &agent_name(node), "--now", "--timeout=60s"]);
}

/// Asks again and again until there is an answer; `what` says what is waited for.
pub fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    within(DEADLINE, what, ask)
}

/// The same for what is known to take longer.
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

/// The name of an image that is built here.
pub fn image(program: &str) -> String {
    format!("node-readiness/{program}:v{}", env!("CARGO_PKG_VERSION"))
}

/// Whether it runs as a deployment says, all replicas of it. Another test may just have had one drained.
fn is_deployed() -> bool {
    let deployment = "deployment/nrr-controller-manager";
    let status = ["-n", "nrr-system", "rollout", "status", deployment, "--timeout=60s"];
    try_kubectl(&status).code() == Some(0)
}

fn agent_name(node: &str) -> String {
    format!("agent-{node}")
}

/// It listens where Calico's agent does. Like that one it runs on a node that is still held.
fn agent(node: &str) -> Value {
    assert!(NODES.contains(&node), "there is no {node}");
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
