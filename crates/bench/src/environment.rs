//! The control plane of the benchmark, and its clients.
//!
//! Bench and operator use the same kind of client with the same identity, the operator's own ServiceAccount, so
//! the API server treats them alike. The administrator does what that account may not do, such as creating
//! nodes, and this is never timed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use node_readiness_api::NodeReadinessRule;
use node_readiness_testkit::{
    Cluster, ClusterSpec, EtcdData, KubernetesVersion, LoopbackNet, Nodes,
};
use serde_json::json;
use tokio::time::sleep;

/// The loopback /24 of this control plane. The local cluster and tests use lower ones.
const LOOPBACK: LoopbackNet = LoopbackNet::new(6);

/// How long the API server may take to serve rules.
const SERVED_WITHIN: Duration = Duration::from_secs(30);

/// A control plane with everything that the operator needs.
pub(crate) struct Environment {
    /// The administrator. The API server does not queue its requests.
    pub(crate) administrator: Client,
    /// A client with the operator's permissions.
    pub(crate) client: Client,
    /// The operator's kubeconfig.
    pub(crate) kubeconfig: PathBuf,
    progress: Progress,
    _cluster: Cluster,
}

impl Environment {
    /// Starts the control plane. It ends when the value is dropped.
    pub(crate) async fn start(dir: &Path, root: &Path, data: EtcdData) -> anyhow::Result<Self> {
        let progress = Progress(Instant::now());
        let spec = ClusterSpec {
            dir: dir.to_owned(),
            version: KubernetesVersion::V1_37,
            nodes: Nodes::ControlPlaneOnly { loopback: LOOPBACK },
            data,
            default_node_selector: None,
        };
        progress.say("starting a control plane");
        let up = move || Cluster::up(&spec, &|line| progress.say(line));
        let cluster = tokio::task::spawn_blocking(up).await.context("the start was cut off")??;
        let token = install(&cluster, root)?;
        let file = Kubeconfig::read_from(cluster.kubeconfig())?;
        let administrator = connect(file.clone()).await?;
        let as_operator = with_token(file, &token)?;
        let kubeconfig = cluster.layout().dir().join("operator.kubeconfig");
        std::fs::write(&kubeconfig, serde_json::to_string(&as_operator)?)?;
        let client = connect(as_operator).await?;
        await_rules(&administrator).await?;
        Ok(Self { administrator, client, kubeconfig, progress, _cluster: cluster })
    }

    /// Prints what is being done.
    pub(crate) fn say(&self, line: &str) {
        self.progress.say(line);
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress
    }
}

/// Prints lines with the time since the start.
#[derive(Clone, Copy)]
pub(crate) struct Progress(Instant);

impl Progress {
    pub(crate) fn say(&self, line: &str) {
        println!("[{:6.1} s] {line}", self.0.elapsed().as_secs_f32());
    }
}

/// Installs what `make install deploy` would, except the Deployment, and returns a token of the operator's
/// ServiceAccount.
fn install(cluster: &Cluster, root: &Path) -> anyhow::Result<String> {
    let kubectl = |arguments: &[&str]| -> anyhow::Result<String> {
        let mut kubectl = Command::new(cluster.layout().bin().join("kubectl"));
        let output =
            kubectl.arg("--kubeconfig").arg(cluster.kubeconfig()).args(arguments).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kubectl {}: {errors}", arguments.join(" "));
        Ok(String::from_utf8(output.stdout)?)
    };
    let path = |below: &str| root.join(below).display().to_string();
    kubectl(&["apply", "--server-side", "-k", &path("crds")])?;
    kubectl(&["wait", "--for=condition=Established", "crd", "--all"])?;
    kubectl(&["apply", "-f", &path("config/manager/namespace.yaml")])?;
    for part in ["config/reporters", "config/rbac", "config/admission"] {
        kubectl(&["apply", "-k", &path(part)])?;
    }
    let account = ["create", "token", "nrr-controller-manager", "--namespace=nrr-system"];
    let token = kubectl(&[&account[..], &["--duration=12h"]].concat())?;
    Ok(token.trim().to_owned())
}

/// Waits until rules are served. Just after their definition is served, the API server may ask to retry.
async fn await_rules(client: &Client) -> anyhow::Result<()> {
    let rules: Api<NodeReadinessRule> = Api::all(client.clone());
    let begun = Instant::now();
    loop {
        match rules.list(&ListParams::default()).await {
            Ok(_) => return Ok(()),
            Err(error) => ensure!(begun.elapsed() < SERVED_WITHIN, "rules are not served: {error}"),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

fn with_token(mut file: Kubeconfig, token: &str) -> anyhow::Result<Kubeconfig> {
    for user in &mut file.auth_infos {
        user.auth_info = Some(serde_json::from_value(json!({"token": token}))?);
    }
    Ok(file)
}

async fn connect(file: Kubeconfig) -> anyhow::Result<Client> {
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    // A retried request would falsify the measurement.
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}
