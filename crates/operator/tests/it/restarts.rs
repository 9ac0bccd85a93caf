//! Tests that kill the operator and start it again, as a process, on their own control plane.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt};
use node_readiness_api::NodeReadinessRule;
use node_readiness_testkit::{
    Cluster, ClusterSpec, EtcdData, KubernetesVersion, LoopbackNet, Nodes,
};
use serde_json::{Value, json};

use crate::harness::{REPORTERS, eventually, gone, poll};

const NODES: usize = 200;
const KEY: &str = "readiness.k8s.io/restart";

pub struct Environment {
    pub client: Client,
    kubeconfig: PathBuf,
    _cluster: Cluster,
}

/// An operator process. It is killed on drop, like on a machine that fails.
pub struct Operator(Child);

impl Drop for Operator {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Environment {
    /// Starts a control plane in a directory of this name and on this loopback /24, and installs the CRDs.
    pub async fn new(name: &str, loopback: u8) -> Self {
        Self::with_default_node_selector(None, name, loopback).await
    }

    /// Does the same with a default node selector of pods, which an annotation of their namespace can override.
    pub async fn with_default_node_selector(
        default_node_selector: Option<&'static str>,
        name: &str,
        loopback: u8,
    ) -> Self {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let nodes = Nodes::ControlPlaneOnly { loopback: LoopbackNet::new(loopback) };
        let spec = ClusterSpec {
            dir,
            version: KubernetesVersion::V1_37,
            nodes,
            data: EtcdData::Disk,
            default_node_selector,
        };
        let up = move || Cluster::up(&spec, &|_| {}).unwrap();
        let cluster = tokio::task::spawn_blocking(up).await.unwrap();
        let kubeconfig = cluster.kubeconfig();
        let file = Kubeconfig::read_from(&kubeconfig).unwrap();
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(file, &options).await.unwrap();
        let client = Client::try_from(config).unwrap();
        let environment = Self { client, kubeconfig, _cluster: cluster };
        environment.install();
        environment
    }

    fn install(&self) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        self.kubectl(&["apply", "--server-side", "-k", &root.join("crds").display().to_string()]);
        self.kubectl(&["wait", "--for=condition=Established", "crd", "--all"]);
        for file in ["manager/namespace.yaml", "reporters/namespace.yaml"] {
            let file = root.join("config").join(file);
            self.kubectl(&["apply", "-f", &file.display().to_string()]);
        }
    }

    pub fn kubectl(&self, arguments: &[&str]) {
        self.try_kubectl(arguments).unwrap();
    }

