//! The reporter's objects on the API server, and the API server's count of requests, through kubectl.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};
use node_readiness_api::{NodeReadinessRule, REPORTER_CONFIG_FILE};
use node_readiness_engine::{
    Rule,
    reporter::{Allowances, MaxUnavailable, ReporterObjects, Settings, Share, generate},
};
use node_readiness_testkit::Layout;
use serde::Serialize;
use serde_json::{Value, json};

/// The name of the reporter's Node.
pub(super) const NODE: &str = "bench";

/// The test servers' control port; the other ports are the four after it.
pub(super) const CONTROL: u16 = 19180;

const NAMESPACE: &str = "default";

/// The API server's counter of requests of nodes (API Priority and Fairness). No kubelet runs, so the reporter sends
/// all of them.
const COUNTER: &str = "apiserver_flowcontrol_dispatched_requests_total{";
const OF_NODES: &str = "flow_schema=\"system-node";

/// The files that kubelet would mount into the reporter's pod.
pub(super) struct Pod {
    /// The ServiceAccount's files.
    pub(super) credentials: PathBuf,
    /// The generated configuration.
    pub(super) config: PathBuf,
}

/// The API server.
pub(super) struct Api {
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    authority: PathBuf,
}

impl Api {
    pub(super) fn new(layout: &Layout) -> Self {
        Self {
            kubectl: layout.bin().join("kubectl"),
            kubeconfig: layout.kubeconfig(),
            authority: layout.dir().join("pki/ca.crt"),
        }
    }

    /// Creates a Node, the generated objects of a rule, and a pod. Writes the files that kubelet would mount into
    /// `dir`.
    pub(super) fn prepare(&self, dir: &Path) -> anyhow::Result<Pod> {
        let generated = generated()?;
        let account = generated.service_account.metadata.name.clone().context("no name")?;
        self.create(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}))?;
        self.create(&generated.service_account)?;
        for role in &generated.roles {
            self.create(role)?;
        }
        for binding in &generated.role_bindings {
            self.create(binding)?;
        }
        // A token names a node only if it is bound to a pod on that node.
        self.create(&json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "reporter", "namespace": NAMESPACE},
            "spec": {
                "nodeName": NODE,
                "serviceAccountName": account,
                "containers": [{"name": "reporter", "image": "reporter"}],
            },
        }))?;
        let uid = self.ask(&[
            "-n",
            NAMESPACE,
            "get",
            "pod",
            "reporter",
            "-o",
            "jsonpath={.metadata.uid}",
        ])?;
        let uid = format!("--bound-object-uid={uid}");
        let bound = ["--bound-object-kind=Pod", "--bound-object-name=reporter", &uid];
        let create = ["-n", NAMESPACE, "create", "token", &account];
        let token = self.ask(&[&create[..], &bound].concat())?;

        let pod = Pod { credentials: dir.join("serviceaccount"), config: dir.join("config.json") };
        fs::create_dir_all(&pod.credentials)?;
        fs::write(pod.credentials.join("token"), token.trim())?;
        fs::write(pod.credentials.join("namespace"), NAMESPACE)?;
        fs::copy(&self.authority, pod.credentials.join("ca.crt"))?;
        let data = generated.config_map.data.unwrap_or_default();
        fs::write(&pod.config, &data[REPORTER_CONFIG_FILE])?;
        Ok(pod)
    }

    /// Returns the number of requests that nodes have sent.
    pub(super) fn requests(&self) -> anyhow::Result<u64> {
        let metrics = self.ask(&["get", "--raw", "/metrics"])?;
        let counts = metrics
            .lines()
            .filter(|line| line.starts_with(COUNTER) && line.contains(OF_NODES))
            .map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<u64>());
        counts
            .sum::<Result<u64, _>>()
            .context("a request counter in the API server's metrics is not a number")
    }

    /// Returns whether every condition of the Node is True.
    pub(super) fn all_true(&self) -> anyhow::Result<bool> {
        let path = "jsonpath={range .status.conditions[*]}{.type}={.status} {end}";
        let conditions = self.ask(&["get", "node", NODE, "-o", path])?;
        let succeeded = |(type_, _): &(String, Value)| {
            conditions.split_whitespace().any(|condition| condition == format!("{type_}=True"))
        };
        Ok(probes().iter().all(succeeded))
    }

    fn create(&self, object: &impl Serialize) -> anyhow::Result<()> {
        let mut kubectl = self.command(&["create", "--validate=false", "-f", "-"]);
        let mut running = kubectl.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        let mut input = running.stdin.take().context("kubectl has no input")?;
        input.write_all(&serde_json::to_vec(object)?)?;
        drop(input);
        if !running.wait()?.success() {
            bail!("kubectl could not create {}", serde_json::to_string(object)?);
        }
        Ok(())
    }

    fn ask(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.command(arguments).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            bail!("kubectl {} failed", arguments.join(" "));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments);
        command
    }
}

/// Ten probes of all kinds, with the default period.
fn probes() -> Vec<(String, Value)> {
    let port = |offset: u16| CONTROL + offset;
    let handlers = [
        json!({"httpGet": {"port": port(1)}}),
        json!({"httpGet": {"port": port(1), "path": "/ready", "bodyMatches": "^state: ready"}}),
        json!({"httpGet": {"port": port(2), "scheme": "HTTPS"}}),
        json!({"httpGet": {"port": port(2), "path": "/ready", "scheme": "HTTPS"}}),
        json!({"tcpSocket": {"port": port(3)}}),
        json!({"grpc": {"port": port(4)}}),
        json!({"grpc": {"port": port(4), "service": "agent"}}),
        json!({"exec": {"command": ["true"]}}),
        json!({"unixSocket": {"path": "/run/bench/agent.sock"}}),
        json!({"file": {"path": "/run/bench/*.ready"}}),
    ];
    let named = handlers.into_iter().enumerate();
    named.map(|(number, handler)| (format!("bench.example.com/Probe{number}"), handler)).collect()
}

/// Returns the generated objects of a rule with these probes, without their owner, which does not exist.
fn generated() -> anyhow::Result<ReporterObjects> {
    let conditions: Vec<Value> = probes()
        .iter()
        .map(|(type_, _)| json!({"type": type_, "requiredStatus": "True"}))
        .collect();
    let mut all = Vec::new();
    for (type_, mut probe) in probes() {
        probe["conditionType"] = type_.into();
        all.push(probe);
    }
    let rule: NodeReadinessRule = serde_json::from_value(json!({
        "apiVersion": "readiness.node.x-k8s.io/v1alpha1",
        "kind": "NodeReadinessRule",
        "metadata": {"name": "bench", "uid": "bench", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "nodeSelector": {"matchLabels": {"bench": "bench"}},
            "conditions": conditions,
            "enforcementMode": "continuous",
            "taint": {"key": "readiness.k8s.io/bench", "effect": "NoSchedule"},
            "probes": all,
        },
    }))?;
    let settings = Settings {
        namespace: NAMESPACE.to_owned(),
        image: "reporter".to_owned(),
        allowances: Allowances::default(),
    };
    let share = Share::alone(&Rule::compile(&rule)?);
    let mut objects = generate(&rule, &settings, &share, MaxUnavailable::default())?
        .context("the operator generates nothing for this rule")?;
    objects.service_account.metadata.owner_references = None;
    let roles = objects.roles.iter_mut().map(|role| &mut role.metadata);
    let bindings = objects.role_bindings.iter_mut().map(|binding| &mut binding.metadata);
    roles.chain(bindings).for_each(|metadata| metadata.owner_references = None);
    Ok(objects)
}
