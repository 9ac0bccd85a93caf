//! One operator for all tests, and helpers that access the same API server.
//!
//! Each test has its own names: its nodes, rules and labels begin with the name of its fixture.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use clap::Parser;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, Resource};
use node_readiness_api::{NodeReadinessRule, ReporterConfig, RuleProbes};
use node_readiness_engine::reporter::set_name;
use node_readiness_operator::{Args, run};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{examples, scraper};

/// The timeout of a wait. It is long so that no test fails on a slow machine. Only a failing test waits that long.
const DEADLINE: Duration = Duration::from_mins(1);

pub const KEY: &str = "readiness.k8s.io/it";

/// The namespace of reporters in `config/`.
pub const REPORTERS: &str = "nrr-reporters";

/// The client and the name of a test.
pub struct Fixture {
    pub client: Client,
    name: &'static str,
}

impl Fixture {
    /// Connects as an administrator after the operator has started. `name` must be unique among the tests.
    pub async fn new(name: &'static str) -> Self {
        static NAMES: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());
        assert!(NAMES.lock().unwrap().insert(name), "another test has the name {name}");
        start_operator();
        Self { client: administrator().await, name }
    }

    /// Returns the name of an object of this test.
    pub fn named(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.name)
    }

    pub fn rules(&self) -> Api<NodeReadinessRule> {
        Api::all(self.client.clone())
    }

    pub fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    /// Returns the API of events about cluster-scoped objects.
    pub fn events(&self) -> Api<Event> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Returns a continuous rule for this test's nodes that requires `example.com/Ready`=True and manages its own
    /// taint.
    pub fn rule(&self) -> Value {
        json!({
            "apiVersion": "readiness.node.x-k8s.io/v1alpha1",
            "kind": "NodeReadinessRule",
            "metadata": {"name": self.name},
            "spec": {
                "nodeSelector": {"matchLabels": {"test": self.name}},
                "conditions": [{"type": "example.com/Ready", "requiredStatus": "True"}],
                "enforcementMode": "continuous",
                "taint": {"key": KEY, "value": "pending", "effect": "NoSchedule"},
            },
        })
    }

    /// Returns this rule with a probe. Its reporters have a label of this test, so they are a set of their own.
    pub fn probing_rule(&self) -> Value {
        let mut rule = self.rule();
        rule["spec"]["probes"] = json!([{
            "conditionType": "example.com/Ready", "httpGet": {"port": 9099, "path": "/readiness"},
        }]);
        rule["spec"]["reporter"] = json!({"podLabels": {"test": self.name}});
        rule
    }

    /// Creates or changes a rule.
    pub async fn apply(&self, rule: &Value) -> NodeReadinessRule {
        let name = rule["metadata"]["name"].as_str().unwrap();
        let params = PatchParams::apply("test").force();
        self.rules().patch(name, &params, &Patch::Apply(rule)).await.unwrap()
    }

    /// Creates a node of this test with these taints.
    pub async fn node(&self, suffix: &str, taints: &Value) -> String {
        let name = self.named(suffix);
        let node = json!({
            "metadata": {"name": name, "labels": {"test": self.name, "kubernetes.io/os": "linux"}},
            "spec": {"taints": taints},
        });
        let node = serde_json::from_value(node).unwrap();
        self.nodes().create(&PostParams::default(), &node).await.unwrap();
        name
    }

    /// Waits until a rule that is created now is younger than a node. Creation times are in whole seconds, and a
    /// node of the same second counts as new.
    pub async fn await_older_than_now(&self, node: &str) {
        let node = self.nodes().get(node).await.unwrap();
        let created = node.metadata.creation_timestamp.unwrap().0.as_second();
        poll(async || (Timestamp::now().as_second() > created).then_some(())).await;
    }

    /// Sets a condition of a node, as a reporter does.
    pub async fn report(&self, node: &str, type_: &str, status: &str) {
        // Kubernetes' times have whole seconds.
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
        let condition = json!({
            "type": type_, "status": status, "reason": "Test", "message": "",
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        });
        let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
        self.nodes().patch_status(node, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Renews the heartbeat of a condition, as a reporter does.
    pub async fn beat(&self, node: &str, type_: &str, heartbeat: &str) {
        let condition = json!({"type": type_, "lastHeartbeatTime": heartbeat});
        let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
        self.nodes().patch_status(node, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Waits until the API server refuses a change of a node with this message.
    pub async fn await_refusal(&self, node: &str, message: &str) {
        let params = PatchParams { dry_run: true, ..PatchParams::default() };
        let change = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
        let refused = poll(async || {
            let answer = self.nodes().patch(node, &params, &change).await;
            answer.is_err_and(|error| error.to_string().contains(message)).then_some(())
        });
        refused.await.expect(message);
    }

    pub async fn relabel(&self, node: &str, value: &str) {
        let patch = Patch::Merge(json!({"metadata": {"labels": {"test": value}}}));
        self.nodes().patch(node, &PatchParams::default(), &patch).await.unwrap();
    }

    pub async fn delete_rule(&self, name: &str) {
        self.rules().delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Waits until a node's taints of the given key are these, as `value:effect`.
    pub async fn expect_taints(&self, node: &str, key: &str, expected: &[&str]) -> Node {
        let taints = |node: &Node| -> Vec<String> {
            let taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten());
            taints
                .filter(|t| t.key == key)
                .map(|t| format!("{}:{}", t.value.as_deref().unwrap_or(""), t.effect))
                .collect()
        };
        eventually(&self.nodes(), node, |node| taints(node) == expected).await
    }

    /// Waits until the status of this test's rule passes.
    pub async fn expect_status(
        &self,
        rule: &str,
        passes: impl Fn(&node_readiness_api::NodeReadinessRuleStatus) -> bool,
    ) -> NodeReadinessRule {
        eventually(&self.rules(), rule, |rule| rule.status.as_ref().is_some_and(&passes)).await
    }
}

/// Returns the name of a rule's reporter set.
pub fn reporter_set(rule: &Value) -> String {
    let options = rule["spec"].get("reporter").cloned().unwrap_or_else(|| json!({}));
    set_name(&serde_json::from_value(options).unwrap()).unwrap()
}

/// Returns the rules of a set in the configuration of its reporters. The rules of all tests probe the same condition,
/// so rules of other sets may be there too.
pub fn own_rules(config_map: &ConfigMap) -> Vec<RuleProbes> {
    let json = &config_map.data.as_ref().unwrap()["config.json"];
    ReporterConfig::from_json(json).unwrap_or_default().own_rules().cloned().collect()
}

/// Returns the names of these rules.
pub fn configured(config_map: &ConfigMap) -> Vec<String> {
    own_rules(config_map).into_iter().map(|rule| rule.name).collect()
}

/// Waits for a warning about one of this test's nodes.
pub async fn warned(t: &Fixture, reason: &str) {
    let ours = t.named("");
    let is_ours = |event: &Event| {
        let name = event.regarding.as_ref().and_then(|object| object.name.as_deref());
        event.type_.as_deref() == Some("Warning")
            && name.is_some_and(|name| name.starts_with(&ours))
    };
    event(t, reason, is_ours).await;
}

/// Waits for an event on an object.
pub async fn event_of(t: &Fixture, reason: &str, kind: &str, name: &str) -> Event {
    let is_about = |event: &Event| {
        let about = event.regarding.as_ref();
        about.and_then(|object| object.kind.as_deref()) == Some(kind)
            && about.and_then(|object| object.name.as_deref()) == Some(name)
    };
    event(t, reason, is_about).await
}

async fn event(t: &Fixture, reason: &str, passes: impl Fn(&Event) -> bool) -> Event {
    let found = poll(async || {
        let mut all = t.events().list(&ListParams::default()).await.unwrap().items.into_iter();
        all.find(|event| event.reason.as_deref() == Some(reason) && passes(event))
    });
    found.await.expect(reason)
}

/// Waits until an object exists and passes.
pub async fn eventually<K>(api: &Api<K>, name: &str, passes: impl Fn(&K) -> bool) -> K
where
    K: Resource + Clone + Debug + Serialize + DeserializeOwned,
{
    let found = poll(async || api.get_opt(name).await.unwrap().filter(|object| passes(object)));
    match found.await {
        Some(object) => object,
        None => panic!("{name} did not pass in time: {:#?}", api.get_opt(name).await),
    }
}

/// Waits until an object is gone.
pub async fn gone<K>(api: &Api<K>, name: &str)
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let gone = poll(async || api.get_opt(name).await.unwrap().is_none().then_some(()));
    assert!(gone.await.is_some(), "{name} still exists: {:#?}", api.get_opt(name).await);
}

/// Polls until there is an answer or the deadline passes.
pub async fn poll<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + DEADLINE;
    while Instant::now() < end {
        if let Some(answer) = ask().await {
            return Some(answer);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    None
}

/// Returns the administrator's kubeconfig of the control plane that `make test` started.
pub fn kubeconfig() -> PathBuf {
    let path = std::env::var_os("NRR_TEST_KUBECONFIG");
    path.expect("NRR_TEST_KUBECONFIG must name a control plane's kubeconfig; run make test").into()
}

/// Runs kubectl as the administrator, and returns its output.
pub fn kubectl(arguments: &[&str]) -> String {
    kubectl_with_warnings(arguments).0
}

/// Does the same, and also returns kubectl's warnings.
pub fn kubectl_with_warnings(arguments: &[&str]) -> (String, String) {
    kubectl_on(&kubeconfig(), arguments)
}

fn kubectl_on(kubeconfig: &Path, arguments: &[&str]) -> (String, String) {
    let output = Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "kubectl {arguments:?}: {output:?}");
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

async fn administrator() -> Client {
    connect(&kubeconfig()).await
}

/// Returns a client for a kubeconfig.
pub async fn connect(kubeconfig: &Path) -> Client {
    let file = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// Starts the operator with the permissions that `config/` grants it. It runs on its own thread until the test process
/// ends, because each test has its own runtime.
fn start_operator() {
    static STARTED: OnceLock<()> = OnceLock::new();
    STARTED.get_or_init(|| {
        let kubeconfig = install(&kubeconfig(), "operator.kubeconfig");
        scraper::rotate_certificate();
        let metrics = [
            format!("--metrics-bind-address={}", scraper::ADDRESS),
            format!("--metrics-cert-dir={}", scraper::certificate_directory().display()),
        ];
        let own = [
            "node-readiness-operator".to_owned(),
            format!("--kubeconfig={}", kubeconfig.display()),
            "--health-probe-bind-address=0".to_owned(),
            "--reporter-image=reporter:test".to_owned(),
            "--guard=strict".to_owned(),
            "--allow-host-path=/run/it".to_owned(),
        ];
        std::thread::spawn(move || {
            let flags = own.into_iter().chain(metrics).chain(examples::operator_flags());
            let args = Args::parse_from(flags);
            node_readiness_operator::telemetry::logging::init(&args);
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let end = CancellationToken::new();
            runtime.block_on(Box::pin(run(args, end))).expect("the operator ended");
        });
    });
}

/// Installs all objects of the operator except its Deployment. Returns a kubeconfig of this name with the permissions
/// that `config/` grants the operator.
pub fn install(administrator: &Path, name: &str) -> PathBuf {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let kubectl = |arguments: &[&str]| kubectl_on(administrator, arguments).0;
    kubectl(&["apply", "--server-side", "-k", &format!("{root}/crds")]);
    let established = "--for=condition=Established";
    kubectl(&["wait", established, "crd/nodereadinessrules.readiness.node.x-k8s.io"]);
    // The operator's namespace must exist first.
    kubectl(&["apply", "-f", &format!("{root}/config/manager/namespace.yaml")]);
    kubectl(&["apply", "-k", &format!("{root}/config/reporters")]);
    kubectl(&["apply", "-k", &format!("{root}/config/rbac")]);
    kubectl(&["apply", "-k", &format!("{root}/config/admission")]);
    let token = kubectl(&["create", "token", "nrr-controller-manager", "-n", "nrr-system"]);
    with_token(administrator, name, token.trim())
}

/// Writes a kubeconfig for the same server with a ServiceAccount's token, and returns its path.
pub fn with_token(administrator: &Path, name: &str, token: &str) -> PathBuf {
    let mut file = Kubeconfig::read_from(administrator).unwrap();
    for user in &mut file.auth_infos {
        let token = serde_json::from_value(json!({"token": token})).unwrap();
        user.auth_info = Some(token);
    }
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, serde_json::to_string(&file).unwrap()).unwrap();
    path
}