    /// Runs kubectl, and returns what it printed if it succeeded.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        let mut kubectl = Command::new("kubectl");
        let output = kubectl.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments).output();
        let output = output.unwrap();
        let said = String::from_utf8(output.stdout.clone()).unwrap();
        output.status.success().then_some(said).ok_or(format!("kubectl {arguments:?}: {output:?}"))
    }

    pub fn operator(&self) -> Operator {
        self.operator_with(&["--reporter-image=reporter:1"])
    }

    /// Starts an operator with these arguments.
    pub fn operator_with(&self, arguments: &[&str]) -> Operator {
        let mut command = Command::new(env!("CARGO_BIN_EXE_node-readiness-operator"));
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--health-probe-bind-address=0")
            .args(arguments)
            .stderr(Stdio::null());
        Operator(command.spawn().unwrap())
    }

    pub fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Creates a node for the rule.
    pub async fn node(&self, name: &str) {
        let labels = json!({"test": "restart", "kubernetes.io/os": "linux"});
        let node = json!({"metadata": {"name": name, "labels": labels}});
        let node = serde_json::from_value(node).unwrap();
        self.nodes().create(&PostParams::default(), &node).await.unwrap();
    }

    /// Sets the condition of the rule on a node.
    pub async fn report_on(&self, name: &str, status: &str) {
        let condition = json!({"type": "example.com/Ready", "status": status});
        let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
        self.nodes().patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }

    pub fn rules(&self) -> Api<NodeReadinessRule> {
        Api::all(self.client.clone())
    }

    /// Runs an action on every node, with several nodes at a time.
    async fn each_node<F: Future<Output = ()>>(&self, act: impl Fn(Api<Node>, String) -> F) {
        let acts = (0..NODES).map(|n| act(self.nodes(), format!("n{n:03}")));
        stream::iter(acts).buffer_unordered(16).collect::<()>().await;
    }

    async fn report(&self, status: &'static str) {
        self.each_node(async |nodes, name| {
            let condition = json!({"type": "example.com/Ready", "status": status});
            let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
            nodes.patch_status(&name, &PatchParams::default(), &patch).await.unwrap();
        })
        .await;
    }

    /// Returns the resource version of each node.
    pub async fn versions(&self) -> BTreeMap<String, Option<String>> {
        let nodes = self.nodes().list(&ListParams::default()).await.unwrap();
        let version = |node: Node| (node.metadata.name.unwrap(), node.metadata.resource_version);
        nodes.items.into_iter().map(version).collect()
    }

    /// Returns the number of nodes with the taint, and the number of nodes with a claim.
    async fn count(&self) -> (usize, usize) {
        let nodes = self.nodes().list(&ListParams::default()).await.unwrap().items;
        let tainted = nodes.iter().filter(|node| {
            let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
            taints.is_some_and(|taints| taints.iter().any(|taint| taint.key == KEY))
        });
        let recorded = nodes.iter().filter(|node| {
            let annotations = node.metadata.annotations.as_ref();
            annotations.is_some_and(|all| all.contains_key("readiness.k8s.io/rules"))
        });
        (tainted.count(), recorded.count())
    }

    pub async fn await_count(&self, passes: impl Fn((usize, usize)) -> bool) {
        let reached = poll(async || passes(self.count().await).then_some(())).await;
        assert!(reached.is_some(), "tainted and recorded: {:?}", self.count().await);
    }

    pub async fn rule(&self, mode: &str) {
        self.apply(&rule("restart", mode)).await;
    }

    /// Applies an object in the reporters' namespace with kubectl.
    pub fn apply_to_reporters(&self, object: &Value) {
        let path = self.kubeconfig.with_file_name("applied.json");
        std::fs::write(&path, object.to_string()).unwrap();
        self.kubectl(&["apply", "-n", REPORTERS, "-f", &path.display().to_string()]);
    }

    pub async fn apply(&self, rule: &Value) -> NodeReadinessRule {
        let name = rule["metadata"]["name"].as_str().unwrap();
        let params = PatchParams::apply("test").force();
        self.rules().patch(name, &params, &Patch::Apply(rule)).await.unwrap()
    }
}

/// Returns a rule for the nodes of [`Environment::node`].
pub fn rule(name: &str, mode: &str) -> Value {
    json!({
        "apiVersion": "readiness.node.x-k8s.io/v1alpha1",
        "kind": "NodeReadinessRule",
        "metadata": {"name": name},
        "spec": {
            "nodeSelector": {"matchLabels": {"test": "restart"}},
            "conditions": [{"type": "example.com/Ready", "requiredStatus": "True"}],
            "enforcementMode": mode,
            "taint": {"key": KEY, "value": "pending", "effect": "NoSchedule"},
        },
    })
}

/// Checks lesson 253: a controller that acts before its cache of rules has synced releases nodes. Only the resource
/// version of a node shows that it was released and held again.
async fn a_start_writes_no_node_that_is_as_it_should_be(environment: &Environment) {
    let before = environment.versions().await;
    let operator = environment.operator();
    // The change of one node shows when the operator has reconciled all nodes.
    let condition = json!({"type": "example.com/Ready", "status": "True"});
    let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
    environment.nodes().patch_status("n000", &PatchParams::default(), &patch).await.unwrap();
    environment.await_count(|counts| counts == (NODES - 1, NODES)).await;
    // Its status names a bounded number of nodes, and counts the others.
    let status = poll(async || {
        let status = environment.rules().get("restart").await.unwrap().status?;
        let counted = status.nodes.is_some_and(|nodes| (nodes.held, nodes.ready) == (199, 1));
        counted.then_some(status)
    });
    let status = status.await.expect("the status counts every node");
    assert_eq!(status.node_evaluations.len(), 100);
    assert_eq!(status.nodes_omitted, Some(100));
    drop(operator);
    let mut after = environment.versions().await;
    after.retain(|node, version| before.get(node) != Some(version));
    assert_eq!(after.keys().collect::<Vec<_>>(), ["n000"]);
}

/// Checks that an operator with another image rolls the reporters out once, and writes no other generated object.
async fn another_image_rolls_reporters_once(environment: &Environment) {
    let sets: Api<DaemonSet> = Api::namespaced(environment.client.clone(), REPORTERS);
    let maps: Api<ConfigMap> = Api::namespaced(environment.client.clone(), REPORTERS);
    let roles: Api<ClusterRole> = Api::all(environment.client.clone());
    let (set, role) = ("reporter", "nrr-reporter-impersonator");
    let image = |set: &DaemonSet| {
        let containers = &set.spec.template.spec.as_ref().unwrap().containers;
        containers[0].image.clone().unwrap()
    };
    let mut probed = json!({
        "apiVersion": "readiness.node.x-k8s.io/v1alpha1",
        "kind": "NodeReadinessRule",
        "metadata": {"name": "rolled"},
        "spec": {
            "nodeSelector": {"matchLabels": {"test": "rolled"}},
            "conditions": [{"type": "example.com/Ready", "requiredStatus": "True"}],
            "enforcementMode": "continuous",
            "taint": {"key": "readiness.k8s.io/rolled", "value": "", "effect": "NoSchedule"},
            "probes": [{"conditionType": "example.com/Ready", "httpGet": {"port": 9099}}],
        },
    });
    let first = environment.operator();
    environment.apply(&probed).await;
    let before = eventually(&sets, set, |set| image(set) == "reporter:1").await;
    assert_eq!(before.metadata.generation, Some(1));
    let others = (maps.get(set).await.unwrap(), roles.get(role).await.unwrap());
    drop(first);

    let _second = environment.operator_with(&["--reporter-image=reporter:2"]);
    let after = eventually(&sets, set, |set| image(set) == "reporter:2").await;
    assert_eq!(after.metadata.generation, Some(2));
    // The operator writes a status of this generation after it has compared the generated objects again.
    probed["spec"]["dryRun"] = json!(true);
    let edited = environment.apply(&probed).await.metadata.generation;
    let reported = |rule: &NodeReadinessRule| {
        rule.status.as_ref().is_some_and(|status| status.observed_generation == edited)
    };
    eventually(&environment.rules(), "rolled", reported).await;
    let last = sets.get(set).await.unwrap();
    assert_eq!((last.metadata.generation, &last.spec), (Some(2), &after.spec));
    assert_eq!((maps.get(set).await.unwrap(), roles.get(role).await.unwrap()), others);
}

/// Checks an upgrade that renames a guard policy: the old one stays until the new one is in force.
async fn a_guard_policy_of_an_earlier_version_is_deleted_last(environment: &Environment) {
    let (former, present) = ("nrr-former-records", "nrr-guard-records");
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(environment.client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(environment.client.clone());
    let renamed = |metadata: ObjectMeta| ObjectMeta {
        name: Some(former.to_owned()),
        labels: metadata.labels,
        annotations: metadata.annotations,
        ..ObjectMeta::default()
    };
    let mut policy = policies.get(present).await.unwrap();
    policy.metadata = renamed(policy.metadata);
    policies.create(&PostParams::default(), &policy).await.unwrap();
    let mut binding = bindings.get(present).await.unwrap();
    binding.metadata = renamed(binding.metadata);
    binding.spec.policy_name = former.to_owned();
    bindings.create(&PostParams::default(), &binding).await.unwrap();
    bindings.delete(present, &DeleteParams::default()).await.unwrap();
    policies.delete(present, &DeleteParams::default()).await.unwrap();

    let _operator = environment.operator();
    let created = eventually(&bindings, present, |_| true).await.creation_timestamp().unwrap().0;
    gone(&bindings, former).await;
    gone(&policies, former).await;
    // The creation time is in whole seconds, and the delay is three.
    let kept = Timestamp::now().duration_since(created);
    assert!(kept.as_secs() >= 2, "deleted {kept:?} after the new one was created");
}

/// Kills the operator at several numbers of held nodes, while a rule holds its nodes and while it releases them, and
/// expects the same result as without kills.
#[tokio::test]
async fn killing_the_operator_at_any_point_does_not_change_the_result() {
    let environment = Environment::new("restarts", 3).await;
    environment
        .each_node(async |nodes, name| {
            let labels = json!({"test": "restart", "kubernetes.io/os": "linux"});
            let node = json!({"metadata": {"name": name, "labels": labels}});
            let node = serde_json::from_value(node).unwrap();
            nodes.create(&PostParams::default(), &node).await.unwrap();
        })
        .await;
    environment.rule("continuous").await;
    for held in [1, 40, 120] {
        let _killed = environment.operator();
        environment.await_count(|(tainted, _)| tainted >= held).await;
    }
    let operator = environment.operator();
    environment.await_count(|counts| counts == (NODES, NODES)).await;
    drop(operator);
    a_start_writes_no_node_that_is_as_it_should_be(&environment).await;

    environment.report("True").await;
    for left in [190, 100, 20] {
        let _killed = environment.operator();
        environment.await_count(|(tainted, _)| tainted <= left).await;
    }
    let operator = environment.operator();
    environment.await_count(|counts| counts == (0, NODES)).await;

    // The rule is deleted while no operator runs, and a user removes the finalizer by hand.
    environment.report("False").await;
    environment.await_count(|counts| counts == (NODES, NODES)).await;
    drop(operator);
    environment.rules().delete("restart", &DeleteParams::default()).await.unwrap();
    let none = Patch::Merge(json!({"metadata": {"finalizers": Value::Null}}));
    environment.rules().patch("restart", &PatchParams::default(), &none).await.unwrap();
    let operator = environment.operator();
    environment.await_count(|counts| counts == (0, 0)).await;
    drop(operator);
    another_image_rolls_reporters_once(&environment).await;
    a_guard_policy_of_an_earlier_version_is_deleted_last(&environment).await;
}

/// Returns a rule whose own probe writes the condition, so the default heartbeat applies: 300 s, and stale after 900 s.
fn with_default_heartbeats() -> Value {
    json!({
        "apiVersion": "readiness.node.x-k8s.io/v1alpha1",
        "kind": "NodeReadinessRule",
        "metadata": {"name": "heartbeats"},
        "spec": {
            "nodeSelector": {"matchLabels": {"test": "heartbeats"}},
            "conditions": [{"type": "example.com/Ready", "requiredStatus": "True"}],
            "enforcementMode": "continuous",
            "taint": {"key": KEY, "value": "pending", "effect": "NoSchedule"},
            "probes": [{"conditionType": "example.com/Ready", "httpGet": {"port": 9099}}],
        },
    })
}

/// Reporters write a change at once, and then nothing for five minutes. If the operator waited for the next heartbeat,
/// each node that became ready while no operator ran would be held for that time.
#[tokio::test]
async fn a_node_that_became_ready_while_no_operator_ran_is_released_at_the_start() {
    let environment = Environment::new("heartbeats", 23).await;
    environment.apply(&with_default_heartbeats()).await;
    let begun = Timestamp::now();
    let report = async |name: &'static str, status: &str, seconds: u64| {
        // Kubernetes' times have whole seconds.
        let heartbeat = begun + Duration::from_secs(seconds);
        let heartbeat = Timestamp::from_second(heartbeat.as_second()).unwrap();
        let condition =
            json!({"type": "example.com/Ready", "status": status, "lastHeartbeatTime": heartbeat});
        let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
        environment.nodes().patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    };
    for name in ["becomes-ready", "was-ready"] {
        let node = json!({"metadata": {"name": name, "labels": {"test": "heartbeats"}}});
        let node = serde_json::from_value(node).unwrap();
        environment.nodes().create(&PostParams::default(), &node).await.unwrap();
    }
    report("becomes-ready", "False", 5).await;
    report("was-ready", "True", 5).await;
    let first = environment.operator();
    environment.await_count(|counts| counts == (1, 2)).await;
    drop(first);

    report("becomes-ready", "True", 6).await;
    let _second = environment.operator();
    environment.await_count(|counts| counts == (0, 2)).await;
    let record =
        environment.nodes().get("becomes-ready").await.unwrap().metadata.annotations.unwrap();
    let record: Value = serde_json::from_str(&record["readiness.k8s.io/rules"]).unwrap();
    assert_eq!(record["heartbeats"]["state"], "released");
}
